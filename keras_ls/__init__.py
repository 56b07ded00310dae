"""keras_ls: label smoothing, calibration and what they do to a Keras classifier."""

from keras_ls._version import __version__
from keras_ls.losses import (
    SmoothedCategoricalCrossentropy,
    SmoothedSparseCategoricalCrossentropy,
    smooth_labels,
    smoothed_categorical_crossentropy,
    smoothed_sparse_categorical_crossentropy,
)

__all__ = [
    "SmoothedCategoricalCrossentropy",
    "SmoothedSparseCategoricalCrossentropy",
    "__version__",
    "smooth_labels",
    "smoothed_categorical_crossentropy",
    "smoothed_sparse_categorical_crossentropy",
]
