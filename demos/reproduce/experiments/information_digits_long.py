"""The networks of `information_digits` trained three times as long."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

PAPER = "Figure 6, of other data: it rises, then falls towards log 2, faster with smoothing"
SCALES = {"cpu": Setting("python -m demos.image.information --steps 9000", 5)}
AFTERWARDS = True
PARTS = {"regime": questions.regime("demos.image.information"), "fig6": questions.information(0.1)}
