"""Some examples of a model's inputs."""

from typing import Any

import numpy as np
from keras import ops, tree


def taken(x: Any, index: np.ndarray) -> Any:
    """The examples at `index` (n,) of an array or a list or dict of arrays or tensors, as NumPy arrays."""
    return tree.map_structure(
        lambda leaf: (ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else np.asarray(leaf))[index], x
    )
