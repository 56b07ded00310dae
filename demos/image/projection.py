"""What smoothing does to a network's penultimate activations: the paper's Figure 1 as a grid, and its numbers."""

import dataclasses

from demos.image import recipes
from demos.image.analysis import SCATTER
from demos.kit import cli, options
from demos.kit.options import option
from demos.kit.values import count

EPILOG = f"""
Each row of the picture is a triple of classes, each column training or held-out images of networks trained without or
with smoothing (those of the first seed). A point is an image's penultimate activations, projected onto the plane
through the templates (weights and bias in the last layer) of the three classes; a cross is a template. Each panel has
its own scale. In the table:

{cli.paragraph(SCATTER)}

--from RUN takes the networks that `python -m demos.image.calibration --out RUN` trained, with their data and
settings, in place of training; without --seeds, all that it has. Settings that are not given are the paper's, as in
that demo, but 4,000 steps for the digits: the effect grows with training.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is shown."""

    classes: tuple[tuple[str, ...], ...] | None = option(
        None,
        "three classes by name, a row of the picture; may be repeated",
        affects_result=False,
        shown="the paper's for CIFAR, one or two rows elsewhere",
        nargs="+",
        action="append",
        metavar="NAME",
    )
    examples_per_class: int = option(100, "points of each class and panel", count, affects_result=False)
    label_smoothing: tuple[float, ...] = options.label_smoothing(0.0, 0.1)
    seeds: tuple[int, ...] = options.seeds(0, 1, 2)
    from_run: str | None = option(
        None, "an output directory of demos.image.calibration", flags=("--from",), metavar="RUN"
    )


COMMAND = recipes.command("projection", (__doc__, EPILOG), "what to show", Options)
main = COMMAND.main

if __name__ == "__main__":
    raise SystemExit(main())
