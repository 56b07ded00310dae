"""Penultimate activations of noisy digits with and without smoothing."""

from demos.reproduce import questions_of_clusters
from demos.reproduce.experiment import Setting

PAPER = "Figure 1, of other data: tight, equally distant clusters with smoothing"
SCALES = {
    "smoke": Setting("python -m demos.image.projection", 1, shown="docs/projection.md: Digits, the default"),
}
PARTS = {"fig1": questions_of_clusters.clusters(0.1)}
