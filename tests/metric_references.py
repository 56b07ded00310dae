"""The four calibration metrics beside their float64 references, for the tests of what they measure and refuse."""

import pytest
import reference

from keras_ls.metrics import (
    BrierScore,
    ClasswiseCalibrationError,
    ExpectedCalibrationError,
    NegativeLogLikelihood,
)

METRICS = {
    "ece": (ExpectedCalibrationError, reference.expected_calibration_error),
    "classwise_ece": (ClasswiseCalibrationError, reference.classwise_calibration_error),
    "nll": (NegativeLogLikelihood, reference.nll),
    "brier": (BrierScore, reference.brier),
}
each_metric = pytest.mark.parametrize("name", METRICS)
