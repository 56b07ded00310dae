"""Where the chance comes from that belongs to the data: one seed for all of it. Each training has its own."""

import numpy as np

# Splits, noise and draws of examples are part of the data: the same for every run, whatever its seed.
DATA_SEED = 1906


def of_data() -> np.random.Generator:
    """A new generator for what belongs to the data."""
    return np.random.default_rng(DATA_SEED)
