"""Folders of images: train/CLASS/* and test/CLASS/*."""

import os
import pathlib

import numpy as np

from demos.image.data.common.images import DataSet, ImageData
from demos.kit.cli import optional

GREY_MODES = ("1", "L", "LA", "I", "F")


def load(data_dir: str | None, image_size: int) -> ImageData:
    """Reads all images, resized to `image_size` pixels in height and width."""
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
    # Names that are not UTF-8 could not be written into results.
    name, *names = (os.fsencode(each).decode("utf-8", "replace") for each in (root.resolve().name, *classes))
    return ImageData(name, x_train, y_train, x_test, y_test, tuple(names))


def _class_folders(folder: pathlib.Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"--data-dir must hold train/CLASS/* and test/CLASS/*: {folder} is not a directory.")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(f"{folder} must hold a folder for each of at least 2 classes. Received: {classes}.")
    return classes


def _read_folder(folder: pathlib.Path, classes: list[str], image_size: int):
    found: list[tuple[np.ndarray, bool, int]] = []
    for label, name in enumerate(classes):
        paths = sorted(p for p in (folder / name).iterdir() if p.is_file() and not p.name.startswith("."))
        if not paths:
            raise ValueError(f"{folder / name} holds no images.")
        if deeper := [p.name for p in (folder / name).iterdir() if p.is_dir() and not p.name.startswith(".")]:
            raise ValueError(f"{folder / name} must hold images, not folders. Received: {min(deeper)}.")
        found += [(*_read_image(path, image_size), label) for path in paths]
    images, are_grey, labels = zip(*found, strict=True)
    return np.stack(images), np.array(labels, "int32"), all(are_grey)


def _read_image(path: pathlib.Path, image_size: int) -> tuple[np.ndarray, bool]:
    pil_image = optional("PIL.Image", "--dataset folder")
    transpose = optional("PIL.ImageOps", "--dataset folder").exif_transpose
    try:
        with pil_image.open(path) as image:
            mode = image.mode.partition(";")[0]
            if mode in ("I", "F"):  # which PIL would clip to 8 bits
                values = np.asarray(transpose(image))
                if mode == "F" or values.min() < 0 or values.max() >= 2**16:
                    raise ValueError("its numbers are not of 8 or of 16 bits.")
                says_16 = mode != image.mode or image.format == "PPM"  # "I;16" and the like
                bits = 8 if values.max() < 2**8 and not says_16 else 16
                image = pil_image.fromarray((values >> (bits - 8)).astype("uint8"))
            if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:  # what shows through is white
                image = transpose(image).convert("RGBA")  # what is composed below has no EXIF
                image = pil_image.alpha_composite(pil_image.new("RGBA", image.size, "white"), image)
            image = transpose(image).convert("RGB").resize((image_size, image_size), pil_image.Resampling.BILINEAR)
            return np.asarray(image), mode in GREY_MODES
    except Exception as error:  # broken files make Pillow raise whatever its decoders do
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


DATA_SET = DataSet(load)
