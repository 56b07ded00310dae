"""How much two classes' logits say about the training example, while networks train: the paper's Figure 6."""

import dataclasses

from demos.image import recipes
from demos.kit import options
from demos.kit.options import option
from demos.kit.values import count, positive

EPILOG = """
Each network is trained on all classes. Every few steps the difference of two classes' logits is sampled 5 times for up
to 300 training images of each of the two, augmented at random as in training, and keras_ls.MutualInformation estimates
what it says about the image: log N nats if it tells all N images apart, log 2 if it keeps nothing but their class.

The augmentation is random crops and flips where the network is trained with them (AlexNet and ResNet on CIFAR do, and
--augment says so), else fresh noise on the pixels. The digits have about 90 training images a class; their own noise
(--noise) was added once, before any augmentation. The paper's figure is --dataset cifar10 --model resnet.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared and measured."""

    label_smoothing: tuple[float, ...] = options.label_smoothing(0.0, 0.1)
    seeds: tuple[int, ...] = options.seeds(0, 1, 2)
    classes: tuple[str, str] | None = option(
        None,
        "names or ids",
        shown="4 9 of the digits and MNIST, airplane and dog of CIFAR-10, else the first two",
        nargs=2,
        metavar="CLASS",
    )
    augment_noise: float | None = option(
        None,
        "s.d. of the noise drawn anew for each batch, as a fraction of full scale, where images are not cropped and "
        "flipped",
        positive,
        shown="0.1",
    )
    measure_every: int | None = option(
        None, "steps between two measurements, and two checkpoints", count, shown="as many as make 200 measurements"
    )


COMMAND = recipes.command("information", (__doc__, EPILOG), "what to compare and measure", Options)
main = COMMAND.main

if __name__ == "__main__":
    raise SystemExit(main())
