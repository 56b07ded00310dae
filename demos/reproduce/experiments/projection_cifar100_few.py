"""Clusters and calibration on 1,000 images, where smoothed targets are nearly met; added as on 10,000 they are not."""

from demos.reproduce import questions, questions_of_clusters
from demos.reproduce.experiment import Setting, by_seed
from demos.reproduce.experiments.projection_cifar100 import CLASSES, TRIPLES

PAPER = "Figure 1, second row: tight, equally distant clusters with smoothing; Table 3: ECE 0.150, smoothed 0.024"
COMMANDS = f"""python -m demos.image.calibration --dataset cifar100 --train-images 1000 --model resnet --depth 20 \
    --no-augment --steps 1500 --label-smoothing 0 0.1 --out runs/calibration/few
python -m demos.image.projection --from runs/calibration/few {CLASSES}"""
SCALES = {
    "cpu": Setting(
        COMMANDS,
        28,
        "2 cores of an Intel Xeon",
        by_seed(),
        shown="docs/projection.md: CIFAR-100: fewer images, fitted more closely",
    )
}
AFTERWARDS = True
WHY = {
    "cpu": {
        "fig1": f"{questions_of_clusters.WHY_HELD_OUT} These networks get nine in ten wrong.",
        "fig2": "With smoothing the confidence is right on average, and the ECE is about as low without that "
        "temperature as with it: both are of the most probable class. The NLL, to which a temperature is fitted, "
        "looks at all classes.",
    }
}
PARTS = questions.calibration("cifar100", 0.1) | {"fig1": questions_of_clusters.clusters(0.1, TRIPLES)}
del PARTS["table2"]  # a point of accuracy is no small loss where so little is right
