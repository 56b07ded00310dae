"""Speech Commands (Warden 2018, https://arxiv.org/abs/1804.03209): single words, WORD/*.wav, with its own lists."""

import pathlib
from collections.abc import Iterator

from demos.kit import download
from demos.kit.download import find
from demos.kit.texts import read_text
from demos.speech.corpora.base import FileCorpus, file_corpus

LISTS = {"dev": "validation_list.txt", "test": "testing_list.txt"}
ARCHIVE = download.Archive(
    "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)


def load(data_dir: str | None, skip_bad: bool = False) -> FileCorpus:
    """Every recording: those on testing_list.txt to test on, on validation_list.txt to choose by, others to train on.

    If there are none, version 0.02 is downloaded. See `find` and `file_corpus`.
    """
    root = find("speech_commands", data_dir, LISTS["test"], (ARCHIVE,))
    return file_corpus("speech_commands", root, _entries(root), skip_bad)


def _entries(root: pathlib.Path) -> Iterator[tuple[str, str, pathlib.Path, str]]:
    listed = {split: dict.fromkeys(filter(None, read_text(root / name).split())) for split, name in LISTS.items()}
    for split, names in listed.items():
        for name in names:
            yield split, str(root / LISTS[split]), root / name, name.partition("/")[0]
    held_out = listed["dev"] | listed["test"]
    for path in sorted(root.glob("*/*.wav")):
        word = path.parent.name
        # The folder _background_noise_ holds no words.
        if not word.startswith(("_", ".")) and f"{word}/{path.name}" not in held_out:
            yield "train", str(root), path, word
