"""Penultimate activations of the networks that `calibration_cifar100` trains."""

import dataclasses

from demos.reproduce import questions
from demos.reproduce.experiment import by_seed
from demos.reproduce.experiments.calibration_cifar100 import SCALES as TRAINED

PAPER = "Figure 1, second row: tight, equally distant clusters with smoothing"
# The paper's three classes; then two similar ones, both trees, with one unlike them.
PROJECTED = """python -m demos.image.projection --from runs/calibration/cifar100-resnet \
    --classes beaver dolphin otter --classes maple_tree oak_tree dolphin"""
SHOWN = {"cpu": "docs/projection.md: CIFAR-100: two similar classes and one unlike them"}
SCALES = {
    scale: dataclasses.replace(trained, commands=f"{trained.commands}\n{PROJECTED}", shown=SHOWN.get(scale, ""))
    for scale, trained in TRAINED.items()
}
# Of a seed whose networks `calibration_cifar100` has trained; else they are trained here, in an hour and a half.
SCALES["cpu"] = dataclasses.replace(SCALES["cpu"], minutes=5, trials=by_seed())
WHY = {
    "cpu": {
        "fig1": "The steps are enough to memorise the images and too few to meet smoothed targets, whose loss is "
        "far above its least value in the end. Where more passes over fewer images meet them, clusters do tighten "
        "(projection_cifar100_few). Clusters of held-out digits tighten as long as a quarter of them or fewer are "
        "misclassified, and spread where half of them are (projection_digits_noise). These networks get three quarters "
        "wrong."
    }
}
PARTS = {"fig1": questions.clusters(0.1, similar=1)}
