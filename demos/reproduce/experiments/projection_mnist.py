"""Penultimate activations of the networks that `calibration_mnist` trains."""

from demos.reproduce import Experiment

EXPERIMENT = Experiment(
    commands="""python -m demos.image.calibration --dataset mnist --steps 1000
    python -m demos.image.projection --from runs/calibration/mnist-mlp""",
    time="minutes on 2 cores of an AMD EPYC",
    paper="Figure 1, of other data: tight, equally distant clusters with smoothing",
    shown="docs/projection.md: MNIST, the paper's fully connected network",
)
