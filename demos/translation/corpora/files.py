"""Pairs of sentences in files: Multi30k, and the user's own."""

import dataclasses
import functools
import hashlib
import itertools
import pathlib

from demos.kit.texts import read_text, sentence

SPLITS = ("train", "dev", "test")
# The names of a split's files, of which the first that is there counts.
MULTI30K = {"train": ("train",), "dev": ("val",), "test": ("test_2016_flickr", "test2016", "test")}


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Sentences and their translations."""

    sources: list[str]
    targets: list[str]
    skipped: list[str]  # one line for each pair left out as bad
    places: list[str]  # file and line of each


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What is learned from, chosen by and tested on."""

    name: str
    splits: dict[str, Pairs]

    def reversed(self) -> "Corpus":
        """The corpus of the other direction."""
        turned = {split: Pairs(p.targets, p.sources, p.skipped, p.places) for split, p in self.splits.items()}
        return Corpus(f"{self.name}-reversed", turned)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A checksum of all pairs, wherever their files lie."""
        lines = itertools.chain.from_iterable((*p.sources, *p.targets) for p in self.splits.values())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def multi30k(data_dir: str, skip_bad: bool) -> Corpus:
    """The captions of Multi30k, also under names that its files had elsewhere."""
    folder, splits = pathlib.Path(data_dir), {}
    for split, names in MULTI30K.items():
        stem = next((name for name in names if (folder / f"{name}.en").is_file()), names[0])
        sides = [_lines(folder / f"{stem}.{language}") for language in ("en", "de")]
        if len(sides[0]) != len(sides[1]):
            numbers = f"{len(sides[0])} and {len(sides[1])}"
            raise ValueError(f"{folder / stem}.en and .de must have as many lines. Received: {numbers}.")
        splits[split] = _pairs(folder / f"{stem}.en and .de", list(zip(*sides, strict=True)), skip_bad)
    return Corpus("multi30k", splits)


def tsv(data_dir: str | None, skip_bad: bool) -> Corpus:
    """The user's own pairs: train.tsv, dev.tsv and test.tsv, a source, a tab and a target per line."""
    if not data_dir:
        raise ValueError("--corpus tsv needs --data-dir, a directory with train.tsv, dev.tsv and test.tsv.")
    paths = {split: pathlib.Path(data_dir, f"{split}.tsv") for split in SPLITS}
    rows = {split: [tuple(line.split("\t")) for line in _lines(path)] for split, path in paths.items()}
    splits = {split: _pairs(path, rows[split], skip_bad) for split, path in paths.items()}
    return Corpus(pathlib.Path(data_dir).expanduser().resolve().name, splits)


def _lines(path: pathlib.Path) -> list[str]:
    text = read_text(path).rstrip("\r\n")
    return text.split("\n") if text else []


def _pairs(path: pathlib.Path, rows: list[tuple[str, ...]], skip_bad: bool) -> Pairs:
    """The pairs of a file's rows; what is not a sentence and its translation is refused or skipped."""
    kept, bad = [], []
    for number, row in enumerate(rows, start=1):
        sides = list(map(sentence, row))
        if len(sides) == 2 and all(sides):
            kept.append((*sides, f"{path} line {number}"))
            continue
        what = "has an empty side" if len(sides) == 2 else f"has {len(sides) - 1} tabs instead of one"
        bad.append(f"{path} line {number} {what}.")
    if bad and not skip_bad:
        more = f" ({len(bad)} lines are bad)" if len(bad) > 1 else ""
        raise ValueError(f"{bad[0]}{more} --skip-bad leaves such lines out.")
    if not kept:
        raise ValueError(f"{path} has no pair of sentences.")
    sources, targets, places = map(list, zip(*kept, strict=True))
    return Pairs(sources, targets, bad, places)
