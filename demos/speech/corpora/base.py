"""What a corpus of recorded or made speech is: utterances in splits, each with a waveform made on demand."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from demos.kit import download
from demos.speech.corpora import transcripts
from demos.speech.sound import audio

SPLITS = ("train", "dev", "test")
DATA_VARIABLE = "KERAS_LS_DATA"
CACHE_VARIABLE = "KERAS_LS_CACHE"


@dataclasses.dataclass(frozen=True)
class Utterance:
    """Something said."""

    key: str  # unique within the corpus; it seeds the utterance's noise, and names it in errors
    transcript: str  # what was said, as `transcripts.normalise` leaves it; never empty


class Corpus:
    """Utterances in splits.

    Attributes:
        name: what the corpus is called in tables and file names.
        splits: "train", "dev" and "test" to their utterances.
        settings: what the waveforms depend on besides the utterances' own fields; part of the fingerprint.
        skipped: split to one line for each utterance that was left out as bad.
        times: when each of its files was last written, in nanoseconds; where these change, features are made anew.
    """

    def __init__(
        self,
        name: str,
        splits: dict[str, list[Any]],
        settings: dict[str, Any] | None = None,
        skipped: dict[str, list[str]] | None = None,
        times: Iterable[int] = (),
    ):
        """Checks that there is something to learn, choose and test on."""
        self.name, self.splits, self.settings, self.times = name, splits, settings or {}, tuple(times)
        self.skipped: dict[str, list[str]] = skipped or {split: [] for split in SPLITS}
        for split in SPLITS:
            if not splits.get(split):
                raise ValueError(f"The {split} split of {name} holds no utterances.{bad_ones(self.skipped[split])}")

    def waveform(self, utterance: Any) -> np.ndarray:
        """The samples of an utterance: float32 (n,) at `audio.SAMPLE_RATE`; the same at each call.

        Raises:
            ValueError: If they cannot be had; one line that names the file or the utterance.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A checksum of all that the features of the corpus depend on, wherever its files lie."""
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
    """A corpus of files that must exist and have transcripts.

    Args:
        name: of the corpus.
        root: its directory; utterances are called by their paths from there.
        entries: split, where the entry stands (for errors), audio path and raw transcript of each utterance.
        skip_bad: whether bad entries are left out and noted, rather than refused.

    Raises:
        ValueError: If an entry is bad.
    """
    splits: dict[str, list[FileUtterance]] = {split: [] for split in SPLITS}
    skipped: dict[str, list[str]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    times: list[int] = []
    for split, place, path, text in entries:
        transcript = transcripts.normalise(text)
        if not path.is_file():
            fault = f"{place}: the audio file {path} does not exist."
        elif not transcript:
            fault = f"{place}: the transcript of {path} is empty. Received: {text!r}."
        elif str(path) in seen:
            fault = f"{place}: {path} is listed twice."
        else:
            seen.add(str(path))
            status = path.stat()
            key = pathlib.Path(os.path.relpath(path, root)).as_posix()
            splits[split].append(FileUtterance(key, transcript, str(path), status.st_size))
            times.append(status.st_mtime_ns)
            continue
        if not skip_bad:
            raise ValueError(f"{fault} --skip-bad leaves such utterances out.")
        skipped[split].append(fault)
    return FileCorpus(name, splits, skipped=skipped, times=times)


def bad_ones(skipped: list[str]) -> str:
    """How many were skipped and the first of them, as the end of a message; empty for none."""
    return f" {len(skipped)} were skipped as bad, the first: {skipped[0]}" if skipped else ""


def find(
    name: str, data_dir: str | None, marker: str, archives: tuple[download.Archive, ...], folders: tuple[str, ...] = ()
) -> pathlib.Path:
    """The directory that holds a corpus; downloads it where it is nowhere.

    Args:
        name: of the corpus, and of the folder where it is looked for.
        data_dir: what --data-dir says; $KERAS_LS_DATA is looked at where it says nothing.
        marker: what is in that directory, as a glob.
        archives: what holds the corpus.
        folders: other names of folders where it is looked for.

    Raises:
        ValueError: If it cannot be had; one line says how to get the data.
    """
    directory = data_dir or os.environ.get(DATA_VARIABLE)
    urls = " and ".join(archive.url for archive in archives)
    remedy = f"unpack {urls} and name the directory by --data-dir or ${DATA_VARIABLE}"
    if directory:
        root = pathlib.Path(os.path.expanduser(directory))
        for candidate in (root, *(root / folder for folder in (name, *folders))):
            if next(candidate.glob(marker), None) is not None:
                return candidate
        if data_dir:
            raise ValueError(f"{data_dir} holds no {marker} of {name}: {remedy}.")
    try:
        unpacked = download.fetch(archives, cache_directory() / name)
    except ValueError as error:
        raise ValueError(f"{name} is not here: {remedy}, or run once with a network. [{error}]") from error
    return next(unpacked.rglob(marker.partition("/")[0])).parent


def cache_directory() -> pathlib.Path:
    """Where downloads and features lie unless a command says otherwise: $KERAS_LS_CACHE, or ~/.cache/keras_ls."""
    return pathlib.Path(os.path.expanduser(os.environ.get(CACHE_VARIABLE) or "~/.cache/keras_ls"))


def read_text(path: pathlib.Path) -> str:
    """A UTF-8 file, with or without a byte order mark.

    Raises:
        ValueError: If it cannot be read; the message names it.
    """
    try:
        return pathlib.Path(os.path.expanduser(path)).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as UTF-8 text: {error}") from error
