"""Accuracy and calibration of hard and smoothed targets, side by side: the paper's Tables 2 and 3 and Figure 2."""

import dataclasses

from demos.image import recipes
from demos.image.analysis import HALVES
from demos.kit import cli, options
from demos.kit.options import option
from demos.kit.values import count

EPILOG = f"""
{cli.paragraph(HALVES)}

Settings that are not given are the paper's (appendix A), with the schedule scaled to --steps. The paper trains the
ResNet for 64,000 steps and AlexNet for 390,000. On CIFAR the training images are split into 40,000 and 10,000 and
results are on those 10,000, as in the paper; elsewhere they are on the data set's test images, on 897 of the 1,797
digits, and on half of the rows of a table.

Smoothing calibrates a network that would be over-confident. The digits are too easy for that, hence the noise: with
--noise 0 smoothing makes the network under-confident, and its ECE worse.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared."""

    label_smoothing: tuple[float, ...] = options.label_smoothing(0.0, 0.05, 0.1)
    seeds: tuple[int, ...] = options.seeds(0, 1, 2)
    calibration_freq: int | None = option(
        None,
        "epochs between two measurements for TensorBoard, on at most 2,000 held-out images",
        count,
        affects_result=False,
        shown="as many as make about 10 measurements",
    )


COMMAND = recipes.command("calibration", (__doc__, EPILOG), "what to compare", Options)
main = COMMAND.main

if __name__ == "__main__":
    raise SystemExit(main())
