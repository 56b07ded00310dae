"""Callbacks for `model.fit`, one a file."""

from keras_ls.callbacks.calibration import Calibration

__all__ = ["Calibration"]
