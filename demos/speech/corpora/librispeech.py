"""LibriSpeech (Panayotov et al. 2015, https://www.openslr.org/12) in its own layout: SPLIT/SPEAKER/CHAPTER/*.flac."""

import pathlib
from collections.abc import Iterator

from demos.kit import download
from demos.speech.corpora.base import FileCorpus, file_corpus, find, read_text

# The first words of its folders' names: train-clean-100, dev-other, test-clean.
SPLITS = ("train", "dev", "test")
URL = "https://www.openslr.org/resources/12/"
ARCHIVES = (
    download.Archive(
        f"{URL}train-clean-100.tar.gz", sha256="d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2"
    ),
    download.Archive(
        f"{URL}dev-clean.tar.gz", sha256="76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3"
    ),
    download.Archive(
        f"{URL}test-clean.tar.gz", sha256="39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23"
    ),
)
TRANSCRIPTS = "*-*/*/*/*.trans.txt"


def load(data_dir: str | None, skip_bad: bool = False) -> FileCorpus:
    """Every folder of each split that is there: train-*, dev-* and test-*.

    Args:
        data_dir: holds the folders, or a folder `LibriSpeech` or `librispeech` that does; else $KERAS_LS_DATA, else
            train-clean-100, dev-clean and test-clean are downloaded.
        skip_bad: whether utterances without audio or words are left out and noted, rather than refused.

    Raises:
        ValueError: If the data cannot be found or read.
    """
    root = find("librispeech", data_dir, TRANSCRIPTS, ARCHIVES, ("LibriSpeech",))
    return file_corpus("librispeech", root, _entries(root), skip_bad)


def _entries(root: pathlib.Path) -> Iterator[tuple[str, str, pathlib.Path, str]]:
    for file in sorted(root.glob(TRANSCRIPTS)):
        split = file.relative_to(root).parts[0].partition("-")[0]
        if split not in SPLITS:
            continue
        for number, line in enumerate(read_text(file).splitlines(), 1):
            name, _, text = line.strip().partition(" ")
            if name:
                yield split, f"{file}, line {number}", file.parent / f"{name}.flac", text
