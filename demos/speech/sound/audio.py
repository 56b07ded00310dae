"""Audio files as waveforms: any format, sample rate and number of channels to 16 kHz mono, checked."""

import contextlib
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from demos.kit.cli import optional
from demos.speech.sound import headers
from demos.speech.sound.headers import AudioError, Unreadable

SAMPLE_RATE = 16_000
MIN_SAMPLES = 400  # one window of 25 ms
RATES = (4_000, 768_000)
BLOCK = 65_536  # samples read at a time
SILENCE = 1e-3  # 60 dB below full scale
FAINTEST = 1e-4  # 80 dB below full scale; what stays nearer to its mean is rounding or dither
SILENT = f"{{}} is silent: its samples stay within {FAINTEST:g} of their mean."
# How formats begin that ffmpeg can read but libsndfile cannot. Others are not tried there: some decoders find sound in
# anything.
FOREIGN = ((4, b"ftyp"), (0, b"\xff\xf1"), (0, b"\xff\xf9"), (0, b"\x1aE\xdf\xa3"), (0, b"0&\xb2u"), (0, b"#!AMR"))

Source = str | pathlib.Path | BinaryIO


def read(source: Source, name: str | None = None) -> np.ndarray:
    """A whole file, whatever its suffix: float32 (n,) at `SAMPLE_RATE`, channels mixed down, within [-1, 1].

    It is an AudioError if it is no audio, corrupt, truncated, silent, shorter than 25 ms, or needs ffmpeg and there is
    none. The message begins with `name`, by default the path.
    """
    name = name or str(source)
    blocks = list(_audible(_blocks(source, name), name))
    return within_range(resample(np.concatenate([block for block, _ in blocks]), blocks[0][1]))


def segments(source: Source, max_seconds: float = 20.0, name: str | None = None) -> Iterator[tuple[float, np.ndarray]]:
    """The pieces of a file of any length, as `read` gives them, with their starts in seconds; little is in memory.

    Audio longer than `max_seconds`, which is at least 1, is cut where it is quietest over 0.3 s, in the last three
    quarters of that time. Pieces 40 dB below the loudest so far, and silent ones, are passed over. Errors are those of
    `read`.
    """
    if not max_seconds >= 1:  # NaN fails, too
        raise ValueError(f"`max_seconds` must be at least 1. Received: {max_seconds}.")
    name = name or str(source)
    limit, start, loudest = round(max_seconds * SAMPLE_RATE), 0, 0.0
    rest = np.empty(0, "float32")
    for block, last in _resampled(_audible(_blocks(source, name), name)):
        rest = np.concatenate([rest, block])
        while len(rest) > limit or (last and len(rest)):
            cut = _quietest(rest[:limit]) if len(rest) > limit else len(rest)
            piece, rest = rest[:cut], rest[cut:]
            level = float(np.abs(piece - piece.mean()).max())
            if len(piece) >= MIN_SAMPLES and level >= max(FAINTEST, 0.01 * loudest):
                loudest = max(loudest, level)
                yield start / SAMPLE_RATE, within_range(piece)
            start += cut
    if not loudest:
        raise AudioError(SILENT.format(name))


def resample(waveform: np.ndarray, rate: float) -> np.ndarray:
    """A float32 waveform (n,) at `rate` hertz, brought to `SAMPLE_RATE`."""
    librosa = optional("librosa", "Resampling audio", extra="speech")
    return librosa.resample(waveform, orig_sr=rate, target_sr=SAMPLE_RATE)


def within_range(waveform: np.ndarray) -> np.ndarray:
    """The waveform, scaled down where it leaves [-1, 1]."""
    return waveform / np.float32(max(1.0, np.abs(waveform).max(initial=0)))


def trim(waveform: np.ndarray) -> np.ndarray:
    """The waveform without the silence at its start and its end."""
    loud = np.flatnonzero(np.abs(waveform) > SILENCE)
    return waveform[loud[0] : loud[-1] + 1] if len(loud) else waveform[:0]


def _audible(blocks: Iterator[tuple[np.ndarray, int]], name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Passes mono blocks on; raises AudioError if one is corrupt, or at their end if all are too short or silent."""
    count, total, low, high, rate = 0, 0.0, np.inf, -np.inf, SAMPLE_RATE
    for channels, rate in blocks:
        if not np.isfinite(channels).all():
            raise AudioError(f"{name} is corrupt: some of its samples are not finite numbers.")
        block = channels.mean(1) if channels.shape[1] != 1 else channels[:, 0]
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        count, total = count + len(block), total + float(block.sum(dtype="float64"))
        yield block, rate
    if count * SAMPLE_RATE < MIN_SAMPLES * rate:
        raise AudioError(f"{name} is too short: {count} samples at {rate} Hz, less than 25 ms.")
    if max(high - total / count, total / count - low) < FAINTEST:
        raise AudioError(SILENT.format(name))


def _resampled(blocks: Iterator[tuple[np.ndarray, int]]) -> Iterator[tuple[np.ndarray, bool]]:
    """Blocks at `SAMPLE_RATE`, and whether each is the last."""
    soxr = optional("soxr", "Resampling audio", extra="speech")
    stream = None
    for block, rate in blocks:
        stream = stream or soxr.ResampleStream(rate, SAMPLE_RATE, 1)
        yield stream.resample_chunk(block), False
    if stream:
        yield stream.resample_chunk(np.empty(0, "float32"), last=True), True


def _quietest(waveform: np.ndarray) -> int:
    """The middle of the quietest 0.3 s in the last three quarters."""
    window, first = SAMPLE_RATE * 3 // 10, len(waveform) // 4
    power = np.concatenate([[0.0], np.cumsum(np.square(waveform[first:], dtype="float64"))])
    return first + int(np.argmin(power[window:] - power[:-window])) + window // 2


def _blocks(source: Source, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Float32 blocks (n, channels) of a source, with its sample rate."""
    # Decoders get a descriptor, not a name, so that a wrong suffix does not matter. They move its position, so that
    # files are not buffered.
    with contextlib.ExitStack() as stack:
        try:
            if isinstance(source, str | pathlib.Path):
                file: BinaryIO = stack.enter_context(open(source, "rb", buffering=0))
                if not file.seekable():
                    file = stack.enter_context(_copy(file))
            else:
                file = stack.enter_context(_copy(source))
            if not (start := file.read(24)):
                raise AudioError(f"{name} is empty.")
            headers.check_end(file, start, name)
            if start[:4] in (b"RIFF", b"RF64") and not headers.wave_data(file)[1]:
                file = stack.enter_context(_copy(file))
                headers.mark_unknown(file)
            file.seek(0)
        except OSError as error:
            raise Unreadable(f"{name} cannot be read: {error.strerror or error}") from error
        if any(start[place:].startswith(magic) for place, magic in FOREIGN):
            yield from _foreign(file, name)
        else:
            yield from _sound(file, name)


@contextlib.contextmanager
def _copy(file: BinaryIO) -> Iterator[BinaryIO]:
    """A temporary file, at its start, with all of `file`, which may be a stream."""
    with tempfile.TemporaryFile(buffering=0) as copy:
        if file.seekable():
            file.seek(0)
        with open(copy.fileno(), "wb", closefd=False) as buffered:
            shutil.copyfileobj(file, buffered)
        copy.seek(0)
        yield copy


def _sound(file: BinaryIO, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks by libsndfile: WAV, FLAC, OGG, MP3, AIFF and many more."""
    soundfile = optional("soundfile", "Reading audio", extra="speech")
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            rate, (low, high) = sound.samplerate, RATES
            if not low <= rate <= high:
                raise AudioError(f"{name} must have a sample rate from {low} to {high} Hz. Received: {rate}.")
            # Else soundfile seeks after each block, which fails at the end of a FLAC of unknown length.
            sound.seekable = lambda: False
            count = 0
            while len(block := sound.read(BLOCK, dtype="float32", always_2d=True)):
                count += len(block)
                yield block, rate
            length, tolerance = _length(sound, file)
            if count + tolerance < length < headers.UNKNOWN_LONG:
                raise AudioError(f"{name} is truncated or corrupt: it has {count} of its {length} samples.")
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name} cannot be read as audio: {error.error_string}") from error


def _length(sound: Any, file: BinaryIO) -> tuple[int, int]:
    """How many samples an open file has by what it says, and how many of them may be missing."""
    if sound.format == "OGG":  # libsndfile takes what it can read for the length
        position = int.from_bytes(headers.last_page(file)[6:14], "little", signed=True)
        if sound.subtype == "OPUS":
            position = position * sound.samplerate // 48_000
        return position, sound.samplerate // 10  # Opus counts the samples that the decoder skips, too
    if sound.format == "MP3":
        return (sound.frames if headers.counts_frames(file) else 0), 3 * 1152
    return sound.frames, 0


def _foreign(file: BinaryIO, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks by ffmpeg: AAC, M4A, WebM, WMA, AMR."""
    if not shutil.which("ffmpeg"):
        raise Unreadable(f"{name} is in a format that is read by ffmpeg, which is not installed.")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", f"/dev/fd/{file.fileno()}", "-f", "f32le"]
    command += ["-ac", "1", "-rematrix_maxval", "1", "-ar", str(SAMPLE_RATE), "-"]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "pass_fds": [file.fileno()]}
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stderr=log, **pipes) as process:
        assert process.stdout is not None
        while len(data := process.stdout.read(4 * BLOCK)) >= 4:
            yield np.frombuffer(data, "<f4", len(data) // 4)[:, None], SAMPLE_RATE
        status = process.wait()
        log.seek(0)
        errors = log.read().decode(errors="replace").splitlines()
    if status or errors:  # the status is 0 also where a file is cut short or damaged
        # Their lines begin with the part of ffmpeg and its address.
        reason = errors[0].rpartition("] ")[2] if errors else f"ffmpeg failed with status {status}"
        raise AudioError(f"{name} cannot be read as audio: {reason}")
