"""The corpora that the demo learns from: numbers in words, Multi30k, or the user's own sentences."""

import dataclasses
from typing import Any

from demos.kit import multi30k
from demos.kit.options import DATA_VARIABLE, option
from demos.kit.values import count
from demos.translation.corpora import files, toy
from demos.translation.corpora.files import Corpus

NAMES = ("toy", "multi30k", "tsv")


@dataclasses.dataclass(frozen=True)
class Options:
    """Which corpus is learned, and in what units."""

    corpus: str = option("toy", "what to learn from: numbers in words, or files of sentences", choices=NAMES)
    data_dir: str | None = option(
        None,
        "where train.en, train.de, val.* and test_2016_flickr.* lie, or train.tsv, dev.tsv and test.tsv with a source, "
        "a tab and a target per line",
        affects_result=False,
        shown=f"for multi30k ${DATA_VARIABLE}/multi30k, else it is downloaded",
        metavar="DIR",
    )
    train_pairs: int | None = option(
        None, "numbers to train on, as many as you like", count, defaults={"toy": None}, shown=f"{toy.SIZES['train']}"
    )
    reverse: bool = option(False, "translate from the second language into the first", action="store_true")
    skip_bad: bool = option(False, "leave out lines that cannot be used, with a count", action="store_true")
    max_tokens: int = option(100, "leave out training pairs with more tokens on a side, end token included", count)


def load(options: Any) -> Corpus:
    """The corpus that the command line names; a ValueError if it cannot be found or read."""
    if options.corpus == "toy":
        if options.data_dir:
            raise ValueError("--data-dir is for --corpus multi30k or tsv. Received: --corpus toy.")
        corpus = toy.load(options.train_pairs)
    elif options.corpus == "multi30k":
        options.data_dir = str(multi30k.directory(options.data_dir))
        corpus = files.multi30k(options.data_dir, options.skip_bad)
    else:
        corpus = files.tsv(options.data_dir, options.skip_bad)
    return corpus.reversed() if options.reverse else corpus
