"""Calibration of noisy digits, which a small network learns by heart."""

from demos.reproduce import Experiment

EXPERIMENT = Experiment(
    commands="python -m demos.image.calibration",
    time="1 minute on 2 cores of an AMD EPYC",
    paper="Figure 2, of other data: smoothing brings an over-confident network onto the diagonal",
    shown="docs/calibration.md: Digits, the default",
)
