"""Penultimate activations of the networks that `calibration_mnist` trains."""

from demos.reproduce import questions_of_clusters
from demos.reproduce.experiment import Setting
from demos.reproduce.experiments.calibration_mnist import SCALES as TRAINED

PAPER = "Figure 1, of other data: tight, equally distant clusters with smoothing"
PROJECTED = "python -m demos.image.projection --from runs/calibration/mnist-mlp"
SCALES = {
    "cpu": Setting(
        f"{TRAINED['cpu'].commands}\n{PROJECTED}",
        12,
        once_trained=6,
        shown="docs/projection.md: MNIST, the paper's fully connected network",
    ),
}
PARTS = {"fig1": questions_of_clusters.clusters(0.1)}
