"""Calibration metrics: binary classifiers, and input that must give NaN or an error instead of a plausible number."""

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, compiled, needs_graph, numpy
from keras import ops
from metric_references import METRICS, each_metric

import keras_ls
from keras_ls.metrics import (
    ExpectedCalibrationError,
    NegativeLogLikelihood,
)


def measure(metric, *args, **kwargs):
    metric.update_state(*args, **kwargs)
    return float(metric.result())


def measure_compiled(metric, *args):
    """The result after an update that the backend compiles."""
    metric.update_state(np.array([0]), ops.ones((1, args[1].shape[-1])) / args[1].shape[-1])  # makes the variables
    metric.reset_state()
    if BACKEND == "tensorflow":
        compiled(metric.update_state)(*map(ops.convert_to_tensor, args))
        return float(metric.result())
    start = [variable.value for variable in metric.variables]
    state = compiled(lambda *args: metric.stateless_update_state(start, *args))(*map(ops.convert_to_tensor, args))
    return float(metric.stateless_result(state))


@pytest.fixture
def binary(rng):
    """300 labels and the probability of class 1, over-confident; a quarter lies exactly on 0, 0.5 and 1."""
    logits = rng.normal(size=300) * 3
    labels = (rng.random(300) < reference.softmax(np.stack([0 * logits, logits / 2], 1))[:, 1]).astype("int64")
    probs = (1 / (1 + np.exp(-logits))).astype("float32")
    probs[:25], probs[25:50], probs[50:75] = 0.0, 0.5, 1.0
    return labels, probs, logits.astype("float32")


class TestBinary:
    @each_metric
    @pytest.mark.parametrize("shape", [(300,), (300, 1)])
    def test_probabilities_are_those_of_two_columns(self, name, shape, binary):
        labels, probs, _ = binary
        make, expected = METRICS[name]
        two = np.stack([1 - probs.astype("float64"), probs.astype("float64")], 1)
        found = measure(make(), labels.reshape(shape), probs[:, None])
        np.testing.assert_allclose(found, expected(labels, two), rtol=1e-5, atol=1e-6)

    @each_metric
    def test_logits_are_those_of_two_columns(self, name, binary):
        labels, _, logits = binary
        make, expected = METRICS[name]
        two = np.stack([np.zeros(300), logits.astype("float64")], 1)
        wanted = reference.nll_of_logits(labels, two) if name == "nll" else expected(labels, reference.softmax(two))
        found = measure(make(from_logits=True), labels, logits[:, None])
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)

    @each_metric
    def test_time_steps_with_weights_and_ignored_labels(self, name, binary, rng):
        labels, probs, _ = binary
        make, expected = METRICS[name]
        weights = rng.integers(0, 3, 300)
        given = np.where(weights == 2, -1, labels).reshape(30, 10)
        found = measure(make(ignore_class=-1), given, probs.reshape(30, 10, 1), weights.reshape(30, 10))
        two = np.stack([1 - probs, probs], 1)
        counts = np.where(weights == 2, 0, weights)
        np.testing.assert_allclose(found, expected(labels, two, weights=counts), rtol=1e-5, atol=1e-6)

    @each_metric
    def test_huge_logits_stay_finite(self, name):
        logits = np.array([[1e4], [-1e4], [80.0]], "float32")
        found = measure(METRICS[name][0](from_logits=True), np.array([1, 0, 1]), logits)
        assert found == pytest.approx(0.0, abs=1e-7)

    @each_metric
    def test_labels_are_zero_and_one(self, name, binary):
        labels, probs, _ = binary
        for wrong in (labels + 1, labels - 1, np.eye(2)[labels]):
            with pytest.raises(ValueError, match="`y_true` must hold"):
                METRICS[name][0]().update_state(wrong, probs[:, None])

    def test_in_fit_and_evaluate(self, rng):
        x = rng.normal(size=(90, 4)).astype("float32")
        y = (x.sum(axis=1) + rng.normal(size=90) > 0).astype("int64")
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
        metrics = [make() for make, _ in METRICS.values()]
        model.compile("adam", "binary_crossentropy", metrics=metrics)
        model.fit(x, y, batch_size=32, verbose=0)
        results = model.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)
        p = model.predict(x, verbose=0).astype("float64")
        for name, (_, expected) in METRICS.items():
            wanted = expected(y, np.concatenate([1 - p, p], axis=1))
            np.testing.assert_allclose(results[name], wanted, rtol=1e-5, atol=1e-6, err_msg=name)


class TestRefuses:
    PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], "float32")

    @each_metric
    @pytest.mark.parametrize("weights", [[1.0, -1.0], [-0.5, -0.5], [np.nan, 1.0]])
    def test_negative_weights_are_nan(self, name, weights):
        assert np.isnan(measure(METRICS[name][0](), np.array([0, 1]), self.PROBS, np.array(weights, "float32")))

    @each_metric
    @pytest.mark.parametrize("row", [[5.0, 0.0, 1.0], [0.5, 0.7, -0.2], [1.02, 0.0, 0.0], [np.inf, 0.0, 0.0]])
    def test_what_are_no_probabilities_is_nan(self, name, row):
        probs = np.stack([self.PROBS[0], np.array(row, "float32")])
        metric = METRICS[name][0]()
        assert np.isnan(measure(metric, np.array([0, 1]), probs))
        metric.reset_state()
        assert np.isfinite(measure(metric, np.array([0, 1]), probs, np.array([1.0, 0.0])))  # where they count alone

    @each_metric
    def test_binary_logits_without_from_logits_are_nan(self, name):
        for logit in (-0.5, 1.5):
            assert np.isnan(measure(METRICS[name][0](), np.array([1]), np.array([[logit]], "float32")))

    @each_metric
    def test_half_precision_may_round_past_one(self, name):
        probs = ops.cast(np.array([[1.0078125, 0.0], [0.0, 1.0]]), "bfloat16")
        assert np.isfinite(measure(METRICS[name][0](), np.array([0, 1]), probs))

    @each_metric
    def test_multi_hot_rows(self, name):
        rows = np.array([[1, 0, 0], [1, 1, 0]])
        with pytest.raises(ValueError, match="multi-label"):
            METRICS[name][0]().update_state(rows, self.PROBS)
        assert np.isfinite(measure(METRICS[name][0](), rows, self.PROBS, np.array([1.0, 0.0])))
        soft = np.array([[0.9, 0.05, 0.05], [0.5, 0.5, 0.0]], "float32")
        assert np.isfinite(measure(METRICS[name][0](), soft, self.PROBS))

    @needs_graph
    @each_metric
    def test_in_a_graph_all_of_it_is_nan(self, name):
        make, labels = METRICS[name][0], np.array([0, 1])
        assert np.isfinite(measure_compiled(make(), labels, self.PROBS))
        assert np.isnan(measure_compiled(make(), np.array([[1, 0, 0], [1, 1, 0]]), self.PROBS))
        assert np.isnan(measure_compiled(make(), labels, self.PROBS, np.array([1.0, -1.0], "float32")))
        assert np.isnan(measure_compiled(make(), labels, self.PROBS * 4))

    @each_metric
    @pytest.mark.parametrize("dtype", ["int64", "uint64"])
    def test_labels_past_32_bits(self, name, dtype):
        wrong = np.array([0, 2**32 + 1], dtype)
        with pytest.raises(ValueError, match=r"`y_true` must hold integers in \[0, 3\).*42949672"):
            METRICS[name][0]().update_state(wrong, self.PROBS)

    @each_metric
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"from_logits": "False"}, "`from_logits` must be True or False. Received: from_logits='False'."),
            ({"from_logits": np.nan}, "`from_logits` must be True or False"),
            ({"from_logits": 1}, "`from_logits` must be True or False"),
            ({"name": 3}, "`name` must be a string"),
            ({"ignore_class": True}, "`ignore_class` must be an integer"),
        ],
    )
    def test_options(self, name, options, message):
        with pytest.raises(ValueError, match=message):
            METRICS[name][0](**options)

    @each_metric
    def test_what_is_no_array(self, name):
        for wrong in (["a", "b"], object(), None, [[0.5, 0.5], [1.0]]):
            with pytest.raises(ValueError, match="`y_pred` must be an array of real numbers"):
                METRICS[name][0]().update_state([0, 1], wrong)

    @each_metric
    def test_arrays_of_any_byte_order_and_width(self, name):
        wanted = measure(METRICS[name][0](), np.array([0, 1]), self.PROBS)
        for labels in (np.array([0, 1], ">i8"), np.array([0, 1], "uint16"), np.array([0, 1], "uint64"), [0.0, 1.0]):
            weights = np.array([1, 1], ">f4")
            assert measure(METRICS[name][0](), labels, self.PROBS.astype(">f8"), weights) == pytest.approx(wanted)


def test_bins_have_no_error_of_another_norm():
    with pytest.raises(ValueError, match="`norm` must be"):
        keras_ls.metrics.calibration_error_of_bins(np.ones((2, 3), "float32"), "L1")


class TestSums:
    @pytest.mark.parametrize("batch_size", [1, 500])
    def test_like_numbers_do_not_drift(self, batch_size, rng):
        """500 confidences of 0.9 or nearly 0.4: sums that rounding shifts the same way each time."""
        confidence = np.where(np.arange(500) % 2, 0.9, 0.3 + 0.19 * rng.random(500))
        probs = np.stack([confidence, (1 - confidence) / 2, (1 - confidence) / 2], 1).astype("float32")
        labels = rng.integers(0, 3, 500)
        metric = ExpectedCalibrationError(num_bins=2)
        for start in range(0, 500, batch_size):
            metric.update_state(labels[start : start + batch_size], probs[start : start + batch_size])
        assert float(metric.result()) == pytest.approx(reference.expected_calibration_error(labels, probs, 2), abs=3e-7)

    def test_many_updates_do_not_drift(self, rng):
        """The mean of 5,000 like numbers, one by one: a plain float32 sum is off by 6e-5."""
        metric = NegativeLogLikelihood()
        metric.update_state(np.array([0]), np.array([[0.9, 0.1]], "float32"))
        state = [ops.convert_to_tensor(numpy(v)) for v in metric.variables]
        step = compiled(lambda *state: metric.stateless_update_state(list(state), LABEL, PROBABILITY))
        for _ in range(5000):
            state = step(*state)
        assert float(metric.stateless_result(state)) == pytest.approx(-np.log(np.float64(np.float32(0.9))), rel=3e-7)


LABEL, PROBABILITY = np.array([0]), np.array([[0.9, 0.1]], "float32")
