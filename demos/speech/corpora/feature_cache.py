"""Features of a corpus on disk: made once, part by part, each part written as a whole or not at all."""

import concurrent.futures.process
import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from demos.kit.cli import optional
from demos.speech.corpora.base import Corpus, cache_directory
from demos.speech.sound import features

PART = 256  # utterances
NORMALISATIONS = ("utterance", "corpus")
VERSION = 1  # to be raised whenever features or made waveforms change


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of the utterances of a split, read from disk as they are asked for."""

    keys: list[str]  # the utterances' names
    transcripts: list[str]
    num_frames: np.ndarray  # (N,) int64, T of each
    corpus_statistics: np.ndarray | None  # (2, `NUM_MELS`) that features are normalised by; None for each one's own
    skipped: list[str]  # one line for each utterance left out as bad
    places: np.ndarray  # (N, 2) int64: the part of each, and its first frame there
    parts: list[np.ndarray]  # memory maps (frames, `NUM_MELS`) float16

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> np.ndarray:
        """Normalised features of an utterance: (T, `NUM_MELS`) float32."""
        return features.normalise(self.raw(index), self.corpus_statistics)

    def raw(self, index: int) -> np.ndarray:
        """What `features.log_mel` gave, to half precision: (T, `NUM_MELS`) float32."""
        part, first = self.places[index]
        return self.parts[part][first : first + self.num_frames[index]].astype("float32")

    def without(self, bad: dict[int, str], skip_bad: bool) -> "FeatureSet":
        """The set without some utterances.

        Args:
            bad: index to a line that says what is wrong.
            skip_bad: whether bad utterances may be left out.

        Raises:
            ValueError: If one is bad, unless `skip_bad`, or none is left.
        """
        if not bad:
            return self
        lines = [bad[index] for index in sorted(bad)]
        if not skip_bad:
            raise ValueError(_refusal(lines))
        kept = np.array([i for i in range(len(self)) if i not in bad], int)
        if not len(kept):
            raise ValueError(f"Every utterance is bad. The first: {lines[0]}")
        return dataclasses.replace(
            self,
            keys=[self.keys[i] for i in kept],
            transcripts=[self.transcripts[i] for i in kept],
            num_frames=self.num_frames[kept],
            places=self.places[kept],
            skipped=[*self.skipped, *lines],
        )


def default_directory() -> pathlib.Path:
    """Where features lie unless a command says otherwise."""
    return cache_directory() / "features"


def open_features(
    corpus: Corpus,
    split: str,
    directory: pathlib.Path | str,
    normalisation: str = "utterance",
    skip_bad: bool = False,
    workers: int = 1,
) -> FeatureSet:
    """Opens the features of a split; makes those that are not on disk yet.

    Args:
        corpus: the utterances.
        split: "train", "dev" or "test".
        directory: holds the features of any number of corpora. A run that is killed leaves the parts it finished.
        normalisation: "utterance", or "corpus": by the statistics of the training split.
        skip_bad: whether utterances without usable audio are left out and noted, rather than refused.
        workers: processes that make features.

    Raises:
        ValueError: If an utterance is bad, unless `skip_bad`, or none is good.
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"`normalisation` must be one of {', '.join(NORMALISATIONS)}. Received: {normalisation!r}.")
    utterances = corpus.splits[split]
    key = hashlib.sha256(f"{VERSION} {corpus.fingerprint()} {corpus.times} {split}".encode()).hexdigest()[:16]
    folder = pathlib.Path(directory) / f"{corpus.name}-{split}-{key}"
    _make(corpus, split, folder, skip_bad, workers)
    infos = [json.loads(_index(folder, number).read_text("utf-8")) for number in range(_num_parts(utterances))]
    bad = {PART * part + int(row): line for part, info in enumerate(infos) for row, line in info["bad"].items()}
    starts = [np.cumsum([0, *info["num_frames"]])[:-1] for info in infos]
    places = [np.stack([np.full(len(first), part), first], 1) for part, first in enumerate(starts)]
    opened = FeatureSet(
        keys=[utterance.key for utterance in utterances],
        transcripts=[utterance.transcript for utterance in utterances],
        num_frames=np.concatenate([np.array(info["num_frames"], "int64") for info in infos]),
        corpus_statistics=None,
        skipped=list(corpus.skipped[split]),
        places=np.concatenate(places),
        parts=[np.load(_path(folder, number), mmap_mode="r") for number in range(len(infos))],
    ).without(bad, skip_bad)
    if normalisation == "utterance":
        return opened
    train = opened if split == "train" else open_features(corpus, "train", directory, "utterance", skip_bad, workers)
    return dataclasses.replace(opened, corpus_statistics=corpus_statistics(train))


def corpus_statistics(train: FeatureSet) -> np.ndarray:
    """Mean and standard deviation of each mel channel over all frames: (2, `NUM_MELS`) float32."""
    count, total, squares = 0, np.zeros(features.NUM_MELS), np.zeros(features.NUM_MELS)
    for part in train.parts:
        frames = part.astype("float64")
        count += len(frames)
        total += frames.sum(0)
        squares += np.square(frames).sum(0)
    mean = total / count
    return np.stack([mean, np.sqrt(np.maximum(0, squares / count - mean**2))]).astype("float32")


def _make(corpus: Corpus, split: str, folder: pathlib.Path, skip_bad: bool, workers: int) -> None:
    """Makes the parts that are not whole on disk."""
    total = _num_parts(corpus.splits[split])
    missing = [number for number in range(total) if not _is_whole(folder, number)]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    print(f"Features of {corpus.name} {split}: {len(corpus.splits[split])} utterances, made once.", flush=True)
    for done, _ in enumerate(_made(corpus, split, folder, missing, skip_bad, workers), 1):
        if done % 4 == 0 or done == len(missing):
            print(f"  {done}/{len(missing)} parts, {time.monotonic() - start:.0f} s", flush=True)


def _made(corpus, split, folder, missing, skip_bad, workers):
    """Yields once for each part made."""
    jobs = [(corpus, corpus.splits[split][PART * n : PART * (n + 1)], folder, n, skip_bad) for n in missing]
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
    """Lets this process end when the one that started it does, even where that is killed."""
    parent: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _make_part(job: tuple[Corpus, list[Any], pathlib.Path, int, bool]) -> None:
    """Makes the features of a part and writes them, the index last: where it is, all is."""
    corpus, utterances, folder, number, skip_bad = job
    # The matrices of an utterance are so small that a second thread of the linear algebra library only costs time.
    with optional("threadpoolctl", "Making features", extra="speech").threadpool_limits(1):
        made, bad = _features(corpus, utterances, skip_bad)
    whole = np.concatenate(made)
    index = {"num_frames": [len(frames) for frames in made], "bad": bad, "crc32": _checksum(whole)}
    _write(_path(folder, number), lambda file: np.save(file, whole))
    _write(_index(folder, number), lambda file: file.write(json.dumps(index).encode()))


def _write(path: pathlib.Path, save: Callable[[BinaryIO], Any]) -> None:
    """Writes a file as a whole or not at all, whoever else writes it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    with open(temporary, "wb") as file:
        save(file)
    os.replace(temporary, path)


def _features(corpus: Corpus, utterances: list[Any], skip_bad: bool) -> tuple[list[np.ndarray], dict[int, str]]:
    """Features of each utterance, none for the bad ones, and what is wrong with those."""
    made, bad = [], {}
    for row, utterance in enumerate(utterances):
        try:
            made.append(features.log_mel(corpus.waveform(utterance)).astype("float16"))
        except ValueError as error:
            if not skip_bad:
                raise ValueError(_refusal([str(error)])) from error
            bad[row] = str(error)
            made.append(np.empty((0, features.NUM_MELS), "float16"))
    return made, bad


def _is_whole(folder: pathlib.Path, number: int) -> bool:
    """Whether a part is on disk, all of it and unharmed; earlier versions noted no checksums."""
    try:
        index = json.loads(_index(folder, number).read_text("utf-8"))
        whole = np.load(_path(folder, number), mmap_mode="r")
        if whole.shape != (sum(index["num_frames"]), features.NUM_MELS) or not isinstance(index["bad"], dict):
            return False
        return index.get("crc32") in (None, _checksum(whole))
    except (OSError, ValueError, KeyError, TypeError, EOFError):  # absent, or broken by other hands
        return False


def _checksum(frames: Any) -> int:
    return zlib.crc32(frames)


def _path(folder: pathlib.Path, number: int) -> pathlib.Path:
    return folder / f"{number:05d}.npy"


def _index(folder: pathlib.Path, number: int) -> pathlib.Path:
    return folder / f"{number:05d}.json"


def _num_parts(utterances: list[Any]) -> int:
    return -(-len(utterances) // PART)


def _refusal(lines: list[str]) -> str:
    more = f" ({len(lines)} utterances are bad)" if len(lines) > 1 else ""
    return f"{lines[0]}{more} --skip-bad leaves such utterances out."
