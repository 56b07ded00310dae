"""Small recordings and corpora on disk, as the speech demo's users have them, and one that needs no files."""

import os
import signal
import struct
import wave

import numpy as np

from demos.speech.corpora.base import Corpus, Utterance
from demos.speech.sound import noise


def tone(seconds=0.5, rate=16_000, hertz=440.0, level=0.5):
    """A sine: (n,) float32."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("float32")


def write_wav(path, samples, rate=16_000):
    """16 bits by the standard library; samples (n,) or (n, channels) in [-1, 1]."""
    samples = np.atleast_2d(np.asarray(samples).T).T
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def wav_bytes(data, rate=16_000, channels=1, bits=16, kind=1, size=None):
    """A WAV file by hand; `size` is what its header says of its data."""
    size = len(data) if size is None else size
    block = channels * bits // 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, rate * block, block, bits)
    head = b"RIFF" + struct.pack("<I", (36 + size) & 0xFFFFFFFF) + b"WAVE"
    return head + form + struct.pack("<4sI", b"data", size & 0xFFFFFFFF) + data


def dominant_frequency(waveform, rate=16_000):
    """The frequency in hertz where a waveform's spectrum is highest."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.argmax(spectrum) * rate / len(waveform)


def digit_recordings(root, speakers=("ann", "bob"), indices=range(12)):
    """recordings/DIGIT_SPEAKER_INDEX.wav at 8 kHz: speaker k says digit d as a tone of 300 + 100·d + 50·k Hz."""
    for k, speaker in enumerate(speakers):
        for digit in range(10):
            for index in indices:
                path = root / "recordings" / f"{digit}_{speaker}_{index}.wav"
                write_wav(path, tone(0.2, 8000, 300 + 100 * digit + 50 * k), 8000)
    return root


class Noises(Corpus):
    """Seeded noise of different lengths. `fails` are keys without audio, `made` those that were asked for."""

    def __init__(self, train=20, dev=3, test=5, fails=(), name="noises", settings=None):
        splits = {
            split: [Utterance(f"{split}-{i}", "ab" * (1 + i % 4)) for i in range(count)]
            for split, count in (("train", train), ("dev", dev), ("test", test))
        }
        super().__init__(name, splits, settings or {})
        self.fails, self.made = set(fails), []

    def waveform(self, utterance):
        self.made.append(utterance.key)
        if utterance.key in self.fails:
            raise ValueError(f"{utterance.key} cannot be read.")
        rng = noise.generator(utterance.key)
        return rng.uniform(-1, 1, rng.integers(6400, 30_000)).astype("float32")


class Deadly(Noises):
    """Kills whoever asks for its audio."""

    def waveform(self, utterance):
        os.kill(os.getpid(), signal.SIGKILL)
