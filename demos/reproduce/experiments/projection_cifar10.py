"""Penultimate activations of the networks that `calibration_cifar10` trains."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting
from demos.reproduce.experiments.calibration_cifar10 import SCALES as TRAINED

PAPER = "Figure 1, first row, after 390,000 steps: tight, equally distant clusters with smoothing"
PROJECTED = "python -m demos.image.projection --from runs/calibration/cifar10-alexnet"
SCALES = {
    "paper": Setting(f"{TRAINED['paper'].commands}\n{PROJECTED}", None, updates=TRAINED["paper"].updates),
}
PARTS = {"fig1": questions.clusters(0.1)}
