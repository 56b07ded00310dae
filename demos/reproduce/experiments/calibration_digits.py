"""Calibration of noisy digits, which a small network memorises."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

PAPER = "Tables 2 and 3 and Figure 2, of other data: as good a network, which smoothing brings onto the diagonal"
SCALES = {
    "smoke": Setting("python -m demos.image.calibration", 1, shown="docs/calibration.md: Digits, the default"),
}
PARTS = questions.calibration("cifar100", 0.05, more=(0.1,))
