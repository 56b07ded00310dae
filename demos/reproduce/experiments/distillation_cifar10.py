"""Accuracy of teachers and students against γ on CIFAR-10: as in the paper, or far from its size."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting

FIGURE_5 = "python -m demos.image.distillation --experiment cifar10"
SMALL = f"""{FIGURE_5} --depth 8 --teacher-steps 2000 \
    --steps 1500 --seeds 0 --label-smoothing 0 0.15 --temperature 1 4 --precision mixed_bfloat16"""
PAPER = "Figure 5: the better the teacher by smoothing, the worse its students"
SCALES = {
    "cpu": Setting(
        SMALL,
        60,
        "a core of an AMD EPYC",
        ("--seeds 0", "--seeds 1"),
        shown="docs/distillation.md: CIFAR-10: Figure 5, far from the paper's size",
    ),
    "paper": Setting(
        f"{FIGURE_5} --teacher-steps 64000 --steps 390000 --steps-per-execution 20",
        None,
        trials=tuple(f"--seeds {seed}" for seed in range(5)),
        updates=6 * 64_000 + 18 * 390_000,
        short="--seeds 0 --label-smoothing 0 --temperature 1 --teacher-steps {steps} --steps {steps}",
    ),
}
PARTS = {"fig5": questions.students(0.15)}
