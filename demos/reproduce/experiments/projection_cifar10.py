"""Penultimate activations of the networks that `calibration_cifar10` trains."""

import dataclasses

from demos.reproduce import questions
from demos.reproduce.experiments.calibration_cifar10 import SCALES as TRAINED

PAPER = "Figure 1, first row, after 390,000 steps: tight, equally distant clusters with smoothing"
# The paper's three classes; then two similar ones, both pets, with one unlike them.
CLASSES = "--classes airplane automobile bird --classes cat dog truck"
PROJECTED = "python -m demos.image.projection --from runs/calibration/cifar10-{model} " + CLASSES
MODELS = {"cpu": "resnet", "paper": "alexnet"}
SHOWN = {"cpu": "docs/projection.md: CIFAR-10: a network that has fitted its images"}
SCALES = {
    scale: dataclasses.replace(
        trained, commands=f"{trained.commands}\n{PROJECTED.format(model=MODELS[scale])}", shown=SHOWN.get(scale, "")
    )
    for scale, trained in TRAINED.items()
}
WHY = {
    "cpu": {
        "fig1": "In each seed similar classes move towards the distance of others, but only a little of the way. The "
        "training loss ends near its least value, not at it; presumably the classes that are hardest to tell apart are "
        "the last to get there. Over all classes the distances of templates become less equal in each seed, for a "
        "reason that has not been looked for. The networks of 1,000 images of CIFAR-100 (projection_cifar100_few) are "
        "nearer to the least value of the loss. "
        "Clusters of held-out digits tighten as long as a quarter of them or fewer are misclassified, and spread where "
        "half of them are (projection_digits_noise). These networks get more than a third wrong."
    }
}
PARTS = {"fig1": questions.clusters(0.1, similar=1)}
