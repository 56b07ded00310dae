"""A translator that learns to write numbers in German."""

from demos.reproduce import questions_of_text
from demos.reproduce.experiment import Setting

TRAIN = "python -m demos.translation.train --steps 300"
SWEEP = """python -m demos.translation.calibration --from runs/translation/toy-tiny --temperatures 0.7 1 1.5 \
    --beam-widths 1 --length-penalties 1"""
PAPER = "Tables 1 and 3, Figures 3, 4 and 7, of other data: better texts and ECE with smoothing, worse NLL"
SCALES = {"smoke": Setting(f"{TRAIN}\n{SWEEP}", 4)}
PARTS = questions_of_text.translation(0.1, "chrf")
