"""The paper's two teachers of MNIST and their students."""

COMMANDS = "python -m demos.image.distillation --experiment mnist --steps-per-execution 20"
TIME = "2 hours on a core of an AMD EPYC"
PAPER = "section 4: test error 0.67 and 0.59 % of the teachers, 0.74 and 0.91 % of their students"
SHOWN = "docs/distillation.md: MNIST: the paper's two teachers and their students"
