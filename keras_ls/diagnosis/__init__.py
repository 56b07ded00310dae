"""Would label smoothing, more or less of it, or a temperature help this model? Measured, with error bars, in words."""

from keras_ls.diagnosis.diagnose import diagnose, diagnose_predictions
from keras_ls.diagnosis.estimates import Estimate, Finding
from keras_ls.diagnosis.report import Diagnosis

__all__ = [
    "Diagnosis",
    "Estimate",
    "Finding",
    "diagnose",
    "diagnose_predictions",
]
