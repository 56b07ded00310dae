"""Calibration of the paper's ResNet-56 on CIFAR-100, with all of its steps."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

RESNET = """python -m demos.image.calibration --dataset cifar100 --model resnet --depth 56 \
    --precision mixed_bfloat16 --steps-per-execution 20"""
PAPER = "Table 3: ECE 0.150 with hard targets, 0.021 at T = 1.9, 0.024 with α = 0.05"
SCALES = {
    "paper": Setting(RESNET, None, updates=9 * 64_000, shown="docs/calibration.md: The paper's CIFAR-100 ResNet-56"),
}
PARTS = questions.calibration("cifar100", 0.05)
