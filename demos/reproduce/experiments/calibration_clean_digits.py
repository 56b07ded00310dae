"""Calibration where the task is so easy that smoothing forbids a justified confidence."""

COMMANDS = "python -m demos.image.calibration --noise 0"
TIME = "1 minute on 2 cores of an AMD EPYC"
PAPER = "nothing like it"
SHOWN = "docs/calibration.md: Digits without the noise"
