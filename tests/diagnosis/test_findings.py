"""What follows from intervals, of estimates made by hand."""

import numpy as np
import pytest

from keras_ls.diagnosis.estimates import Estimate
from keras_ls.diagnosis.findings import find

# A calibrated network whose clusters are spread out; what its numbers leave open is in the middle.
NUMBERS = {
    "accuracy": (0.8, 0.78, 0.82),
    "nll": (0.6, 0.58, 0.62),
    "ece": (0.01, 0.0, 0.02),
    "classwise_ece": (0.01, 0.0, 0.02),
    "temperature": (1.0, 0.95, 1.05),
    "calibration_loss": (0.0, -0.001, 0.001),
    "ece_scaled": (0.01, 0.0, 0.02),
    "excess_aurc": (0.02, 0.01, 0.03),
    "aurc_logit_norm_change": (0.0, -0.01, 0.01),
    "cdnv": (0.5, 0.4, 0.6),
    "means_angle": (0.2, 0.15, 0.25),
    "nearest_mean_agreement": (0.9, 0.8, 1.0),
    "gamma": (0.1, 0.05, 0.15),
}
LOSS = {"calibration_loss": (0.1, 0.05, 0.15)}
OVER = {"temperature": (2.0, 1.9, 2.1)} | LOSS
UNDER = {"temperature": (0.5, 0.4, 0.6)} | LOSS
SMALL_LOSS = {"calibration_loss": (0.002, 0.001, 0.003)}
TIGHT = {"cdnv": (0.05, 0.04, 0.06)}


def finding(topic, num_classes=10, class_limits=(0.0,) * 10, **changes):
    estimates = {name: Estimate(*numbers) for name, numbers in (NUMBERS | changes).items()}
    errors = np.linspace(0.01, 0.1, num_classes)
    limits = None if class_limits is None else np.array(class_limits)
    (found,) = (each for each in find(estimates, num_classes, errors, limits) if each.topic == topic)
    return found


@pytest.mark.parametrize(
    ("topic", "changes", "verdict", "words"),
    [
        ("confidence", {}, "calibrated", "Leave their confidence as it is"),
        ("confidence", {"ece": (0.05, 0.01, 0.09)}, "calibrated", "look at the reliability diagram"),
        ("confidence", OVER, "over-confident", "surer than they are right"),
        ("confidence", UNDER, "under-confident", "right more often"),
        ("confidence", {"temperature": (1.0, 0.8, 1.2)}, "cannot tell", "more data"),
        ("confidence", {"temperature": (1.05, 1.0, 1.1)}, "calibrated", "Leave their confidence as it is"),
        ("confidence", {"temperature": (0.95, 0.9, 1.0)}, "calibrated", "Leave their confidence as it is"),
        ("confidence", {"temperature": (1.05, 1.0, 1.11)}, "cannot tell", "more data"),
        ("confidence", {"temperature": (1.05, 1.01, 1.09)}, "over-confident", "too little to matter"),
        ("temperature", {}, "not needed", "next to nothing for a temperature to repair."),
        ("temperature", {"ece_scaled": (0.05, 0.01, 0.09)}, "not needed", "though predictions are not calibrated"),
        ("temperature", {"calibration_loss": (0.002, 0.001, 0.003)}, "not needed", "next to nothing"),
        ("temperature", {"calibration_loss": (-0.5, -0.9, -0.1)}, "cannot tell", "needs more data"),
        ("temperature", {"calibration_loss": (0.1, 0.05, 0.15)}, "helps", "what is left may be chance"),
        ("temperature", {"calibration_loss": (0.1, np.nan, np.nan)}, "cannot tell", "takes 0.1000 (no interval) nats"),
        (
            "ranking",
            {"aurc_logit_norm_change": (0.1, np.nan, np.nan)},
            "cannot tell",
            "too few that are right, or wrong",
        ),
        (
            "temperature",
            {"calibration_loss": (0.1, 0.05, 0.15), "ece_scaled": (0.05, 0.01, 0.09)},
            "helps in part",
            "no single temperature repairs",
        ),
        ("temperature", {"calibration_loss": (0.05, -0.05, 0.15)}, "cannot tell", "needs more data"),
        ("smoothing", {}, "not needed", "nothing to smooth"),
        ("smoothing", OVER, "worth trying", "an α of at most 0.007 beside"),  # 0.01 / (2 · (0.8 - 0.1))
        ("smoothing", OVER | {"ece": (0.4, 0.3, 0.5)}, "worth trying", "at most 0.244 beside"),  # (1 - 0.78) · 10 / 9
        ("smoothing", OVER | {"ece": (0.01, 0.0, 0.02)}, "worth trying", "may be chance"),
        ("smoothing", OVER | {"ece": (0.02, 0.01, 0.03)}, "worth trying", "limit is 0.007 to 0.021"),  # / 1.4
        ("smoothing", OVER | {"ece": (0.05, 0.01, 0.03)}, "worth trying", "an α of at most 0.021 beside"),
        ("smoothing", OVER | {"ece": (0.001, 0.0005, 0.002)}, "not needed", "may raise it: scale"),
        ("smoothing", OVER | {"ece": (0.006, 0.0, 0.02)}, "cannot tell", "may be too small"),
        ("smoothing", OVER | {"accuracy": (0.15, 0.08, 0.2)}, "cannot tell", "no better than chance"),
        ("smoothing", OVER | SMALL_LOSS, "not needed", "smoothing may cost more"),
        ("confidence", OVER | SMALL_LOSS, "over-confident", "too little to matter"),
        ("smoothing", UNDER, "as if smoothed", "still less sure"),
        ("smoothing", UNDER | SMALL_LOSS, "not needed", "too little to matter"),
        ("confidence", UNDER | SMALL_LOSS, "under-confident", "too little to matter"),
        ("smoothing", {"temperature": (1.0, 0.8, 1.2)}, "cannot tell", "which side of 1"),
        ("ranking", {}, "cannot tell", "may be chance"),
        ("ranking", {}, "cannot tell", "a random one would be 0.1785 above"),  # −0.8 · log 0.8
        ("ranking", {"accuracy": (1.0, 0.9, 1.0)}, "cannot tell", "a random one would be 0.0000 above"),
        ("ranking", {"aurc_logit_norm_change": (-0.02, -0.03, -0.01)}, "normalised logits rank better", "rank errors"),
        ("ranking", {"aurc_logit_norm_change": (0.02, 0.01, 0.03)}, "probability ranks better", "largest probability"),
        ("ranking", {"aurc_logit_norm_change": (0.0, 0.0, 0.0)}, "no better ranking found", "No norm"),
        ("clusters", {}, "spread out", "still told apart"),
        ("clusters", {"cdnv": (0.1, 0.05, 0.15)}, "cannot tell", "0.1"),
        ("clusters", {"cdnv": (0.1,)}, "cannot tell", "0.1"),  # no interval
        ("clusters", TIGHT, "tight", "hardly told apart"),
        ("clusters", {**TIGHT, "means_angle": (0.05, 0.04, 0.06)}, "collapsed", "equally distant"),
        # With fewer than K − 1 features there are no angles.
        ("clusters", {**TIGHT, "means_angle": (float("nan"),)}, "tight", "hardly told apart"),
        ("teaching", {}, "may teach", "Examples differ"),
        ("teaching", {"gamma": (0.005, 0.004, 0.006)}, "little at temperature 1", "higher temperature"),
        ("teaching", TIGHT, "much the same for a whole class", "clusters are tight"),
        ("teaching", {"gamma": (0.01, 0.005, 0.015)}, "cannot tell", "γ"),
    ],
)
def test_verdicts_are_what_intervals_allow(topic, changes, verdict, words):
    found = finding(topic, **changes)
    assert found.verdict == verdict
    assert words in found.text


def test_classes_are_named_where_their_limits_are_above_zero():
    assert finding("classes").verdict == "none shown to be off"
    assert finding("classes", class_limits=None).verdict == "cannot tell"
    found = finding("classes", class_limits=[0.0] * 8 + [0.02, 0.05])
    assert found.verdict == "2 off"
    assert "are classes 9 (0.100, at least 0.050), 8 (0.090, at least 0.020). Look at their labels" in found.text
    assert "scale first" in finding("classes", class_limits=[0.0] * 8 + [0.02, 0.05], **OVER).text
    assert "scale first" not in finding("classes", class_limits=[0.0] * 8 + [0.02, 0.05], **OVER | SMALL_LOSS).text


def test_two_classes_have_one_ranking_by_normalised_logits():
    found = finding("ranking", num_classes=2, class_limits=(0.0, 0.0))
    assert found.verdict == "no better ranking found"
    assert "Of two classes" in found.text
