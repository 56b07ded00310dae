"""Translates sentences, one per line, with a translator that demos.translation.train has trained."""

import dataclasses
import sys

from demos.kit import cli, values
from demos.kit.options import Group, option
from demos.sequence.options import beam_width, length_penalty

EPILOG = "An empty line gives an empty line. Characters that no training text had are read as one unknown token."
CHOICE = "the model with the highest BLEU on the development split"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is translated, and how."""

    files: tuple[str, ...] = option(
        (), "text in UTF-8, one sentence per line", flags=("files",), nargs="*", metavar="FILE", shown="standard input"
    )
    run: str = option(
        "", "directory that demos.translation.train wrote", flags=("--from",), required=True, metavar="RUN"
    )
    label_smoothing: float | None = option(None, "that of the model to use", values.fraction, shown=CHOICE, metavar="α")
    seed: int | None = option(None, "that of the model to use", values.seed, shown="as for --label-smoothing")
    beam_width: int = beam_width("width of the beam; 1 is greedy", default=4)
    temperature: float = option(1.0, "what logits are divided by", values.temperature, metavar="T")
    length_penalty: float = length_penalty("scores are log p / tokens**X")
    n_best: int = option(1, "number of translations per sentence, each on a line with its score", values.count)
    batch_size: int = option(32, "sentences that are translated at a time", values.count)
    json: bool = option(False, "one line of JSON per sentence, with all translations and scores", action="store_true")


GROUPS = (Group("options of the search", Options),)
COMMAND = cli.Command(
    "demos.translation.translate", __doc__ or "", EPILOG, GROUPS, "demos.translation.analysis.translate"
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
