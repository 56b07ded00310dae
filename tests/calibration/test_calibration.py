"""Reliability curves, calibration errors, temperature scaling and calibrated models."""

import json
import warnings

import keras
import numpy as np
import pytest
import reference
from harness import compiled, numpy, slow
from keras import layers, ops

import keras_ls
from keras_ls import _rows
from keras_ls._models.layers import LogProbabilities
from keras_ls.calibration import (
    ReliabilityCurve,
    TemperatureScaling,
    calibrate,
    calibration_error,
    reliability_curve,
    risk_coverage_curve,
)

NARROW = ["float16", "bfloat16"]


def predictions(rng, n=400, num_classes=4, scale=2.0):
    """Labels (n,) drawn from softmax(z), and logits scale·z (n, num_classes)."""
    logits = rng.normal(size=(n, num_classes)) * 2
    labels = np.array([rng.choice(num_classes, p=row) for row in reference.softmax(logits)])
    return labels, logits * scale


def tensor(values, dtype):
    return ops.cast(ops.convert_to_tensor(np.asarray(values, "float64")), dtype)


class TestReliabilityCurve:
    @pytest.mark.parametrize("num_bins", [1, 2, 10, 15, 100])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_agrees_with_the_definition(self, rng, num_bins, weighted):
        labels, logits = predictions(rng)
        probs = reference.softmax(logits).astype("float32")
        weights = rng.integers(0, 4, len(labels)) / 2 if weighted else None
        curve = reliability_curve(labels, probs, num_bins, sample_weight=weights)
        top = probs.max(axis=-1)
        sums = reference.bin_sums(top, probs.argmax(axis=-1) == labels, num_bins, weights)
        with np.errstate(invalid="ignore"):
            expected = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
        np.testing.assert_allclose(curve.count, sums[:, 0], rtol=1e-12)
        np.testing.assert_allclose(curve.confidence, expected[0], rtol=1e-12)
        np.testing.assert_allclose(curve.accuracy, expected[1], rtol=1e-12)
        np.testing.assert_allclose(curve.bin_edges, np.linspace(0, 1, num_bins + 1), rtol=1e-12)
        assert curve.ece() == pytest.approx(reference.error_of_bins(sums, "l1"), rel=1e-12)
        assert curve.mce() == pytest.approx(reference.error_of_bins(sums, "max"), rel=1e-12)

    @pytest.mark.parametrize("dtype", ["float64", "float32", *NARROW])
    @pytest.mark.parametrize("num_bins", [5, 10, 15])
    def test_a_confidence_on_an_edge_lies_in_the_bin_that_ends_there(self, dtype, num_bins):
        top = np.arange(num_bins + 1) / num_bins
        probs = tensor(np.stack([top, np.zeros(num_bins + 1)], axis=-1), dtype)
        curve = reliability_curve(np.zeros(num_bins + 1), probs, num_bins)
        np.testing.assert_array_equal(curve.count, [2] + [1] * (num_bins - 1))  # 0 joins the first

    def test_noise_of_float64_arithmetic_does_not_move_a_confidence_past_an_edge(self):
        confidence = 0.1 + 0.2
        assert confidence > 0.3
        curve = reliability_curve([0], [[confidence, 0.0]], num_bins=10)
        assert curve.count[2] == 1

    def test_uniform_logits_lie_on_their_edge(self):
        curve = reliability_curve([3], np.zeros((1, 15), "float32"), num_bins=15, from_logits=True)
        assert curve.count[0] == 1

    def test_an_empty_bin_is_nan_and_costs_nothing(self):
        curve = reliability_curve([0, 1], [[0.9, 0.1], [0.9, 0.1]], num_bins=4)
        np.testing.assert_array_equal(np.isnan(curve.accuracy), [True, True, True, False])
        np.testing.assert_array_equal(np.isnan(curve.confidence), [True, True, True, False])
        assert curve.ece() == pytest.approx(0.4)
        assert curve.mce() == pytest.approx(0.4)

    @pytest.mark.parametrize("dtype", ["float32", *NARROW])
    def test_takes_tensors_of_the_backend(self, rng, dtype):
        labels, logits = predictions(rng, n=50)
        given = tensor(logits, dtype)
        expected = reference.expected_calibration_error(labels, reference.softmax(numpy(given)))
        curve = reliability_curve(ops.convert_to_tensor(labels), given, from_logits=True)
        assert curve.ece() == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("form", ["ids", "floats", "column", "one_hot", "nested", "list"])
    def test_labels_of_every_form_give_the_same(self, rng, form):
        labels, logits = predictions(rng, n=60)
        expected = reliability_curve(labels, logits, from_logits=True).ece()
        shaped = logits.reshape(5, 12, 4) if form == "nested" else logits
        given = {
            "ids": labels.astype("int16"),
            "floats": labels.astype("float32"),
            "column": labels[:, None],
            "one_hot": np.eye(4)[labels],
            "nested": labels.reshape(5, 12),
            "list": labels.tolist(),
        }[form]
        assert reliability_curve(given, shaped, from_logits=True).ece() == expected

    def test_class_ids_above_256_survive_bfloat16_predictions(self):
        logits = np.zeros((1, 300))
        logits[0, 257] = 9
        assert reliability_curve([257], tensor(logits, "bfloat16"), from_logits=True).accuracy[-1] == 1

    def test_masked_classes_cannot_be_predicted(self):
        curve = reliability_curve([1], [[-np.inf, 0.0, 0.0]], num_bins=2, from_logits=True)
        assert curve.confidence[0] == pytest.approx(0.5)
        assert curve.accuracy[0] == 1

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("place", [0, 1])
    def test_a_prediction_that_is_no_number_makes_everything_nan(self, bad, place):
        probs = np.array([[0.9, 0.1], [0.7, 0.3]])
        probs[1, place] = bad
        curve = reliability_curve([0, 0], probs)
        assert np.isnan(curve.accuracy).all()
        assert np.isnan(curve.ece())
        assert np.isnan(curve.mce())
        for norm in ("l1", "l2", "max"):
            for binning in ("uniform", "quantile"):
                assert np.isnan(calibration_error([0, 0], probs, norm=norm, binning=binning))

    @pytest.mark.parametrize("row", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]])
    def test_logits_without_probabilities_make_everything_nan(self, row):
        curve = reliability_curve([0, 0], [[1.0, 0.0], row], from_logits=True)
        assert np.isnan(curve.ece())

    def test_weight_two_is_a_row_twice(self, rng):
        labels, logits = predictions(rng, n=40)
        weights = rng.integers(0, 3, 40)
        weighted = reliability_curve(labels, logits, from_logits=True, sample_weight=weights)
        repeated = reliability_curve(labels.repeat(weights), logits.repeat(weights, axis=0), from_logits=True)
        np.testing.assert_allclose(weighted.count, repeated.count)
        np.testing.assert_allclose(weighted.accuracy, repeated.accuracy)
        np.testing.assert_allclose(weighted.confidence, repeated.confidence)

    def test_what_weighs_nothing_does_not_count_even_if_nan(self):
        curve = reliability_curve([0, 0], [[0.9, 0.1], [np.nan, 0.1]], sample_weight=[1, 0])
        assert curve.ece() == pytest.approx(0.1)

    def test_weights_of_examples_spread_over_time_steps(self, rng):
        labels, logits = predictions(rng, n=60)
        weights = rng.uniform(size=5)
        curve = reliability_curve(labels.reshape(5, 12), logits.reshape(5, 12, 4), 15, True, weights)
        flat = reliability_curve(labels, logits, 15, True, weights.repeat(12))
        np.testing.assert_array_equal(curve.count, flat.count)

    @pytest.mark.parametrize(
        ("y_true", "y_pred", "options", "message"),
        [
            ([], np.zeros((0, 3)), {}, "at least one prediction"),
            ([0, 1], [[0.5, 0.5]], {}, "`y_true` must hold one class id per prediction"),
            ([2], [[0.5, 0.5]], {}, r"`y_true` must hold integers in \[0, 2\). Received: \[2.0\]"),
            ([-1], [[0.5, 0.5]], {}, "Received: .-1.0."),
            ([0.5], [[0.5, 0.5]], {}, "Received: .0.5."),
            ([np.nan], [[0.5, 0.5]], {}, "must hold integers"),
            ([[0, 0]], [[0.5, 0.5]], {}, "mark one class"),
            ([0], [[3.0, -1.0]], {}, "from_logits=True"),
            ([0], [["a", "b"]], {}, "`y_pred` must be an array of real numbers"),
            ([0], [[0.5, 0.5], [1.0]], {}, "`y_pred` must be an array of real numbers"),
            ([0], 1.0, {}, "at least one prediction"),
            ([0], [[0.5, 0.5]], {"num_bins": 0}, "`num_bins` must be at least 1"),
            ([0], [[0.5, 0.5]], {"sample_weight": [1, 1]}, "`sample_weight`"),
            ([0], [[0.5, 0.5]], {"sample_weight": [-1]}, "`sample_weight`"),
            ([0], [[0.5, 0.5]], {"sample_weight": [0]}, "`sample_weight`"),
            ([0], [[0.5, 0.5]], {"sample_weight": [np.nan]}, "`sample_weight`"),
        ],
    )
    def test_refuses(self, y_true, y_pred, options, message):
        with pytest.raises(ValueError, match=message):
            reliability_curve(y_true, y_pred, **options)

    def test_is_frozen(self):
        curve = reliability_curve([0], [[0.5, 0.5]])
        assert isinstance(curve, ReliabilityCurve)
        with pytest.raises(AttributeError):
            curve.count = None


def equal_mass_error(labels, probs, num_bins, norm):
    """Bins that end at the quantiles of the confidences (linear interpolation), right-closed, by loops."""
    top = sorted(zip(probs.max(axis=-1), probs.argmax(axis=-1) == labels, strict=True))
    edges = [np.quantile([c for c, _ in top], b / num_bins) for b in range(1, num_bins)]
    sums = np.zeros((num_bins, 3))
    for confidence, hit in top:
        b = sum(edge < confidence for edge in edges)
        sums[b] += 1, confidence, hit
    return reference.error_of_bins(sums, norm)


class TestCalibrationError:
    @pytest.mark.parametrize("norm", ["l1", "l2", "max"])
    @pytest.mark.parametrize("num_bins", [1, 7, 15])
    def test_agrees_with_the_definition(self, rng, norm, num_bins):
        labels, logits = predictions(rng)
        probs = reference.softmax(logits)
        uniform = reference.expected_calibration_error(labels, probs, num_bins, norm)
        assert calibration_error(labels, probs, num_bins, norm) == pytest.approx(uniform, rel=1e-12)
        quantile = equal_mass_error(labels, probs, num_bins, norm)
        assert calibration_error(labels, probs, num_bins, norm, "quantile") == pytest.approx(quantile, rel=1e-12)
        given = calibration_error(labels, logits, num_bins, norm, "quantile", from_logits=True)
        assert given == pytest.approx(quantile, rel=1e-12)

    def test_quantile_bins_hold_as_many(self):
        top = np.array([0.40, 0.45, 0.60, 0.70, 0.80, 0.90])
        probs = np.stack([top, *[(1 - top) / 9] * 9], axis=-1)
        labels = np.array([0, 1, 0, 0, 1, 1])
        expected = (abs(0.5 - 0.425) + abs(1 - 0.65) + abs(0 - 0.85)) / 3
        assert calibration_error(labels, probs, 3, binning="quantile") == pytest.approx(expected)

    def test_equal_confidences_make_no_difference_to_the_order(self, rng):
        probs = np.tile([[0.75, 0.25]], (30, 1))
        labels = rng.integers(0, 2, 30)
        expected = abs((labels == 0).mean() - 0.75)
        for _ in range(3):
            given = calibration_error(rng.permutation(labels), probs, 7, binning="quantile")
            assert given == pytest.approx(expected)

    @pytest.mark.parametrize("weight", [1e16, 2.0**60, 2.0**900, 0.25])
    def test_quantile_bins_of_equal_weights(self, rng, weight):
        """Weights that float64 cannot count one by one ended in an IndexError."""
        labels, logits = predictions(rng, n=60)
        probs = reference.softmax(logits)
        top = np.sort(probs.max(-1))
        edges = top[[19, 39]]  # the least values at or below which a third and two thirds lie
        bins = (probs.max(-1)[:, None] > edges).sum(-1)
        hits = probs.argmax(-1) == labels
        expected = sum(abs(hits[bins == b].mean() - probs.max(-1)[bins == b].mean()) / 3 for b in range(3))
        given = calibration_error(labels, probs, 3, binning="quantile", sample_weight=np.full(60, weight))
        assert given == pytest.approx(expected, rel=1e-12)

    def test_refuses_weights_whose_sum_is_infinite(self):
        for weights in (1.7e308, [1.7e308] * 2):
            with pytest.raises(ValueError, match="`sample_weight` must be finite"):
                calibration_error([0, 1], [[0.5, 0.5]] * 2, sample_weight=weights)

    def test_one_bin_is_confidence_against_accuracy(self, rng):
        labels, logits = predictions(rng)
        probs = reference.softmax(logits)
        expected = abs((probs.argmax(-1) == labels).mean() - probs.max(-1).mean())
        for binning in ("uniform", "quantile"):
            assert calibration_error(labels, probs, 1, binning=binning) == pytest.approx(expected)

    def test_perfect_predictions_have_no_error(self):
        for norm in ("l1", "l2", "max"):
            assert calibration_error([0, 1], np.eye(2), norm=norm) == 0.0

    @pytest.mark.parametrize("binning", ["uniform", "quantile"])
    def test_the_number_of_bins_may_be_a_scalar_tensor(self, rng, binning):
        labels, logits = predictions(rng)
        given = (calibration_error(labels, logits, n, "l1", binning, from_logits=True) for n in (3, ops.array(3)))
        assert next(given) == next(given)

    def test_blocks_that_threads_share_keep_their_order(self, rng, monkeypatch):
        labels, logits = predictions(rng, n=50)
        how = {"from_logits": True, "sample_weight": rng.random(50)}

        def measured():
            return calibration_error(labels, logits, **how), risk_coverage_curve(labels, logits, **how).aurc()

        whole = measured()
        monkeypatch.setattr(_rows, "_SHARED_BLOCK_SIZE", 28)
        assert measured() == whole

    @pytest.mark.parametrize("options", [{"norm": "l3"}, {"binning": "equal"}, {"num_bins": 0}])
    def test_refuses(self, options):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
            calibration_error([0], [[0.5, 0.5]], **options)
        with pytest.raises(ValueError, match="`num_bins`"):
            calibration_error([0], [[0.5, 0.5]], num_bins=-1, binning="quantile")

    @pytest.mark.peer
    @pytest.mark.parametrize("norm", ["l1", "l2", "max"])
    def test_agrees_with_torchmetrics(self, rng, norm):
        torch = pytest.importorskip("torch", reason="torch is not installed")
        peer = pytest.importorskip("torchmetrics.functional.classification", reason="torchmetrics is not installed")
        labels, logits = predictions(rng)
        probs = reference.softmax(logits).astype("float32")
        expected = peer.multiclass_calibration_error(
            torch.tensor(probs), torch.tensor(labels), num_classes=4, n_bins=15, norm=norm
        )
        assert calibration_error(labels, probs, 15, norm) == pytest.approx(float(expected), abs=1e-6)

    @pytest.mark.peer
    @pytest.mark.parametrize("binning", ["uniform", "quantile"])
    @pytest.mark.parametrize("norm", ["l1", "max"])
    def test_agrees_with_netcal(self, rng, binning, norm):
        peer = pytest.importorskip("netcal.metrics", reason="netcal is not installed")
        labels, logits = predictions(rng, n=402)  # no quantile is a confidence: netcal's bins are left-closed
        probs = reference.softmax(logits)
        kind = peer.ECE if norm == "l1" else peer.MCE
        expected = kind(bins=12, equal_intervals=binning == "uniform").measure(probs, labels)
        assert calibration_error(labels, probs, 12, norm, binning) == pytest.approx(expected, abs=1e-9)


def nll(temperature, labels, logits):
    return reference.nll_of_logits(labels, np.asarray(logits, "float64") / temperature)


class TestTemperatureScaling:
    def test_is_softmax_of_logits_over_temperature(self, rng):
        logits = rng.normal(size=(3, 5, 4)).astype("float32")
        layer = TemperatureScaling(2.5)
        np.testing.assert_allclose(numpy(layer(logits)), reference.softmax(logits / 2.5), rtol=1e-5)
        np.testing.assert_allclose(numpy(compiled(layer)(logits)), reference.softmax(logits / 2.5), rtol=1e-5)
        assert layer.compute_output_shape((None, 7)) == (None, 7)

    @pytest.mark.parametrize("dtype", NARROW)
    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
    def test_probabilities_are_float32_at_least(self, rng, dtype, policy):
        logits = tensor(rng.normal(size=(3, 4)) * 5, dtype)
        given = TemperatureScaling(2.0, dtype=policy)(logits)
        assert keras.backend.standardize_dtype(given.dtype) == "float32"
        np.testing.assert_allclose(numpy(given), reference.softmax(numpy(logits) / 2), rtol=1e-5)
        exact = tensor([[300.125, 300.0]], "float32")  # float16 would round the difference away
        np.testing.assert_allclose(
            numpy(TemperatureScaling(dtype=policy)(exact)), reference.softmax([[0.125, 0]]), rtol=1e-5
        )

    def test_infinite_and_nan_logits(self):
        probs = numpy(TemperatureScaling(3.0)(np.array([[0.0, -np.inf, 0.0], [np.nan, 0.0, 0.0]], "float32")))
        np.testing.assert_allclose(probs[0], [0.5, 0, 0.5])
        assert np.isnan(probs[1]).all()
        assert np.isnan(numpy(TemperatureScaling(2.0)(np.array([[np.inf, 0.0, 1.0]], "float32")))).all()
        assert np.isnan(numpy(TemperatureScaling(2.0)(np.array([[np.inf]], "float32")))).all()
        large = np.array([[1e37, 0.0, 5e36]], "float32")  # whose quotients are infinite
        probs = numpy(TemperatureScaling(0.01)(large))
        np.testing.assert_array_equal(probs, [[1.0, 0.0, 0.0]])
        with pytest.raises(ValueError, match="`logits` must be"):
            TemperatureScaling()(keras.ops.convert_to_tensor(1.0))

    def test_has_one_weight_that_training_leaves(self, rng):
        layer = TemperatureScaling(2.0)
        assert [weight.name for weight in layer.weights] == ["temperature"]
        assert layer.trainable_weights == []
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layer])
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(rng.normal(size=(8, 3)), rng.integers(0, 2, 8), verbose=0)
        assert float(layer.temperature) == 2.0

    @pytest.mark.parametrize("temperature", [0, -1.0, 1e-46, 1e39, np.nan, np.inf, "warm"])
    def test_refuses_a_temperature(self, temperature):
        with pytest.raises(ValueError, match="`temperature`"):
            TemperatureScaling(temperature)

    @pytest.mark.parametrize("scale", [0.03, 0.08, 0.3, 1.0, 4.0, 25.0, 90.0])
    @pytest.mark.parametrize(("n", "num_classes"), [(500, 2), (800, 12)])
    def test_fit_finds_the_minimum(self, rng, scale, n, num_classes):
        labels, logits = predictions(rng, n, num_classes, scale)
        layer = TemperatureScaling()
        assert layer.fit(logits, labels) is layer
        found = float(layer.temperature)
        assert scale / 1.5 < found < scale * 1.5
        lowest = nll(found, labels, logits)
        for factor in (0.999, 1.001):
            assert lowest < nll(found * factor, labels, logits)

    @pytest.mark.peer
    @pytest.mark.parametrize("scale", [0.02, 0.05, 1.0, 30.0, 80.0])
    def test_fit_agrees_with_scipy(self, rng, scale):
        optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed")
        labels, logits = predictions(rng, 600, 5, scale)
        found = optimize.minimize_scalar(
            lambda s: nll(np.exp(s), labels, logits),
            bounds=np.log([0.01, 100]),
            method="bounded",
            options={"xatol": 1e-9},
        )
        given = float(TemperatureScaling().fit(logits, labels).temperature)
        assert given == pytest.approx(np.exp(found.x), rel=1e-5)

    def test_fit_with_one_example_has_a_closed_form(self):
        # z = (1, 0.8, 0), label 1: E_p[z] = 0.8, so e^{b}·0.2 = e^{0}·0.8 with b = 1/T.
        layer = TemperatureScaling().fit([[1.0, 0.8, 0.0]], [1])
        assert float(layer.temperature) == pytest.approx(1 / np.log(4), rel=1e-6)

    @pytest.mark.parametrize(
        ("logits", "labels", "bound", "message"),
        [
            ([[3.0, 0.0], [0.0, 2.0]], [0, 1], 0.01, "lowest temperature"),
            ([[1e4, 0.0], [0.0, 1e4]], [0, 1], 0.01, "lowest temperature"),
            ([[5.0, 0.0, 1.0]], [0], 0.01, "lowest temperature"),
            ([[5.0, 0.0, 1.0]], [1], 100, "highest temperature"),
            ([[3.0, 0.0], [0.0, 2.0]], [1, 0], 100, "highest temperature"),
            ([[1.0, 1.0], [7.0, 7.0]], [0, 1], 1, "all equal"),
            ([[2.0], [3.0]], [0, 0], 100, "highest temperature"),  # one unit: two classes
            ([[0.0], [0.0]], [0, 1], 1, "all equal"),
            ([[2.0, -np.inf], [-np.inf, 3.0]], [0, 1], 1, "all equal"),
        ],
    )
    def test_fit_warns_where_there_is_no_optimum(self, logits, labels, bound, message):
        layer = TemperatureScaling(3.0)
        with pytest.warns(UserWarning, match=message):
            layer.fit(logits, labels)
        assert float(layer.temperature) == pytest.approx(bound, rel=1e-6)
        assert 0.01 <= float(layer.temperature) <= 100
        assert np.isfinite(numpy(layer(np.array([[1e4, -1e4]], "float32")))).all()

    @pytest.mark.parametrize("scale", [0.0105, 95.0])
    def test_fit_does_not_warn_where_the_optimum_is_just_inside(self, rng, scale):
        labels, logits = predictions(rng, 300, 3, 1.0)
        logits = logits / float(TemperatureScaling().fit(logits, labels).temperature) * scale
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = float(TemperatureScaling().fit(logits, labels).temperature)
        assert found == pytest.approx(scale, rel=1e-6)

    @pytest.mark.parametrize("dtype", ["float64", *NARROW])
    def test_fit_warns_of_logits_that_look_like_probabilities(self, rng, dtype):
        labels, logits = predictions(rng, 300, 3)
        probs = tensor(reference.softmax(logits), dtype)
        with pytest.warns(UserWarning, match="look like probabilities: none is negative, and they sum to 1"):
            TemperatureScaling().fit(probs, labels)
        with pytest.warns(UserWarning, match="look like probabilities"):
            TemperatureScaling().fit(probs, numpy(probs).astype("float64").argmax(axis=-1))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            TemperatureScaling().fit(np.log(np.maximum(numpy(probs).astype("float64"), 1e-8)), labels)
            TemperatureScaling().fit(np.abs(logits), labels)
            TemperatureScaling().fit([[0.25, 0.75], [3.0, 1.0], [2.0, 1.0]], [0, 0, 1])  # but for the first row
            TemperatureScaling().fit(logits - logits.mean(axis=-1, keepdims=True) + 1 / 3, labels)

    def test_fit_leaves_masked_classes_out(self, rng):
        labels, logits = predictions(rng, 300, 3)
        masked = np.concatenate([logits, np.full((300, 2), -np.inf)], axis=-1)
        expected = float(TemperatureScaling().fit(logits, labels).temperature)
        assert float(TemperatureScaling().fit(masked, labels).temperature) == pytest.approx(expected, rel=1e-7)

    @pytest.mark.parametrize("dtype", ["float32", *NARROW])
    def test_fit_takes_tensors(self, rng, dtype):
        labels, logits = predictions(rng, 300, 3)
        given = tensor(logits, dtype)
        expected = TemperatureScaling().fit(numpy(given).astype("float64"), labels)
        layer = TemperatureScaling().fit(ops.reshape(given, (20, 15, 3)), np.eye(3)[labels].reshape(20, 15, 3))
        assert float(layer.temperature) == float(expected.temperature)

    def test_fit_does_not_depend_on_blocks_or_shifts(self, rng, monkeypatch):
        labels, logits = predictions(rng, 301, 3)
        expected = float(TemperatureScaling().fit(logits, labels).temperature)
        shifted = logits + rng.normal(size=(301, 1)) * 1e3
        assert float(TemperatureScaling().fit(shifted, labels).temperature) == pytest.approx(expected, rel=1e-6)
        monkeypatch.setattr(_rows, "_SHARED_BLOCK_SIZE", 7)
        assert float(TemperatureScaling().fit(logits, labels).temperature) == pytest.approx(expected, rel=1e-7)

    def test_fit_reads_a_memory_map(self, rng, tmp_path):
        labels, logits = predictions(rng, 300, 3)
        np.save(tmp_path / "logits.npy", logits)
        mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
        expected = float(TemperatureScaling().fit(logits, labels).temperature)
        assert float(TemperatureScaling().fit(mapped, labels).temperature) == expected

    def test_fit_again_forgets_the_first(self, rng):
        labels, logits = predictions(rng, 300, 3)
        layer = TemperatureScaling().fit(logits * 7, labels)
        expected = float(TemperatureScaling().fit(logits, labels).temperature)
        assert float(layer.fit(logits, labels).temperature) == expected

    @pytest.mark.parametrize(
        ("logits", "labels", "message"),
        [
            ([[np.nan, 0.0]], [0], "NaN"),
            ([[np.inf, 0.0]], [0], "NaN or .inf"),
            ([[1e308, -1e308], [0.0, 1.0]], [1, 0], "differ by no more"),
            ([[-np.inf, 0.0]], [0], "logit is −inf"),
            ([[1.0, 0.0]], [2], r"`labels` must hold integers in \[0, 2\)"),
            ([[1.0, 0.0]], [0, 1], "`labels` must hold one class id"),
            (np.zeros((0, 2)), [], "at least one prediction"),
        ],
    )
    def test_fit_refuses(self, logits, labels, message):
        with pytest.raises(ValueError, match=message):
            TemperatureScaling().fit(logits, labels)

    def test_round_trips_through_config_and_file(self, rng, tmp_path):
        labels, logits = predictions(rng, 200, 3)
        layer = TemperatureScaling(1.5, name="scaling").fit(logits, labels)
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
        assert config["registered_name"] == "keras_ls>TemperatureScaling"
        copy = keras.saving.deserialize_keras_object(config)
        assert copy.get_config() == layer.get_config()
        assert float(copy.temperature) == 1.5  # the fitted one is a weight
        model = keras.Sequential([keras.Input((3,)), layer])
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert float(loaded.layers[-1].temperature) == float(layer.temperature)
        np.testing.assert_array_equal(numpy(loaded(logits)), numpy(model(logits)))


def sequential(*stack, shape=(5,)):
    return keras.Sequential([keras.Input(shape), *stack])


def inner(activation):
    return sequential(layers.Dense(4, activation=activation), shape=(8,))


ENDINGS = {
    "dense softmax": lambda: [layers.Dense(4, activation="softmax")],
    "dense softmax without bias": lambda: [layers.Dense(4, activation="softmax", use_bias=False)],
    "activation": lambda: [layers.Dense(4), layers.Activation("softmax")],
    "dense with the operation": lambda: [layers.Dense(4, activation=ops.softmax)],
    "softmax layer": lambda: [layers.Dense(4), layers.Softmax()],
    "dense with a softmax layer inside": lambda: [layers.Dense(4, activation=layers.Softmax())],
    "softmax in float32": lambda: [layers.Dense(4, activation="softmax"), layers.Activation("linear", dtype="float32")],
    "logits": lambda: [layers.Dense(4)],
    "logits in float32": lambda: [layers.Dense(4), layers.Activation("linear", dtype="float32")],
    "log-probabilities": lambda: [layers.Dense(4), layers.Activation("log_softmax")],
    "nested softmax": lambda: [layers.Dense(8), inner("softmax")],
    "nested twice": lambda: [layers.Dense(8), sequential(inner("softmax"), shape=(8,))],
    "nested logits": lambda: [layers.Dense(8), inner(None)],
    "custom layer, declared": lambda: [Doubled(), layers.Dense(4), Doubled(), layers.Softmax()],
    "einsum": lambda: [layers.EinsumDense("ab,bc->ac", output_shape=4, activation="softmax")],
}
# Each kind of layer that `calibrate` puts in their place, and of `Dense` inside: these are saved and loaded, too.
SAVED = {
    "dense softmax without bias",
    "dense with the operation",
    "dense with a softmax layer inside",
    "logits",
    "nested twice",
    "einsum",
    "time-distributed dense",
}
SEQUENCE_ENDINGS = {
    "dense": lambda: [layers.Dense(4, activation="softmax")],
    "time-distributed dense": lambda: [layers.TimeDistributed(layers.Dense(4, activation="softmax"))],
    "time-distributed activation": lambda: [layers.Dense(4), layers.TimeDistributed(layers.Activation("softmax"))],
    "time-distributed model": lambda: [layers.Dense(8), layers.TimeDistributed(inner("softmax"))],
    "time-distributed logits": lambda: [layers.TimeDistributed(layers.Dense(4))],
    "convolution": lambda: [layers.Conv1D(4, 1, activation="softmax")],
}


@keras.saving.register_keras_serializable(package="keras_ls_tests")
class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def temperature_of(model):
    return float(model.layers[-1].temperature)


def assert_calibrates(model, x, labels, folder=None, rtol=1e-5, finds_logits=True):
    """Checks `calibrate` against temperature scaling of log p, and that it leaves `model` alone; returns its model.

    With a folder, the model is saved there, and loaded. Unless it finds logits, the model takes log p itself.
    """
    outputs = model.predict(x, verbose=0)
    weights = [np.array(weight) for weight in model.get_weights()]
    flags = [layer.trainable for layer in model._flatten_layers()]
    calibrated = calibrate(model, x, labels)
    assert any(isinstance(layer, LogProbabilities) for layer in calibrated._flatten_layers()) != finds_logits
    logits = outputs if outputs.min() < 0 or outputs.max() > 1 else np.log(outputs.astype("float64"))
    expected = float(TemperatureScaling().fit(logits, labels).temperature)
    assert expected not in (1.0, 100.0)
    assert temperature_of(calibrated) == pytest.approx(expected, rel=rtol * 10)
    given = calibrated.predict(x, verbose=0)
    assert given.dtype == "float32"
    np.testing.assert_allclose(given, reference.softmax(logits / expected), rtol=rtol * 10, atol=rtol)
    np.testing.assert_array_equal(model.predict(x, verbose=0), outputs)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert [layer.trainable for layer in model._flatten_layers()] == flags
    if folder is not None:
        calibrated.save(folder / "model.keras")
        loaded = keras.models.load_model(folder / "model.keras")
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), given)
    return calibrated


class TestCalibrate:
    @pytest.fixture
    def data(self, rng):
        x = rng.normal(size=(120, 5)).astype("float32")
        return x, (x[:, :4] * 3 + rng.normal(size=(120, 4)) * 6).argmax(axis=-1)

    def model(self, *ending, width=5):
        return sequential(layers.Dense(width, kernel_initializer="identity"), *ending)

    @staticmethod
    def follow_the_labels(model):
        """Turns every kernel into the identity, so that logits are the first inputs and T is inside its bounds."""
        for weight in model.weights:
            if weight.name == "kernel":
                rows, columns = weight.shape[-2:]
                weight.assign(np.broadcast_to(np.eye(rows, columns), weight.shape))
        return model

    @pytest.mark.parametrize("name", ENDINGS)
    def test_finds_the_logits(self, data, tmp_path, name):
        model = self.follow_the_labels(self.model(*ENDINGS[name]()))
        folder = tmp_path if name in SAVED else None
        calibrated = assert_calibrates(model, *data, folder, finds_logits=name != "einsum")
        np.testing.assert_array_equal(
            calibrated.predict(data[0], verbose=0).argmax(-1), model.predict(data[0], verbose=0).argmax(-1)
        )

    @pytest.mark.parametrize("name", SEQUENCE_ENDINGS)
    def test_finds_the_logits_of_every_time_step(self, data, tmp_path, name):
        model = sequential(layers.Dense(5), *SEQUENCE_ENDINGS[name](), shape=(6, 5))
        x, labels = data[0].reshape(20, 6, 5), data[1].reshape(20, 6)
        folder, finds_logits = tmp_path if name in SAVED else None, name != "convolution"
        assert_calibrates(self.follow_the_labels(model), x, labels, folder, finds_logits=finds_logits)

    @pytest.mark.parametrize("from_logits", [None, False])
    def test_probabilities_that_underflow_are_scaled_by_their_logits(self, rng, from_logits):
        logits = 120 * rng.normal(size=(200, 3)).astype("float32")
        labels = (logits / 40 + rng.gumbel(size=logits.shape)).argmax(-1)
        model = sequential(layers.Dense(3, "softmax", kernel_initializer="identity"), shape=(3,))
        expected = float(TemperatureScaling().fit(logits, labels).temperature)
        found = calibrate(model, logits, labels, from_logits=from_logits)
        assert temperature_of(found) == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    @pytest.mark.parametrize("last", [None, "float32"])
    def test_mixed_precision(self, data, tmp_path, policy, last):
        keras.config.set_dtype_policy(policy)
        try:
            model = self.model(layers.Dense(4, activation="softmax", dtype=last))
            rtol = 1e-5 if last else 1e-2
            assert_calibrates(self.follow_the_labels(model), *data, tmp_path, rtol)
        finally:
            keras.config.set_dtype_policy("float32")

    def test_functional_models(self, data, tmp_path):
        inputs = keras.Input((5,))
        model = keras.Model(inputs, ops.softmax(layers.Dense(4)(inputs)))
        assert_calibrates(self.follow_the_labels(model), *data, tmp_path)

    def test_layers_shared_with_another_model(self, data, tmp_path):
        head = layers.Dense(4, activation="softmax")
        sequential(layers.Dense(3), layers.Dense(5), head)  # the head's first call is not the model's
        assert_calibrates(self.follow_the_labels(self.model(head)), *data, tmp_path)

    @pytest.mark.parametrize("kind", [dict, list])
    def test_several_inputs(self, data, kind):
        x, labels = data
        inputs = {"b": keras.Input((3,), name="b"), "a": keras.Input((2,), name="a")}
        arrays = {"b": x[:, 2:], "a": x[:, :2]}
        joined = layers.Concatenate()([inputs["a"], inputs["b"]])
        if kind is list:
            inputs, arrays = list(inputs.values()), list(arrays.values())
        model = self.follow_the_labels(keras.Model(inputs, layers.Dense(4, activation="softmax")(joined)))
        calibrated = calibrate(model, arrays, labels)
        expected = TemperatureScaling().fit(x[:, :4], labels)
        assert temperature_of(calibrated) == pytest.approx(float(expected.temperature), rel=1e-4)
        assert calibrated.predict(arrays, verbose=0).shape == (120, 4)

    def test_frozen_layers_stay_frozen_and_shared(self, data):
        x, labels = data
        model = self.follow_the_labels(self.model(layers.Dense(4, activation="softmax")))
        model.layers[0].trainable = False
        calibrated = calibrate(model, x, labels)
        assert [layer.trainable for layer in model.layers] == [False, True]
        before = calibrated.predict(x, verbose=0)
        model.layers[-1].kernel.assign(2 * model.layers[-1].kernel)
        after = calibrated.predict(x, verbose=0)
        np.testing.assert_allclose(after, before**2 / (before**2).sum(-1, keepdims=True), rtol=1e-4)

    def test_a_masked_softmax(self, data):
        inputs, mask = keras.Input((5,)), keras.Input((4,), dtype="bool")
        model = keras.Model([inputs, mask], layers.Softmax()(layers.Dense(4)(inputs), mask=mask))
        self.follow_the_labels(model)
        x, labels = data
        allowed = np.ones((120, 4), bool)
        allowed[np.arange(120), (labels + 1) % 4] = False
        calibrated = calibrate(model, [x, allowed], labels)
        expected = TemperatureScaling().fit(np.where(allowed, x[:, :4], -np.inf), labels)
        assert temperature_of(calibrated) == pytest.approx(float(expected.temperature), rel=1e-3)
        assert calibrated.predict([x, allowed], verbose=0)[~allowed].max() < 1e-6

    def test_a_softmax_of_some_classes_only(self, data):
        inputs, allowed = keras.Input((5,)), np.array([True, True, True, False])
        model = keras.Model(inputs, layers.Softmax()(layers.Dense(4)(inputs), mask=allowed))
        self.follow_the_labels(model)
        x, labels = data
        calibrated = calibrate(model, x, np.minimum(labels, 2))
        expected = TemperatureScaling().fit(np.where(allowed, x[:, :4], -np.inf), np.minimum(labels, 2))
        assert temperature_of(calibrated) == pytest.approx(float(expected.temperature), rel=1e-3)
        assert calibrated.predict(x, verbose=0)[:, 3].max() < 1e-6

    @pytest.mark.parametrize("kind", ["softmax", "dense"])
    def test_a_last_layer_with_a_call_of_its_own_is_not_passed_over(self, data, kind):
        class Halved(layers.Softmax):
            def call(self, inputs, mask=None):
                return super().call(inputs / 2.0, mask)

        class OwnDense(layers.Dense):
            def call(self, inputs, training=None):
                return ops.softmax(super().call(inputs))

        last = [layers.Dense(4), Halved()] if kind == "softmax" else [OwnDense(4)]
        model = self.follow_the_labels(keras.Sequential([keras.Input((5,)), *last]))
        with pytest.raises(ValueError, match="has a `call` of its own"):
            calibrate(model, *data)
        with pytest.raises(ValueError, match=r"or keras\.layers\.Lambda\(keras\.ops\.log\) before that Softmax"):
            keras_ls.logit_mutual_information(model, *data, (0, 1), augment=lambda x: x)
        expected = TemperatureScaling().fit(np.log(model.predict(data[0], verbose=0)), data[1])
        calibrated = calibrate(model, *data, from_logits=False)
        assert temperature_of(calibrated) == pytest.approx(float(expected.temperature), rel=1e-3)

    def test_a_model_that_has_to_run_eagerly(self, data):
        class Reading(layers.Layer):
            def call(self, inputs):
                return inputs * float(ops.convert_to_numpy(inputs).max() > -1e9)

            def compute_output_shape(self, input_shape):
                return input_shape

        model = self.follow_the_labels(keras.Sequential([keras.Input((5,)), Reading(), layers.Dense(4)]))
        model.compile("sgd", "mse", run_eagerly=True)
        expected = TemperatureScaling().fit(model.predict(data[0], verbose=0), data[1])
        assert temperature_of(calibrate(model, *data)) == pytest.approx(float(expected.temperature), rel=1e-4)
        classes = tuple(np.unique(data[1])[:2].tolist())
        found = keras_ls.logit_mutual_information(model, *data, classes, augment=lambda x: x + np.random.random())
        assert np.isfinite(found)

    def test_a_mask_of_positions_with_a_trailing_dimension(self, rng):
        class Column(layers.Embedding):
            def compute_mask(self, inputs, mask=None):
                return ops.expand_dims(ops.not_equal(inputs, 0), -1)

        tokens, found = rng.integers(0, 5, (30, 6)), []
        labels = np.where(tokens == 0, -1, rng.integers(0, 4, (30, 6)))
        weight = rng.uniform(0.5, 2.0, (30, 1))
        for make in (layers.Embedding, Column):
            keras.utils.set_random_seed(0)
            last = layers.Dense(4, kernel_initializer=keras.initializers.RandomNormal(stddev=9.0))
            model = keras.Sequential([keras.Input((6,), dtype="int32"), make(5, 3, mask_zero=True), last])
            for given in (weight, np.broadcast_to(weight, (30, 6))):
                found.append(temperature_of(calibrate(model, tokens, labels, sample_weight=given)))
        np.testing.assert_allclose(found, found[0], rtol=1e-5)

    def test_a_quantized_model(self, data):
        model = self.follow_the_labels(self.model(layers.Dense(4, activation="softmax")))
        model.quantize("int8")
        probs = model.predict(data[0], verbose=0)
        expected = float(TemperatureScaling().fit(np.log(probs), data[1]).temperature)
        assert temperature_of(calibrate(model, *data)) == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("mode", ["int8", slow("int4")])
    def test_a_model_that_is_quantized_afterwards(self, data, mode, tmp_path):
        x, labels = data
        model = self.follow_the_labels(self.model(layers.Dense(4, activation="softmax")))
        calibrated = calibrate(model, x, labels)
        before = calibrated.predict(x, verbose=0)
        calibrated.quantize(mode)  # its layers are those of the model
        expected = reference.softmax(np.log(model.predict(x, verbose=0)) / temperature_of(calibrated))
        found = calibrated.predict(x, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(found - before).max() < (0.05 if mode == "int8" else 0.5)
        assert model.layers[-1].activation is keras.activations.softmax
        calibrated.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded.predict(x, verbose=0), found, atol=1e-5)

    def test_a_model_whose_name_has_a_dot(self, data):
        inputs = keras.Input((5,))
        model = keras.Model(inputs, layers.Dense(4)(inputs), name="mobilenet_0.35_32")
        assert calibrate(model, *data).predict(data[0], verbose=0).shape == (len(data[0]), 4)

    def test_calibrating_again(self, data, tmp_path):
        x, labels = data
        model = self.follow_the_labels(self.model(layers.Dense(4, activation="softmax")))
        calibrate(model, x[:20], labels[:20]).save(tmp_path / "model.keras")
        again = calibrate(keras.models.load_model(tmp_path / "model.keras"), x, labels)
        expected = calibrate(model, x, labels).predict(x, verbose=0)
        np.testing.assert_allclose(again.predict(x, verbose=0), expected, rtol=1e-4)

    @pytest.mark.parametrize(
        ("ending", "message"),
        [
            (lambda: [layers.Dense(4, activation="gelu", name="last")], "'last' .* activation 'gelu'"),
            (lambda: [layers.Dense(4, activation="tanh")], "activation 'tanh'"),
            (lambda: [layers.Dense(4), layers.Activation("relu")], "activation 'relu'"),
            (lambda: [layers.Dense(4), layers.ReLU()], "ReLU"),
            (lambda: [layers.Dense(4), Doubled()], "Doubled"),
            (lambda: [layers.Reshape((5, 1)), layers.Softmax(axis=1)], "softmax over the last axis"),
            (lambda: [inner_of_custom()], "Doubled"),
            (lambda: [Subclassed()], "Subclassed"),
        ],
    )
    def test_refuses_what_it_cannot_tell(self, data, ending, message):
        with pytest.raises(ValueError, match=message) as error:
            calibrate(self.model(*ending()), *data)
        assert "keras.layers.Softmax()" in str(error.value)

    def test_refuses_models_that_cannot_be_read(self, data):
        subclassed = Subclassed()
        subclassed.predict(data[0], verbose=0)
        for model in (subclassed, keras.Sequential([layers.Dense(4)])):
            with pytest.raises(ValueError, match="not functional, not built yet"):
                calibrate(model, *data)
        with pytest.raises(ValueError, match=r"`model` must be a Keras model\. Received: 'model'"):
            calibrate("model", *data)
        inputs = keras.Input((5,))
        with pytest.raises(ValueError, match="one output"):
            calibrate(keras.Model(inputs, [layers.Dense(4)(inputs), layers.Dense(4)(inputs)]), *data)

    def test_the_remedy_of_the_message_works(self, data):
        model = Subclassed()
        model(data[0])
        self.follow_the_labels(model)
        logits = model.predict(data[0], verbose=0)
        calibrated = calibrate(keras.Sequential([keras.Input((5,)), model, layers.Softmax()]), *data)
        expected = TemperatureScaling().fit(logits, data[1])
        assert temperature_of(calibrated) == pytest.approx(float(expected.temperature), rel=1e-4)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x, y: (x[:0], y[:0]), "must hold examples"),
            (lambda x, y: (x, y[:-1]), "same length"),
            (lambda x, y: (x, y + 1), r"`y` must hold integers in \[0, 4\)"),
            (lambda x, y: (x, np.eye(3)[y % 3]), "`y` must hold one class id"),
            (lambda x, y: (x, None), "`y` must be given"),
            (lambda x, y: ([x], None), "`y` must be given"),
            (lambda x, y: (((x, y) for _ in range(2)), None), "read only once"),
            (lambda x, y: (Batches(x, y, 50), y), "`x` must be an array"),
            (lambda x, y: (3, None), "can be read repeatedly"),
            (lambda x, y: (Batches(x[:0], y[:0], 50), None), "without batches"),
            (lambda x, y: (Batches(x, y, 50, endless=True), None), "endless"),
            (lambda x, y: (Batches(x, y + 1, 50), None), r"`labels` must hold integers in \[0, 4\)"),
            (lambda x, y: (Batches(x, y, 50, extra=(np.ones(50),)), None), "`sample_weight` must have the leading dim"),
        ],
    )
    def test_refuses_data(self, data, change, message):
        model = self.model(layers.Dense(4))
        with pytest.raises(ValueError, match=message):
            calibrate(model, *change(*data))

    def test_refuses_a_batch_size(self, data):
        with pytest.raises(ValueError, match="`batch_size`"):
            calibrate(self.model(layers.Dense(4)), *data, batch_size=0)

    @pytest.mark.parametrize("kind", ["py_dataset", "tf_data", "data_loader", "list_like"])
    def test_datasets_that_shuffle_keep_labels_with_inputs(self, data, kind):
        x, labels = data
        model = self.follow_the_labels(self.model(layers.Dense(4, activation="softmax")))
        dataset = shuffling(kind, x, labels)
        expected = TemperatureScaling().fit(x[:, :4], labels)
        assert temperature_of(calibrate(model, dataset)) == pytest.approx(float(expected.temperature), rel=1e-4)

    def test_batches_may_differ_in_length(self, data):
        x, labels = data
        model = self.follow_the_labels(sequential(layers.Dense(4, activation="softmax"), shape=(None, 5)))
        batches = Batches(None, None, 1)
        batches.items = [
            (x[:40].reshape(4, 10, 5), labels[:40].reshape(4, 10)),
            (x[40:].reshape(20, 4, 5), labels[40:].reshape(20, 4)),
        ]
        expected = TemperatureScaling().fit(x[:, :4], labels)
        assert temperature_of(calibrate(model, batches)) == pytest.approx(float(expected.temperature), rel=1e-4)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, inputs):
        return self.dense(inputs)


def inner_of_custom():
    return sequential(layers.Dense(4), Doubled(), shape=(5,))


class Batches(keras.utils.PyDataset):
    """(x, y) in batches; with `rng`, in another order each time."""

    def __init__(self, x, y, size, rng=None, endless=False, extra=()):
        super().__init__()
        self.rng, self.endless = rng, endless
        self.items = [] if x is None else [(x[i : i + size], y[i : i + size], *extra) for i in range(0, len(x), size)]

    @property
    def num_batches(self):
        return None if self.endless else len(self.items)

    def __getitem__(self, index):
        batch = self.items[index]
        if self.rng is None:
            return batch
        order = self.rng.permutation(len(batch[0]))
        return tuple(part[order] for part in batch)


def shuffling(kind, x, labels):
    if kind == "py_dataset":
        return Batches(x, labels, 32, np.random.default_rng(0))
    if kind == "list_like":

        class Iterable:
            def __iter__(self):
                order = np.random.permutation(len(x))
                return iter([(x[order[:70]], labels[order[:70]]), (x[order[70:]], labels[order[70:]])])

        return Iterable()
    if kind == "tf_data":
        tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
        return tf.data.Dataset.from_tensor_slices((x, labels)).shuffle(200).batch(32)
    data = pytest.importorskip("torch.utils.data", reason="torch is not installed")
    import torch

    return data.DataLoader(data.TensorDataset(torch.tensor(x), torch.tensor(labels)), batch_size=32, shuffle=True)


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.7])
def test_bins_of_equal_mass_are_the_same_with_equal_weights(weight):
    rng = np.random.default_rng(3)
    for _ in range(50):
        size, num_bins = rng.integers(5, 40), rng.integers(2, 9)
        p, y = rng.dirichlet(np.ones(3), size), rng.integers(0, 3, size)
        plain, weighted = (
            calibration_error(y, p, num_bins, binning="quantile", sample_weight=given)
            for given in (None, np.full(size, weight))
        )
        assert weighted == pytest.approx(plain, abs=1e-12)
