"""Accuracy of teachers and students against γ on the digits."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

FIRST = "python -m demos.image.distillation"
PAPER = "Figure 5, of other data: the better the teacher by smoothing, the worse its students"
SCALES = {
    "smoke": Setting(f"{FIRST} --label-smoothing 0 0.3 0.6 --temperature 1 2 4 8 --steps-per-execution 20", 3),
    "cpu": Setting(
        f"{FIRST}\n{FIRST} --resume --smoothed-temperature 1 2 4 8",
        5,
        shown="docs/distillation.md: Digits: Figure 5 on a small scale",
    ),
}
RIGHT = (
    "The teachers are wrong on fewer than one held-out image in ten, so that their confidence cannot exceed their "
    "accuracy by 0.1."
)
WHY = {scale: {"regime": RIGHT} for scale in SCALES}
PARTS = {"regime": questions.regime(questions.DISTILLATION), "fig5": questions.students(0.6)}
