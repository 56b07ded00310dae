"""A translator that learns to write numbers in German."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

COMMANDS = """python -m demos.translation.train --steps 600 --seeds 0 1
python -m demos.translation.calibration --from runs/translation/toy-tiny --beam-widths 1 4 --length-penalties 1"""
PAPER = "Tables 1 and 3, Figures 3, 4 and 7, of other data: better BLEU and ECE with smoothing, worse NLL"
SCALES = {"smoke": Setting(COMMANDS, 4)}
PARTS = questions.translation(0.1)
