"""Audio files as waveforms: any format, sample rate and number of channels to 16 kHz mono, checked."""

import contextlib
import os
import pathlib
import shutil
import struct
import tempfile
import types
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from demos.cli import optional

SAMPLE_RATE = 16_000
MIN_SAMPLES = 400  # one window of 25 ms
RATES = (4_000, 768_000)
BLOCK = 65_536  # samples read at a time
SILENCE = 1e-3  # 60 dB below full scale
# Sizes from here on stand for "unknown" in headers that were written before the samples were counted.
UNKNOWN_BYTES, UNKNOWN_SAMPLES = 0x7FFF0000, 2**40
# How formats begin that libsndfile cannot read but audioread's decoders can. Others are not tried there: some decoders
# find sound in anything.
FOREIGN = ((4, b"ftyp"), (0, b"\xff\xf1"), (0, b"\xff\xf9"), (0, b"\x1aE\xdf\xa3"), (0, b"0&\xb2u"), (0, b"#!AMR"))

Source = str | pathlib.Path | BinaryIO


class AudioError(ValueError):
    """Audio that cannot be used; the message is one line that names the file."""


def read(source: Source, name: str | None = None) -> np.ndarray:
    """Reads a whole file, whatever its suffix.

    Args:
        source: a path, or a binary file object.
        name: what errors call it; by default the path.

    Returns:
        float32 (n,) at `SAMPLE_RATE`, channels mixed down, within [-1, 1].

    Raises:
        AudioError: for what is no audio, corrupt, truncated, silent, or shorter than 25 ms.
        demos.cli.MissingExtra: without soundfile or librosa.
    """
    name = name or str(source)
    blocks = list(_blocks(source, name))
    rate = blocks[0][1] if blocks else SAMPLE_RATE
    waveform = np.concatenate([np.empty(0, "float32"), *(block for block, _ in blocks)])
    if len(waveform) * SAMPLE_RATE < MIN_SAMPLES * rate:
        raise AudioError(f"{name} is too short: {len(waveform)} samples at {rate} Hz, less than 25 ms.")
    if np.ptp(waveform) == 0:
        raise AudioError(f"{name} is silent: all of its samples are the same.")
    return within_range(resample(waveform, rate))


def segments(source: Source, max_seconds: float = 20.0, name: str | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """Reads a file of any length in pieces, in memory that does not grow with it.

    What is longer than `max_seconds` is cut where it is quietest over 0.3 s, in the last three quarters of that time.
    Pieces 40 dB below the loudest so far are passed over.

    Args:
        source: a path, or a binary file object.
        max_seconds: length of the longest piece, at least 1.
        name: what errors call the source.

    Yields:
        Start in seconds, and the piece: float32 (n,) at `SAMPLE_RATE`, within [-1, 1].

    Raises:
        AudioError: as `read`.
    """
    if not max_seconds >= 1:  # also so for NaN
        raise ValueError(f"`max_seconds` must be at least 1. Received: {max_seconds}.")
    name = name or str(source)
    limit, start, loudest = int(max_seconds * SAMPLE_RATE), 0, 0.0
    rest = np.empty(0, "float32")
    for block, last in _resampled(_blocks(source, name), name):
        rest = np.concatenate([rest, block])
        while len(rest) > limit or (last and len(rest)):
            cut = _quietest(rest[:limit]) if len(rest) > limit else len(rest)
            piece, rest = rest[:cut], rest[cut:]
            level = float(np.abs(piece - piece.mean()).max())
            if len(piece) >= MIN_SAMPLES and level > 0.01 * loudest:
                loudest = max(loudest, level)
                yield start / SAMPLE_RATE, within_range(piece)
            start += cut
    if not loudest:
        raise AudioError(f"{name} is {'silent' if start >= MIN_SAMPLES else 'too short: less than 25 ms'}.")


def resample(waveform: np.ndarray, rate: float) -> np.ndarray:
    """A float32 waveform (n,) at `rate` hertz, brought to `SAMPLE_RATE`."""
    if rate == SAMPLE_RATE:
        return waveform
    librosa = optional("librosa", "Resampling audio", extra="speech")
    return librosa.resample(waveform, orig_sr=rate, target_sr=SAMPLE_RATE)


def within_range(waveform: np.ndarray) -> np.ndarray:
    """The waveform, scaled down where it leaves [-1, 1]."""
    return waveform / np.float32(max(1.0, np.abs(waveform).max(initial=0)))


def trim(waveform: np.ndarray) -> np.ndarray:
    """The waveform without what is silent at its start and its end."""
    loud = np.flatnonzero(np.abs(waveform) > SILENCE)
    return waveform[loud[0] : loud[-1] + 1] if len(loud) else waveform[:0]


def _resampled(blocks: Iterator[tuple[np.ndarray, int]], name: str) -> Iterator[tuple[np.ndarray, bool]]:
    """Blocks at `SAMPLE_RATE`, and whether each is the last."""
    soxr = optional("soxr", "Resampling audio", extra="speech")
    stream = None
    for block, rate in blocks:
        stream = stream or soxr.ResampleStream(rate, SAMPLE_RATE, 1)
        yield stream.resample_chunk(block), False
    yield (stream.resample_chunk(np.empty(0, "float32"), last=True) if stream else np.empty(0, "float32")), True


def _quietest(waveform: np.ndarray) -> int:
    """The middle of the quietest 0.3 s in the last three quarters."""
    window, first = SAMPLE_RATE * 3 // 10, len(waveform) // 4
    power = np.concatenate([[0.0], np.cumsum(np.square(waveform[first:], dtype="float64"))])
    return first + int(np.argmin(power[window:] - power[:-window])) + window // 2


def _blocks(source: Source, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Mono float32 blocks of a source, with its sample rate."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(source, "rb")) if isinstance(source, str | pathlib.Path) else source
            if not file.seekable():
                spooled = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(file, spooled)
                file = spooled
            file.seek(0)
            start = file.read(12)
            if not start:
                raise AudioError(f"{name} is empty.")
            _check_size(file, start, name)
        except OSError as error:
            raise AudioError(f"{name} cannot be read: {error.strerror or error}") from error
        if any(start[place:].startswith(magic) for place, magic in FOREIGN):
            yield from _foreign(source, name)
        else:
            yield from _sound(file, name)


def _check_size(file: BinaryIO, start: bytes, name: str) -> None:
    """Refuses a WAV file that ends before its samples do, which libsndfile does not mind."""
    end = file.seek(0, os.SEEK_END)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        place = 12
        while place + 8 <= end:
            file.seek(place)
            kind, size = struct.unpack("<4sI", file.read(8))
            place += 8
            if kind == b"data":
                if size < UNKNOWN_BYTES and place + size > end:
                    raise AudioError(f"{name} is truncated: it has {end - place} of its {size} bytes of samples.")
                break
            place += size + size % 2
    file.seek(0)


def _sound(file: Any, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks by libsndfile: WAV, FLAC, OGG, MP3, AIFF and many more."""
    soundfile = optional("soundfile", "Reading audio", extra="speech")

    def seek(offset, whence=os.SEEK_SET):
        with contextlib.suppress(OSError, ValueError):  # damaged files lead libsndfile to places that are none
            file.seek(offset, whence)

    # Without its name, soundfile has nothing but the content to go by, so that a wrong suffix does not matter.
    nameless = types.SimpleNamespace(read=file.read, readinto=file.readinto, seek=seek, tell=file.tell)
    try:
        with soundfile.SoundFile(nameless) as sound:
            _check_rate(sound.samplerate, name)
            count = 0
            while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
                count += len(block)
                yield _mono(block, name), sound.samplerate
            # The length of an MP3 is an estimate.
            if sound.format != "MP3" and count < sound.frames < UNKNOWN_SAMPLES:
                raise AudioError(f"{name} is truncated: it has {count} of its {sound.frames} samples.")
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name} cannot be read as audio: {error.error_string}") from error


def _foreign(source: Source, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks by whatever decoder audioread finds on this machine: AAC, M4A, WebM, WMA, AMR."""
    audioread = optional("audioread", "Reading audio", extra="speech")
    if not isinstance(source, str | pathlib.Path):
        raise AudioError(f"{name} is compressed in a way that only files can be read with.")
    try:
        with audioread.audio_open(str(source)) as sound:
            _check_rate(sound.samplerate, name)
            for data in sound:
                block = np.frombuffer(data, "<i2").astype("float32") / 32768
                yield _mono(block.reshape(-1, sound.channels), name), sound.samplerate
    except audioread.NoBackendError as error:
        raise AudioError(f"{name} cannot be read as audio: its format needs ffmpeg, or the file is corrupt.") from error
    except audioread.DecodeError as error:
        raise AudioError(f"{name} cannot be read as audio: {error}") from error


def _check_rate(rate: int, name: str) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{name} must have a sample rate from {RATES[0]} to {RATES[1]} Hz. Received: {rate}.")


def _mono(block: np.ndarray[Any, Any], name: str) -> np.ndarray:
    if not np.isfinite(block).all():
        raise AudioError(f"{name} is corrupt: some of its samples are not finite numbers.")
    return block.mean(1) if block.shape[1] != 1 else block[:, 0]
