"""Image data sets: each file of this folder is one, and its name is what --dataset takes."""

import dataclasses
import importlib
import pkgutil
from typing import Any

import numpy as np

from demos.image.data.common.augment import noisy
from demos.image.data.common.images import DataSet, ImageData
from demos.kit.options import DATA_VARIABLE, option
from demos.kit.seeds import of_data
from demos.kit.values import count, not_negative

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg))


def get(name: str) -> DataSet:
    """What the file of a data set says."""
    if name not in NAMES:
        raise ValueError(f"`name` must be one of {', '.join(NAMES)}. Received: {name!r}.")
    return importlib.import_module(f"{__name__}.{name}").DATA_SET


@dataclasses.dataclass(frozen=True)
class Options:
    """Which data are learned."""

    dataset: str = option("digits", "what is learned", choices=NAMES)
    data_dir: str | None = option(
        None,
        f"where NAME.npz lies (Keras's form), else ${DATA_VARIABLE} is looked at, then keras.datasets; with --dataset "
        "folder it holds train/CLASS/* and test/CLASS/*",
        affects_result=False,
    )
    noise: float | None = option(
        None,
        "s.d. of the Gaussian noise added to the pixels once, as a fraction of full scale",
        not_negative,
        shown="0.4 for the digits, else 0",
    )
    train_images: int | None = option(None, "how many of the training images are drawn", count, shown="all")
    image_size: int = option(32, "height and width to which images from folders are resized", count)


def load(name: str, data_dir: str | None = None, noise: float = 0.0, image_size: int = 32) -> ImageData:
    """Loads a data set, split into a training and a held-out part; the arguments are those of `Options`.

    It is a ValueError if the data cannot be found or read, or do not fit together.
    """
    data = get(name).load(data_dir, image_size)
    if len(data.x_test) < 2:
        raise ValueError("Temperature scaling needs at least 2 held-out images, half of them to fit. Received: 1.")
    if not noise:
        return data
    rng, augment = of_data(), noisy(noise)
    return dataclasses.replace(data, x_train=augment(data.x_train, rng), x_test=augment(data.x_test, rng))


def draw(images: ImageData, count: int) -> ImageData:
    """Leaves `count` of the training images, the same ones for every run; a ValueError if there are fewer."""
    if count > len(images.x_train):
        raise ValueError(f"--train-images must be at most {len(images.x_train):,}. Received: {count:,}.")
    rows = np.sort(of_data().permutation(len(images.x_train))[:count])
    return dataclasses.replace(images, x_train=images.x_train[rows], y_train=images.y_train[rows])


def load_chosen(options: Any) -> ImageData:
    """Loads the data set that the command line names; `options.noise` becomes a number."""
    if "image_size" in options.given() and options.dataset != "folder":
        raise ValueError(f"--image-size is for --dataset folder. Received: --dataset {options.dataset}.")
    if options.data_dir and not get(options.dataset).reads_files:
        raise ValueError(f"--data-dir is not for --dataset {options.dataset}, which comes with scikit-learn.")
    if options.noise is None:
        options.noise = get(options.dataset).noise
    images = load(options.dataset, options.data_dir, options.noise, options.image_size)
    if options.train_images is not None:
        images = draw(images, options.train_images)
    return images
