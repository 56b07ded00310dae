"""Plots of what the package measures, one module per subject; matplotlib is imported when the first one is drawn."""

from keras_ls.plots.decoding import beam_temperature_curves
from keras_ls.plots.distillation import distillation_curves
from keras_ls.plots.information import information_curves
from keras_ls.plots.projection import class_projection, projection_grid
from keras_ls.plots.reliability import reliability_diagram
from keras_ls.plots.selective import risk_coverage

__all__ = [
    "beam_temperature_curves",
    "class_projection",
    "distillation_curves",
    "information_curves",
    "projection_grid",
    "reliability_diagram",
    "risk_coverage",
]
