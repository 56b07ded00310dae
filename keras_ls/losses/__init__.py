"""Smoothed cross-entropy, and other kinds of smoothing for sequences."""

from keras_ls.losses.functional import (
    smooth_labels,
    smoothed_categorical_crossentropy,
    smoothed_sparse_categorical_crossentropy,
)
from keras_ls.losses.linear import linear_smoothed_crossentropy
from keras_ls.losses.sequences import label_frequencies, neighbourhood_smoothed_targets
from keras_ls.losses.smoothed import SmoothedCategoricalCrossentropy, SmoothedSparseCategoricalCrossentropy

__all__ = [
    "SmoothedCategoricalCrossentropy",
    "SmoothedSparseCategoricalCrossentropy",
    "label_frequencies",
    "linear_smoothed_crossentropy",
    "neighbourhood_smoothed_targets",
    "smooth_labels",
    "smoothed_categorical_crossentropy",
    "smoothed_sparse_categorical_crossentropy",
]
