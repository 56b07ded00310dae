"""Features of a corpus on disk: made once, part by part, each part written as a whole or not at all."""

import concurrent.futures.process
import dataclasses
import functools
import hashlib
import itertools
import multiprocessing
import os
import pathlib
import threading
import time
import zlib
from typing import Any

import numpy as np

from demos.kit import records
from demos.kit.cli import optional
from demos.speech.corpora.base import Corpus
from demos.speech.sound import features
from demos.speech.sound.headers import Unreadable

PART = 256  # utterances
DTYPE = "<f2"
NORMALISATIONS = ("utterance", "corpus")
VERSION = 1  # to be raised whenever features or made waveforms change
# The index of a part, as `records.read_json` takes it; earlier versions noted no checksum. "again" is there if some of
# the audio could not be read for want of something else.
INDEX = {"num_frames": [int], "bad": dict}


@dataclasses.dataclass(frozen=True)
class StoredFrames:
    """Frames (T, `NUM_MELS`) of an utterance in the file of a part, which is open only while they are read."""

    path: pathlib.Path
    offset: int  # bytes
    rows: int  # T

    def __len__(self) -> int:
        return self.rows

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """Reads them."""
        found = np.fromfile(self.path, DTYPE, self.rows * features.NUM_MELS, offset=self.offset)
        return found.reshape(self.rows, features.NUM_MELS).astype(dtype or DTYPE, copy=False)


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of the utterances of a split, read from disk as they are asked for."""

    keys: list[str]  # names of the utterances
    transcripts: list[str]
    frames: list[Any]  # (T, `NUM_MELS`) float16, `StoredFrames` or arrays
    corpus_statistics: np.ndarray | None  # (2, `NUM_MELS`) that features are normalised by, if not by each one's own
    skipped: list[str]  # one line for each utterance left out as bad

    @functools.cached_property
    def num_frames(self) -> np.ndarray:
        """T of each utterance, (N,) int64."""
        return np.array([len(each) for each in self.frames], "int64")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> np.ndarray:
        """Normalised features of an utterance: (T, `NUM_MELS`) float32."""
        return features.normalise(self.raw(index), self.corpus_statistics)

    def raw(self, index: int) -> np.ndarray:
        """What `features.log_mel` gave, to half precision: (T, `NUM_MELS`) float32."""
        return np.asarray(self.frames[index], "float32")

    def without(self, bad: dict[int, str], skip_bad: bool) -> "FeatureSet":
        """The set without some utterances, whose indices `bad` maps to lines that say what is wrong with them.

        It is a ValueError if there are any, unless `skip_bad`, or if none is left.
        """
        if not bad:
            return self
        lines = [bad[index] for index in sorted(bad)]
        if not skip_bad:
            raise ValueError(_refusal(lines))
        rows = [i for i in range(len(self)) if i not in bad]
        if not rows:
            raise ValueError(f"Every utterance is bad. The first: {lines[0]}")
        lists: dict[str, list[Any]] = {"keys": self.keys, "transcripts": self.transcripts, "frames": self.frames}
        kept: dict[str, Any] = {name: [values[i] for i in rows] for name, values in lists.items()}
        return dataclasses.replace(self, **kept, skipped=[*self.skipped, *lines])


def open_features(
    corpus: Corpus,
    split: str,
    directory: Any,
    normalisation: str = "utterance",
    skip_bad: bool = False,
    workers: int = 1,
) -> FeatureSet:
    """Opens the features of a split; `workers` processes make those that are not on disk yet.

    The directory holds the features of any number of corpora, and a run that is killed leaves there what it finished.
    Features are normalised by the mean and standard deviation of the "utterance", or of the training split ("corpus").
    Utterances without usable audio are treated as by `FeatureSet.without`.
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"`normalisation` must be one of {', '.join(NORMALISATIONS)}. Received: {normalisation!r}.")
    utterances = corpus.splits[split]
    key = hashlib.sha256(f"{VERSION} {corpus.fingerprint()} {corpus.times} {split}".encode()).hexdigest()[:16]
    folder = pathlib.Path(directory) / f"{corpus.name}-{split}-{key}"
    parts = {number: _read(folder, number) for number in range(-(-len(utterances) // PART))}
    missing = [number for number, part in parts.items() if part is None or part[0].get("again")]
    _make(corpus, split, folder, missing, skip_bad, workers)
    parts |= {number: _read(folder, number) for number in missing}
    if any(part is None for part in parts.values()):  # which the first process has written
        raise ValueError(f"--cache-dir must be a directory that all processes see. Received: {directory}.")
    frames: list[StoredFrames] = []
    bad: dict[int, str] = {}
    for index, part in parts.values():
        bad |= {len(frames) + int(row): line for row, line in index["bad"].items()}
        frames += part
    opened = FeatureSet(
        keys=[utterance.key for utterance in utterances],
        transcripts=[utterance.transcript for utterance in utterances],
        frames=frames,
        corpus_statistics=None,
        skipped=corpus.skipped.get(split, []),
    ).without(bad, skip_bad)
    if normalisation == "utterance":
        return opened
    train = opened if split == "train" else open_features(corpus, "train", directory, "utterance", skip_bad, workers)
    return dataclasses.replace(opened, corpus_statistics=corpus_statistics(train))


def corpus_statistics(train: FeatureSet) -> np.ndarray:
    """Mean and standard deviation of each mel channel over all frames: (2, `NUM_MELS`) float32."""
    count, total, squares = 0, np.zeros(features.NUM_MELS), np.zeros(features.NUM_MELS)
    for index in range(len(train)):
        frames = train.raw(index).astype("float64")
        count += len(frames)
        total += frames.sum(0)
        squares += np.square(frames).sum(0)
    mean = total / count
    return np.stack([mean, np.sqrt(np.maximum(0, squares / count - mean**2))]).astype("float32")


def _read(folder: pathlib.Path, number: int) -> Any:
    """The index of a part and the frames of its utterances; None unless all of it is on disk, and unharmed."""
    path = _path(folder, number, "npy")
    try:
        index = records.read_json(_path(folder, number, "json"), INDEX)
        whole: Any = np.load(path, mmap_mode="r")
    except Exception:  # absent or damaged: NumPy reads the header as Python
        return None
    rows = index["num_frames"]
    is_whole = (whole.shape, whole.dtype.str) == ((sum(rows), features.NUM_MELS), DTYPE)
    if not is_whole or index.get("crc32") not in (None, zlib.crc32(whole.data)):
        return None
    size = features.NUM_MELS * whole.dtype.itemsize
    starts = itertools.accumulate(rows[:-1], initial=0)
    return index, [StoredFrames(path, whole.offset + size * at, count) for at, count in zip(starts, rows, strict=True)]


def _path(folder: pathlib.Path, number: int, suffix: str) -> pathlib.Path:
    return folder / f"{number:05d}.{suffix}"


def _make(corpus: Corpus, split: str, folder: pathlib.Path, parts: list[int], skip_bad: bool, workers: int) -> None:
    """Makes parts, and says how far it is."""
    if not parts:
        return
    start, utterances = time.monotonic(), corpus.splits[split]
    print(f"Features of {corpus.name} {split}: {len(utterances)} utterances, made once.", flush=True)
    jobs = [(corpus, utterances[PART * n : PART * (n + 1)], folder, n, skip_bad) for n in parts]
    for done, _ in enumerate(_made(jobs, workers), 1):
        if done % 4 == 0 or done == len(jobs):
            print(f"  {done}/{len(jobs)} parts, {time.monotonic() - start:.0f} s", flush=True)


def _made(jobs, workers):
    """Yields once for each part made."""
    workers = min(workers, len(jobs) // 3)  # a new process takes as long to start as a part or two to make
    if workers < 2:
        yield from map(_make_part, jobs)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy TensorFlow's threads in any state
    with concurrent.futures.ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
        try:
            yield from pool.map(_make_part, jobs)
        except concurrent.futures.process.BrokenProcessPool:
            raise ValueError(
                "A process that makes features was killed, perhaps for lack of memory. Try --workers 1."
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Lets this process end when the one that started it does, even if that is killed."""
    parent: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _make_part(job: tuple[Corpus, list[Any], pathlib.Path, int, bool]) -> None:
    """Makes the features of a part and writes them, the index last: if that is there, all is."""
    corpus, utterances, folder, number, skip_bad = job
    made, bad, again = [], {}, False
    # The matrices of an utterance are so small that a second thread of the linear algebra library only costs time.
    with optional("threadpoolctl", "Making features", extra="speech").threadpool_limits(1):
        for row, utterance in enumerate(utterances):
            try:
                made.append(features.log_mel(corpus.waveform(utterance)).astype("float16"))
            except ValueError as error:
                if not skip_bad:
                    raise ValueError(_refusal([str(error)])) from error
                bad[row] = str(error)
                again |= isinstance(error, Unreadable)
                made.append(np.empty((0, features.NUM_MELS), "float16"))
    whole = np.concatenate(made)
    index = {"num_frames": [len(frames) for frames in made], "bad": bad, "again": again or corpus.incomplete}
    index["crc32"] = zlib.crc32(whole.data)
    records.write(_path(folder, number, "npy"), lambda file: np.save(file, whole))
    records.write_json(_path(folder, number, "json"), index)


def _refusal(lines: list[str]) -> str:
    more = f" ({len(lines)} utterances are bad)" if len(lines) > 1 else ""
    return f"{lines[0]}{more} --skip-bad leaves such utterances out."
