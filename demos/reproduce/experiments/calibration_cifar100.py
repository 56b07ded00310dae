"""Calibration on CIFAR-100: at *paper* the paper's ResNet-56, at *cpu* a ResNet-20 that memorises 10,000 images."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting, by_network, by_seed

RESNET = """python -m demos.image.calibration --dataset cifar100 --model resnet --depth 56 \
    --precision mixed_bfloat16 --steps-per-execution 20"""
# 4,000 steps on all 40,000 images are too few: hard targets do not know them, and are hardly over-confident.
BY_HEART = """python -m demos.image.calibration --dataset cifar100 --train-images 10000 --model resnet --depth 20 \
    --no-augment --steps 3000"""
PAPER = "Table 3: ECE 0.150 with hard targets, 0.021 at T = 1.9, 0.024 with α = 0.05"
MEMORISED = "docs/calibration.md: CIFAR-100, memorised"
PAPERS = "docs/calibration.md: The paper's CIFAR-100 ResNet-56"
SCALES = {
    "cpu": Setting(BY_HEART, 31, "2 cores of an Intel Xeon", by_network(0, 0.05, 0.1), MEMORISED),
    "paper": Setting(RESNET, None, trials=by_seed(), updates=3 * 64_000, shown=PAPERS),
}
TOO_LITTLE = (
    "Both α take away too little confidence, the larger one more; larger ones have not been tried. That hard targets "
    "are more over-confident than the paper's need not be the reason: those of projection_cifar100_few, with fewer "
    "images and more passes, are even more so, and α = 0.1 calibrates them. Networks come nearer there to meeting the "
    "smoothed targets of the training images (docs/projection.md). That may be the reason here, but not on the "
    "noisiest digits (advice_digits)."
)
WHY = {
    "cpu": {
        "table2": "In every seed smoothing loses accuracy; whether more than a point, three seeds cannot tell. "
        "These networks memorise 10,000 images; the paper's see 40,000, cropped and flipped.",
        "table3": TOO_LITTLE,
        "fig2": TOO_LITTLE,
    }
}
PARTS = questions.calibration("cifar100", 0.05, more=(0.1,))
