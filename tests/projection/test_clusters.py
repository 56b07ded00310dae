"""Cluster statistics against their definition."""

import numpy as np
import pytest

from keras_ls.projection import cluster_statistics


def statistics_by_definition(rows, labels):
    mean = rows.mean(0)
    within = between = 0.0
    for row, label in zip(rows, labels, strict=True):
        centre = rows[labels == label].mean(0)
        within += ((row - centre) ** 2).sum() / len(rows)
        between += ((centre - mean) ** 2).sum() / len(rows)
    return within, between


class TestClusterStatistics:
    def test_are_those_of_the_definition(self, rng):
        rows, labels = rng.standard_normal((50, 6)) + 100, rng.integers(-2, 3, 50)
        found = cluster_statistics(rows, labels)
        within, between = statistics_by_definition(rows, labels)
        assert found.within == pytest.approx(within, rel=1e-9)
        assert found.between == pytest.approx(between, rel=1e-9)
        assert found.ratio == pytest.approx(within / between, rel=1e-9)
        assert np.isnan([found.template_distance, found.template_distance_cv]).all()

    @pytest.mark.parametrize("num_templates", [None, 3])
    def test_equal_activations_have_no_clusters(self, rng, num_templates):
        rows = np.tile(rng.standard_normal(7), (301, 1))
        templates = None if num_templates is None else rng.standard_normal((num_templates, 8))
        found = cluster_statistics(rows, np.arange(301) % 3, templates)
        assert found.within == found.between == 0
        assert np.isnan(found.ratio)

    @pytest.mark.parametrize("num_classes", [2, 3, 5, 12])
    def test_with_templates_are_those_in_the_span_of_their_differences(self, rng, num_classes):
        rows, labels = rng.standard_normal((40, 8)), rng.integers(0, num_classes, 40)
        templates = rng.standard_normal((num_classes, 9))
        differences = (templates[1:] - templates[0]).T
        projector = differences @ np.linalg.pinv(differences)
        extended = np.concatenate([rows, np.ones((40, 1))], axis=1)
        within, between = statistics_by_definition(extended @ projector.T, labels)
        pairs = [np.linalg.norm(a - b) for i, a in enumerate(templates) for b in templates[:i]]
        for given in (rows, extended):
            found = cluster_statistics(given, labels, templates)
            assert found.within == pytest.approx(within, rel=1e-9)
            assert found.between == pytest.approx(between, rel=1e-9)
            assert found.template_distance == pytest.approx(np.mean(pairs), rel=1e-12)
            assert found.template_distance_cv == pytest.approx(np.std(pairs) / np.mean(pairs), abs=1e-12)

    def test_a_regular_simplex_is_equally_distant(self):
        found = cluster_statistics(np.eye(4), np.arange(4), np.eye(4))
        assert found.template_distance == pytest.approx(np.sqrt(2))
        assert found.template_distance_cv == pytest.approx(0, abs=1e-12)
        assert found.within == found.ratio == 0

    def test_edges(self):
        assert cluster_statistics(np.ones((3, 2)), [0, 0, 0]).between == 0
        assert np.isnan(cluster_statistics(np.ones((3, 2)), [0, 0, 0]).ratio)
        assert cluster_statistics([[0.0], [1.0], [0.0], [1.0]], [0, 0, 1, 1]).ratio == np.inf
        same = cluster_statistics([[0.0], [1.0]], [0, 1], np.ones((2, 2)))
        assert same.template_distance == same.within == same.between == 0
        assert np.isnan(same.template_distance_cv)

    def test_one_class_has_no_ratio(self, rng):
        rows = rng.standard_normal((50, 7)) + 0.1
        for templates in (None, rng.standard_normal((3, 8))):
            found = cluster_statistics(rows, np.zeros(50, int), templates)
            assert found.between == 0
            assert np.isnan(found.ratio)
        assert cluster_statistics(rows, [0] * 50).within == pytest.approx(rows.var(axis=0).sum())

    @pytest.mark.parametrize("values", ["rows", None, [[1], [1, 2]], 3.0, [["a"]]])
    def test_refuse_what_is_no_array(self, values, rng):
        with pytest.raises(ValueError, match="`activations` must be"):
            cluster_statistics(values, [0])
        with pytest.raises(ValueError, match="`labels` must be"):
            cluster_statistics(rng.standard_normal((3, 2)), values)
        with pytest.raises(ValueError, match="`templates` must be"):
            cluster_statistics(rng.standard_normal((3, 2)), [0, 1, 2], "rows" if values is None else values)

    @pytest.mark.filterwarnings("ignore:invalid value")
    def test_broken_numbers_give_nan(self):
        rows = np.array([[0.0, 1.0], [np.nan, 2.0], [3.0, 4.0]])
        found = cluster_statistics(rows, [0, 1, 1])
        assert np.isnan([found.within, found.between, found.ratio]).all()
        assert np.isnan(cluster_statistics(np.where(np.isnan(rows), np.inf, rows), [0, 1, 1]).ratio)

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
    def test_broken_templates_give_nan(self, broken):
        found = cluster_statistics(np.eye(3), [0, 1, 1], np.where(np.eye(3, 4) > 0, broken, 1.0))
        assert np.isnan([found.within, found.template_distance, found.template_distance_cv]).all()

    @pytest.mark.filterwarnings("error")
    def test_broken_numbers_give_nan_where_all_templates_coincide(self):
        found = cluster_statistics([[np.nan, 0.0], [1.0, 0.0]], [0, 1], np.zeros((2, 3)))
        assert np.isnan([found.within, found.between, found.ratio]).all()

    def test_refuses_shapes_that_do_not_match(self, rng):
        rows = rng.standard_normal((5, 4))
        for bad in ((rows[0], [0] * 4), (rows[:0], []), (rows, [0] * 4), (rows, np.zeros((5, 2)))):
            with pytest.raises(ValueError, match=r"activations|labels"):
                cluster_statistics(*bad)
        for shape in ((1, 5), (3, 6), (3,), (3, 3)):
            with pytest.raises(ValueError, match="templates"):
                cluster_statistics(rows, [0, 1, 0, 1, 2], np.ones(shape))
