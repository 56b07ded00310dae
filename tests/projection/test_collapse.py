"""Neural collapse against a float64 reference written from the definitions."""

import dataclasses
import tracemalloc
import warnings

import numpy as np
import pytest

import keras_ls
from keras_ls.projection import collapse

NAMES = [field.name for field in dataclasses.fields(keras_ls.NeuralCollapse)]


def reference(x, y, templates):
    """Every field, by loops over examples and pairs."""
    x, present = np.asarray(x, "float64"), sorted(set(y))
    K, D = len(present), x.shape[1]
    mu = np.array([x[y == k].mean(0) for k in present])
    m = mu - mu.mean(0)
    within = sum(np.outer(x[i] - mu[present.index(y[i])], x[i] - mu[present.index(y[i])]) for i in range(len(x)))
    between = m.T @ m / K
    spread = [np.mean(np.square(x[y == k] - mu[i]).sum(-1)) for i, k in enumerate(present)]
    w, b = templates[present, :D], templates[present, D]
    w0 = w - w.mean(0)
    pairs = [(a, c) for a in range(K) for c in range(a)]

    def angle(v):
        return np.mean([abs(v[a] @ v[c] / np.linalg.norm(v[a]) / np.linalg.norm(v[c]) + 1 / (K - 1)) for a, c in pairs])

    def cv(v):
        return np.linalg.norm(v, axis=1).std() / np.linalg.norm(v, axis=1).mean()

    nearest = np.array([np.argmin([np.linalg.norm(row - mean) for mean in mu]) for row in x])
    return {
        "variability": np.trace(within / len(x) @ np.linalg.pinv(between, rcond=1e-6)) / K,
        "cdnv": np.mean([(spread[a] + spread[c]) / (2 * np.sum((mu[a] - mu[c]) ** 2)) for a, c in pairs]),
        "means_norm_cv": cv(m),
        "means_angle": angle(m),
        "templates_norm_cv": cv(w0),
        "templates_angle": angle(w0),
        "self_duality": np.sum((w0 / np.linalg.norm(w0) - m / np.linalg.norm(m)) ** 2),
        "nearest_mean_agreement": np.mean(nearest == np.argmax(x @ w.T + b, axis=1)),
    }


@pytest.mark.parametrize(("classes", "width"), [(2, 5), (5, 3), (5, 12), (7, 6)])
def test_random_unbalanced_data(classes, width, monkeypatch):
    for module in ("_pairs", "collapse"):
        monkeypatch.setattr(f"keras_ls.projection.{module}.BLOCK_SIZE", 16 * width)
    rng = np.random.default_rng(classes)
    y = rng.choice(classes + 1, 150, p=np.append(np.full(classes, 0.9 / classes), 0.1))
    y[y == 1] = 0  # a class without examples
    x = 2 * rng.normal(size=(classes + 1, width))[y] + rng.normal(size=(150, width))
    templates = rng.normal(size=(classes + 1, width + 1))
    found = keras_ls.neural_collapse(x.astype("float32"), y, templates)
    expected = reference(x.astype("float32"), y, templates)
    np.testing.assert_allclose([getattr(found, n) for n in NAMES], [expected[n] for n in NAMES], rtol=1e-6, atol=1e-12)
    alone = keras_ls.neural_collapse(x, y)
    np.testing.assert_allclose(
        [getattr(alone, n) for n in NAMES[:4]], [expected[n] for n in NAMES[:4]], rtol=1e-6, atol=1e-12
    )
    assert np.isnan([getattr(alone, n) for n in NAMES[4:]]).all()


def test_a_simplex_has_collapsed(tmp_path):
    corners = np.eye(4) - 0.25
    y = np.arange(40) % 4
    np.save(tmp_path / "x.npy", 3.0 + 2.0 * corners[y])
    found = keras_ls.neural_collapse(np.load(tmp_path / "x.npy", mmap_mode="r"), y, 7.0 * corners)
    np.testing.assert_allclose([getattr(found, n) for n in NAMES[:-1]], 0.0, atol=1e-12)
    assert found.nearest_mean_agreement == 1.0


def test_a_memory_map_is_read_in_two_passes_by_blocks(tmp_path, monkeypatch, rng):
    y, passes, blocks = np.arange(20_000) % 4, [], collapse._blocks
    np.save(tmp_path / "x.npy", (rng.normal(size=(20_000, 100)) + y[:, None]).astype("float32"))  # 8 MB
    monkeypatch.setattr(collapse, "_blocks", lambda *given: passes.append(1) or blocks(*given))
    monkeypatch.setattr(collapse, "BLOCK_SIZE", 2**14)
    x, templates = np.load(tmp_path / "x.npy", mmap_mode="r"), rng.normal(size=(4, 101))
    tracemalloc.start()
    keras_ls.neural_collapse(x, y, templates)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(passes) == 2
    assert peak < 4e6


def test_what_cannot_be_compared_is_nan():
    assert np.isnan(dataclasses.astuple(keras_ls.neural_collapse(np.ones((3, 2)), [1, 1, 1]))).all()
    assert np.isnan(dataclasses.astuple(keras_ls.neural_collapse([[np.nan], [1.0]], [0, 1]))).all()
    same = keras_ls.neural_collapse([[0.0], [2.0], [0.0], [2.0]], [0, 0, 1, 1])
    assert same.variability == same.cdnv == np.inf
    one_bad_template = keras_ls.neural_collapse([[0.0], [2.0]], [0, 1], [[np.inf], [1.0]])
    assert np.isnan([getattr(one_bad_template, n) for n in NAMES[4:]]).all()
    assert one_bad_template.variability == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [0, 1]), "`activations` must be of shape"),
        ((np.ones((2, 3)), [0]), r"`labels` must be of shape \(2,\)"),
        ((np.ones((2, 3)), [0, 2], np.ones((2, 3))), r"`labels` must hold integers in \[0, 2\)"),
        ((np.ones((2, 3)), [0, 1], np.ones((2, 5))), r"`templates` must be of shape \(K, 4\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_ls.neural_collapse(*arguments)


def test_a_column_of_labels_is_taken(rng):
    x, y = rng.normal(size=(30, 4)), np.arange(30) % 3
    assert keras_ls.neural_collapse(x, y[:, None]).cdnv == keras_ls.neural_collapse(x, y).cdnv
    assert keras_ls.cluster_statistics(x, y[:, None]).ratio == keras_ls.cluster_statistics(x, y).ratio


@pytest.mark.parametrize("value", [0.1, 1.0, 1e8])
def test_examples_that_are_all_the_same_say_nothing(value):
    found = keras_ls.neural_collapse(np.full((7, 1), value), [0, 0, 0, 1, 1, 1, 1])
    assert np.isnan([found.variability, found.cdnv, found.means_norm_cv, found.means_angle]).all()


def test_many_classes_in_blocks_and_means_that_almost_coincide(monkeypatch):
    monkeypatch.setattr("keras_ls.projection._pairs.BLOCK_SIZE", 130)  # three classes at a time
    rng = np.random.default_rng(0)
    means = 1e4 + rng.normal(size=(40, 6))
    means[7] = means[31] + 1e-9  # so near to each other that products leave nothing but rounding
    y = np.repeat(np.arange(40), 3)
    x = means[y] + 1e-2 * np.tile(rng.normal(size=(3, 6)), (40, 1))  # noise that moves all means alike
    templates = rng.normal(size=(40, 7))
    found, expected = keras_ls.neural_collapse(x, y, templates), reference(x, y, templates)
    np.testing.assert_allclose([getattr(found, n) for n in NAMES], [expected[n] for n in NAMES], rtol=1e-6)


@pytest.mark.parametrize("second", [1e-2, 1e-4])  # its square is the singular value, kept above 1e-6 of the largest
def test_directions_below_the_tolerance_have_no_part_in_the_variability(second):
    rng, y = np.random.default_rng(0), np.repeat(np.arange(4), 10)
    means = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, second, 0.0]])
    x = means[y] + np.tile(1e-3 * rng.normal(size=(10, 3)), (4, 1))
    expected = reference(x, y, rng.normal(size=(4, 4)))["variability"]
    assert keras_ls.neural_collapse(x, y).variability == pytest.approx(expected, rel=1e-6)


def test_of_equal_logits_the_first_class_is_the_prediction(rng):
    x, y = np.maximum(rng.normal(size=(400, 8)) - 1, 0), rng.integers(0, 4, 400)
    x[0], x[1:100] = rng.random(8), 0.0  # all units of a ReLU may be off
    templates = np.c_[rng.normal(size=(4, 8)), np.zeros(4)]
    means = np.stack([x[y == k].mean(0) for k in range(4)])
    nearest = np.square(x[:, None] - means).sum(-1).argmin(1)
    expected = np.mean(nearest == (x @ templates[:, :8].T).argmax(1))
    assert keras_ls.neural_collapse(x, y, templates).nearest_mean_agreement == expected


def test_one_infinity_is_nan_without_a_warning(rng):
    y, templates = np.arange(9) % 3, rng.normal(size=(3, 4))
    for row in (0, 4):
        x = rng.normal(size=(9, 3))
        x[row, 1] = np.inf
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isnan(keras_ls.neural_collapse(x, y, templates).cdnv)
            assert np.isnan(keras_ls.cluster_statistics(x, y, templates).ratio)
            assert np.isnan(keras_ls.cluster_statistics(x, y).ratio)
