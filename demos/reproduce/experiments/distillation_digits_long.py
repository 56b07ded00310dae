"""Accuracy of teachers and students against γ on the digits, where teachers are trained four times as long."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting
from demos.reproduce.experiments.distillation_digits import RIGHT

PAPER = "Figure 5, of other data: the better the teacher by smoothing, the worse its students"
SCALES = {
    "cpu": Setting(
        "python -m demos.image.distillation --teacher-steps 4000 --out runs/distillation/long",
        8,
        shown="docs/distillation.md: Digits, teachers trained four times as long",
    ),
}
AFTERWARDS = True
WHY = {"cpu": {"regime": RIGHT}}
PARTS = {"regime": questions.regime(questions.DISTILLATION), "fig5": questions.students(0.6)}
