"""Calibration of the paper's AlexNet."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

ALEXNET = "python -m demos.image.calibration --dataset cifar10 --model alexnet --label-smoothing 0 0.1"
PAPER = "Table 2: accuracy 86.8 ± 0.2 % with hard targets, 86.7 ± 0.3 % with α = 0.1"
SCALES = {"paper": Setting(f"{ALEXNET} --steps 390000 --steps-per-execution 20", None, updates=6 * 390_000)}
PARTS = questions.calibration("cifar10", 0.1)
