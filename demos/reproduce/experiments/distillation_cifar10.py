"""Accuracy of teachers and students against γ on CIFAR-10, far from the paper's size."""

COMMANDS = """python -m demos.image.distillation --experiment cifar10 --depth 8 --teacher-steps 2000 \
    --steps 1500 --seeds 0 --label-smoothing 0 0.15 --temperature 1 4 --precision mixed_bfloat16"""
TIME = "1 hour on a core of an AMD EPYC"
PAPER = "Figure 5: the better the teacher by smoothing, the worse its students"
SHOWN = "docs/distillation.md: CIFAR-10: Figure 5, far from the paper's size"
