"""Calibration of models with masks, ignored labels, weights, one sigmoid unit and several outputs."""

from functools import partial

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, numpy, slow
from keras import layers, ops

import keras_ls
from keras_ls import calibrate, calibration_error, reliability_curve
from keras_ls.metrics import ExpectedCalibrationError, NegativeLogLikelihood

EXACT = {"rtol": 0, "atol": 1e-6}


def compiled_model(model, loss="sparse_categorical_crossentropy", from_logits=False, ignore_class=None, **metrics):
    options = {"from_logits": from_logits, "ignore_class": ignore_class}
    ece, nll = ExpectedCalibrationError(**options), NegativeLogLikelihood(**options)
    model.compile(keras.optimizers.SGD(0.0), loss, **{metrics.get("weighted", "metrics"): [ece, nll]})
    return model


def tagger(rng, activation="softmax", nested=False):
    """A classifier of tokens that masks token 0, confident and often wrong; its inputs and labels, 0 on padding."""
    x = rng.integers(1, 9, (40, 7))
    x[np.arange(7) >= rng.integers(2, 8, 40)[:, None]] = 0
    model = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(9, 9, mask_zero=True),
            layers.Dense(3, activation=activation),
        ]
    )
    embedding, dense = model.layers
    embedding.set_weights([np.eye(9)])
    dense.set_weights([rng.normal(size=(9, 3)) * 3, np.zeros(3)])
    labels = np.where(rng.random(x.shape) < 0.6, logits_of(dense, x).argmax(-1), rng.integers(0, 3, x.shape))
    labels[x == 0] = 0
    if nested:
        inputs = keras.Input((7,), dtype="int32")
        model = keras.Model(inputs, model(inputs))
    return model, x, labels, logits_of(dense, x)


def logits_of(dense, x):
    return numpy(dense.kernel).astype("float64")[x]


def temperature_by_search(logits, labels, weights=None):
    """The minimum of NLL over a fine grid of log T, refined twice."""
    low, high = np.log(0.01), np.log(100.0)
    for _ in range(4):
        grid = np.linspace(low, high, 201)
        values = [reference.nll_of_logits(labels, logits / np.exp(g), weights) for g in grid]
        best = int(np.argmin(values))
        low, high = grid[max(0, best - 1)], grid[min(200, best + 1)]
    return np.exp((low + high) / 2)


def first_epoch(model, data, *callbacks):
    history = model.fit(*data, epochs=1, batch_size=16, verbose=0, callbacks=list(callbacks)).history
    return {name: values[0] for name, values in history.items()}


@pytest.mark.parametrize(("dtype", "units"), [("float16", 1), ("bfloat16", 3)])
@pytest.mark.skipif(BACKEND == "jax", reason="XLA does not round half precision in between, and so evaluates others")
def test_callback_equals_evaluate_in_half_precision(rng, dtype, units):
    head = layers.Dense(units, activation="softmax" if units > 1 else "sigmoid", dtype=dtype)
    model = keras.Sequential([keras.Input((4,)), head])
    head.set_weights([rng.normal(size=(4, units)), np.zeros(units)])
    x, y = rng.normal(size=(500, 4)), rng.integers(0, max(2, units), 500)
    loss = "sparse_categorical_crossentropy" if units > 1 else "binary_crossentropy"
    logs = first_epoch(compiled_model(model, loss), (x, y), keras_ls.Calibration(x, y))
    found = model.evaluate(x, y, batch_size=500, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["val_ece"], found["ece"], **EXACT)
    np.testing.assert_allclose(logs["val_nll"], found["nll"], **EXACT)


def mostly(ids, num_classes, rng):
    """Labels that are these ids but for three in ten, so that the best temperature is no bound."""
    return np.where(rng.random(len(ids)) < 0.3, rng.integers(0, num_classes, len(ids)), ids).astype(int)


class TestMasks:
    def test_a_calibrated_model_keeps_the_mask(self, rng):
        model, x, labels, _ = tagger(rng)
        given = np.where(x == 0, -1, labels)  # an error if padding counts
        again = calibrate(calibrate(model, x, given), x, given)
        assert float(again.layers[-1].temperature) == pytest.approx(1.0, abs=1e-3)

    @pytest.mark.parametrize(("nested", "padding"), [(False, -1), (True, 0)])
    def test_callback_equals_evaluate(self, rng, nested, padding):
        model, x, labels, logits = tagger(rng, nested=nested)
        compiled_model(model)
        given = np.where(x == 0, padding, labels)
        logs = first_epoch(model, (x, labels), keras_ls.Calibration(x, given))
        found = model.evaluate(x, labels, batch_size=16, verbose=0, return_dict=True)
        counts = x.ravel() != 0
        probs = reference.softmax(logits).reshape(-1, 3)[counts]
        wanted = reference.expected_calibration_error(labels.ravel()[counts], probs)
        np.testing.assert_allclose(logs["val_ece"], wanted, **EXACT)
        np.testing.assert_allclose(logs["val_ece"], found["ece"], **EXACT)
        np.testing.assert_allclose(logs["val_nll"], found["nll"], **EXACT)
        temperature = temperature_by_search(logits.reshape(-1, 3)[counts], labels.ravel()[counts])
        np.testing.assert_allclose(logs["val_temperature"], temperature, rtol=1e-3)

    @pytest.mark.parametrize(("padding", "activation"), [(0, "softmax"), (-1, None)])
    def test_calibrate_fits_the_steps_that_count(self, rng, padding, activation):
        model, x, labels, logits = tagger(rng, activation)
        calibrated = calibrate(model, x, np.where(x == 0, padding, labels))
        counts = x.ravel() != 0
        temperature = temperature_by_search(logits.reshape(-1, 3)[counts], labels.ravel()[counts])
        assert float(calibrated.layers[-1].temperature) == pytest.approx(temperature, rel=1e-3)
        np.testing.assert_allclose(
            calibrated.predict(x, verbose=0), reference.softmax(logits / temperature), atol=1e-3, rtol=0
        )

    def test_labels_that_count_are_checked_when_training_begins(self, rng):
        model, x, labels, _ = tagger(rng)
        compiled_model(model)
        wrong = labels.copy()
        wrong[-1, 0] = 3
        with pytest.raises(ValueError, match=r"`y` must hold integers in \[0, 3\). Received: \[3.0\]"):
            first_epoch(model, (x, labels), keras_ls.Calibration(x, wrong))

    def test_nothing_counts(self, rng):
        model, x, labels, _ = tagger(rng)
        with pytest.raises(ValueError, match="at least one prediction that counts"):
            calibrate(model, np.zeros_like(x), labels)


class TestIgnoredAndWeighted:
    def test_ignored_labels_equal_the_rest(self, rng):
        labels, logits = rng.integers(0, 4, 200), rng.normal(size=(200, 4)) * 3
        probs = reference.softmax(logits)
        keep = rng.random(200) < 0.7
        given = np.where(keep, labels, 255)
        for binning in ("uniform", "quantile"):
            found = calibration_error(given, probs, binning=binning, ignore_class=255)
            assert found == calibration_error(labels[keep], probs[keep], binning=binning)
        curve, wanted = reliability_curve(given, probs, ignore_class=255), reliability_curve(labels[keep], probs[keep])
        np.testing.assert_array_equal(curve.count, wanted.count)
        found = keras_ls.TemperatureScaling().fit(logits, given, ignore_class=255)
        fitted = keras_ls.TemperatureScaling().fit(logits[keep], labels[keep])
        np.testing.assert_allclose(numpy(found.temperature), numpy(fitted.temperature), rtol=1e-7)

    def test_ignored_one_hot_labels_equal_the_rest(self, rng):
        labels, probs = rng.integers(0, 4, 200), reference.softmax(rng.normal(size=(200, 4)) * 3)
        keep = labels != 2
        found = calibration_error(np.eye(4)[labels], probs, ignore_class=2)
        assert found == calibration_error(labels[keep], probs[keep])

    @pytest.mark.parametrize("num_bins", [1, 3, 15])
    @pytest.mark.parametrize("binning", ["uniform", "quantile"])
    def test_a_weight_is_the_row_so_many_times(self, rng, binning, num_bins):
        labels, probs = rng.integers(0, 4, 120), reference.softmax(rng.normal(size=(120, 4)) * 2)
        weights = rng.integers(0, 4, 120)
        for options in ({}, {"norm": "l2"}, {"norm": "max"}, {"norm": "l2", "debiased": True}):
            options = {"num_bins": num_bins, "binning": binning, **options}
            found = calibration_error(labels, probs, sample_weight=weights, **options)
            wanted = calibration_error(labels.repeat(weights), probs.repeat(weights, axis=0), **options)
            assert found == pytest.approx(wanted, rel=1e-9)

    def test_weights_that_are_no_whole_numbers(self, rng):
        labels, probs = rng.integers(0, 4, 120), reference.softmax(rng.normal(size=(120, 4)) * 2)
        weights = rng.random(120)
        found = calibration_error(labels, probs, binning="quantile", sample_weight=weights)
        assert found == pytest.approx(calibration_error(labels, probs, binning="quantile", sample_weight=weights / 1e3))
        confidence = probs.max(axis=1)
        # The weighted quantile of q is the least confidence at or below which at least q of the weight lies.
        reached = {c: weights[confidence <= c].sum() / weights.sum() for c in confidence}
        edges = [min(c for c in confidence if reached[c] >= b / 15) for b in range(1, 15)]
        bins = [int(np.sum(c > np.array(edges))) for c in confidence]
        sums = np.zeros((15, 3))
        for b, c, hit, w in zip(bins, confidence, probs.argmax(1) == labels, weights, strict=True):
            sums[b] += w, w * c, w * hit
        assert found == pytest.approx(reference.error_of_bins(sums), rel=1e-9)

    def test_a_temperature_of_weights(self, rng):
        labels, logits, weights = rng.integers(0, 4, 90), rng.normal(size=(90, 4)) * 3, rng.integers(0, 3, 90)
        logits[weights == 0] = np.nan  # what does not count may hold anything
        labels[weights == 0] = -5
        fitted = keras_ls.TemperatureScaling().fit(logits, labels, sample_weight=weights)
        repeated = keras_ls.TemperatureScaling().fit(logits.repeat(weights, axis=0), labels.repeat(weights))
        np.testing.assert_allclose(numpy(fitted.temperature), numpy(repeated.temperature), rtol=1e-6)

    def test_debiased_error_by_loops(self, rng):
        labels, probs = rng.integers(0, 3, 60), reference.softmax(rng.normal(size=(60, 3)))
        total, hits = 0.0, (probs.argmax(1) == labels).astype(float)
        confidence = probs.max(1)
        bins = np.array([reference.bin_of(c, 15) for c in confidence])
        for b in range(15):
            difference = (hits - confidence)[bins == b]
            if len(difference) >= 2:
                bias = difference.var(ddof=1) / len(difference)
                total += len(difference) / 60 * (difference.mean() ** 2 - bias)
        wanted = np.sign(total) * np.sqrt(abs(total))
        assert calibration_error(labels, probs, norm="l2", debiased=True) == pytest.approx(wanted, rel=1e-9)
        with pytest.raises(ValueError, match="`debiased=True` needs norm='l2'"):
            calibration_error(labels, probs, debiased=True)

    def test_bins_of_one_prediction_are_left_out_of_the_debiased_error_but_not_of_the_total(self):
        confidence, hits = np.array([0.95, 0.95, 0.95, 0.55]), np.array([1.0, 1.0, 0.0, 0.0])
        probs, gap = np.stack([confidence, 1 - confidence], -1), (hits - confidence)[:3]
        total = 3 / 4 * (gap.mean() ** 2 - gap.var(ddof=1) / 3)
        found = calibration_error((hits == 0).astype(int), probs, num_bins=10, norm="l2", debiased=True)
        assert found == pytest.approx(np.sign(total) * np.sqrt(abs(total)), rel=1e-9)

    def test_the_debiased_error_does_not_depend_on_what_weights_sum_to(self, rng):
        labels, probs = rng.integers(0, 3, 60), reference.softmax(rng.normal(size=(60, 3)))

        def error(weight):
            return calibration_error(labels, probs, norm="l2", debiased=True, sample_weight=weight)

        for equal in (1 / 60, 0.01, 0.7, 1.0):
            assert error(np.full(60, equal)) == pytest.approx(error(None), rel=1e-9)
        weight = rng.exponential(size=60)
        assert error(weight / weight.sum()) == pytest.approx(error(weight), rel=1e-9)

    def test_debiased_error_of_calibrated_predictions_is_near_zero(self, rng):
        found, plain = [], []
        for _ in range(100):
            probs = rng.dirichlet(np.ones(2) * 2, 300)
            labels = (rng.random(300) < probs[:, 1]).astype(int)
            found.append(calibration_error(labels, probs, norm="l2", debiased=True))
            plain.append(calibration_error(labels, probs, norm="l2"))
        assert abs(np.mean(np.sign(found) * np.square(found))) < 5e-4 < np.mean(np.square(plain))

    @pytest.mark.parametrize("kind", ["arrays", "dataset"])
    def test_callback_equals_weighted_metrics(self, rng, kind):
        model, x, labels, logits = tagger(rng)
        # On PyTorch, Keras's own loss changes the weights of masked batches that weighted metrics see after it.
        loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1)
        compiled_model(model, loss, weighted="weighted_metrics")
        weights = rng.integers(0, 3, x.shape).astype("float32")
        held_out = [(x[at : at + 9], labels[at : at + 9], weights[at : at + 9]) for at in range(0, 40, 9)]
        data = {"arrays": {"x": x, "y": labels, "sample_weight": weights}, "dataset": {"x": Batches(held_out)}}[kind]
        logs = first_epoch(model, (x, labels), keras_ls.Calibration(**data))
        found = model.evaluate(x, labels, sample_weight=weights, batch_size=16, verbose=0, return_dict=True)
        np.testing.assert_allclose(logs["val_ece"], found["ece"], **EXACT)
        np.testing.assert_allclose(logs["val_nll"], found["nll"], **EXACT)
        counted = np.where(x == 0, 0, weights).ravel()
        temperature = temperature_by_search(logits.reshape(-1, 3), labels.ravel(), counted)
        np.testing.assert_allclose(logs["val_temperature"], temperature, rtol=1e-3)
        assert float(calibrate(model, **data).layers[-1].temperature) == pytest.approx(temperature, rel=1e-3)

    def test_weights_of_examples_spread_over_time_steps(self, rng):
        model, x, labels, _ = tagger(rng)
        weights = rng.integers(0, 3, 40)
        spread = np.broadcast_to(weights[:, None], x.shape)
        found, wanted = (calibrate(model, x, labels, sample_weight=w).layers[-1].temperature for w in (weights, spread))
        assert float(found) == float(wanted)

    @pytest.mark.parametrize("batch_size", [3, slow(32)])
    def test_segmentation_with_ignored_pixels(self, rng, batch_size):
        x = rng.normal(size=(10, 6, 5, 2)).astype("float32")
        model = keras.Sequential([keras.Input((6, 5, 2)), layers.Conv2D(4, 1)])
        model.layers[0].set_weights([rng.normal(size=(1, 1, 2, 4)) * 4, np.zeros(4)])
        logits = model.predict(x, verbose=0)
        labels = np.where(rng.random((10, 6, 5)) < 0.6, logits.argmax(-1), rng.integers(0, 4, (10, 6, 5)))
        labels[rng.random(labels.shape) < 0.3] = 255
        keep = labels.ravel() != 255
        wanted = keras_ls.TemperatureScaling().fit(logits.reshape(-1, 4)[keep], labels.ravel()[keep]).temperature
        calibrated = calibrate(model, x, labels[..., None], batch_size=batch_size, ignore_class=255)
        assert float(calibrated.layers[-1].temperature) == pytest.approx(float(wanted), rel=1e-5)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        compiled_model(model, loss, from_logits=True, ignore_class=255)
        callback = keras_ls.Calibration(x, labels, from_logits=None, ignore_class=255)
        logs = first_epoch(model, (x, labels), callback)
        found = model.evaluate(x, labels, verbose=0, return_dict=True)
        np.testing.assert_allclose(logs["val_ece"], found["ece"], **EXACT)
        np.testing.assert_allclose(logs["val_nll"], found["nll"], **EXACT)

    def test_large_predictions_are_read_in_blocks(self, rng):
        """The peak of what NumPy allocates stays far below a float64 copy of all predictions."""
        import tracemalloc

        rows = rng.normal(size=(8, 256, 128, 40)).astype("float32")
        labels = rng.integers(0, 40, (8, 256, 128))
        labels[:, :64] = 255
        for measure in (
            lambda: calibration_error(labels, rows, from_logits=True, ignore_class=255),
            lambda: keras_ls.TemperatureScaling().fit(rows, labels, ignore_class=255),
        ):
            measure()
            tracemalloc.start()
            measure()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < rows.nbytes

    def test_weights_are_refused_where_they_cannot_be(self, rng):
        _, x, labels, _ = tagger(rng)
        for weights in (-np.ones(40), np.full(40, np.nan), np.ones(39), "equal"):
            with pytest.raises(ValueError, match="`sample_weight` must"):
                keras_ls.Calibration(x, labels, sample_weight=weights)
        with pytest.raises(ValueError, match="`sample_weight` must come with the batches of a dataset"):
            keras_ls.Calibration(Batches([(x, labels)]), sample_weight=np.ones(40))


class Batches:
    """A dataset that starts anew each time."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def binary_case(rng, ending):
    x = rng.normal(size=(150, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), *ending])
    dense = next(layer for layer in model.layers if layer.weights)
    kernel = np.array([[3.0], [-4.0], [2.0], [1.0]]).reshape(dense.kernel.shape)
    dense.set_weights([kernel, np.zeros(1)])
    logits = (x.astype("float64") @ kernel.reshape(4, 1))[:, 0]
    labels = (rng.random(150) < 1 / (1 + np.exp(-logits / 3))).astype("int64")
    return model, x, labels, logits


def two_columns(logits):
    return np.stack([np.zeros_like(logits), logits], axis=-1)


BINARY_ENDINGS = {
    "dense sigmoid": lambda: [layers.Dense(1, activation="sigmoid")],
    "activation": lambda: [layers.Dense(1), layers.Activation("sigmoid")],
    "logit": lambda: [layers.Dense(1)],
    "einsum": lambda: [layers.EinsumDense("ab,bc->ac", 1, bias_axes="c", activation="sigmoid")],
}


class TestBinary:
    def test_functions_take_one_column_or_none(self, rng):
        logits = rng.normal(size=400) * 3
        labels = (rng.random(400) < 1 / (1 + np.exp(-logits / 2))).astype(int)
        probs = 1 / (1 + np.exp(-logits))
        wanted = reference.expected_calibration_error(labels, np.stack([1 - probs, probs], 1))
        for y_true, y_pred in ((labels, probs), (labels, probs[:, None]), (labels[:, None], probs[:, None])):
            assert calibration_error(y_true, y_pred) == pytest.approx(wanted, abs=1e-12)
            assert reliability_curve(y_true, y_pred).ece() == pytest.approx(wanted, abs=1e-12)
        assert calibration_error(labels, logits, from_logits=True) == pytest.approx(wanted, abs=1e-12)
        temperature = temperature_by_search(two_columns(logits), labels)
        for given in (logits, logits[:, None]):
            found = keras_ls.TemperatureScaling().fit(given, labels)
            np.testing.assert_allclose(numpy(found.temperature), temperature, rtol=1e-3)

    def test_one_prediction_of_several_classes_stays_one(self):
        assert calibration_error(1, [0.2, 0.7, 0.1]) == pytest.approx(0.3)
        assert calibration_error([1], [0.2, 0.7, 0.1]) == pytest.approx(0.3)

    def test_temperature_scaling_divides_the_logit(self):
        logits = np.array([[-3.0], [0.0], [200.0]], "float32")
        scaled = keras_ls.TemperatureScaling(2.0)(ops.convert_to_tensor(logits))
        np.testing.assert_allclose(numpy(scaled), 1 / (1 + np.exp(-logits.astype("float64") / 2)), rtol=1e-6)

    @pytest.mark.parametrize("name", ["dense sigmoid", slow("activation"), slow("logit"), "einsum"])
    def test_calibrate(self, rng, name, tmp_path):
        model, x, labels, logits = binary_case(rng, BINARY_ENDINGS[name]())
        calibrated = calibrate(model, x, labels)
        temperature = temperature_by_search(two_columns(logits), labels)
        assert float(calibrated.layers[-1].temperature) == pytest.approx(temperature, rel=2e-3)
        found = calibrated.predict(x, verbose=0)
        assert found.shape == (150, 1)
        np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-logits / temperature)), atol=1e-3)
        calibrated.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded.predict(x, verbose=0), found, rtol=1e-6)
        again = calibrate(loaded, x, labels)
        assert float(again.layers[-1].temperature) == pytest.approx(1.0, abs=1e-2)

    @pytest.mark.parametrize("name", ["dense sigmoid", "logit"])
    def test_callback(self, rng, name, tmp_path):
        model, x, labels, logits = binary_case(rng, BINARY_ENDINGS[name]())
        loss = keras.losses.BinaryCrossentropy(from_logits=name == "logit")
        compiled_model(model, loss, from_logits=name == "logit")
        callback = keras_ls.Calibration(x, labels, from_logits=None, log_dir=tmp_path)
        logs = first_epoch(model, (x, labels), callback)
        found = model.evaluate(x, labels, verbose=0, return_dict=True)
        np.testing.assert_allclose(logs["val_ece"], found["ece"], **EXACT)
        np.testing.assert_allclose(logs["val_nll"], found["nll"], **EXACT)
        wanted = reference.expected_calibration_error(labels, reference.softmax(two_columns(logits)))
        np.testing.assert_allclose(logs["val_ece"], wanted, **EXACT)
        temperature = temperature_by_search(two_columns(logits), labels)
        np.testing.assert_allclose(logs["val_temperature"], temperature, rtol=2e-3)

    @pytest.mark.parametrize("labels", [[0, 2, 1], [[1, 0], [0, 1], [1, 0]]])
    def test_labels_are_zero_and_one(self, labels):
        with pytest.raises(ValueError, match="`y_true` must hold"):
            calibration_error(labels, [[0.1], [0.6], [0.9]])

    def test_softmax_over_one_unit_is_refused(self, rng):
        model, x, labels, _ = binary_case(rng, [layers.Dense(1), layers.Softmax()])
        with pytest.raises(ValueError, match="softmax over one unit, which is the constant 1"):
            calibrate(model, x, labels)


class TestMultiLabel:
    ROWS = np.array([[1, 0, 1], [0, 1, 0]])

    def test_targets(self, rng):
        probs = np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]])
        for measure in (
            lambda: calibration_error(self.ROWS, probs),
            lambda: reliability_curve(self.ROWS, probs),
            lambda: keras_ls.TemperatureScaling().fit(probs, self.ROWS),
        ):
            with pytest.raises(ValueError, match="multi-label"):
                measure()

    @pytest.mark.parametrize("from_logits", [False, None])
    def test_models(self, rng, from_logits):
        x, y = rng.normal(size=(20, 4)).astype("float32"), rng.integers(0, 3, 20)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="sigmoid")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(ValueError, match="multi-label"):
            calibrate(model, x, y)
        with pytest.raises(ValueError, match="multi-label"):
            model.fit(x, y, verbose=0, callbacks=[keras_ls.Calibration(x, y, from_logits=from_logits)])

    def test_what_the_message_advises(self, rng):
        x, y = rng.normal(size=(60, 4)).astype("float32"), rng.integers(0, 2, 60)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="sigmoid")])
        one = keras.Model(model.inputs[0], model.outputs[0][..., 1:2])
        calibrated = calibrate(one, x, y, from_logits=False)
        logits = x @ numpy(model.layers[0].kernel)[:, 1]
        temperature = float(calibrated.layers[-1].temperature)
        np.testing.assert_allclose(
            calibrated.predict(x, verbose=0)[:, 0], 1 / (1 + np.exp(-logits / temperature)), rtol=1e-3
        )


@pytest.mark.parametrize("head", ["dense", "time distributed", "nested", "logarithm"])
def test_layers_may_have_the_names_that_logits_would_get(rng, head):
    x, y = rng.normal(size=(60, 4, 5)).astype("float32"), rng.integers(0, 3, (60, 4))
    inputs = keras.Input((4, 5))
    hidden = inputs
    for name in ("a_logits", "a_logits_1", "a_log", "m_temperature"):
        hidden = layers.Dense(5, name=name)(hidden)
    softmax = layers.Dense(3, activation="softmax", name="a")
    if head == "time distributed":
        softmax = layers.TimeDistributed(softmax, name="a")
    elif head == "nested":
        softmax = keras.Sequential([keras.Input((4, 5)), softmax], name="a")
    elif head == "logarithm":
        softmax = layers.EinsumDense("abc,cd->abd", (4, 3), activation="softmax", name="a")
    model = keras.Model(inputs, softmax(hidden), name="m")
    calibrated = calibrate(model, x, y)
    assert calibrated.layers[-1].name == "m_temperature_1"
    calibrated.layers[-1].temperature.assign(1.0)
    np.testing.assert_allclose(calibrated.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)


class TestSeveralOutputs:
    def case(self, rng, as_dict):
        x = rng.normal(size=(90, 5)).astype("float32")
        inputs = keras.Input((5,))
        kind = layers.Dense(3, activation="softmax", name="kind")(inputs)
        good = layers.Dense(1, activation="sigmoid", name="good")(inputs)
        model = keras.Model(inputs, {"kind": kind, "good": good} if as_dict else [kind, good])
        found = keras.Model(inputs, [kind, good]).predict(x, verbose=0)
        y = {"kind": mostly(found[0].argmax(-1), 3, rng), "good": mostly(found[1][:, 0] > 0.5, 2, rng)}
        losses = {"kind": "sparse_categorical_crossentropy", "good": "binary_crossentropy"}
        metrics = {name: [ExpectedCalibrationError(), NegativeLogLikelihood()] for name in losses}
        order = (lambda d: d) if as_dict else (lambda d: [d["kind"], d["good"]])
        model.compile(keras.optimizers.SGD(0.0), order(losses), metrics=order(metrics))
        return model, x, y, order

    @pytest.mark.parametrize("as_dict", [True, slow(False)])
    @pytest.mark.parametrize("output", [slow("kind"), "good"])
    def test_callback_equals_evaluate(self, rng, as_dict, output):
        model, x, y, order = self.case(rng, as_dict)
        held_out = Batches(
            [(x[at : at + 20], order({k: v[at : at + 20] for k, v in y.items()})) for at in range(0, 90, 20)]
        )
        callbacks = {
            "own labels ": keras_ls.Calibration(x, y[output], output=output, from_logits=None, prefix="own labels "),
            "all labels ": keras_ls.Calibration(x, y, output=output, prefix="all labels "),
            "a dataset ": keras_ls.Calibration(held_out, output=output, prefix="a dataset "),
        }
        logs = first_epoch(model, (x, order(y)), *callbacks.values())
        found = model.evaluate(x, order(y), verbose=0, return_dict=True)
        for prefix in callbacks:
            np.testing.assert_allclose(logs[f"{prefix}ece"], found[f"{output}_ece"], **EXACT)
            np.testing.assert_allclose(logs[f"{prefix}nll"], found[f"{output}_nll"], **EXACT)

    @pytest.mark.parametrize(("as_dict", "output"), [(True, "kind"), (False, "good")])
    def test_of_a_nested_model(self, rng, as_dict, output):
        inner, x, y, _ = self.case(rng, as_dict)
        inputs = keras.Input((5,))
        found = inner(inputs)
        kind, good = (found["kind"], found["good"]) if as_dict else found
        model = keras.Model(inputs, {"kind": layers.Identity()(kind), "good": good})
        temperatures = [calibrate(m, x, y, output=output).layers[-1].temperature for m in (inner, model)]
        assert float(temperatures[0]) == pytest.approx(float(temperatures[1]), rel=1e-6)

    @pytest.mark.parametrize(("as_dict", "output"), [(True, "good"), (False, "kind")])
    def test_calibrate(self, rng, as_dict, output):
        model, x, y, _ = self.case(rng, as_dict)
        calibrated = calibrate(model, x, y, output=output)
        layer = model.get_layer(output)
        alone = keras.Model(model.inputs[0], layer.output)
        wanted = calibrate(alone, x, y[output])
        np.testing.assert_allclose(calibrated.predict(x, verbose=0), wanted.predict(x, verbose=0), rtol=1e-6)

    def test_one_model_of_all_calibrated_outputs(self, rng):
        model, x, y, _ = self.case(rng, True)
        parts = {output: calibrate(model, x, y, output=output) for output in y}
        for outputs in (
            {output: part.output for output, part in parts.items()},
            {output: part(model.input) for output, part in parts.items()},
        ):
            found = keras.Model(model.input, outputs).predict(x, verbose=0)
            for output, part in parts.items():
                np.testing.assert_allclose(found[output], part.predict(x, verbose=0), rtol=1e-6)

    @pytest.mark.parametrize("output", ["kind", "good"])
    def test_datasets_may_give_labels_in_the_order_of_the_outputs(self, rng, output):
        model, x, y, order = self.case(rng, False)
        held_out = Batches([(x, tuple(order(y)))])
        wanted = calibrate(model, x, y, output=output).layers[-1].temperature
        assert float(calibrate(model, held_out, output=output).layers[-1].temperature) == pytest.approx(float(wanted))
        diagnosis = keras_ls.diagnose(model, held_out, output=output, num_resamples=1)
        assert diagnosis.estimates["temperature"].value == pytest.approx(float(wanted), rel=1e-5)

    def test_refuses(self, rng):
        model, x, y, order = self.case(rng, True)
        with pytest.raises(ValueError, match=r"`output` must name one\. Received: output=None, outputs 'good', 'kind'"):
            calibrate(model, x, y["kind"])
        for wrong in ("sort", 1, True, ["kind"]):
            with pytest.raises(ValueError, match="`output` must name one output of `model`"):
                calibrate(model, x, y["kind"], output=wrong)
            with pytest.raises(ValueError, match="`output` must name one output of `model`"):
                calibrate(model, Batches([(x, (y["kind"], y["good"]))]), output=wrong)
        with pytest.raises(ValueError, match="`output` must name one"):
            first_epoch(model, (x, order(y)), keras_ls.Calibration(x, y["kind"]))
        with pytest.raises(ValueError, match="must hold `output`, 'good'"):
            keras_ls.Calibration(x, {"kind": y["kind"]}, output="good")


@keras.saving.register_keras_serializable(package="test_calibration_of_models")
class Subclassed(keras.Model):
    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = activation
        self.dense = layers.Dense(3, activation=activation)

    def call(self, inputs):
        return self.dense(inputs["a"] + inputs["b"])

    def get_config(self):
        return {**super().get_config(), "activation": self.activation}


class SubclassedSequences(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding, self.dense = layers.Embedding(9, 5, mask_zero=True), layers.Dense(4)

    def call(self, inputs):
        return self.dense(self.embedding(inputs))


@keras.saving.register_keras_serializable(package="test_calibration_of_models")
class Doubling(keras.Model):
    """Functional, with a call of its own."""

    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training, mask)


class TestFromLogits:
    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_a_subclassed_model(self, rng, activation, tmp_path):
        x = {"a": rng.normal(size=(80, 4)).astype("float32"), "b": rng.normal(size=(80, 4)).astype("float32") * 4}
        model = Subclassed(activation)
        outputs = model.predict(x, verbose=0)
        labels = np.where(rng.random(80) < 0.6, outputs.argmax(-1), rng.integers(0, 3, 80))
        with pytest.raises(ValueError, match="from_logits=True if that is an argument"):
            calibrate(model, x, labels)
        calibrated = calibrate(model, x, labels, from_logits=activation is None)
        logits = outputs if activation is None else np.log(outputs)
        wanted = float(keras_ls.TemperatureScaling().fit(logits, labels).temperature)
        assert float(calibrated.layers[-1].temperature) == pytest.approx(wanted, rel=1e-3)
        found = calibrated.predict(x, verbose=0)
        np.testing.assert_allclose(found, reference.softmax(logits.astype("float64") / wanted), atol=1e-4)
        calibrated.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded.predict(x, verbose=0), found, rtol=1e-5)

    def test_a_call_of_its_own_is_not_passed_over(self, rng):
        x, labels = rng.normal(size=(80, 4)).astype("float32"), rng.integers(0, 3, 80)
        inputs = keras.Input((4,))
        model = Doubling(inputs, layers.Dense(3)(inputs))
        with pytest.raises(ValueError, match="`call` of its own"):
            calibrate(model, x, labels)
        with pytest.raises(ValueError, match="`call` of its own"):
            calibrate(keras_ls.Distiller(None, model, student_from_logits=True), x, labels)
        model._inner = keras.Model(inputs, model.output)  # which is no business of ours
        with pytest.raises(ValueError, match="`call` of its own"):
            calibrate(model, x, labels)
        del model._inner
        calibrated = calibrate(model, x, labels, from_logits=True)
        temperature = float(calibrated.layers[-1].temperature)
        wanted = reference.softmax(model.predict(x, verbose=0).astype("float64") / temperature)
        np.testing.assert_allclose(calibrated.predict(x, verbose=0), wanted, atol=1e-5)

    def test_says_otherwise_than_the_layers(self, rng):
        """A linear last layer whose outputs the user takes for probabilities."""
        x = reference.softmax(rng.normal(size=(80, 3))).astype("float32")
        model = keras.Sequential([keras.Input((3,)), layers.Dense(3, use_bias=False)])
        model.layers[0].set_weights([np.eye(3)])
        labels = rng.integers(0, 3, 80)
        found = calibrate(model, x, labels, from_logits=False).layers[-1].temperature
        wanted = keras_ls.TemperatureScaling().fit(np.log(x), labels).temperature
        assert float(found) == pytest.approx(float(wanted), rel=1e-3)

    @pytest.mark.parametrize(("units", "activation"), [(1, "sigmoid"), (3, "softmax")])
    def test_probabilities_are_not_taken_for_logits(self, rng, units, activation):
        x, labels = rng.normal(size=(80, 4)).astype("float32"), rng.integers(0, 2, 80)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(units, activation)])
        for measure in (calibrate, keras_ls.diagnose):
            with pytest.raises(ValueError, match="`from_logits` must be False for a model whose last layer gives prob"):
                measure(model, x, labels, from_logits=True)

    @pytest.mark.parametrize("units", [1, 3])
    def test_logits_are_not_taken_for_probabilities(self, rng, units):
        x, labels = rng.normal(size=(80, 4)).astype("float32"), rng.integers(0, 2, 80)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(units, kernel_initializer="normal")])
        for measure in (calibrate, keras_ls.diagnose):
            with pytest.raises(ValueError, match=r"`from_logits` must be True .* lie between -"):
                measure(model, x, labels, from_logits=False)
        with pytest.raises(ValueError, match="NaN"):
            calibrate(model, x * np.nan, labels, from_logits=False)

    @pytest.mark.parametrize("is_built", [True, False])
    def test_a_subclassed_model_of_sequences_of_any_length(self, rng, is_built):
        model, batches = SubclassedSequences(), [rng.integers(0, 9, (6, length)).astype("int32") for length in (5, 7)]
        if is_built:
            model(batches[0])

        calibrated = calibrate(model, Batches([(batch, batch % 4) for batch in batches]), from_logits=True)
        mask = np.concatenate([batch.reshape(-1) for batch in batches]) != 0
        logits = np.concatenate([numpy(model(batch)).reshape(-1, 4) for batch in batches])
        labels = np.concatenate([batch.reshape(-1) % 4 for batch in batches])
        wanted = keras_ls.TemperatureScaling().fit(logits, labels, sample_weight=mask)
        assert float(calibrated.layers[-1].temperature) == pytest.approx(float(wanted.temperature), rel=1e-5)
        assert calibrated.predict(batches[1], verbose=0).shape == (6, 7, 4)

    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_none_in_the_callback_reads_the_layers(self, rng, activation):
        x, labels = rng.normal(size=(80, 4)).astype("float32"), rng.integers(0, 3, 80)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation=activation)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
        compiled_model(model, loss, from_logits=activation is None)
        logs = first_epoch(model, (x, labels), keras_ls.Calibration(x, labels, from_logits=None))
        found = model.evaluate(x, labels, verbose=0, return_dict=True)
        np.testing.assert_allclose(logs["val_nll"], found["nll"], **EXACT)

    def test_none_in_the_callback_of_a_model_that_does_not_tell(self, rng):
        x, labels = rng.normal(size=(80, 4)).astype("float32"), rng.integers(0, 3, 80)
        model = Subclassed()
        model.compile("sgd", "sparse_categorical_crossentropy")
        data = ({"a": x, "b": x}, labels)
        with pytest.raises(ValueError, match="`from_logits` must be True or False for a model whose layers"):
            model.fit(*data, verbose=0, callbacks=[keras_ls.Calibration(*data, from_logits=None)])

    @pytest.mark.parametrize("wrong", ["False", np.nan, 1, 0.0])
    def test_is_a_flag(self, rng, wrong):
        x, labels = np.ones((4, 2), "float32"), np.zeros(4, int)
        model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
        for measure in (
            lambda: calibrate(model, x, labels, from_logits=wrong),
            lambda: keras_ls.Calibration(x, labels, from_logits=wrong),
            lambda: reliability_curve(labels, np.ones((4, 3)) / 3, from_logits=wrong),
            lambda: calibration_error(labels, np.ones((4, 3)) / 3, from_logits=wrong),
        ):
            with pytest.raises(ValueError, match="`from_logits` must be True"):
                measure()


class TestArguments:
    @pytest.mark.parametrize("make", [lambda a: a.astype(">f4"), lambda a: a.astype("float64"), lambda a: a.tolist()])
    def test_unusual_arrays_are_taken(self, rng, make):
        labels, probs = np.array([0, 1, 2, 1]), reference.softmax(rng.normal(size=(4, 3))).astype("float32")
        wanted = calibration_error(labels, probs)
        for kind in (">i4", "uint64", "uint8", "float32"):
            assert calibration_error(labels.astype(kind), make(probs)) == pytest.approx(wanted, rel=1e-12)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"prefix": 3}, "`prefix` must be a string"),
            ({"temperature_scaling": "no"}, "`temperature_scaling` must be True or False"),
            ({"num_bins": 2**70}, "`num_bins` must be at most"),
            ({"ignore_class": 0.5}, "`ignore_class` must be an integer"),
            ({"x": range(3)}, "`x` must be an array"),
            ({"x": "abc"}, "`x` must be an array"),
            ({"y": "abc"}, "`y` must be an array of real numbers"),
            ({"y": np.array(["a"] * 8)}, "`y` must be an array of real numbers"),
        ],
    )
    def test_of_the_callback(self, options, message):
        with pytest.raises(ValueError, match=message) as error:
            keras_ls.Calibration(**{"x": np.ones((8, 2)), "y": np.zeros(8, int), **options})
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("dtype", ["uint64", slow("uint16"), ">i4", slow("int64"), slow("float64"), "longdouble"])
    def test_inputs_of_any_dtype_are_taken(self, rng, dtype):
        x, y = rng.integers(0, 9, (40, 2)).astype("int32"), np.arange(40) % 3
        model = keras.Sequential([keras.Input((2,)), layers.Rescaling(0.1), layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        callbacks = [
            keras_ls.Calibration(given, y, from_logits=True, prefix=p)
            for given, p in ((x, "a"), (x.astype(dtype), "b"))
        ]
        history = model.fit(x, np.zeros((40, 3)), callbacks=callbacks, verbose=0).history
        assert history["bnll"] == history["anll"]
        assert float(calibrate(model, x.astype(dtype), y).layers[-1].temperature) == history["btemperature"][0]

    def test_sparse_inputs_are_taken(self, rng):
        sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
        x = rng.normal(size=(40, 2)).astype("float32")
        model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
        y = mostly(model.predict(x, verbose=0).argmax(-1), 3, rng)
        temperatures = [float(calibrate(model, given, y).layers[-1].temperature) for given in (x, sparse.csr_matrix(x))]
        assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-5)

    def test_inputs_that_the_model_cannot_take(self):
        model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
        model.compile("sgd", "mse")
        for x in (np.ones((8, 3)), np.ones(8), np.array(["a"] * 8), np.array([object()] * 8), np.ones((8, 2), complex)):
            with pytest.raises(ValueError, match=r"^`x` must ") as error:
                calibrate(model, x, np.zeros(8, int))
            assert "\n" not in str(error.value)
            with pytest.raises(ValueError, match=r"^`x` must "):
                model.fit(
                    np.ones((8, 2)), np.ones((8, 3)), callbacks=[keras_ls.Calibration(x, np.zeros(8, int))], verbose=0
                )

    def test_a_column_of_weights_beside_one_hot_labels(self, rng):
        x, weights = rng.normal(size=(40, 3)).astype("float32"), rng.random(40)
        y = (x + rng.normal(size=(40, 3))).argmax(-1)
        model = keras.Sequential([keras.Input((3,)), layers.Dense(3, kernel_initializer="identity")])
        found = calibrate(model, x, np.eye(3)[y], sample_weight=weights[:, None]).layers[-1].temperature
        assert float(found) == float(calibrate(model, x, y, sample_weight=weights).layers[-1].temperature)

    def test_a_model_without_a_class_axis_is_refused(self, rng):
        x, y = rng.normal(size=(40, 2)).astype("float32"), np.arange(40) % 2
        model = keras.Sequential([keras.Input((2,)), layers.Dense(1), layers.Reshape(())])
        for from_logits in (True, False):
            with pytest.raises(ValueError, match=r"`model` must give predictions \(N, …, K\)"):
                calibrate(model, x, y, from_logits=from_logits)

    def test_one_weight_for_all(self, rng):
        x, y = rng.normal(size=(40, 2)).astype("float32"), np.arange(40) % 3
        model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
        temperatures = [float(calibrate(model, x, y, sample_weight=w).layers[-1].temperature) for w in (None, 2.0)]
        assert temperatures[0] == temperatures[1]

    def test_weights_without_labels(self):
        model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
        for measure in (partial(calibrate, model), keras_ls.Calibration):
            with pytest.raises(ValueError, match="`y` must be given"):
                measure(np.ones((8, 2)), sample_weight=np.ones(8))

    def test_of_calibrate(self):
        x, y = np.ones((8, 2), "float32"), np.zeros(8, int)
        model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
        for options in ({"batch_size": 2**70}, {"batch_size": "8"}, {"ignore_class": "x"}, {"output": 3}):
            with pytest.raises(ValueError, match=f"`{next(iter(options))}` must"):
                calibrate(model, x, y, **options)
        with pytest.raises(ValueError, match="`model` must be a Keras model"):
            calibrate("model", x, y)

    def test_a_curve_prints_on_one_line(self, rng):
        curve = reliability_curve([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
        assert repr(curve) == "ReliabilityCurve(3 predictions in 15 bins, ECE 0.4333)"

    def test_a_model_with_a_preprocessor(self, rng):
        """KerasHub's tasks preprocess in `predict`, which a network on their layers would pass over."""
        x, y = rng.normal(size=(8, 2)).astype("float32"), np.zeros(8, int)
        model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
        model.preprocessor = lambda x: x / 255
        with pytest.raises(ValueError, match=r"x = model.preprocessor\(x\), then model.preprocessor = None"):
            calibrate(model, x, y)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    def test_symbolic_dtype_is_that_of_the_output(self, policy):
        scaling = keras_ls.TemperatureScaling(dtype=policy)
        symbolic = scaling(keras.KerasTensor((None, 3), "float16"))
        assert (
            symbolic.dtype == "float32" == keras.backend.standardize_dtype(scaling(ops.ones((1, 3), "float16")).dtype)
        )
        if BACKEND != "jax":
            assert scaling(keras.KerasTensor((None, 3), "float64")).dtype == "float64"


@pytest.mark.parametrize("nest", ["one in a dict", "one in a list", "two"])
def test_outputs_in_a_nested_dict_are_named_by_their_keys(rng, nest):
    inputs = keras.Input((4,))
    hidden = layers.Dense(5)(inputs)
    logits, other = layers.Dense(3)(hidden), layers.Dense(2)(hidden)
    features = {"one in a dict": {"of": hidden}, "one in a list": [hidden], "two": [hidden, other]}[nest]
    model = keras.Model(inputs, {"features": features, "logits": logits})
    x, alone = rng.normal(size=(40, 4)).astype("float32"), keras.Model(inputs, logits)
    y = mostly(alone.predict(x, verbose=0).argmax(-1), 3, rng)
    expected = calibrate(alone, x, y).predict(x, verbose=0)
    np.testing.assert_allclose(calibrate(model, x, y, output="logits").predict(x, verbose=0), expected, **EXACT)
    name = "features/of" if nest == "one in a dict" else "features/0"
    shape = calibrate(model, x, rng.integers(0, 5, 40), output=name, from_logits=True).predict(x, verbose=0).shape
    assert shape == (40, 5)
    # The callback sees the model's own outputs, and labels may be nested as they are.
    labels = rng.integers(0, 5, 40)
    nested = {"of": labels} if nest == "one in a dict" else [labels]
    model.compile(loss=None)
    epoch = keras_ls.Calibration(x, {"features": nested}, output=name, from_logits=True)
    epoch.set_model(model)
    epoch.on_train_begin()
    logs = {}
    epoch.on_epoch_end(0, logs)
    pooled = keras.Model(inputs, hidden).predict(x, verbose=0)
    expected = reliability_curve(labels, pooled, from_logits=True).ece()
    assert logs["val_ece"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=f"must name one output of `model` .*'{name}'.*'logits'"):
        calibrate(model, x, y, output="features")


def test_an_output_may_be_without_weights(rng):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, {"a": layers.Dense(3)(inputs), "b": layers.Dense(2)(inputs)})
    x = rng.normal(size=(40, 4)).astype("float32")
    found = model.predict(x, verbose=0)
    y = {name: mostly(logits.argmax(-1), logits.shape[-1], rng) for name, logits in found.items()}
    weight = {"a": None, "b": np.arange(40)}
    given = calibrate(model, x, y, sample_weight=weight, output="a").predict(x, verbose=0)
    np.testing.assert_allclose(given, calibrate(model, x, y, output="a").predict(x, verbose=0), **EXACT)


@pytest.mark.parametrize("kind", ["nested", "time distributed"])
def test_a_model_that_refines_its_own_predictions_is_saved(rng, tmp_path, kind):
    if kind == "nested":
        inputs = keras.Input((4,))
        head = keras.Sequential([keras.Input((4,)), layers.Dense(6), layers.Dense(4, "softmax")])
    else:
        inputs, head = keras.Input((3, 4)), layers.TimeDistributed(layers.Dense(4, "softmax"))
    model = keras.Model(inputs, head(layers.Add()([head(inputs), inputs])))
    x = rng.normal(size=(30, *inputs.shape[1:])).astype("float32")
    p = model.predict(x, verbose=0)
    y = np.where(rng.random(x.shape[:-1]) < 0.4, rng.integers(0, 4, x.shape[:-1]), p.argmax(-1))
    calibrated = calibrate(model, x, y)
    calibrated.save(tmp_path / "calibrated.keras")
    loaded = keras.saving.load_model(tmp_path / "calibrated.keras")
    found, given = (each.predict(x, verbose=0) for each in (loaded, calibrated))
    np.testing.assert_allclose(found, given, **EXACT)
    np.testing.assert_allclose(given, numpy(keras_ls.TemperatureScaling().fit(np.log(p), y)(np.log(p))), rtol=1e-4)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has strings")
def test_text_of_any_shape_that_keras_takes(rng):
    words = layers.StringLookup(vocabulary=["a", "b", "c"])
    inputs = keras.Input((1,), dtype="string")
    features = layers.Flatten()(layers.Embedding(4, 5, embeddings_initializer="normal")(words(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(features))
    ids = rng.integers(0, 3, 40)
    text, y = np.array(["a", "b", "c"])[ids], np.where(rng.random(40) < 0.7, ids, rng.integers(0, 3, 40))
    column = text[:, None]
    logits = numpy(model(ops.convert_to_tensor(column)))
    expected = float(keras_ls.TemperatureScaling().fit(logits, y).temperature)
    for x in (column, ops.convert_to_tensor(column), column.astype("object")):
        assert float(calibrate(model, x, y).layers[-1].temperature) == pytest.approx(expected, rel=1e-5)
    assert keras_ls.penultimate_activations(model, column).shape == (40, 5)
    model.compile("sgd", keras_ls.SmoothedSparseCategoricalCrossentropy(from_logits=True))
    callback = keras_ls.Calibration(column, y, from_logits=True)
    logs = model.fit(ops.convert_to_tensor(column), y, callbacks=[callback], verbose=0).history
    assert np.isfinite(logs["val_ece"]).all()
