"""Log-mel filterbanks of waveforms: 80 triangles on the HTK mel scale from 20 to 8,000 Hz, 25 ms windows every 10 ms.

A waveform is brought to a peak of 1 first, so that features do not depend on how loud it was recorded.
"""

import functools

import numpy as np

from demos.kit.cli import optional
from demos.speech.sound.audio import MIN_SAMPLES, SAMPLE_RATE

NUM_MELS = 80
REDUCTION = 4  # frames that a recogniser merges into one
WINDOW, HOP, FFT = 400, 160, 512
LOWEST, HIGHEST = 20.0, 8000.0
# 60 dB below a loud voice. Further down, single precision would decide what the features are.
FLOOR = 0.01


def num_frames(samples: int) -> int:
    """How many whole windows there are in a waveform."""
    return max(0, 1 + (samples - WINDOW) // HOP)


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """Natural logarithms of magnitudes, at least log `FLOOR`: float32 (`num_frames(n)`, `NUM_MELS`).

    The waveform is float32 (n,) at 16 kHz, at least one window long.
    """
    librosa = optional("librosa", "Making features", extra="speech")
    if waveform.ndim != 1 or len(waveform) < MIN_SAMPLES:
        raise ValueError(f"`waveform` must be (n,) with n >= {MIN_SAMPLES}. Received shape: {waveform.shape}.")
    peak = np.abs(waveform).max()
    scaled = waveform.astype("float32") / (peak if peak > 0 else 1)
    # librosa centres its window in the transform; here a frame begins where its window does.
    padded = np.pad(scaled, (FFT - WINDOW) // 2)
    spectrum = librosa.stft(padded, n_fft=FFT, hop_length=HOP, win_length=WINDOW, center=False)
    return np.log(np.maximum(np.abs(spectrum).T @ mel_matrix(), np.float32(FLOOR)))


@functools.cache
def mel_matrix() -> np.ndarray:
    """Float32 (`FFT` / 2 + 1, `NUM_MELS`): triangles whose sides are straight in mel, as in HTK, not in hertz."""

    def mel(hertz):
        return 1127 * np.log1p(hertz / 700)

    bins = mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)[:, None]
    edges = np.linspace(mel(LOWEST), mel(HIGHEST), NUM_MELS + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype("float32")


def normalise(features: np.ndarray, corpus_statistics: np.ndarray | None = None) -> np.ndarray:
    """Features (T, `NUM_MELS`) with mean 0 and standard deviation 1 in each mel channel, float32.

    The mean and the standard deviation are those of the corpus, (2, `NUM_MELS`), or the utterance's own. Channels that
    hardly vary (s.d. below 0.1) are divided by 0.1.
    """
    if corpus_statistics is None:
        corpus_statistics = np.stack([features.mean(0, dtype="float64"), features.std(0, dtype="float64")])
    mean, deviation = corpus_statistics.astype("float32")
    return (features - mean) / np.maximum(deviation, np.float32(0.1))
