"""What temperature and beam width do to the recognisers of a run: the paper's Figure 4 for speech.

WER, CER, ECE and NLL against the temperature that logits are divided by, and WER and CER against the width of the
beam, for every model of the run, on its test split (or its development split, with --split dev).
"""

import dataclasses

from demos.kit import cli, values
from demos.kit.options import Group, option
from demos.sequence.options import beam_width, length_penalty, run
from demos.speech.corpora import Storage


@dataclasses.dataclass(frozen=True)
class Options:
    """What is swept over, and where."""

    run: str = run("demos.speech.train")
    temperatures: tuple[float, ...] = option(
        (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0),
        "temperatures to try, each with --beam-width",
        values.temperature,
        metavar="T",
    )
    beam_widths: tuple[int, ...] = option(
        (1, 2, 4, 8, 16, 32), "widths of the beam to try, each at temperature 1", values.count, metavar="W"
    )
    beam_width: int = beam_width("width of the beam at all temperatures")
    length_penalty: float = length_penalty("hypotheses compete by log p / tokens**X")
    split: str = option("test", "the split to measure on", choices=("dev", "test"))
    out: str | None = option(
        None, "directory for results and pictures", affects_result=False, shown="RUN", metavar="DIR"
    )
    data_dir: str | None = option(
        None, "where the corpus lies now", affects_result=False, shown="where it was", metavar="PATH"
    )


GROUPS = (Group("options of the sweep", Options), Group("features on disk", Storage))
COMMAND = cli.Command("demos.speech.beam_search", __doc__ or "", "", GROUPS, "demos.speech.analysis.beam_search")
main = COMMAND.main

if __name__ == "__main__":
    raise SystemExit(main())
