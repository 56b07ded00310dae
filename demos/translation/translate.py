"""Translates sentences, one per line, with a translator that demos.translation.train has trained."""

import dataclasses
import sys

from demos.kit import cli, values
from demos.kit.options import Group, option
from demos.sequence.options import Finding, beam_width, run

EPILOG = "An empty line gives an empty line. Characters that no training text had are read as one unknown token."


@dataclasses.dataclass(frozen=True)
class Options(Finding):
    """What is translated, and how."""

    files: tuple[str, ...] = option(
        (), "text in UTF-8, one sentence per line", flags=("files",), nargs="*", metavar="FILE", shown="standard input"
    )
    run: str = run("demos.translation.train")
    beam_width: int = beam_width("width of the beam; 1 is greedy", default=4)
    batch_size: int = option(32, "sentences that are translated at a time; 1 answers each at once", values.count)
    json: bool = option(False, "one line of JSON per sentence, with all translations and scores", action="store_true")


GROUPS = (Group("options of the search", Options),)
COMMAND = cli.Command(
    "demos.translation.translate", __doc__ or "", EPILOG, GROUPS, "demos.translation.analysis.translate"
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
