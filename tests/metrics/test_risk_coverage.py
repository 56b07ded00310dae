"""The streaming area under the risk-coverage curve against the exact one, within its bound."""

import math

import keras
import numpy as np
import pytest
from harness import assert_config_round_trip, compiled, needs_graph

import keras_ls
from keras_ls._backend import set_mask
from keras_ls._rows import labelled_rows
from keras_ls.metrics.risk_coverage import area_of_rows


def measured(y, p, weight=None, parts=1, **options):
    metric = keras_ls.AreaUnderRiskCoverage(**options)
    weights = [None] * parts if weight is None else np.array_split(weight, parts)
    for labels, rows, w in zip(np.array_split(y, parts), np.array_split(p, parts), weights, strict=True):
        metric.update_state(labels, rows, w)
    return float(metric.result()), metric


def bound(metric):
    counts = keras.ops.convert_to_numpy(metric.statistics)[:, 0]
    m = counts.max() / counts.sum()
    return m / 4 * (1 + math.log(4 / m))


@pytest.mark.parametrize("factor", [0.1, 1.0, 6.0])
@pytest.mark.parametrize("num_bins", [1, 30, 1000])
def test_it_is_within_its_bound_of_the_exact_area(rng, factor, num_bins):
    z = (3 * factor * rng.normal(size=(3000, 5))).astype("float32")
    y = (z / factor + 2 * rng.gumbel(size=z.shape)).argmax(-1)
    exact = keras_ls.risk_coverage_curve(y, z, from_logits=True).aurc()
    found, metric = measured(y, z, parts=7, from_logits=True, num_bins=num_bins)
    assert abs(found - exact) <= bound(metric) + 1e-6
    if num_bins == 1000:
        assert abs(found - exact) < 2e-3
        p = keras.ops.convert_to_numpy(keras.ops.softmax(z))
        if factor < 6:
            assert measured(y, p)[0] == pytest.approx(exact, abs=2e-3)


def test_one_bin_is_the_error_rate_and_ties_are_in_random_order():
    y, p = np.array([0, 1, 0, 1]), np.tile(np.array([[0.7, 0.3]], "float32"), (4, 1))
    assert measured(y, p)[0] == pytest.approx(0.5, rel=1e-6)
    p = np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]] * 2, "float32")
    y = np.array([0, 1, 0, 1, 1])
    assert measured(y, p)[0] == pytest.approx(keras_ls.risk_coverage_curve(y, p).aurc(), rel=1e-6)


def test_weights_of_any_scale(rng):
    z = rng.normal(size=(400, 4)).astype("float32")
    y = rng.integers(0, 4, 400)
    plain = measured(y, z, from_logits=True)[0]
    for scale in (1e-3, 1e3):
        weight = np.full(400, scale, "float32")
        assert measured(y, z, weight, from_logits=True)[0] == pytest.approx(plain, rel=1e-5)
    weight = (rng.random(400) * (rng.random(400) < 0.7)).astype("float32")
    exact = keras_ls.risk_coverage_curve(y, z, from_logits=True, sample_weight=weight).aurc()
    assert measured(y, z, weight, from_logits=True)[0] == pytest.approx(exact, abs=5e-3)


def test_weights_whose_squares_are_lost_give_nan(rng):
    z, y = rng.normal(size=(40, 4)).astype("float32"), rng.integers(0, 4, 40)
    for scale in (1e-30, 1e25):
        assert math.isnan(measured(y, z, np.full(40, scale, "float32"), from_logits=True)[0])
    assert measured(y, z, np.zeros(40, "float32"), from_logits=True)[0] == 0


@pytest.mark.parametrize("margins", [[60.0, 80.0, 50.0], [200.0, 300.0, 150.0], [800.0, 900.0, 750.0]])
def test_saturated_logits_are_ranked(margins):
    z = np.array([[margin, 0.0] for margin in margins], "float32")
    found, _ = measured(np.array([0, 0, 1]), z, from_logits=True)
    assert found == pytest.approx(1 / 9, rel=1e-5)
    rows = labelled_rows(np.array([0, 0, 1]), z, from_logits=True)
    assert area_of_rows(rows) == pytest.approx(1 / 9, rel=1e-5)


def test_what_is_nan_or_refused():
    y, good = np.array([0, 1]), np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], "float32")
    assert math.isnan(measured(y, good, np.array([1.0, -1.0], "float32"))[0])
    for row in ([1.02, 0.0, 0.0], [0.5, 0.7, -0.2], [np.inf, 0.0, 0.0]):
        bad = np.stack([good[0], np.array(row, "float32")])
        assert math.isnan(measured(y, bad)[0])
        assert math.isfinite(measured(y, bad, np.array([1.0, 0.0], "float32"))[0])
    with pytest.raises(ValueError, match="multi-label"):
        measured(np.array([[1, 0, 0], [1, 1, 0]]), good)


def test_one_logit_is_two_columns_and_the_mask_counts(rng):
    z, y = (3 * rng.normal(size=(300, 1))).astype("float32"), rng.integers(0, 2, 300)
    columns, mask = np.concatenate([0 * z, z], -1), rng.random(300) < 0.6
    expected = measured(y, columns, from_logits=True)[0]
    assert measured(y, z, from_logits=True)[0] == pytest.approx(expected, rel=1e-5)
    masked = keras.ops.convert_to_tensor(columns)
    set_mask(masked, keras.ops.convert_to_tensor(mask))
    metric = keras_ls.AreaUnderRiskCoverage(from_logits=True)
    metric.update_state(y, masked)
    wrong = (columns.argmax(-1) != y)[mask][np.argsort(-np.abs(z[mask, 0]), kind="stable")]
    exact = np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1))
    assert abs(float(metric.result()) - exact) <= bound(metric) + 1e-6


@pytest.mark.slow
def test_a_large_batch_is_counted_to_its_end():
    half = 2**23  # one by one, float32 counts to twice as many
    labels = np.repeat(np.array([1, 0], "int32"), [2 * half, half])
    p = np.broadcast_to(np.array([0.75, 0.25], "float32"), (3 * half, 2))
    assert measured(labels, p)[0] == pytest.approx(2 / 3, rel=1e-4)


def test_binary_one_hot_ignored_empty_and_bad():
    y, p = np.array([0, 1, 1, 0]), np.array([[0.2], [0.9], [0.4], [0.6]], "float32")
    columns = np.concatenate([1 - p, p], -1)
    expected = keras_ls.risk_coverage_curve(y, columns).aurc()
    assert measured(y, p)[0] == pytest.approx(expected, rel=1e-5)
    assert measured(np.eye(2, dtype="float32")[y], columns)[0] == pytest.approx(expected, rel=1e-5)
    more = np.concatenate([columns, np.full((1, 2), np.nan, "float32")])
    assert measured(np.append(y, -1), more, ignore_class=-1)[0] == pytest.approx(expected, rel=1e-5)
    assert math.isnan(measured(np.append(y, 0), more)[0])
    assert float(keras_ls.AreaUnderRiskCoverage().result()) == 0
    for from_logits in (False, True):
        assert measured(y[:0], columns[:0], from_logits=from_logits)[0] == 0
    certain = np.array([[1.0, 0.0], [1.0, 0.0]], "float32")
    assert measured(np.array([0, 0]), certain)[0] == 0
    assert measured(np.array([1, 1]), certain)[0] == pytest.approx(1.0, rel=1e-6)
    with pytest.raises(ValueError, match="num_bins"):
        keras_ls.AreaUnderRiskCoverage(num_bins=0)


def test_in_fit_saved_and_watched(tmp_path, rng):
    x, y = rng.normal(size=(60, 4)).astype("float32"), rng.integers(0, 3, 60)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=[keras_ls.AreaUnderRiskCoverage(from_logits=True, num_bins=200)])
    stop = keras.callbacks.EarlyStopping(monitor="val_aurc", patience=9)
    history = model.fit(x, y, batch_size=16, validation_data=(x, y), callbacks=[stop], epochs=4, verbose=0).history
    assert float(stop.best) == min(history["val_aurc"]) < max(history["val_aurc"])
    exact = keras_ls.risk_coverage_curve(y, model.predict(x, verbose=0), from_logits=True).aurc()
    assert history["val_aurc"][-1] == pytest.approx(exact, abs=0.02)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    again = loaded.evaluate(x, y, return_dict=True, verbose=0)["aurc"]
    assert again == pytest.approx(history["val_aurc"][-1], rel=1e-5)


def test_the_result_has_the_dtype_of_the_metric():
    metric = keras_ls.AreaUnderRiskCoverage(dtype="bfloat16")
    assert keras.backend.standardize_dtype(metric.result().dtype) == "bfloat16"


def test_every_form_of_labels_shapes_weights_and_masks_counts_the_same_rows(rng):
    y, p = rng.integers(0, 5, 24), rng.dirichlet(np.ones(5), 24).astype("float32")
    plain = pytest.approx(measured(y, p)[0], rel=1e-5)
    for labels in (y.astype("float32"), y[:, None], np.eye(5, dtype="float32")[y], 0.9 * np.eye(5)[y] + 0.02):
        assert measured(labels, p)[0] == plain
    for lead in ((4, 6), (2, 3, 4), (24, 1)):
        assert measured(y.reshape(lead), p.reshape(*lead, 5))[0] == plain
    grid, rows, of_row = y.reshape(4, 6), p.reshape(4, 6, 5), np.array([1, 2, 3, 4], "float32")
    each = np.repeat(of_row, 6)
    weighted = pytest.approx(measured(y, p, each)[0], rel=1e-5)
    for weight in (of_row, of_row[:, None], each.reshape(4, 6), each.reshape(4, 6, 1)):
        assert measured(grid, rows, weight)[0] == weighted
    mask = rng.random((4, 6)) < 0.7
    masked = keras.ops.convert_to_tensor(rows)
    set_mask(masked, keras.ops.convert_to_tensor(mask))
    metric = keras_ls.AreaUnderRiskCoverage(ignore_class=2)
    metric.update_state(grid, masked, of_row)
    kept = mask.reshape(-1) & (y != 2)
    assert float(metric.result()) == pytest.approx(measured(y[kept], p[kept], each[kept])[0], rel=1e-5)


def test_nan_stays_until_reset_and_the_config_is_whole(rng):
    y, p = rng.integers(0, 5, 24), rng.dirichlet(np.ones(5), 24).astype("float32")
    metric = keras_ls.AreaUnderRiskCoverage()
    metric.update_state(y, np.where(np.arange(24)[:, None] == 7, np.float32(np.nan), p))
    metric.update_state(y, p)
    assert math.isnan(float(metric.result()))
    metric.reset_state()
    metric.update_state(y, p)
    assert float(metric.result()) == pytest.approx(measured(y, p)[0], rel=1e-5)
    other = keras_ls.AreaUnderRiskCoverage(50, True, -1, "mine", "bfloat16")
    assert_config_round_trip(other, lambda each: each.update_state(y, np.log(p)) or each.result())


@needs_graph
def test_a_bad_label_in_a_compiled_graph_gives_nan(rng):
    y, p = rng.integers(0, 5, 24).astype("float32"), rng.dirichlet(np.ones(5), 24).astype("float32")
    metric = keras_ls.AreaUnderRiskCoverage()
    start = [keras.ops.zeros(v.shape, v.dtype) for v in metric.variables]
    run = compiled(lambda a, b: metric.stateless_result(metric.stateless_update_state(start, a, b)))

    def value():
        return float(run(keras.ops.convert_to_tensor(y), keras.ops.convert_to_tensor(p)))

    assert value() == pytest.approx(measured(y, p)[0], rel=1e-5)
    for bad in (-1, 5, 2.5, np.nan):
        y[3] = bad
        assert math.isnan(value()), bad
