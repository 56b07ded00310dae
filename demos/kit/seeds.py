"""Where chance comes from: the seed of a training, and the one seed of all that belongs to the data."""

import numpy as np

# Splits, noise and draws of examples are part of the data: the same for every run, whatever its seed.
DATA_SEED = 1906


def begin(seed: int) -> None:
    """Starts a training: forgets earlier networks and seeds every random generator."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)


def of_data() -> np.random.Generator:
    """A new generator for what belongs to the data."""
    return np.random.default_rng(DATA_SEED)
