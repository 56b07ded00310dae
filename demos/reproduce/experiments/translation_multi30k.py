"""A translator of captions from English to German."""

from demos.reproduce import questions_of_text
from demos.reproduce.experiment import Setting, by_network

COMMANDS = """python -m demos.translation.train --corpus multi30k
python -m demos.translation.calibration --from runs/translation/multi30k-small"""
PAPER = "Tables 1 and 3, Figures 3, 4 and 7, of other data: better BLEU and ECE with smoothing, worse NLL"
RUN_ON = "captions of Multi30k, 29,000 pairs to train on, English to German; Transformer, small"
TRIALS = by_network(0, 0.05, 0.1, seeds=[0]) + by_network(0, 0.1, seeds=[1, 2])
SCALES = {"cpu": Setting(COMMANDS, 60, trials=TRIALS, shown="docs/translation.md: What it shows")}
PARTS = questions_of_text.translation(0.1, more=(0.05,))
