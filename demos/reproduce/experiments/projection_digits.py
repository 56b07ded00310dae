"""Penultimate activations of noisy digits with and without smoothing."""

COMMANDS = "python -m demos.image.projection"
TIME = "1 minute on 2 cores of an AMD EPYC"
PAPER = "Figure 1, of other data: tight, equally distant clusters with smoothing"
SHOWN = "docs/projection.md: Digits, the default"
