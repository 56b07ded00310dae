"""Intervals of what clusters look like, against what more data of the same kind would show."""

import numpy as np
import pytest

from keras_ls.diagnosis import _geometry
from keras_ls.projection import cluster_statistics


def measures(found, templates):
    return _geometry._measures(found, templates, cluster_statistics(found.activations, found.labels, templates))


@pytest.mark.parametrize(("examples", "spread"), [(2, 0.3), (5, 0.5), (20, 0.5)])
def test_they_hold_what_more_data_would_show(examples, spread):
    rng, num_classes, width, draws = np.random.default_rng(0), 4, 30, 20
    means = rng.normal(size=(num_classes, width))
    templates = np.concatenate([means, np.zeros((num_classes, 1))], axis=1)
    distances = np.square(means[:, None] - means).sum(-1)[np.triu_indices(num_classes, 1)]
    # `within` is measured in the span of the templates' differences.
    true = {"cdnv": np.mean(width * spread**2 / distances), "within": (num_classes - 1) * spread**2}
    labels = np.repeat(np.arange(num_classes), examples)
    held = {name: 0 for name in true}
    for _ in range(draws):
        x = means[labels] + spread * rng.normal(size=(len(labels), width))
        found = _geometry._Predictions(x, labels, np.arange(len(x)), np.zeros(len(x)), np.zeros(len(x)))
        values = measures(found, templates)
        resamples = [found.of(_geometry._redrawn(labels, rng, within=True)) for _ in range(50)]
        drawn = [measures(each, templates) for each in resamples]
        for name, truth in true.items():
            low, high = _geometry._limits(name, values[name], np.array([each[name] for each in drawn]), 0.95)
            held[name] += low <= truth <= high
    assert all(count >= 0.8 * draws for count in held.values()), held


def test_a_resample_that_is_nan_leaves_no_limits():
    drawn = np.array([0.4, 0.5, np.nan])
    assert np.isnan(_geometry._limits("cdnv", 0.5, drawn, 0.95)).all()


@pytest.mark.parametrize(("name", "value"), [("cdnv", 0.0), ("template_distance", 3.0)])
def test_what_is_the_same_in_every_resample_is_sure(name, value):
    assert _geometry._limits(name, value, np.full(5, value), 0.95) == (value, value)


def test_shares_end_at_one():
    assert _geometry._limits("nearest_mean_agreement", 0.9, np.linspace(0.6, 0.7, 50), 0.95)[1] == 1.0


def test_they_are_as_wide_as_measures_vary():
    rng, spread = np.random.default_rng(1), 0.5
    means = rng.normal(size=(4, 30))
    templates, labels = np.concatenate([means, np.zeros((4, 1))], axis=1), np.repeat(np.arange(4), 20)
    seen, widths = {"cdnv": [], "within": []}, {"cdnv": [], "within": []}
    for _ in range(40):
        x = means[labels] + spread * rng.normal(size=(80, 30))
        found = _geometry._Predictions(x, labels, np.arange(80), np.zeros(80), np.zeros(80))
        values = measures(found, templates)
        drawn = [measures(found.of(_geometry._redrawn(labels, rng, within=True)), templates) for _ in range(50)]
        for name in seen:
            low, high = _geometry._limits(name, values[name], np.array([each[name] for each in drawn]), 0.95)
            seen[name].append(values[name])
            widths[name].append(high - low)
    for name in seen:
        ratio = np.mean(widths[name]) / (2 * 1.96 * np.std(seen[name], ddof=1))
        assert 0.6 < ratio < 1.7, (name, ratio)
