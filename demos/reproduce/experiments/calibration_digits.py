"""Calibration of noisy digits, which a small network learns by heart."""

COMMANDS = "python -m demos.image.calibration"
TIME = "1 minute on 2 cores of an AMD EPYC"
PAPER = "Figure 2, of other data: smoothing brings an over-confident network onto the diagonal"
SHOWN = "docs/calibration.md: Digits, the default"
