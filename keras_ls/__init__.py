"""keras_ls: label smoothing, calibration and what they do to a Keras classifier."""

from keras_ls import _keras  # noqa: F401  says what to install where Keras finds no backend, so it goes first
from keras_ls._version import __version__
from keras_ls.calibration import (
    ReliabilityCurve,
    RiskCoverageCurve,
    TemperatureScaling,
    calibrate,
    calibration_error,
    logit_norm_scores,
    reliability_curve,
    risk_coverage_curve,
)
from keras_ls.callbacks import Calibration, EmbeddingProjector, MutualInformation, PenultimateProjection
from keras_ls.decoding import BeamSearchResult, beam_search
from keras_ls.diagnosis import Diagnosis, Estimate, Finding, diagnose, diagnose_predictions
from keras_ls.distillation import Distiller, equivalent_smoothing, teacher_logits
from keras_ls.fused_output import FusedOutput
from keras_ls.information import logit_mutual_information, mutual_information
from keras_ls.losses import (
    SmoothedCategoricalCrossentropy,
    SmoothedSparseCategoricalCrossentropy,
    label_frequencies,
    linear_smoothed_crossentropy,
    neighbourhood_smoothed_targets,
    smooth_labels,
    smoothed_categorical_crossentropy,
    smoothed_sparse_categorical_crossentropy,
)
from keras_ls.metrics import (
    AreaUnderRiskCoverage,
    BrierScore,
    ClasswiseCalibrationError,
    ExpectedCalibrationError,
    NegativeLogLikelihood,
)
from keras_ls.plots import (
    beam_temperature_curves,
    class_projection,
    distillation_curves,
    information_curves,
    projection_grid,
    reliability_diagram,
    risk_coverage,
)
from keras_ls.projection import (
    ClassPlane,
    ClusterStatistics,
    NeuralCollapse,
    Projection,
    class_templates,
    cluster_statistics,
    neural_collapse,
    penultimate_activations,
    project_classes,
)

__all__ = [
    "AreaUnderRiskCoverage",
    "BeamSearchResult",
    "BrierScore",
    "Calibration",
    "ClassPlane",
    "ClasswiseCalibrationError",
    "ClusterStatistics",
    "Diagnosis",
    "Distiller",
    "EmbeddingProjector",
    "Estimate",
    "ExpectedCalibrationError",
    "Finding",
    "FusedOutput",
    "MutualInformation",
    "NegativeLogLikelihood",
    "NeuralCollapse",
    "PenultimateProjection",
    "Projection",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "SmoothedCategoricalCrossentropy",
    "SmoothedSparseCategoricalCrossentropy",
    "TemperatureScaling",
    "__version__",
    "beam_search",
    "beam_temperature_curves",
    "calibrate",
    "calibration_error",
    "class_projection",
    "class_templates",
    "cluster_statistics",
    "diagnose",
    "diagnose_predictions",
    "distillation_curves",
    "equivalent_smoothing",
    "information_curves",
    "label_frequencies",
    "linear_smoothed_crossentropy",
    "logit_mutual_information",
    "logit_norm_scores",
    "mutual_information",
    "neighbourhood_smoothed_targets",
    "neural_collapse",
    "penultimate_activations",
    "project_classes",
    "projection_grid",
    "reliability_curve",
    "reliability_diagram",
    "risk_coverage",
    "risk_coverage_curve",
    "smooth_labels",
    "smoothed_categorical_crossentropy",
    "smoothed_sparse_categorical_crossentropy",
    "teacher_logits",
]
