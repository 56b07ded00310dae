"""Trains Transformers on hard and on smoothed targets to translate, and measures their BLEU and their confidence.

Table 1 of the paper for translation: next-token accuracy, NLL and calibration, and BLEU and chrF of greedy and of beam
search, for each label smoothing.
"""

import dataclasses
import sys

from demos.kit import cli, devices, options
from demos.kit.options import Group, Output
from demos.sequence.options import Computing, beam_width, length_penalty, seeds
from demos.translation import corpora
from demos.translation.analysis import RULE
from demos.translation.recipe import Recipe

EPILOG = f"\n{cli.paragraph(RULE)}\n\nThe default run learns to write numbers in German.\n"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared."""

    label_smoothing: tuple[float, ...] = options.label_smoothing(0.0, 0.1)
    seeds: tuple[int, ...] = seeds()
    beam_width: int = beam_width("width of the beam of the search that is not greedy", default=4)
    length_penalty: float = length_penalty("hypotheses of a beam compete by log p / tokens**X")


GROUPS = (
    Group("corpus", corpora.Options),
    Group("what to compare", Options),
    Group("network and training", Recipe),
    Group("running", Computing),
    devices.GROUP,
    Group("output", Output, shown={"out": "runs/translation/CORPUS-SIZE"}),
)
COMMAND = cli.Command("demos.translation.train", __doc__ or "", EPILOG, GROUPS, "demos.translation.analysis.training")
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
