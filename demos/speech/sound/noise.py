"""Noise for waveforms: shaped white noise, and the babble of other recordings, at a signal-to-noise ratio in dB."""

import hashlib

import numpy as np


def generator(*parts: object) -> np.random.Generator:
    """A random generator that is a function of the parts alone, the same on every machine and in every process."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, "uint32"))


def mix(speech: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Adds noise (n,) to speech (n,), `snr` dB above it in power: float32 (n,), scaled down to stay in [-1, 1]."""
    power = float(np.mean(np.square(noise, dtype="float64")))
    wanted = float(np.mean(np.square(speech, dtype="float64"))) / 10 ** (snr / 10)
    mixed = speech + (np.sqrt(wanted / power) * noise if power > 0 else 0)
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype("float32")


def hiss(rng: np.random.Generator, length: int) -> np.ndarray:
    """Noise between white and brown, as of a room and a microphone: (length,) float64."""
    size = 1 << max(10, (length - 1).bit_length())  # Fourier transforms are fast for powers of 2
    spectrum = np.fft.rfft(rng.standard_normal(size))
    slope = rng.uniform(0, 1)
    return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), size // 400) ** slope)[:length]


def babble(rng: np.random.Generator, length: int, waveforms: list[np.ndarray]) -> np.ndarray:
    """Several recordings at once, each from a random place on, over and over, at one power: (length,) float64."""
    total = np.zeros(length)
    for waveform in waveforms:
        rms = float(np.sqrt(np.mean(np.square(waveform, dtype="float64"))))
        total += np.take(waveform, np.arange(length) + rng.integers(len(waveform)), mode="wrap") / rms
    return total
