"""Sweeps temperature, beam width and length penalty over trained translators, and looks at their lists and tokens.

Figures 3, 4 and 7 of the paper for translation: the reliability of next tokens; BLEU, ECE and NLL against temperature;
and the penultimate activations of three tokens. Beyond the paper: whether the list of translations that a beam holds is
calibrated, too.
"""

import dataclasses
import sys

from demos.kit import cli, values
from demos.kit.options import Group, option
from demos.sequence.options import SWEEP_RULE, beam_width, length_penalty, run

LISTS = (
    "The probabilities of a list are the softmax of log p / T over the translations that a beam holds. They are "
    "compared with which of these has the highest chrF; of equals each gets its share. A text in two segmentations "
    "counts as two translations. The temperature of the best BLEU, which other translations are compared with, is "
    "chosen on the split that is measured."
)
EPILOG = f"\n{cli.paragraph(SWEEP_RULE.format(split='chosen'))}\n\n{cli.paragraph(LISTS)}\n"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is swept."""

    run: str = run("demos.translation.train")
    split: str = option("test", "the split to measure on", choices=("dev", "test"))
    temperatures: tuple[float, ...] = option(
        (0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5, 2.0), "temperatures to try", values.temperature, unique=True
    )
    beam_widths: tuple[int, ...] = option((1, 2, 4, 8, 16), "widths of the beam to try", values.count, unique=True)
    length_penalties: tuple[float, ...] = option(
        (0.0, 0.5, 1.0, 1.5), "hypotheses compete by log p / tokens**X", values.not_negative, unique=True
    )
    beam_width: int = beam_width("width of the beam where something else is swept", default=4)
    length_penalty: float = length_penalty("penalty where something else is swept")
    n_best: int = option(8, "length of the lists whose calibration is measured", values.several)
    tokens: tuple[str, ...] = option(
        (), "three tokens whose activations are drawn", shown="the most frequent words", nargs=3, metavar="TOKEN"
    )
    data_dir: str | None = option(
        None, "where the corpus lies now", affects_result=False, shown="where it lay in training", metavar="DIR"
    )
    out: str | None = option(None, "directory of the results", affects_result=False, shown="RUN", metavar="DIR")


GROUPS = (Group("what is measured", Options),)
COMMAND = cli.Command(
    "demos.translation.calibration", __doc__ or "", EPILOG, GROUPS, "demos.translation.analysis.calibration"
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
