"""Calibration where the task is so easy that smoothing forbids a justified confidence."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

PAPER = "nothing like it: a case in which its claim should not hold"
SCALES = {
    "cpu": Setting(
        "python -m demos.image.calibration --noise 0",
        1,
        shown="docs/calibration.md: Digits without the noise",
        once_trained=0,  # `advice_digits` trains the networks
    ),
}
PARTS = {"regime": questions.regime(), "table3": questions.table3("cifar100", 0.05, more=(0.1,))}
CALIBRATED = (
    "Hard targets are nearly always right here, and over-confident by a point or two. Smoothing takes away more "
    "confidence than that."
)
WHY = {"cpu": dict.fromkeys(("regime", "table3"), CALIBRATED)}
