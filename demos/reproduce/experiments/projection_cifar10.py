"""Penultimate activations of the networks that `calibration_cifar10` trains."""

import dataclasses

from demos.reproduce import questions_of_clusters
from demos.reproduce.experiments.calibration_cifar10 import SCALES as TRAINED

PAPER = "Figure 1, first row, after 390,000 steps: tight, equally distant clusters with smoothing"
# The paper's three classes; then two similar ones, both pets, with one unlike them.
TRIPLES = (("airplane", "automobile", "bird"), ("cat", "dog", "truck"))
CLASSES = " ".join(f"--classes {' '.join(triple)}" for triple in TRIPLES)
PROJECTED = "python -m demos.image.projection --from runs/calibration/cifar10-{model} " + CLASSES
MODELS = {"cpu": "resnet", "paper": "alexnet"}
SHOWN = {"cpu": "docs/projection.md: CIFAR-10: a network that has fitted its images"}
SCALES = {
    scale: dataclasses.replace(
        trained, commands=f"{trained.commands}\n{PROJECTED.format(model=MODELS[scale])}", shown=SHOWN.get(scale, "")
    )
    for scale, trained in TRAINED.items()
}
SCALES["cpu"] = dataclasses.replace(SCALES["cpu"], once_trained=1)  # `calibration_cifar10` trains the networks
WHY = {
    "cpu": {
        "fig1": "The cat and the dog move towards the distance of the truck in each seed, but only a little of the "
        "way. The paper's three classes, and the templates of all classes, become less equally distant in each seed. "
        "After four times as many steps both are still so, but distances of class means as the logits see them, which "
        "are those of the paper's picture, are much more nearly equal (projection_cifar10_long has the reason). "
        "The measures disagree: in the whole space, most of which the logits do not see, within / between rises on "
        "training images, too, and the within-class variability falls on training and held-out images in each seed. "
        f"{questions_of_clusters.WHY_HELD_OUT} These networks get more than a third wrong, which lies between."
    }
}
PARTS = {"fig1": questions_of_clusters.clusters(0.1, TRIPLES)}
