"""Penultimate activations: the paper's three-class projection, and statistics of their clusters."""

from keras_ls.projection.activations import class_templates, penultimate_activations
from keras_ls.projection.clusters import ClusterStatistics, cluster_statistics
from keras_ls.projection.collapse import NeuralCollapse, neural_collapse
from keras_ls.projection.plane import ClassPlane, Projection, project_classes

__all__ = [
    "ClassPlane",
    "ClusterStatistics",
    "NeuralCollapse",
    "Projection",
    "class_templates",
    "cluster_statistics",
    "neural_collapse",
    "penultimate_activations",
    "project_classes",
]
