"""Sprite sheets: the pictures of all examples in one PNG, as TensorBoard's Embedding Projector draws them."""

import io
import math
from typing import Any

import numpy as np

from keras_ls._arrays import to_numpy

LARGEST_SHEET = 8192  # pixels on a side; the projector shows no larger ones
LARGEST_THUMBNAIL = 64
# Images of a few pixels are enlarged in whole steps up to this, or the browser would blur them.
SMALL_THUMBNAIL = 32


def check_images(images: Any, count: int) -> np.ndarray:
    """Returns `images` as an array (N, H, W, C), values as given, that holds one image an example.

    Raises:
        ValueError: If it is not an array of numbers (N, H, W), (N, H, W, 1) or (N, H, W, 3), or N is not `count`.
    """
    array = to_numpy("images", images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"`images` must be of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3). Received shape: {np.shape(images)}."
        )
    if len(array) != count:
        raise ValueError(f"`images` must hold one image an example of `x` ({count}). Received: {len(array)}.")
    return array


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Returns images as uint8: uint8 as it is, floats and booleans in [0, 1] × 255, all else from its range.

    Values of any other range or dtype are mapped linearly, the smallest of all images to 0 and the largest to 255.

    Raises:
        ValueError: If values are NaN or infinite.
    """
    if images.dtype == np.uint8:
        return images
    values = images.astype("float32")
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):  # NaN is the minimum where there is one
        raise ValueError("`images` must be finite. Received: NaN or infinite values.")
    if images.dtype.kind in "iu" or low < 0 or high > 1:
        values = (values - low) / max(high - low, 1e-30)
    return np.rint(values * 255).astype("uint8")


def sprite_sheet(pixels: np.ndarray) -> tuple[bytes, tuple[int, int]]:
    """Lays images out row by row in a grid of as many rows as columns, the last ones empty perhaps.

    The projector finds an image's row by dividing by the number of rows, and so shows wrong images from another grid.
    Thumbnails are at most 64 pixels a side, less where there are so many that the sheet would exceed 8192.

    Args:
        pixels: (N, H, W, C) uint8, C 1 or 3.

    Returns:
        The PNG and the (width, height) of one thumbnail in it.
    """
    from PIL import Image

    side = math.isqrt(len(pixels) - 1) + 1
    thumbnails = _resized(pixels, min(LARGEST_THUMBNAIL, LARGEST_SHEET // side))
    count, height, width, channels = thumbnails.shape
    cells = np.zeros((side * side, height, width, channels), "uint8")
    cells[:count] = thumbnails
    grid = cells.reshape(side, side, height, width, channels).swapaxes(1, 2)
    sheet = grid.reshape(side * height, side * width, channels)
    png = io.BytesIO()
    # The first level is several times faster than the default and a few percent larger.
    Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(png, format="PNG", compress_level=1)
    return png.getvalue(), (width, height)


def _resized(pixels: np.ndarray, limit: int) -> np.ndarray:
    """(N, H, W, C) brought to at most `limit` pixels a side, and enlarged in whole steps where very small."""
    from PIL import Image

    height, width = pixels.shape[1:3]
    longest = max(height, width)
    if longest <= limit:
        steps = max(1, min(SMALL_THUMBNAIL, limit) // longest)
        return pixels.repeat(steps, axis=1).repeat(steps, axis=2)
    size = max(1, width * limit // longest), max(1, height * limit // longest)
    grey = pixels.shape[-1] == 1
    resized = [
        np.asarray(Image.fromarray(image[..., 0] if grey else image).resize(size, Image.Resampling.BOX))
        for image in pixels
    ]
    return np.stack(resized).reshape(len(pixels), size[1], size[0], -1)
