"""Accuracy against γ: what is drawn, in which order, and what is refused."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_ls.plots import distillation_curves

# Three runs of two points, out of order.
RUNS = ([0.6, 0.1], [[0.70, 0.80], [0.72, 0.83], [0.77, 0.80]])


def test_draws_the_mean_in_percent_with_gamma_rising():
    (line,) = distillation_curves({"student": RUNS}).get_lines()[-1:]
    np.testing.assert_allclose(line.get_xydata(), [[0.1, 81.0], [0.6, 73.0]])
    assert line.get_label() == "student"


def test_band_and_bars_go_from_the_smallest_to_the_largest():
    ax = distillation_curves({"student": RUNS})
    (band,) = [c for c in ax.collections if type(c).__name__ in ("PolyCollection", "FillBetweenPolyCollection")]
    corners = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(0.1, 80.0), (0.1, 83.0), (0.6, 70.0), (0.6, 77.0)}
    (bars,) = [c for c in ax.collections if type(c).__name__ == "LineCollection"]
    np.testing.assert_allclose(bars.get_segments(), [[[0.1, 80], [0.1, 83]], [[0.6, 70], [0.6, 77]]])


def test_one_run_has_a_line_alone():
    ax = distillation_curves({"a": ([0, 0.5], [0.1, 0.2]), "b": ([0.2], [[0.3]])})
    assert not ax.collections
    np.testing.assert_allclose(ax.get_lines()[0].get_xydata(), [[0, 10], [0.5, 20]])


def test_curves_differ_in_colour_and_marker_and_have_their_names():
    names = ["teacher", "student alone", "student of the hard teacher", "student of smoothed teachers"]
    ax = distillation_curves({name: ([0, 1], [0.5, 0.6 + i / 10]) for i, name in enumerate(names)})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == names
    assert len({(line.get_color(), line.get_marker()) for line in ax.get_lines()}) == 4
    assert "γ" in ax.get_xlabel()
    assert "%" in ax.get_ylabel()


def test_the_legend_of_a_new_figure_covers_nothing():
    name = "student of smoothed teachers, T = {}"
    ax = distillation_curves({name.format(t): ([0, 1], [0.5, 0.6]) for t in (1, 2, 4, 8)})
    ax.figure.savefig(io.BytesIO())  # lays it out
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= ax.get_window_extent().x1
    assert legend.x1 <= ax.figure.bbox.x1
    assert ax.get_window_extent().width > ax.figure.bbox.width / 2
    assert ax.figure.dpi == 150


def test_nan_is_a_gap_and_not_a_number():
    ax = distillation_curves({"a": ([0, 0.5], [[0.1, 0.2], [0.2, np.nan]])})
    mean = ax.get_lines()[-1].get_ydata()
    assert mean[0] == pytest.approx(15)
    assert np.isnan(mean[1])


def test_draws_into_given_axes_and_can_be_written():
    figure = Figure()
    given = figure.add_subplot()
    assert distillation_curves({"a": RUNS}, ax=given) is given
    file = io.BytesIO()
    figure.savefig(file, format="pdf")
    assert file.getvalue().startswith(b"%PDF")


def test_takes_tensors():
    from keras import ops

    ax = distillation_curves({"a": (ops.convert_to_tensor([0.0, 0.5]), ops.convert_to_tensor([[0.25, 0.5]]))})
    np.testing.assert_allclose(ax.get_lines()[-1].get_ydata(), [25, 50])


def test_leaves_its_input(rng):
    gamma, accuracy = rng.permutation(5) / 5, rng.random((3, 5))
    copies = gamma.copy(), accuracy.copy()
    distillation_curves({"a": (gamma, accuracy)})
    np.testing.assert_array_equal(gamma, copies[0])
    np.testing.assert_array_equal(accuracy, copies[1])


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "at least one"),
        ([([0], [1])], r"Received: \[\(\[0\], \[1\]\)\]"),
        ({"a": [0.1]}, r"\(gamma, accuracy\)"),
        ({"a": ([0, 1], [0.5])}, r"shapes \(2,\) and \(1,\) for 'a'"),
        ({"a": ([[0, 1]], [0.5, 0.5])}, r"shapes \(1, 2\)"),
        ({"a": ([], [])}, "P and R at least 1"),
        ({"a": ([0.1], np.empty((0, 1)))}, "P and R at least 1"),
        ({"a": ([np.nan], [0.5])}, "finite"),
        ({"a": (["x"], [0.5])}, "real numbers"),
    ],
)
def test_refused(curves, message):
    with pytest.raises(ValueError, match=message):
        distillation_curves(curves)


@pytest.mark.parametrize("runs", range(2, 11))
def test_runs_of_equal_accuracy_have_bars_of_no_length(runs):
    for accuracy in np.arange(0.5, 1.0, 0.02):
        axes = distillation_curves({"a": ([0.1], [[accuracy]] * runs)}, ax=Figure().subplots())
        assert len(axes.containers) == 1
