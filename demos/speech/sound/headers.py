"""What headers of audio files say of their length, which libsndfile does not check."""

import os
import re
import struct
from typing import BinaryIO

# Sizes from here on, in 4 bytes and in 8, are "unknown": the header was written before the samples were counted.
UNKNOWN, UNKNOWN_LONG = 0x7FFF0000, 2**40
LONGEST_PAGE = 65_307  # bytes of an OGG page
SEARCHED = 65_536  # bytes of an MP3 file in which its header lies


class AudioError(ValueError):
    """Audio that cannot be used; the message is one line that names the file."""


class Unreadable(AudioError):
    """Audio that this machine cannot read now, and may be able to read later."""


def check_end(file: BinaryIO, start: bytes, name: str) -> None:
    """Refuses a file that ends before its header or its last page says; libsndfile does not mind."""
    end = file.seek(0, os.SEEK_END)
    if start[:4] == b"OggS":
        page = last_page(file)
        if len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
            raise AudioError(f"{name} is truncated: its last page is missing or incomplete.")
    declared, unknown = 0, UNKNOWN
    if start[:4] == b"RIFF":
        declared = sum(wave_data(file))
    elif start[:4] == b"RF64":
        declared, unknown = sum(wave_data(file)), UNKNOWN_LONG
    elif start[:4] == b"riff":  # W64
        declared, unknown = int.from_bytes(start[16:24], "little"), UNKNOWN_LONG
    elif start[:4] == b"FORM":  # AIFF; the byte that pads its last chunk is often missing
        declared = 7 + int.from_bytes(start[4:8], "big")
    elif start[:4] == b".snd":  # AU
        declared = int.from_bytes(start[4:8], "big") + int.from_bytes(start[8:12], "big")
    if end < declared < unknown:
        raise AudioError(f"{name} is truncated: it has {end} of its {declared} bytes.")


def wave_data(file: BinaryIO) -> tuple[int, int]:
    """Where the samples of a WAV or RF64 file begin, and how many bytes of them its header states."""
    place, long_size = 12, None
    file.seek(place)
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        place += 8
        if kind == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        if kind == b"data":
            return place, size if long_size is None else long_size
        place += size + size % 2
        file.seek(place)
    return place, 0


def mark_unknown(file: BinaryIO) -> None:
    """Marks the size in a WAV or RF64 file as unknown if samples follow a header that says there are none."""
    place, _ = wave_data(file)
    file.seek(place)
    following = file.read(4)
    if following and not following.strip().isalnum():  # as the name of another chunk would be
        file.seek(0)
        file.write(b"RIFF")  # so that libsndfile passes over the 64-bit sizes of RF64
        file.seek(place - 4)
        file.write(b"\xff" * 4)


def last_page(file: BinaryIO) -> bytes:
    """The last page of an OGG file, and what follows it; b"" if there is none."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_PAGE))
    _, magic, page = file.read().rpartition(b"OggS")
    return magic + page if magic else b""


def counts_frames(file: BinaryIO) -> bool:
    """Whether an MP3 file says how many frames it has; else its length is libsndfile's estimate."""
    file.seek(0)
    tag = file.read(10)
    size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=False))
    file.seek(10 + size if tag[:3] == b"ID3" else 0)
    return bool(re.search(rb"(Xing|Info)\0{3}[\x01-\x0f](?!\0{4})", file.read(SEARCHED)))
