"""Training batches in NumPy: shuffled, shifted and flipped, each a function of the seed and its place alone."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

# Images and a generator to augmented images.
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def shift(images: np.ndarray, rng: np.random.Generator, pixels: int) -> np.ndarray:
    """Shifts each image at random by up to ±`pixels` down and to the side; zeros come in.

    Args:
        images: (N, height, width, channels), any dtype.
        rng: where the offsets come from, uniform.
        pixels: the largest shift.

    Returns:
        New array of the shape and dtype of `images`.
    """
    n, height, width, channels = images.shape
    padded = np.zeros((n, height + 2 * pixels, width + 2 * pixels, channels), images.dtype)
    padded[:, pixels : pixels + height, pixels : pixels + width] = images
    offsets = rng.integers(0, 2 * pixels + 1, (n, 2)).tolist()
    out = np.empty_like(images)
    for i, (y, x) in enumerate(offsets):  # four times as fast as one fancy index over pixels
        out[i] = padded[i, y : y + height, x : x + width]
    return out


def crop_and_flip(images: np.ndarray, rng: np.random.Generator, padding: int = 4) -> np.ndarray:
    """Crops each image at random out of itself padded with zeros, and mirrors every other one.

    Args:
        images: (N, height, width, channels), any dtype.
        rng: where the offsets, uniform in [0, 2·padding], and the flips (probability 1/2) come from.
        padding: rows and columns of zeros added on each side.

    Returns:
        New array of the shape and dtype of `images`.
    """
    out = shift(images, rng, padding)
    flipped = rng.random(len(images)) < 0.5
    out[flipped] = out[flipped, :, ::-1]
    return out


def noisy(deviation: float) -> Augment:
    """The augmentation that adds Gaussian noise, `deviation` of full scale, to uint8 images."""

    def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noise = 255 * deviation * rng.standard_normal(images.shape, dtype="float32")
        return np.round(images + noise).clip(0, 255).astype("uint8")

    return augment


class Batches(keras.utils.PyDataset):
    """Endless training batches: pass after pass over the data, each in a new order.

    A batch depends on nothing but (seed, pass, batch), so training that starts at step `first` sees what it would
    have seen without the interruption. Images that do not fill a last batch wait for the next pass.
    """

    def __init__(self, x, y: Any, batch_size: int, seed: int, augment: bool = False, first: int = 0, shift: int = 0):
        """Stores the data.

        Args:
            x: (N, ...) images.
            y: (N,) labels, or a dict of targets (N, ...).
            batch_size: images a batch, at most N.
            seed: integer of at least 0.
            augment: whether images are cropped and flipped at random.
            first: steps already taken.
            shift: pixels by which images are shifted at random at most, before that.
        """
        super().__init__()
        if not 1 <= batch_size <= len(x):
            raise ValueError(
                f"`batch_size` must be from 1 to the number of training images ({len(x)}). "
                f"Received: batch_size={batch_size}."
            )
        self.x, self.y = x, y
        self.batch_size, self.seed, self.augment, self.first = batch_size, seed, augment, first
        self.shift = shift
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))

    @property
    def num_batches(self):
        """None: there is no last one."""
        return None

    def __getitem__(self, index):
        epoch, batch = divmod(self.first + index, len(self.x) // self.batch_size)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.x)))
        rows = self._order[1][batch * self.batch_size : (batch + 1) * self.batch_size]
        x = self.x[rows]
        rng = np.random.default_rng([self.seed, epoch, batch])
        if self.shift:
            x = shift(x, rng, self.shift)
        if self.augment:
            x = crop_and_flip(x, rng)
        return x, keras.tree.map_structure(lambda target: target[rows], self.y)
