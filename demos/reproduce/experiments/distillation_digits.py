"""Accuracy of teachers and students against γ on the digits."""

COMMANDS = """python -m demos.image.distillation
python -m demos.image.distillation --resume --smoothed-temperature 1 2 4 8"""
TIME = "2 minutes, then 3 more, on 2 cores of an AMD EPYC"
PAPER = "Figure 5, of other data: the better the teacher by smoothing, the worse its students"
SHOWN = "docs/distillation.md: Digits: Figure 5 in small"
