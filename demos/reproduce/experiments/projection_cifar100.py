"""Penultimate activations of the networks that `calibration_cifar100` trains."""

import dataclasses

from demos.reproduce import questions_of_clusters
from demos.reproduce.experiment import by_network
from demos.reproduce.experiments.calibration_cifar100 import SCALES as TRAINED

PAPER = "Figure 1, second row: tight, equally distant clusters with smoothing"
# The paper's three classes; then two similar ones, both trees, with one unlike them.
TRIPLES = (("beaver", "dolphin", "otter"), ("maple_tree", "oak_tree", "dolphin"))
CLASSES = " ".join(f"--classes {' '.join(triple)}" for triple in TRIPLES)
PROJECTED = f"python -m demos.image.projection --from runs/calibration/cifar100-resnet {CLASSES}"
SHOWN = {"cpu": "docs/projection.md: CIFAR-100: two similar classes and one unlike them"}
SCALES = {
    scale: dataclasses.replace(
        trained, commands=f"{trained.commands}\n{PROJECTED}", shown=SHOWN.get(scale, ""), picks=True
    )
    for scale, trained in TRAINED.items()
}
# `calibration_cifar100` trains the networks.
SCALES["cpu"] = dataclasses.replace(SCALES["cpu"], minutes=33, trials=by_network(0, 0.1), once_trained=2)
WHY = {
    "cpu": {
        "fig1": "The steps are enough to memorise the images and perhaps too few to meet smoothed targets (no longer "
        "training was run), whose loss ends above the least possible, and farther above it than in the other "
        "experiments (docs/projection.md). Where more passes over fewer images come nearer, clusters do tighten "
        "(projection_cifar100_few). By another measure, the within-class variability, they tighten on training images "
        "here, too. "
        f"{questions_of_clusters.WHY_HELD_OUT} These networks get three quarters wrong."
    }
}
PARTS = {"fig1": questions_of_clusters.clusters(0.1, TRIPLES)}
