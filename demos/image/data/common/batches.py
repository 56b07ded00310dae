"""Training batches: shuffled and augmented, each a function of the seed and its place alone."""

from typing import Any

import keras
import numpy as np

from demos.image.data.common.augment import crop_and_flip, shift


class Batches(keras.utils.PyDataset):
    """Endless training batches: pass after pass over images (N, ...) and nested targets (N, ...), in a new order each.

    A batch depends on nothing but (seed, pass, batch), so training that starts at step `first` sees what it would
    have seen without the interruption. Images that do not fill a last batch wait for the next pass. They are shifted
    by up to `shift` pixels, then cropped and flipped if `augment` is true.
    """

    def __init__(self, x, y: Any, batch_size: int, seed: int, augment: bool = False, first: int = 0, shift: int = 0):
        super().__init__()
        if not 1 <= batch_size <= len(x):
            raise ValueError(
                f"`batch_size` must be from 1 to the number of training images ({len(x)}). "
                f"Received: batch_size={batch_size}."
            )
        self.x, self.y = x, y
        self.batch_size, self.seed, self.first, self.augment, self.pixels = batch_size, seed, first, augment, shift
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
        if self.pixels:
            x = shift(x, rng, self.pixels)
        if self.augment:
            x = crop_and_flip(x, rng)
        return x, keras.tree.map_structure(lambda target: target[rows], self.y)
