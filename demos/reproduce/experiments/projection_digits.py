"""Penultimate activations of noisy digits with and without smoothing."""

from demos.reproduce import Experiment

EXPERIMENT = Experiment(
    commands="python -m demos.image.projection",
    time="1 minute on 2 cores of an AMD EPYC",
    paper="Figure 1, of other data: tight, equally distant clusters with smoothing",
    shown="docs/projection.md: Digits, the default",
)
