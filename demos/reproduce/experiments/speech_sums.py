"""The recognisers of `speech_multi30k`, searched by sums of log p; α = 0.02 and 0.05 of seed 0 alone."""

from demos.reproduce import questions_of_text
from demos.reproduce.experiment import Setting
from demos.reproduce.experiments.speech_multi30k import ONE_NETWORK, TRAIN
from demos.reproduce.experiments.speech_multi30k import RUN_ON as CAPTIONS

COMMANDS = f"""{TRAIN}
python -m demos.speech.beam_search --from runs/speech/multi30k --length-penalty 0 --temperatures 1"""
PAPER = "only in its reference 10, Chorowski and Jaitly (2017): with hard targets wider beams find worse texts"
COMPARED = tuple(each for each in ONE_NETWORK if each.endswith(("smoothing 0", "smoothing 0.1")))
RUN_ON = CAPTIONS
# `speech_multi30k` trains the networks, of seed 0 four.
TRIALS = ("--seeds 0", *COMPARED)
TRAINING = {"--seeds 0": 120.0} | dict.fromkeys(COMPARED, 30.0)
SCALES = {"cpu": Setting(COMMANDS, 4, "2 cores of an Intel Xeon", TRIALS, training=TRAINING)}
AFTERWARDS = True
WHY = {
    "cpu": {
        "speech": "Here wide beams harm the smoothed networks, to which each token costs about −log(1 − α). Hard "
        "targets are only slightly over-confident, and the CTC loss may keep their attention from skipping."
    }
}
PARTS = {"speech": questions_of_text.sums(0.1)}
