"""What a run of demos.translation.train left besides its networks: its tokens and its data."""

import pathlib

from demos.kit import records
from demos.kit.options import Chosen, Group
from demos.sequence import tokenizers
from demos.sequence.tokenizers import Subwords
from demos.sequence.training import Data
from demos.translation import corpora
from demos.translation.analysis import data

SETTINGS = {"corpus": str, "reverse": bool, "skip_bad": bool, "max_tokens": int, "data": str}


def tokens(out: pathlib.Path) -> Subwords:
    """The tokens of a run."""
    return tokenizers.read(out / "tokens.json", Subwords.kind)


def read_data(out: pathlib.Path, tokens: Subwords, data_dir: str | None) -> Data:
    """The data of a run, which may have moved to `data_dir`; a ValueError if they have changed."""
    settings = records.read_json(out / "settings.json", SETTINGS)
    noted = records.read_json(out / "data.json", {"data_dir": (str, None)})["data_dir"]
    place = noted if settings["corpus"] == "tsv" or pathlib.Path(noted or ".").is_dir() else None  # as in training
    options = Chosen((Group("", corpora.Options),), {**settings, "data_dir": data_dir or place})
    return data.load(options, tokens, settings["data"])
