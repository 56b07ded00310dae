"""What a run of demos.translation.train left besides its networks: its tokens and its data."""

import pathlib

from demos.kit import records
from demos.kit.errors import DamagedFile
from demos.kit.options import Chosen, Group
from demos.sequence import tokenizers
from demos.sequence.tokenizers import Subwords
from demos.translation import corpora
from demos.translation.analysis import data

SETTINGS = {"corpus": str, "reverse": bool, "skip_bad": bool, "max_tokens": int, "data": str}
PLACE = {"data_dir": (str, None)}


def tokens(out: pathlib.Path) -> Subwords:
    """The tokens of a run."""
    found = tokenizers.read(out / "tokens.json")
    if not isinstance(found, Subwords):
        raise DamagedFile(f"{out / 'tokens.json'} holds no subwords.")
    return found


def read_data(out: pathlib.Path, tokens: Subwords, data_dir: str | None) -> data.Data:
    """The data of a run, which may have moved to `data_dir`; a ValueError if they have changed."""
    settings = records.read_json(out / "settings.json", SETTINGS)
    options = Chosen((Group("", corpora.Options),), {})
    vars(options).update(settings)
    options.data_dir = data_dir or records.read_json(out / "data.json", PLACE)["data_dir"]
    return data.load(options, tokens, settings["data"])
