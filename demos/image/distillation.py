"""Students of hard and of smoothed teachers: the paper's Figure 5 and its MNIST experiment (section 4)."""

import argparse
import dataclasses
import sys

from demos.image import recipes
from demos.kit import cli, options
from demos.kit.options import DATA_VARIABLE, Group, option
from demos.kit.values import count, fraction, not_negative, positive, seed

EPILOG = """
digits   Figure 5 on 900 digits with some noise: an MLP of 2×200 teaches a linear student. Minutes.
cifar10  Figure 5 as in the paper, ResNet-56 to AlexNet, with 40,000 training and 10,000 held-out images. The paper
         takes 64,000 and 390,000 steps, the demo 64,000 and 20,000 where --steps does not say otherwise. Images are
         augmented.
mnist    Two teachers of 2×1200 on shifted digits, their students of 2×800 (β = 0.6, squared logits, no shifts,
         from cached logits), and such a student alone. The paper leaves gaps: each network's learning rate, and the
         hard teacher's dropout, are chosen on 10,000 of the training digits from candidates trained for
         --selection-steps on the other 50,000; then all are trained on the 60,000 and judged on the test digits.

Where images are augmented the teacher runs at each step of its student, to see what the student sees; elsewhere its
logits are computed once and read from disk.

In figure 5 students learn from the teacher alone (β = 1, T for the teacher, 1 for the student). γ is measured on the
training images; where nothing is said, results are on held-out ones and every setting is the paper's or the demo's own.
Under the results stands what the teachers have left to teach, all of training images: γ, the mutual information of two
classes' logits (under the augmentation, or noise of s.d. 0.1 of full scale), and how tight the classes' clusters are in
the span of the templates' differences.
Each training lies in --out as a directory of its own: --resume adds seeds, α and T to those that are there.
"""


HIDDEN = "200 200; mnist: 1200 1200"
ALPHAS = "of teachers and students alone; mnist takes one, the smoothed teacher's"
SHIFTED = "shift training images by up to a pixel (digits), or crop and flip them (CIFAR), at random"


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learned."""

    experiment: str = option("digits", "see below", choices=("digits", "cifar10", "mnist"))
    data_dir: str | None = option(None, f"where NAME.npz lies, else ${DATA_VARIABLE} is looked at")
    noise: float | None = option(None, "of the digits", not_negative, shown="0.2")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared."""

    seeds: tuple[float, ...] | None = option(
        None, "one of every network each", seed, shown="0 1 2; CIFAR: 0 to 4", nargs="+"
    )
    label_smoothing: tuple[float, ...] | None = option(
        None, ALPHAS, fraction, shown="0 0.15 0.3 0.45 0.6 0.75; mnist: 0.1", metavar="α", nargs="+"
    )
    temperature: tuple[float, ...] | None = option(
        None, "of the hard teacher", positive, shown="1 2 4 8 16; CIFAR: 1 2 3 4 8 12 16", metavar="T", nargs="+"
    )
    smoothed_temperature: tuple[float, ...] | None = option(
        None, "of smoothed teachers", positive, shown="1", metavar="T", nargs="+"
    )


@dataclasses.dataclass(frozen=True)
class Networks:
    """What is trained, and how."""

    steps: int | None = option(None, "updates of each network", count, shown="1,000; mnist: 60,000; CIFAR: see below")
    teacher_steps: int | None = option(None, "of the teachers", count, shown="--steps")
    hidden: tuple[float, ...] | None = option(
        None, "widths of the MLP teacher's hidden layers", count, shown=HIDDEN, nargs="+"
    )
    student_hidden: tuple[float, ...] | None = option(
        None, "those of the student; none: it is linear", count, shown="none; mnist: 800 800", nargs="*"
    )
    augment: bool | None = option(None, SHIFTED, shown="on CIFAR", action=argparse.BooleanOptionalAction)
    depth: int | None = option(None, "of the ResNet: 6·n + 2", recipes.depth, shown="56", metavar="N")


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What the settings of MNIST are chosen from."""

    selection_steps: int | None = option(None, "of each", count, shown="10,000")
    teacher_rates: tuple[float, ...] | None = option(
        None, "learning rates of teachers", positive, shown="1 0.3", nargs="+"
    )
    student_rates: tuple[float, ...] | None = option(
        None, "learning rates of students", positive, shown="1 0.3 0.1 0.03", nargs="+"
    )
    dropout: tuple[float, ...] | None = option(None, "of the hard teacher", fraction, shown="0.2 0.5", nargs="+")


COMMAND = cli.Command(
    "demos.image.distillation",
    __doc__,
    EPILOG,
    (
        Group("data", Data),
        Group("what to compare", Comparison),
        Group("networks and training", Networks),
        Group("mnist: candidates", Candidates),
        Group("running", options.Machine),
        Group("output", options.Output, shown={"out": "runs/distillation/EXPERIMENT"}),
    ),
    work="demos.image.analysis.distillation",
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
