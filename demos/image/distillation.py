"""Students of hard and of smoothed teachers: the paper's Figure 5 and its MNIST experiment (section 4)."""

import argparse
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from demos.image import recipes
from demos.kit import cli, devices, options
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

In figure 5 students learn from the teacher alone (β = 1; the teacher has the temperature T, the student 1). γ is
measured on training images. Unless stated otherwise, results are on held-out images, and settings are the paper's or,
where it gives none, the demo's own.
Under the results stands what the teachers have left to teach, all of training images: γ, the mutual information of two
classes' logits (under the augmentation, or noise of s.d. 0.1 of full scale), and how tight the classes' clusters are in
the span of the templates' differences.
Each training lies in --out as a directory of its own: with --resume name all seeds, α and T that the results shall
hold; those already trained are only read.
"""


EXPERIMENTS = ("digits", "cifar10", "mnist")
ALPHAS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75)
TEMPERATURES = {"digits": (1.0, 2.0, 4.0, 8.0, 16.0), "cifar10": (1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 16.0)}
SMOOTHING = "label smoothing of teachers, and of students trained alone; mnist takes one, for its smoothed teacher"
ALONE = "label smoothing of students trained alone; those above the teachers' match students whose γ is larger"
SHIFTED = "shift training images by up to a pixel (digits), or crop and flip them (CIFAR), at random"


def by_experiment(help: str, parse: Callable[[str], Any] | None = None, **parts: Any) -> Any:
    """An option with its default in each experiment that takes it, by name; other `parts` are those of `option`."""
    defaults = {name: parts.pop(name) for name in EXPERIMENTS if name in parts}
    return option(None, help, parse, defaults=defaults, **parts)


values = functools.partial(by_experiment, unique=True)  # of equal ones only the first counts


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learned."""

    experiment: str = option("digits", "see below", choices=EXPERIMENTS)
    data_dir: str | None = by_experiment("where NAME.npz lies", shown=f"${DATA_VARIABLE}", cifar10=None, mnist=None)
    # At the calibration demo's 0.4 noise bounds all networks alike, and teachers teach what they memorised.
    noise: float | None = by_experiment("s.d. as a fraction of full scale", not_negative, digits=0.2)
    train_images: int | None = by_experiment(
        "how many of the training images are drawn", count, shown="all", digits=None, cifar10=None
    )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared."""

    seeds: tuple[int, ...] | None = values(
        "seeds; each network is trained once per seed", seed, digits=(0, 1, 2), cifar10=(0, 1, 2, 3, 4), mnist=(0, 1, 2)
    )
    label_smoothing: tuple[float, ...] | None = values(
        SMOOTHING, fraction, metavar="α", digits=ALPHAS, cifar10=ALPHAS, mnist=(0.1,)
    )
    alone_label_smoothing: tuple[float, ...] | None = values(
        ALONE, fraction, metavar="α", nargs="+", shown="--label-smoothing", digits=None, cifar10=None
    )
    temperature: tuple[float, ...] | None = values(
        "temperatures of the hard teacher; without any it has no students",
        positive,
        nargs="*",
        metavar="T",
        **TEMPERATURES,
    )
    smoothed_temperature: tuple[float, ...] | None = values(
        "temperatures of smoothed teachers", positive, metavar="T", digits=(1.0,), cifar10=(1.0,)
    )


@dataclasses.dataclass(frozen=True)
class Networks:
    """What is trained, and how."""

    steps: int | None = by_experiment("updates of each network", count, digits=1_000, cifar10=None, mnist=60_000)
    teacher_steps: int | None = by_experiment(
        "updates of each teacher", count, shown="--steps", digits=None, cifar10=None
    )
    hidden: tuple[int, ...] | None = by_experiment(
        "widths of the MLP teacher's hidden layers", count, digits=(200, 200), mnist=(1200, 1200)
    )
    student_hidden: tuple[int, ...] | None = by_experiment(
        "widths of the student's hidden layers; without any it is linear", count, nargs="*", digits=(), mnist=(800, 800)
    )
    augment: bool | None = by_experiment(SHIFTED, action=argparse.BooleanOptionalAction, digits=False, cifar10=True)
    clipnorm: float | None = by_experiment(
        "bound on the norm of the teachers' gradient; 0 has none", not_negative, shown="1 for CIFAR-10", cifar10=None
    )
    depth: int | None = by_experiment("depth of the ResNet, 6·n + 2", recipes.depth, metavar="N", cifar10=56)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What the settings of MNIST are chosen from."""

    selection_steps: int | None = by_experiment("updates of each candidate", count, mnist=10_000)
    teacher_rates: tuple[float, ...] | None = values("learning rates of teachers", positive, mnist=(1.0, 0.3))
    student_rates: tuple[float, ...] | None = values(
        "learning rates of students", positive, mnist=(1.0, 0.3, 0.1, 0.03)
    )
    dropout: tuple[float, ...] | None = values("dropout rates tried for the hard teacher", fraction, mnist=(0.2, 0.5))


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
        devices.GROUP,
        Group("output", options.Output, shown={"out": "runs/distillation/EXPERIMENT"}),
    ),
    work="demos.image.analysis.distillation",
)
main = COMMAND.main

if __name__ == "__main__":
    raise SystemExit(main())
