"""The search for a temperature that many logits need, against the definition in float64."""

import numpy as np
import pytest
import reference

from keras_ls.calibration import TemperatureScaling, search


def slope(logits, labels, weights, beta):
    """The derivative of the likelihood's negative logarithm with respect to 1/T."""
    logits = logits.astype("float64")
    finite = np.where(np.isneginf(logits), 0.0, logits)
    mean = (reference.softmax(beta * logits) * finite).sum(axis=1)
    return weights @ (mean - finite[np.arange(len(labels)), labels])


def check(logits, labels, weights):
    scaling = TemperatureScaling().fit(logits, labels, sample_weight=weights)
    temperature = float(scaling.temperature)
    assert slope(logits, labels, weights, (1 - 1e-6) / temperature) < 0
    assert slope(logits, labels, weights, (1 + 1e-6) / temperature) > 0


def case(rng, shape, dtype, scale=3.0):
    logits = (rng.normal(size=shape) * scale).astype(dtype)
    labels = np.where(rng.random(shape[0]) < 0.7, logits.argmax(axis=1), rng.integers(0, shape[1], shape[0]))
    return logits, labels, rng.random(shape[0]) * (rng.random(shape[0]) < 0.9)


def passes_of(monkeypatch, *given):
    """The kinds of passes in their order, (rows, dtype), of a search that is checked."""
    passes, slope_of = [], search._slope

    def counted(rows, dtype, beta):
        passes.append((len(rows.rows), dtype))
        return slope_of(rows, dtype, beta)

    monkeypatch.setattr(search, "_slope", counted)
    check(*given)
    return list(dict.fromkeys(passes))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_single_precision_comes_before_double(dtype, rng, monkeypatch):
    first = [] if dtype == "float64" else [(2700, "float32")]
    assert passes_of(monkeypatch, *case(rng, (2700, 100), dtype)) == [*first, (2700, "float64")]


def test_a_sample_tells_where_to_begin(rng, monkeypatch):
    expected = [(1100, "float32"), (2200, "float32"), (2200, "float64")]
    assert passes_of(monkeypatch, *case(rng, (2200, 1000), "float32")) == expected


@pytest.mark.parametrize(
    "kind", ["impossible classes", "huge", "tiny", "sample without an optimum", "sample of no weight"]
)
def test_awkward_logits(kind, rng, monkeypatch):
    monkeypatch.setattr(search, "_MANY", 0)
    monkeypatch.setattr(search, "_SAMPLE", 256)
    scale = {"huge": 60.0, "tiny": 0.03}.get(kind, 3.0)
    logits, labels, weights = case(rng, (800, 8), "float32", scale)
    step = logits.size // 256
    if kind == "impossible classes":
        impossible = (rng.random(logits.shape) < 0.3) & (np.arange(8) != labels[:, None])
        logits[impossible] = -np.inf
    elif kind == "sample without an optimum":
        labels[::step] = logits[::step].argmax(axis=1)
    elif kind == "sample of no weight":
        weights[::step] = 0
    check(logits, labels, weights)


@pytest.mark.parametrize("correct", [True, False])
def test_bounds_are_reported(correct, rng, monkeypatch):
    monkeypatch.setattr(search, "_MANY", 0)
    monkeypatch.setattr(search, "_SAMPLE", 256)
    logits = rng.normal(size=(800, 8)).astype("float32")
    labels = logits.argmax(axis=1) if correct else logits.argmin(axis=1)
    with pytest.warns(UserWarning, match="lowest" if correct else "highest"):
        scaling = TemperatureScaling().fit(logits, labels)
    assert float(scaling.temperature) == pytest.approx(0.01 if correct else 100.0)
