"""Penultimate activations of the networks of `projection_cifar10` after four times as many steps."""

from demos.reproduce import questions, questions_of_clusters
from demos.reproduce.experiment import Setting, by_network
from demos.reproduce.experiments.projection_cifar10 import CLASSES, TRIPLES

PAPER = "Figure 1, first row, after 390,000 steps: tight, equally distant clusters with smoothing"
TRAINED = """python -m demos.image.calibration --dataset cifar10 --train-images 10000 --no-augment \
    --model resnet --depth 8 --steps 12000 --out runs/calibration/long"""
PROJECTED = f"python -m demos.image.projection --from runs/calibration/long {CLASSES}"
SCALES = {
    "cpu": Setting(f"{TRAINED}\n{PROJECTED}", 40, "1 core of an AMD EPYC", by_network(0, 0.1), picks=True),
}
AFTERWARDS = True
PARTS = questions.calibration("cifar10", 0.1) | {"fig1": questions_of_clusters.clusters(0.1, TRIPLES, in_span=True)}
