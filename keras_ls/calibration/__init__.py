"""Is a classifier as sure as it is right? Curves, errors, and the temperature that mends it."""

from keras_ls.calibration.calibrate import calibrate
from keras_ls.calibration.reliability import ReliabilityCurve, calibration_error, reliability_curve
from keras_ls.calibration.selective import RiskCoverageCurve, logit_norm_scores, risk_coverage_curve
from keras_ls.calibration.temperature import TemperatureScaling

__all__ = [
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "TemperatureScaling",
    "calibrate",
    "calibration_error",
    "logit_norm_scores",
    "reliability_curve",
    "risk_coverage_curve",
]
