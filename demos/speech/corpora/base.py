"""What a corpus of recorded or made speech is: utterances in splits, each with a waveform made on demand."""

import dataclasses
import hashlib
import os
import pathlib
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np

from demos.speech.sound import audio

SPLITS = ("train", "dev", "test")
ZERO_WIDTH_SPACE = "\u200b"  # which parts words, unlike other marks that are not seen


@dataclasses.dataclass(frozen=True)
class Utterance:
    """Something said."""

    key: str  # unique within the corpus; it seeds the utterance's noise, and is its name in errors
    transcript: str  # what was said, as `normalise` leaves it; never empty


@dataclasses.dataclass(eq=False)
class Corpus:
    """Utterances in splits."""

    name: str  # what the corpus is called in tables and file names
    splits: dict[str, list[Any]]  # "train", "dev" and "test" to their utterances
    # What the waveforms depend on besides the utterances' own fields; part of the fingerprint
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Split to one line for each utterance that was left out as bad
    skipped: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    times: tuple[int, ...] = ()  # when each file was last written, in nanoseconds; new times make features anew
    # Whether waveforms were made without recordings that this machine cannot read now, and may be able to read later
    incomplete: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self):
        """Checks that there is something to learn, choose and test on."""
        for split in SPLITS:
            if not self.splits.get(split):
                bad = self.skipped.get(split)
                more = f" {len(bad)} were skipped as bad, the first: {bad[0]}" if bad else ""
                raise ValueError(f"The {split} split of {self.name} holds no utterances.{more}")

    def waveform(self, utterance: Any) -> np.ndarray:
        """The samples of an utterance, the same at each call: float32 (n,) at `audio.SAMPLE_RATE`.

        If they cannot be had, a ValueError of one line names the file or the utterance.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A checksum of what the corpus consists of; it does not change when files are moved.

        Of audio files it has the size, not the samples, which would all have to be read.
        """
        digest = hashlib.sha256(repr((self.name, sorted(self.settings.items()))).encode())
        for split in SPLITS:
            for utterance in self.splits[split]:
                digest.update(repr((split, utterance)).encode())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class FileUtterance(Utterance):
    """An utterance in an audio file of its own."""

    path: str = dataclasses.field(repr=False)  # no part of the corpus's fingerprint
    size: int  # the file's bytes


class FileCorpus(Corpus):
    """A corpus of one audio file per utterance."""

    def waveform(self, utterance: FileUtterance) -> np.ndarray:
        """The file's samples."""
        return audio.read(utterance.path)


def file_corpus(
    name: str, root: pathlib.Path, entries: Iterable[tuple[str, str, pathlib.Path, str]], skip_bad: bool
) -> FileCorpus:
    """A corpus of files, whose utterances are called by their paths from `root`.

    Each entry is a split, the place where the entry stands (for errors), the path of the audio and the raw transcript.
    Entries without a file of their own or without words are left out and noted if `skip_bad`, else a ValueError.
    """
    splits: dict[str, list[FileUtterance]] = {split: [] for split in SPLITS}
    skipped: dict[str, list[str]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    times: list[int] = []
    for split, place, path, text in entries:
        transcript, key = normalise(text), pathlib.Path(os.path.relpath(path, root)).as_posix()
        if not os.path.isfile(path):  # False, too, of names that no file can have
            fault = f"{place}: the audio file {path} does not exist."
        elif not transcript:
            fault = f"{place}: the transcript of {path} is empty. Received: {text!r}."
        elif key in seen:
            fault = f"{place}: {path} is listed twice."
        else:
            seen.add(key)
            status = path.stat()
            splits[split].append(FileUtterance(key, transcript, str(path), status.st_size))
            times.append(status.st_mtime_ns)
            continue
        if not skip_bad:
            raise ValueError(f"{fault} --skip-bad leaves such utterances out.")
        skipped[split].append(fault)
    return FileCorpus(name, splits, skipped=skipped, times=tuple(times))


def normalise(text: str) -> str:
    """The text in lower case and NFKC, with letters, digits and apostrophes inside words, single spaces between them.

    Examples:
        >>> normalise("Don't  shout, O’Neill: it's 7 o'clock!")
        "don't shout o'neill it's 7 o'clock"
        >>> normalise(" -- ")
        ''
        >>> normalise("co\u00adoperate")  # marks that are not seen join what they stand in
        'cooperate'
    """
    text = text.replace("´", "'").replace("’", "'")
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    kept = ""
    for c in filter(_is_seen, text):
        kind = unicodedata.category(c)[0]
        is_accent = kind == "M" and kept[-1:] not in ("", " ", "'")  # of a letter before it
        kept += c if kind in "LN" or c == "'" or is_accent else " "
    return " ".join(word for word in (word.strip("'") for word in kept.split()) if word)


def _is_seen(c: str) -> bool:
    """Whether a character can be seen or parts words, unlike those that only change how others look."""
    is_variation_selector = "\ufe00" <= c <= "\ufe0f" or "\U000e0100" <= c <= "\U000e01ef"
    return c == ZERO_WIDTH_SPACE or not (is_variation_selector or unicodedata.category(c) in ("Cf", "Me"))
