"""What smoothing does to small networks of 10,000 natural images, augmented or not."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting, by_seed

PAPER = "section 3: smoothing calibrates networks that are over-confident; no rule for which these are"
COMMANDS = "python -m demos.image.calibration --train-images 10000 --model resnet --depth 8 --steps 1500"
DATA = tuple(
    f"--dataset {name} {augment}" for name in ("cifar10", "cifar100") for augment in ("--augment", "--no-augment")
)
SCALES = {"cpu": Setting(COMMANDS, 14, trials=tuple(f"{data} {seed}" for seed in by_seed() for data in DATA))}
WHY = {
    "cpu": {
        "advice": "On CIFAR-100 without augmentation 1,500 steps are so few that hard targets are still calibrated; "
        "smoothing then leaves the network under-confident. With twice as many and a deeper network "
        "(calibration_cifar100) they are badly over-confident, and smoothing takes away about half of the "
        "ECE (α = 0.05) or more (0.1)."
    }
}
PARTS = questions.advice(
    {
        f"{name}, {'' if augment else 'not '}augmented": {"dataset": name, "augment": augment}
        for name in ("cifar10", "cifar100")
        for augment in (True, False)
    }
)
