"""Calibration error, negative log-likelihood and Brier score as Keras metrics of constant size.

For an example of class y with predicted probabilities p:

- negative log-likelihood ``−log p_y``, in nats,
- Brier score ``Σ_k (p_k − [k = y])²``,
- calibration error: predictions fall into B equal bins (b/B, (b+1)/B] of their confidence (0 joins the first); a bin
  of weight w_b has accuracy acc_b and mean confidence conf_b, and with N = Σ_b w_b the error is
  ``Σ_b (w_b/N)·|acc_b − conf_b|`` (l1), ``√Σ_b (w_b/N)·(acc_b − conf_b)²`` (l2) or ``max_b |acc_b − conf_b|`` (max).

Predictions (…, 1) are those of a binary classifier with one sigmoid unit, the probability or logit of class 1; its
labels are 0 and 1, and all metrics equal those of the two columns 1 − p and p.

What counts is the same for all: a position counts unless its weight is 0, its mask is False, its label is
`ignore_class` or its one-hot row is all zero. A position that does not count has no influence whatever it holds. In one
that does, NaN or an infinity, a negative weight, and, without `from_logits`, an entry below 0 or above 1.01 (half
precision rounds past 1) make the result NaN until the next reset; so do a label outside [0, K) and a one-hot row with
several ones (a multi-label target) in a compiled graph, which eagerly are a ValueError. A metric that has seen nothing
is 0. Keras passes sample weights only to metrics that `compile` is given as `weighted_metrics`, not to those in
`metrics`. Statistics are kept in float32 or wider whatever the dtype of metric and predictions, and summed with
compensation, so that rounding does not build up over batches.

A Keras mask on the predictions is honoured wherever Keras hands it on. On the JAX backend it does so in `evaluate` and
for validation, but not for the training metrics of `fit`, its own included: there, use `ignore_class` or weights.
"""

from keras_ls.metrics._bins import bin_statistics, calibration_error_of_bins
from keras_ls.metrics.calibration_error import ClasswiseCalibrationError, ExpectedCalibrationError
from keras_ls.metrics.risk_coverage import AreaUnderRiskCoverage
from keras_ls.metrics.scores import BrierScore, NegativeLogLikelihood

__all__ = [
    "AreaUnderRiskCoverage",
    "BrierScore",
    "ClasswiseCalibrationError",
    "ExpectedCalibrationError",
    "NegativeLogLikelihood",
    "bin_statistics",
    "calibration_error_of_bins",
]
