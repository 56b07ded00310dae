"""Callbacks for `model.fit`, one per file."""

from keras_ls.callbacks.calibration import Calibration
from keras_ls.callbacks.embedding_projector import EmbeddingProjector
from keras_ls.callbacks.information import MutualInformation
from keras_ls.callbacks.penultimate_projection import PenultimateProjection

__all__ = ["Calibration", "EmbeddingProjector", "MutualInformation", "PenultimateProjection"]
