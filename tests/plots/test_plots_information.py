"""Curves of mutual information: what is drawn, and what is refused."""

import io
import math

import numpy as np
import pytest


class TestPicture:
    @pytest.fixture
    def draw(self):
        from keras_ls.plots import information_curves

        return information_curves

    CURVES = {  # noqa: RUF012
        "hard targets": ([0, 10, 20], [[0.1, 3.0, 2.0], [0.3, 2.0, 1.0]]),
        "α = 0.1": (np.array([0, 10, 20]), np.array([0.2, 2.0, 0.8])),
    }

    def test_draws_the_mean_of_the_runs_over_their_range(self, draw):
        ax = draw(self.CURVES, 600)
        hard, smoothed = (line for line in ax.get_lines() if line.get_linestyle() == "-")
        np.testing.assert_allclose(hard.get_xydata(), [[0, 0.2], [10, 2.5], [20, 1.5]])
        np.testing.assert_allclose(smoothed.get_xydata(), [[0, 0.2], [10, 2.0], [20, 0.8]])
        assert hard.get_color() != smoothed.get_color()
        (band,) = ax.collections  # one run has none
        corners = {tuple(np.round(point, 6)) for point in band.get_paths()[0].vertices}
        assert corners >= {(0, 0.1), (0, 0.3), (10, 2.0), (10, 3.0), (20, 1.0), (20, 2.0)}
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["hard targets", "α = 0.1"]

    def test_draws_steps_in_any_order(self, draw):
        line = draw({"a": ([20, 0, 10], [3.0, 1.0, 2.0])}).get_lines()[0]
        np.testing.assert_array_equal(line.get_xydata(), [[0, 1], [10, 2], [20, 3]])

    def test_marks_log_2_and_log_n(self, draw):
        ax = draw(self.CURVES, num_examples=600)
        heights = [line.get_ydata()[0] for line in ax.get_lines() if line.get_linestyle() == "--"]
        np.testing.assert_allclose(heights, [math.log(2), math.log(600)])
        assert [text.get_text() for text in ax.texts] == ["log 2", "log 600"]
        assert ax.get_ylim()[0] == 0
        assert ax.get_ylim()[1] > math.log(600)
        without = draw(self.CURVES)
        assert [text.get_text() for text in without.texts] == ["log 2"]

    def test_draws_in_the_given_axes_and_leaves_nothing_to_pyplot(self, draw):
        from matplotlib import pyplot
        from matplotlib.figure import Figure

        before = pyplot.get_fignums()
        axes = Figure().subplots(1, 2)
        assert draw(self.CURVES, 600, axes[1]) is axes[1]
        assert not axes[0].lines
        stream = io.BytesIO()
        draw({"one": ([5], [math.nan])}).figure.savefig(stream, format="png")  # one point, not known
        assert stream.getvalue().startswith(b"\x89PNG")
        assert pyplot.get_fignums() == before

    @pytest.mark.parametrize(
        ("curves", "message"),
        [
            ({}, "`curves` must be a dict"),
            ([], "`curves` must be a dict"),
            ({"a": 1}, "`curves` must map names to \\(steps, values\\)"),
            ({"a": ([0, 1], [1.0])}, "Received: shapes \\(2,\\) and \\(1,\\) for 'a'"),
            ({"a": ([], [])}, "P and R at least 1"),
            ({"a": ([0, 1], np.zeros((1, 2, 2)))}, "P and R at least 1"),
            ({"a": ([0, 1], np.zeros((0, 2)))}, "P and R at least 1"),
            ({"a": ([0, math.inf], [1.0, 2.0])}, "must hold finite steps"),
        ],
    )
    def test_refuses_what_are_no_curves(self, draw, curves, message):
        with pytest.raises(ValueError, match=message):
            draw(curves)

    def test_refuses_fewer_than_two_examples(self, draw):
        with pytest.raises(ValueError, match="`num_examples` must be at least 2"):
            draw(self.CURVES, num_examples=1)
