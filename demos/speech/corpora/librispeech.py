"""LibriSpeech (Panayotov et al. 2015, https://www.openslr.org/12) in its own layout: SPLIT/SPEAKER/CHAPTER/*.flac."""

import pathlib
from collections.abc import Iterator

from demos.kit import download
from demos.kit.download import find
from demos.kit.texts import read_text
from demos.speech.corpora.base import SPLITS, FileCorpus, file_corpus

URL = "https://www.openslr.org/resources/12/"
SHA256 = {
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
}
ARCHIVES = tuple(download.Archive(f"{URL}{name}.tar.gz", sha256) for name, sha256 in SHA256.items())
TRANSCRIPTS = "*-*/*/*/*.trans.txt"


def load(data_dir: str | None, skip_bad: bool = False) -> FileCorpus:
    """Every folder of each split that is there: train-*, dev-* and test-*.

    If there is none, train-clean-100, dev-clean and test-clean are downloaded. See `find` and `file_corpus`.
    """
    root = find("librispeech", data_dir, TRANSCRIPTS, ARCHIVES, "LibriSpeech")
    return file_corpus("librispeech", root, _entries(root), skip_bad)


def _entries(root: pathlib.Path) -> Iterator[tuple[str, str, pathlib.Path, str]]:
    for file in sorted(root.glob(TRANSCRIPTS)):
        split = file.relative_to(root).parts[0].partition("-")[0]  # of train-clean-100, dev-other or test-clean
        if split not in SPLITS:
            continue
        for number, line in enumerate(read_text(file).splitlines(), 1):
            name, _, text = line.strip().partition(" ")
            if name:
                yield split, f"{file}, line {number}", file.parent / f"{name}.flac", text
