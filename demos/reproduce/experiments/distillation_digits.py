"""Accuracy of teachers and students against γ on the digits."""

from demos.reproduce import Experiment

EXPERIMENT = Experiment(
    commands="""python -m demos.image.distillation
    python -m demos.image.distillation --resume --smoothed-temperature 1 2 4 8""",
    time="2 minutes, then 3 more, on 2 cores of an AMD EPYC",
    paper="Figure 5, of other data: the better the teacher by smoothing, the worse its students",
    shown="docs/distillation.md: Digits: Figure 5 in small",
)
