"""Penultimate activations of the networks that `calibration_cifar100` trains."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting
from demos.reproduce.experiments.calibration_cifar100 import SCALES as TRAINED

PAPER = "Figure 1, second row: tight, equally distant clusters with smoothing"
PROJECTED = "python -m demos.image.projection --from runs/calibration/cifar100-resnet"
SCALES = {
    "paper": Setting(f"{TRAINED['paper'].commands}\n{PROJECTED}", None, updates=TRAINED["paper"].updates),
}
PARTS = {"fig1": questions.clusters(0.1)}
