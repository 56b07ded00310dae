"""Calibration on CIFAR-10: at *paper* the paper's AlexNet, at *cpu* a ResNet-8 that memorises 10,000 images."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting, by_seed

FIRST = "python -m demos.image.calibration --dataset cifar10 --label-smoothing 0 0.1"
PAPER = "Table 2: accuracy 86.8 ± 0.2 % with hard targets, 86.7 ± 0.3 % with α = 0.1; no ECE of CIFAR-10"
SCALES = {
    # The teachers of `distillation_cifar10`. 1,500 steps are just too few for the regime (advice_cifar).
    "cpu": Setting(
        f"{FIRST} --train-images 10000 --no-augment --model resnet --depth 8 --steps 3000",
        30,
        trials=by_seed(),
        shown="docs/calibration.md: CIFAR-10, memorised",
    ),
    "paper": Setting(
        f"{FIRST} --model alexnet --steps 390000 --steps-per-execution 20",
        None,
        trials=by_seed(),
        updates=2 * 390_000,
    ),
}
WHY = {
    "cpu": {
        "table2": "Smoothing loses accuracy (the interval does not hold 0); whether more than a point, three seeds "
        "cannot tell. These networks memorise 10,000 images; the paper's see 40,000, cropped and flipped.",
    }
}
PARTS = questions.calibration("cifar10", 0.1)
