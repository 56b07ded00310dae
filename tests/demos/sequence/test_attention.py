"""Positions against their definition; what attends is tested by the models that are made of it."""

import keras
import numpy as np

from demos.sequence.attention import positions


def test_positions():
    table = keras.ops.convert_to_numpy(positions(50, 8))
    angle = 31 / 10_000 ** (2 * np.arange(4) / 8)
    np.testing.assert_allclose(table[31], np.concatenate([np.sin(angle), np.cos(angle)]), atol=1e-4)
