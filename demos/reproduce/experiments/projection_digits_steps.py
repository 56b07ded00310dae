"""How tight the clusters of noisy digits are after trainings shorter than the default, which has 4,000 steps."""

from demos.reproduce import questions_of_clusters
from demos.reproduce.experiment import Setting

PAPER = "Figure 1, of other data: tight, equally distant clusters with smoothing"
# Unless --head-rate says otherwise the last layer learns at a tenth of the rate.
TRAININGS = {
    "--steps 1000": {"steps": 1000, "head_rate": 0.1},
    "--steps 2000": {"steps": 2000, "head_rate": 0.1},
    "--steps 3000": {"steps": 3000, "head_rate": 0.1},
    "--steps 1000 --head-rate 1": {"steps": 1000, "head_rate": 1.0},
}
SCALES = {"cpu": Setting("python -m demos.image.projection", 2, trials=tuple(TRAININGS))}
AFTERWARDS = True
WHY = {
    "cpu": {
        "fig1": "The templates take longest to become equally distant where the last layer learns at a tenth of the "
        "rate, as in the paper's network for MNIST: after 1,000 steps they are more so only at the full rate."
    }
}
PARTS = {"fig1": questions_of_clusters.clusters_of_trainings(TRAININGS, 0.1)}
