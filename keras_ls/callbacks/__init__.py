"""Callbacks for `model.fit`, one a file."""

from keras_ls.callbacks.calibration import Calibration
from keras_ls.callbacks.information import MutualInformation

__all__ = ["Calibration", "MutualInformation"]
