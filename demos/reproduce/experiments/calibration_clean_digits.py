"""Calibration where the task is so easy that smoothing forbids a justified confidence."""

from demos.reproduce import Experiment

EXPERIMENT = Experiment(
    commands="python -m demos.image.calibration --noise 0",
    time="1 minute on 2 cores of an AMD EPYC",
    paper="nothing like it",
    shown="docs/calibration.md: Digits without the noise",
)
