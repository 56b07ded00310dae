"""Trains attention recognisers on hard and on smoothed targets, and measures their words and their confidence.

Table 1 of the paper for speech: next-token accuracy, NLL and calibration, and word error rates of greedy and of beam
search, for each label smoothing.
"""

import dataclasses

from demos.kit import cli, devices, options
from demos.kit.options import Group, Output, option
from demos.sequence.options import beam_width, length_penalty, seeds
from demos.speech import corpora
from demos.speech.analysis import RULE
from demos.speech.networks.recipe import QUICK, Computing, Recipe

EPILOG = f"""
{cli.paragraph(RULE)}

The default run makes its own corpus: sentences of numbers, dates, names and commands, spoken by eSpeak NG. Test
sentences and their voices' settings are in no other split. It takes about 5 minutes on two cores.
"""
FITS = "hypotheses of a beam compete by log p / tokens**X; 0 favours short ones, with smoothing even more"
IN_FLAGS = [f"--{name.replace('_', '-')} {value:g}" for name, value in QUICK.items() if name != "augment"]
QUICKLY = f"show in under 3 minutes that it works: {', '.join(IN_FLAGS)}, --no-augment"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared."""

    label_smoothing: tuple[float, ...] = options.label_smoothing(0.0, 0.1)
    seeds: tuple[int, ...] = seeds()
    beam_width: int = beam_width("width of the beam of the search that is not greedy")
    length_penalty: float = length_penalty(FITS)
    quick: bool = option(False, QUICKLY, affects_result=False, action="store_true")


GROUPS = (
    Group("corpus", corpora.Options),
    Group("what to compare", Options),
    Group("tokens and features", corpora.Representation),
    Group("network and training", Recipe, settled_later=True),
    Group("running", Computing),
    devices.GROUP,
    Group("features on disk", corpora.Storage),
    Group("output", Output, shown={"out": "runs/speech/CORPUS-MODEL"}),
)
COMMAND = cli.Command("demos.speech.train", __doc__ or "", EPILOG, GROUPS, "demos.speech.analysis.training")
main = COMMAND.main

if __name__ == "__main__":
    raise SystemExit(main())
