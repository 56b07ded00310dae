"""What a diagnosis measures, beside the libraries that measure it, too; where they differ, by how much and why."""

import importlib.util
import pathlib

import numpy as np
import pytest

import keras_ls

pytestmark = pytest.mark.peer


@pytest.fixture
def predictions(rng):
    """Logits (2000, 5) that are too large by a factor of 1.7, and labels."""
    z = 2 * rng.normal(size=(2000, 5))
    return (1.7 * z).astype("float32"), (z + rng.gumbel(size=z.shape)).argmax(-1)


@pytest.fixture
def torch_uncertainty():
    """Its module of risk and coverage, without the trainers that its package imports."""
    pytest.importorskip("torchmetrics", reason="torch-uncertainty's metrics are torchmetrics'")
    spec = importlib.util.find_spec("torch_uncertainty")
    if spec is None:
        pytest.skip("torch-uncertainty is not installed")
    (folder,) = spec.submodule_search_locations
    path = pathlib.Path(folder, "metrics", "classification", "risk_coverage.py")
    file = importlib.util.spec_from_file_location("risk_coverage", path)
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    return module


def test_aurc_is_torch_uncertaintys_but_for_its_ends(predictions, torch_uncertainty):
    """It takes the trapezoids from the first prediction to the last, N − 1 steps; ours is the mean of the N risks."""
    import torch

    logits, labels = predictions
    probabilities = np.exp(logits - logits.max(-1, keepdims=True), dtype="float64")
    probabilities /= probabilities.sum(-1, keepdims=True)
    theirs = torch_uncertainty.AURC()
    theirs.update(torch.from_numpy(probabilities), torch.from_numpy(labels))
    curve = keras_ls.risk_coverage_curve(labels, probabilities)
    size, ends = len(labels), curve.risk[0] + curve.risk[-1]
    expected = (size * curve.aurc() - ends / 2) / (size - 1)
    assert float(theirs.compute()) == pytest.approx(expected, rel=1e-5)
    diagnosed = keras_ls.diagnose_predictions(labels, probabilities, num_resamples=10).estimates["aurc"].value
    assert diagnosed == pytest.approx(curve.aurc(), rel=1e-6)


def test_what_ties_cost_does_not_depend_on_the_order_of_the_examples(torch_uncertainty):
    """It ranks ties as they come; ours is the mean over all orders."""
    import torch

    probabilities = np.tile([0.6, 0.4], (4, 1))
    ours, theirs = [], []
    for labels in ([0, 0, 1, 1], [1, 1, 0, 0]):
        peer = torch_uncertainty.AURC()
        peer.update(torch.from_numpy(probabilities), torch.tensor(labels))
        theirs.append(float(peer.compute()))
        ours.append(keras_ls.risk_coverage_curve(labels, probabilities).aurc())
    assert ours == pytest.approx([0.5, 0.5])
    assert theirs[0] < 0.5 < theirs[1]


def test_calibration_errors_are_mapies_but_for_its_number_of_bins(predictions):
    """It takes `num_bins` for the number of edges, so that 16 are 15 bins."""
    peer = pytest.importorskip("mapie.metrics.calibration", reason="MAPIE is not installed")
    logits, labels = predictions
    probabilities = np.exp(logits - logits.max(-1, keepdims=True), dtype="float64")
    probabilities /= probabilities.sum(-1, keepdims=True)
    how = {"num_bins": 16, "split_strategy": "uniform"}
    hits = (probabilities.argmax(-1) == labels).astype(int)
    top_label = peer.expected_calibration_error(hits, probabilities.max(-1), **how)
    classwise = peer.expected_calibration_error(None, probabilities, classwise=True, class_labels=labels, **how)
    estimates = keras_ls.diagnose_predictions(labels, probabilities, num_resamples=10).estimates
    assert estimates["ece"].value == pytest.approx(top_label, rel=1e-6)
    assert estimates["classwise_ece"].value == pytest.approx(classwise, rel=1e-6)


def test_temperature_and_what_it_repairs_are_those_of_probmetrics(predictions):
    """Its in-sample loss after scaling is a little below ours, which scales each half by the other's temperature."""
    peer = pytest.importorskip("probmetrics.calibrators", reason="probmetrics is not installed")
    import torch
    from probmetrics.distributions import CategoricalLogits

    logits, labels = predictions
    calibrator = peer.TemperatureScalingCalibrator()
    calibrator.fit_torch(CategoricalLogits(torch.from_numpy(logits)), torch.from_numpy(labels))
    temperature = 1 / float(calibrator.invtemp_)
    estimates = keras_ls.diagnose_predictions(labels, logits, from_logits=True, num_resamples=10).estimates
    assert estimates["temperature"].value == pytest.approx(temperature, rel=1e-3)
    scaled = logits / temperature
    in_sample = np.mean(np.log(np.exp(scaled).sum(-1)) - scaled[np.arange(len(labels)), labels])
    assert in_sample < estimates["nll_scaled"].value < in_sample + 1e-3


def test_temperature_is_that_of_scikit_learn(predictions):
    pytest.importorskip("sklearn", minversion="1.8", reason="scikit-learn scales by a temperature since 1.8")
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Logits(ClassifierMixin, BaseEstimator):
        """A classifier whose inputs are its logits."""

        classes_ = np.arange(5)

        def __sklearn_is_fitted__(self):
            return True

        def fit(self, x, y):
            return self

        def decision_function(self, x):
            return x

        def predict(self, x):
            return x.argmax(-1)

    logits, labels = predictions
    scaled = CalibratedClassifierCV(FrozenEstimator(Logits()), method="temperature").fit(logits, labels)
    inverse = scaled.calibrated_classifiers_[0].calibrators[0].beta_
    estimates = keras_ls.diagnose_predictions(labels, logits, from_logits=True, num_resamples=10).estimates
    assert estimates["temperature"].value == pytest.approx(1 / float(inverse), rel=1e-3)
