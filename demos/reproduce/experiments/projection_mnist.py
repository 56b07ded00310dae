"""Penultimate activations of the networks that `calibration_mnist` trains."""

COMMANDS = """python -m demos.image.calibration --dataset mnist --steps 1000
python -m demos.image.projection --from runs/calibration/mnist-mlp"""
TIME = "minutes on 2 cores of an AMD EPYC"
PAPER = "Figure 1, of other data: tight, equally distant clusters with smoothing"
SHOWN = "docs/projection.md: MNIST, the paper's fully connected network"
