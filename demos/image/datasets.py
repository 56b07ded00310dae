"""Image data sets as uint8 arrays: embedded, from .npz files, from `keras.datasets`, or from folders of images."""

import dataclasses
import os
import pathlib
import zlib

import numpy as np

from demos.cli import optional
from demos.image.augment import noisy

NAMED = ("mnist", "fashion_mnist", "cifar10", "cifar100")
NAMES = ("digits", *NAMED, "folder")
DIRECTORY_VARIABLE = "KERAS_LS_DATA"
DIGITS_NOISE = 0.4
# The split and the noise are part of the data: the same for every run, whatever its seed.
DATA_SEED = 1906
# In the order of their ids, for files that do not hold them (Keras's own do not).
CLASS_NAMES = {
    "fashion_mnist": "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot",
    "cifar10": "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck",
    "cifar100": "apple, aquarium_fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus, "
    "butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, "
    "crab, crocodile, cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, "
    "keyboard, lamp, lawn_mower, leopard, lion, lizard, lobster, man, maple_tree, motorcycle, mountain, mouse, "
    "mushroom, oak_tree, orange, orchid, otter, palm_tree, pear, pickup_truck, pine_tree, plain, plate, poppy, "
    "porcupine, possum, rabbit, raccoon, ray, road, rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, "
    "snail, snake, spider, squirrel, streetcar, sunflower, sweet_pepper, table, tank, telephone, television, "
    "tiger, tractor, train, trout, tulip, turtle, wardrobe, whale, willow_tree, wolf, woman, worm",
}
# Two classes each that are measured against each other; those of CIFAR-10 (airplane, dog) are the paper's.
PAIRS = {"digits": (4, 9), "mnist": (4, 9), "cifar10": (0, 5)}
GREY_MODES = ("1", "L", "LA", "I", "F")


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Attributes:
        name: what it is called in tables and file names.
        x_train: (N, height, width, channels) uint8, 1 or 3 channels.
        y_train: (N,) int32 class ids in [0, K).
        x_test: held-out images, of the same size.
        y_test: their class ids.
        class_names: the K names.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self):
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise ValueError(
                f"The training and test images of {self.name} must be of one size. "
                f"Received: {self.x_train.shape[1:]} and {self.x_test.shape[1:]}."
            )
        if self.num_classes < 2:
            raise ValueError(f"{self.name} must have at least 2 classes. Received: {self.num_classes}.")
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

    def fingerprint(self) -> dict[str, object]:
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


def load(name: str, data_dir: str | None = None, noise: float = 0.0, image_size: int = 32) -> ImageData:
    """Loads a data set, split into a training and a held-out part.

    The held-out part is the data set's own test part, except for: digits, where 897 of the 1,797 images are
    drawn; CIFAR, where a fifth of the training images is drawn as in the paper (40,000 / 10,000) and the test
    images are not used.

    Args:
        name: one of `NAMES`.
        data_dir: where `name`.npz lies, or `train/CLASS/*` and `test/CLASS/*` for "folder". When it is None or
            lacks the file, the directory named by the environment variable KERAS_LS_DATA is looked at, then
            `keras.datasets`.
        noise: standard deviation of the Gaussian noise that is added once to every pixel, as a fraction of full
            scale. The result is clipped to what a pixel can hold.
        image_size: height and width in pixels to which images in folders are resized.

    Raises:
        ValueError: where the data cannot be found or read, or do not fit together.
    """
    if name == "digits":
        data = _digits()
    elif name in NAMED:
        data = _named(name, data_dir)
    elif name == "folder":
        data = _folder(data_dir, image_size)
    else:
        raise ValueError(f"`name` must be one of {', '.join(NAMES)}. Received: {name!r}.")
    return _noisy(data, noise) if noise else data


def _digits() -> ImageData:
    bunch = optional("sklearn.datasets", "The digits data set").load_digits()
    x = np.round(bunch.images * (255 / 16)).astype("uint8")[..., None]
    return _split("digits", x, bunch.target.astype("int32"), 897, tuple(map(str, range(10))))


def _named(name: str, data_dir: str | None) -> ImageData:
    (x_train, y_train), (x_test, y_test), class_names = _read_named(name, data_dir)
    if not class_names:
        num_classes = int(y_train.max(initial=0)) + 1
        known = tuple(CLASS_NAMES.get(name, "").split(", "))
        class_names = known if len(known) == num_classes else tuple(map(str, range(num_classes)))
    if name.startswith("cifar"):
        return _split(name, x_train, y_train, len(x_train) // 5, class_names)
    return ImageData(name, x_train, y_train, x_test, y_test, class_names)


def _read_named(name: str, data_dir: str | None):
    directories = [d for d in (data_dir, os.environ.get(DIRECTORY_VARIABLE)) if d]
    for directory in directories:
        path = pathlib.Path(directory).expanduser() / f"{name}.npz"
        if path.is_file():
            return _read_npz(path)
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # the download may fail in many ways: no network, no proxy, no room, a bad file
        reason = " ".join(str(error).split())
        searched = f" (not in {' or '.join(directories)})" if directories else ""
        raise ValueError(
            f"{name} is not here{searched} and could not be downloaded: put {name}.npz (Keras's form: x_train, "
            f"y_train, x_test, y_test) in a directory named by --data-dir or ${DIRECTORY_VARIABLE}, or run once "
            f"with a network so that keras.datasets.{name} can fetch it. [{reason[:200]}]"
        ) from error
    return _images_and_labels(name, x_train, y_train), _images_and_labels(name, x_test, y_test), ()


def _read_npz(path: pathlib.Path):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [key for key in ("x_train", "y_train", "x_test", "y_test") if key not in arrays]
            if missing:
                raise ValueError(f"{', '.join(missing)} missing")
            train = _images_and_labels(str(path), arrays["x_train"], arrays["y_train"])
            test = _images_and_labels(str(path), arrays["x_test"], arrays["y_test"])
            class_names = tuple(map(str, arrays["class_names"])) if "class_names" in arrays else ()
    except Exception as error:  # a broken file fails in many ways: zip, zlib, header, pickle, no archive at all
        raise ValueError(f"{path} cannot be read as a data set in Keras's form: {error}") from error
    return train, test, class_names


def _images_and_labels(source: str, x, y) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] not in (1, 3)):
        raise ValueError(
            f"Images of {source} must be uint8 of shape (n, height, width) or (n, height, width, 1 or 3). "
            f"Received: {x.dtype} of shape {x.shape}."
        )
    if y.dtype.kind not in "iu" or y.size != len(x):
        raise ValueError(f"Labels of {source} must be one integer an image. Received: {y.dtype} of shape {y.shape}.")
    return (x if x.ndim == 4 else x[..., None]), y.reshape(-1).astype("int32")


def _folder(data_dir: str | None, image_size: int) -> ImageData:
    if not data_dir:
        raise ValueError("--dataset folder needs --data-dir, which holds train/CLASS/* and test/CLASS/*.")
    root = pathlib.Path(data_dir).expanduser()
    classes = _class_folders(root / "train")
    if _class_folders(root / "test") != classes:
        difference = sorted(set(classes) ^ set(_class_folders(root / "test")))
        raise ValueError(f"{root}/train and {root}/test must hold the same classes. They differ in: {difference}.")
    x_train, y_train, grey_train = _read_folder(root / "train", classes, image_size)
    x_test, y_test, grey_test = _read_folder(root / "test", classes, image_size)
    if grey_train and grey_test:
        x_train, x_test = x_train[..., :1], x_test[..., :1]
    return ImageData(root.resolve().name, x_train, y_train, x_test, y_test, tuple(classes))


def _class_folders(folder: pathlib.Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"--data-dir must hold train/CLASS/* and test/CLASS/*: {folder} is not a directory.")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(f"{folder} must hold a folder for each of at least 2 classes. Received: {classes}.")
    return classes


def _read_folder(folder: pathlib.Path, classes: list[str], image_size: int):
    images, labels, grey = [], [], True
    for label, name in enumerate(classes):
        paths = sorted(p for p in (folder / name).iterdir() if p.is_file() and not p.name.startswith("."))
        if not paths:
            raise ValueError(f"{folder / name} holds no images.")
        for path in paths:
            pixels, is_grey = _read_image(path, image_size)
            images.append(pixels)
            labels.append(label)
            grey = grey and is_grey
    return np.stack(images), np.array(labels, "int32"), grey


def _read_image(path: pathlib.Path, image_size: int) -> tuple[np.ndarray, bool]:
    pil_image = optional("PIL.Image", "--dataset folder")
    transpose = optional("PIL.ImageOps", "--dataset folder").exif_transpose
    try:
        with pil_image.open(path) as image:
            mode = image.mode.partition(";")[0]
            if mode == "I":  # 16 bits: keep the high ones, where PIL would clip
                image = pil_image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype("uint8"))
            image = transpose(image).convert("RGB").resize((image_size, image_size), pil_image.Resampling.BILINEAR)
            return np.asarray(image), mode in GREY_MODES
    except Exception as error:  # broken files make Pillow raise whatever its decoders do
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def _split(name, x, y, num_test, class_names) -> ImageData:
    order = np.random.default_rng(DATA_SEED).permutation(len(x))
    test, train = order[:num_test], order[num_test:]
    return ImageData(name, x[train], y[train], x[test], y[test], class_names)


def _noisy(data: ImageData, noise: float) -> ImageData:
    rng, augment = np.random.default_rng(DATA_SEED), noisy(noise)
    return dataclasses.replace(data, x_train=augment(data.x_train, rng), x_test=augment(data.x_test, rng))
