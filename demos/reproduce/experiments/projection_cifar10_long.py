"""Penultimate activations of the networks of `projection_cifar10` after four times as many steps."""

from demos.reproduce import questions, questions_of_clusters
from demos.reproduce.experiment import Setting, by_network
from demos.reproduce.experiments.projection_cifar10 import CLASSES, TRIPLES

PAPER = "Figure 1, first row, after 390,000 steps: tight, equally distant clusters with smoothing"
TRAINED = """python -m demos.image.calibration --dataset cifar10 --train-images 10000 --no-augment \
    --model resnet --depth 8 --steps 12000 --out runs/calibration/long"""
PROJECTED = f"python -m demos.image.projection --from runs/calibration/long {CLASSES}"
SHOWN = "docs/projection.md: CIFAR-10: four times as many steps"
SCALES = {
    "cpu": Setting(f"{TRAINED}\n{PROJECTED}", 40, "1 core of an AMD EPYC", by_network(0, 0.1), SHOWN, picks=True),
}
AFTERWARDS = True
MISSED = (
    "With longer training α = 0.1 takes away more confidence than after 3,000 steps (calibration_cifar10): networks "
    "end under-confident."
)
WHY = {
    "cpu": {
        "table2": "Smoothing loses accuracy in each seed, and more than after 3,000 steps (calibration_cifar10): "
        "fitting memorised images longer costs accuracy with smoothing, and not with hard targets.",
        "table3": MISSED,
        "fig2": MISSED,
        "fig1": "Where smoothed targets are met, the logits of all wrong classes are equal. Then class means as the "
        "logits see them are the nearer, the farther apart their templates are, so that either both are equally "
        "distant or neither is; and the loss sees no other part of the space, where similar classes stay similar "
        "(docs/projection.md). As the logits see them, similar classes come most of the way to equal distances. "
        f"{questions_of_clusters.WHY_HELD_OUT} These networks get more than a third wrong, which lies between.",
    }
}
PARTS = questions.calibration("cifar10", 0.1) | {"fig1": questions_of_clusters.clusters(0.1, TRIPLES, in_span=True)}
