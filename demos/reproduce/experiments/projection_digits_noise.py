"""Whether clusters of held-out digits tighten too, against how many of them the networks classify correctly."""

from demos.reproduce import questions_of_clusters
from demos.reproduce.experiment import Setting

PAPER = "section 2, of other data: clusters of held-out examples are tighter with smoothing, too"
NOISES = (0, 0.2, 0.4, 0.6, 0.8)
SCALES = {"cpu": Setting("python -m demos.image.projection", 2, trials=tuple(f"--noise {x:g}" for x in NOISES))}
AFTERWARDS = True
WHY = {
    "cpu": {
        "fig1": "Where about half of the images or more are misclassified, these presumably lie among those of other "
        "classes, which smoothing has drawn together and away from their own. The within-class variability falls at "
        "every level of noise: at the highest two the measures disagree."
    }
}
LEVELS = {f"noise {noise:g}": {"noise": noise} for noise in NOISES}
PARTS = {"fig1": questions_of_clusters.held_out_clusters(LEVELS, 0.1)}
