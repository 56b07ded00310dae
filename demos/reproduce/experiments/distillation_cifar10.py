"""Accuracy of teachers and students against γ on CIFAR-10: at *cpu* teachers are ResNet-8 that see 10,000 images."""

from demos.reproduce import questions
from demos.reproduce.experiment import Setting, by_seed

FIGURE_5 = "python -m demos.image.distillation --experiment cifar10"
SMALL = f"""{FIGURE_5} --train-images 10000 --no-augment --depth 8 --teacher-steps 3000 --steps 1500 \
    --label-smoothing 0 0.15 0.3 0.6 --alone-label-smoothing 0 0.15 0.3 0.6 0.75 --temperature 1 2 4 8"""
PARTS_OF_A_SEED = (
    "--label-smoothing 0 --alone-label-smoothing 0",
    "--label-smoothing 0.15 0.3 --alone-label-smoothing 0.15 0.3 --temperature",
    "--label-smoothing 0.6 --alone-label-smoothing 0.6 0.75 --temperature",
)
TRIALS = tuple(f"{seed} {part}" for seed in by_seed() for part in PARTS_OF_A_SEED)
PAPER = "Figure 5: the better the teacher by smoothing, the worse its students"
SCALES = {
    "cpu": Setting(SMALL, 50, "one core of an AMD EPYC", TRIALS),
    "paper": Setting(
        f"{FIGURE_5} --teacher-steps 64000 --steps 390000 --steps-per-execution 20",
        None,
        trials=by_seed(5),
        updates={"teacher/": 6 * 64_000, "student-alone/": 6 * 390_000, "student-of-": 12 * 390_000},
        short="--seeds 0 --label-smoothing 0 --temperature 1 --teacher-steps {steps} --steps {steps}",
    ),
}
WHY = {
    "cpu": {
        "fig5": "The teachers memorise 10,000 images, and smoothing costs such networks accuracy (calibration_cifar10, "
        "too); the paper's see 40,000, cropped and flipped. Students have not fitted their images after 1,500 steps, "
        "and how far they come differs from seed to seed (docs/distillation.md); no longer training was run."
    }
}
PARTS = {"regime": questions.regime(questions.DISTILLATION), "fig5": questions.students(0.15)}
