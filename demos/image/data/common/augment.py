"""Images shifted, cropped, flipped and made noisy at random, in NumPy."""

from collections.abc import Callable

import numpy as np

# Images and a generator to augmented images.
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def shift(images: np.ndarray, rng: np.random.Generator, pixels: int) -> np.ndarray:
    """Shifts images (N, height, width, channels) by up to ±`pixels` down and to the side, uniformly; zeros come in."""
    n, height, width, channels = images.shape
    padded = np.zeros((n, height + 2 * pixels, width + 2 * pixels, channels), images.dtype)
    padded[:, pixels : pixels + height, pixels : pixels + width] = images
    offsets = rng.integers(0, 2 * pixels + 1, (n, 2)).tolist()
    out = np.empty_like(images)
    for i, (y, x) in enumerate(offsets):  # four times as fast as one fancy index over pixels
        out[i] = padded[i, y : y + height, x : x + width]
    return out


def crop_and_flip(images: np.ndarray, rng: np.random.Generator, padding: int = 4) -> np.ndarray:
    """Crops each image out of itself, padded with zeros on each side, and mirrors it with probability 1/2."""
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
