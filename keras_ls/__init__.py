"""keras_ls: label smoothing, calibration and what they do to a Keras classifier."""

from keras_ls._version import __version__

__all__ = ["__version__"]
