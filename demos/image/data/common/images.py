"""A data set in memory, what a file of this package says of one, and data sets in Keras's form."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from demos.kit import locks
from demos.kit.download import cache_directory
from demos.kit.options import DATA_VARIABLE
from demos.kit.seeds import of_data

Part = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set in memory."""

    name: str  # what it is called in tables and file names
    x_train: np.ndarray  # (N, height, width, channels) uint8, 1 or 3 channels
    y_train: np.ndarray  # (N,) int32 class ids in [0, K)
    x_test: np.ndarray  # held-out images, of the same size
    y_test: np.ndarray  # their class ids
    class_names: tuple[str, ...]  # the K names

    def __post_init__(self):
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise ValueError(
                f"The training and test images of {self.name} must be of one size. "
                f"Received: {self.x_train.shape[1:]} and {self.x_test.shape[1:]}."
            )
        if self.num_classes < 2:
            raise ValueError(f"{self.name} must have at least 2 classes. Received: {self.num_classes}.")
        if len(set(self.class_names)) < self.num_classes:
            raise ValueError(f"The class names of {self.name} must differ. Received: {', '.join(self.class_names)}.")
        for part, x, y in (("training", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            if len(x) == 0:
                raise ValueError(f"The {part} part of {self.name} holds no images.")
            if len(x) != len(y):
                raise ValueError(f"The {part} part of {self.name} has {len(x)} images but {len(y)} labels.")
            if y.min() < 0 or y.max() >= self.num_classes:
                raise ValueError(
                    f"The {part} labels of {self.name} must be in [0, {self.num_classes}). "
                    f"Received labels from {y.min()} to {y.max()}."
                )

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Sizes and a checksum that tell whether a resumed run sees the same data."""
        checksum = 0
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
        return {
            "training_images": len(self.x_train),
            "held_out_images": len(self.x_test),
            "image_shape": list(self.x_train.shape[1:]),
            "classes": self.num_classes,
            "crc32": checksum,
        }


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What the file of a data set says."""

    load: Callable[[str | None, int], ImageData]  # (data_dir, image_size) to the data, without noise
    # Triples of classes, by name, whose projections are drawn; () for the first and the last three
    triples: tuple[tuple[str, str, str], ...] = ()
    pair: tuple[int, int] = (0, 1)  # the ids of two classes that are measured against each other
    noise: float = 0.0  # the noise on its images unless another is asked for
    # Fields of the recipe that training on it needs
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reads_files: bool = True  # whether it comes from files or the network, not with a package
    crops: bool = False  # whether convolutional networks are trained on randomly cropped and flipped images


def read(name: str, data_dir: str | None, class_names: tuple[str, ...] = ()) -> ImageData:
    """Reads NAME.npz, from `data_dir` or the directory named by KERAS_LS_DATA, else what `keras.datasets` has."""
    train, test, names = _read(name, data_dir)
    if not names:
        num_classes = int(train[1].max(initial=0)) + 1
        if num_classes > len(train[1]):
            raise ValueError(f"{name} has a label of {num_classes - 1:,}, but {len(train[1]):,} training images.")
        names = class_names if len(class_names) == num_classes else tuple(map(str, range(num_classes)))
    return ImageData(name, *train, *test, names)


def split(name: str, x: np.ndarray, y: np.ndarray, num_test: int, class_names: tuple[str, ...]) -> ImageData:
    """Draws the held-out images, the same ones for every run."""
    order = of_data().permutation(len(x))
    test, train = order[:num_test], order[num_test:]
    return ImageData(name, x[train], y[train], x[test], y[test], class_names)


def _read(name: str, data_dir: str | None) -> tuple[Part, Part, tuple[str, ...]]:
    directories = [d for d in (data_dir, os.environ.get(DATA_VARIABLE)) if d]
    for directory in directories:
        path = pathlib.Path(directory).expanduser() / f"{name}.npz"
        if path.is_file():
            return _read_npz(path)
    import keras

    lock = None
    with contextlib.suppress(OSError):  # of a cache that cannot be written; Keras has a place of its own
        cache_directory().mkdir(parents=True, exist_ok=True)
        lock = locks.take(cache_directory() / ".lock", wait=True)  # Keras unpacks anew each time, in one folder
    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # the download may fail in many ways: no network, no proxy, no room, a bad file
        reason = " ".join(str(error).split())
        searched = f" (not in {' or '.join(directories)})" if directories else ""
        raise ValueError(
            f"{name} is not here{searched} and could not be downloaded: put {name}.npz (Keras's form: x_train, "
            f"y_train, x_test, y_test) in a directory named by --data-dir or ${DATA_VARIABLE}, or run once "
            f"with a network so that keras.datasets.{name} can fetch it. If a download was cut off, delete its files "
            f"from the folder datasets of ~/.keras or $KERAS_HOME. [{reason[:200]}]"
        ) from error
    finally:
        if lock is not None:
            os.close(lock)
    return _images_and_labels(name, x_train, y_train), _images_and_labels(name, x_test, y_test), ()


def _read_npz(path: pathlib.Path) -> tuple[Part, Part, tuple[str, ...]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [key for key in ("x_train", "y_train", "x_test", "y_test") if key not in arrays]
            if missing:
                raise ValueError(f"{', '.join(missing)} missing")
            train = _images_and_labels(str(path), arrays["x_train"], arrays["y_train"])
            test = _images_and_labels(str(path), arrays["x_test"], arrays["y_test"])
            names = arrays["class_names"] if "class_names" in arrays else np.array([], "U")
            class_names = tuple(map(str, np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names))
    except Exception as error:  # a broken file fails in many ways: zip, zlib, header, pickle, no archive at all
        raise ValueError(f"{path} cannot be read as a data set in Keras's form: {error}") from error
    return train, test, class_names


def _images_and_labels(source: str, x: Any, y: Any) -> Part:
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] not in (1, 3)):
        raise ValueError(
            f"Images of {source} must be uint8 of shape (n, height, width) or (n, height, width, 1 or 3). "
            f"Received: {x.dtype} of shape {x.shape}."
        )
    if y.dtype.kind not in "iu" or y.size != len(x):
        raise ValueError(f"Labels of {source} must be one integer per image. Received: {y.dtype} of shape {y.shape}.")
    return (x if x.ndim == 4 else x[..., None]), y.reshape(-1).clip(-1, 2**31 - 1).astype("int32")
