"""Log-mel filterbanks of waveforms: offline by librosa, in TensorFlow's input pipeline by tensorflow-io.

Both take 80 triangles on the HTK mel scale from 20 to 8,000 Hz, of windows of 25 ms every 10 ms. A waveform is brought
to a peak of 1 first, so that features do not depend on how loud it was recorded.
"""

import functools
import warnings

import numpy as np

from demos.kit.cli import optional
from demos.speech.sound.audio import MIN_SAMPLES, SAMPLE_RATE

NUM_MELS = 80
REDUCTION = 4  # frames that a recogniser makes one
WINDOW, HOP, FFT = 400, 160, 512
LOWEST, HIGHEST = 20.0, 8000.0
# 60 dB below a loud voice. Further down, single precision would decide what the features are.
FLOOR = 0.01


def num_frames(samples: int) -> int:
    """How many whole windows there are in a waveform."""
    return max(0, 1 + (samples - WINDOW) // HOP)


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """Log-mel filterbanks by librosa.

    Args:
        waveform: float32 (n,) at 16 kHz, of at least one window.

    Returns:
        float32 (T, `NUM_MELS`), T = `num_frames(n)`, natural logarithms of magnitudes, at least log `FLOOR`.
    """
    librosa = optional("librosa", "Making features", extra="speech")
    if waveform.ndim != 1 or len(waveform) < MIN_SAMPLES:
        raise ValueError(f"`waveform` must be (n,) with n >= {MIN_SAMPLES}. Received shape: {waveform.shape}.")
    # librosa centres its window in the transform, tensorflow-io starts both together.
    padded = np.pad(_unit_peak(waveform), (FFT - WINDOW) // 2)
    spectrum = librosa.stft(padded, n_fft=FFT, hop_length=HOP, win_length=WINDOW, center=False)
    return np.log(np.maximum(np.abs(spectrum).T @ mel_matrix(), np.float32(FLOOR)))


def log_mel_graph(waveform):
    """Log-mel filterbanks by tensorflow-io, for `tf.data`: what `log_mel` gives, to 1e-3.

    Args:
        waveform: float32 tensor (n,) at 16 kHz, of at least one window.

    Returns:
        float32 tensor (T, `NUM_MELS`).
    """
    import tensorflow as tf

    audio = tensorflow_io().audio
    peak = tf.reduce_max(tf.abs(waveform))
    spectrum = audio.spectrogram(tf.math.divide_no_nan(waveform, peak), nfft=FFT, window=WINDOW, stride=HOP)
    whole = spectrum[: 1 + (tf.shape(waveform)[0] - WINDOW) // HOP]
    mels = audio.melscale(whole, rate=SAMPLE_RATE, mels=NUM_MELS, fmin=LOWEST, fmax=HIGHEST)
    return tf.ensure_shape(tf.math.log(tf.maximum(mels, FLOOR)), (None, NUM_MELS))


@functools.cache
def mel_matrix() -> np.ndarray:
    """(`FFT` / 2 + 1, `NUM_MELS`) float32: triangles whose sides are straight in mel, as in HTK and TensorFlow.

    librosa's own are straight in hertz.
    """

    def mel(hertz):
        return 1127 * np.log1p(hertz / 700)

    bins = mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)[:, None]
    edges = np.linspace(mel(LOWEST), mel(HIGHEST), NUM_MELS + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype("float32")


def statistics(features: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of each mel channel over the frames: (2, `NUM_MELS`) float32."""
    return np.stack([features.mean(0, dtype="float64"), features.std(0, dtype="float64")]).astype("float32")


def normalise(features: np.ndarray, corpus_statistics: np.ndarray | None = None) -> np.ndarray:
    """Features with mean 0 and standard deviation 1 in each mel channel.

    Args:
        features: (T, `NUM_MELS`).
        corpus_statistics: (2, `NUM_MELS`) means and standard deviations; None for the utterance's own.

    Returns:
        float32 (T, `NUM_MELS`). Channels that hardly vary (s.d. below 0.1) are divided by 0.1.
    """
    mean, deviation = statistics(features) if corpus_statistics is None else corpus_statistics
    return (features - mean) / np.maximum(deviation, np.float32(0.1))


def _unit_peak(waveform: np.ndarray) -> np.ndarray:
    peak = np.abs(waveform).max()
    return waveform.astype("float32") / peak if peak > 0 else waveform.astype("float32")


@functools.cache
def tensorflow_io():
    """The package tensorflow_io.

    Raises:
        demos.kit.errors.MissingExtra: If it is not installed.
    """
    with warnings.catch_warnings():
        # It warns that its file systems and its decoders do not load beside newer versions of TensorFlow; what is used
        # here is made of TensorFlow's own operations.
        warnings.filterwarnings("ignore", message="unable to load|file system plugins", category=UserWarning)
        return optional("tensorflow_io", "The input pipeline (Python up to 3.12)", extra="speech")
