"""The recognisers of `speech_multi30k`, searched by sums of log p; α = 0.02 and 0.05 of seed 0 alone."""

from demos.reproduce import questions_of_text
from demos.reproduce.experiment import Setting, by_network
from demos.reproduce.experiments.speech_multi30k import RUN_ON as CAPTIONS
from demos.reproduce.experiments.speech_multi30k import TRAIN

COMMANDS = f"""{TRAIN}
python -m demos.speech.beam_search --from runs/speech/multi30k --length-penalty 0 --temperatures 1"""
PAPER = "only in its reference 10, Chorowski and Jaitly (2017): with hard targets wider beams find worse texts"
RUN_ON = CAPTIONS
TRIALS = by_network(0, 0.02, 0.05, 0.1, seeds=[0]) + by_network(0, 0.1, seeds=[1, 2])
# `speech_multi30k` trains the networks.
SCALES = {"cpu": Setting(COMMANDS, 34, "2 cores of an Intel Xeon", TRIALS, once_trained=4)}
AFTERWARDS = True
WHY = {
    "cpu": {
        "speech": "Here wide beams harm the smoothed networks, to which each token costs about −log(1 − α). Hard "
        "targets are only slightly over-confident, and the CTC loss may keep their attention from skipping."
    }
}
PARTS = {"speech": questions_of_text.sums(0.1)}
