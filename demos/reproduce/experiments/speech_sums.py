"""The recognisers of `speech_multi30k`, whose hypotheses compete by sums of log p instead of means per token."""

from demos.reproduce import questions_of_text
from demos.reproduce.experiment import Setting
from demos.reproduce.experiments.speech_multi30k import ONE_NETWORK, TRAIN

COMMANDS = f"""{TRAIN}
python -m demos.speech.beam_search --from runs/speech/multi30k --length-penalty 0 --temperatures 1"""
PAPER = "section 3, of other data: hard targets are so sure of themselves that wide beams lose (Chorowski and Jaitly)"
SHOWN = tuple(each for each in ONE_NETWORK if each.endswith(("smoothing 0", "smoothing 0.1")))
# Of trials that `speech_multi30k` has trained; else they are trained here, in half an hour each.
SCALES = {"cpu": Setting(COMMANDS, 4, "2 cores of an Intel Xeon", ("--seeds 0", *SHOWN))}
PARTS = {"speech": questions_of_text.sums(0.1)}
