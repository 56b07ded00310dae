"""Curves against temperature: what is drawn, and what is refused."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_ls.plots import beam_temperature_curves

HARD = {"temperature": [2.0, 0.5, 1.0], "wer": [0.2, 0.4, 0.3], "ece": [0.1, 0.3, 0.2], "nll": [0.7, 0.9, 0.5]}
SMOOTH = {"temperature": [1.0, 3.0], "nll": [0.6, 0.8], "ece": [0.02, 0.3], "wer": [0.1, 0.15]}


def lines(ax):
    """The drawn curves by name, as (x, y)."""
    return {line.get_label(): line.get_xydata().T for line in ax.get_lines() if line.get_linestyle() == "-"}


def stars(ax):
    drawn = [line.get_xydata() for line in ax.get_lines() if line.get_marker() == "*"]
    return [tuple(points[0]) for points in drawn if len(points)]


def legend(figure):
    (found,) = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    return [text.get_text() for text in found.get_texts()]


def test_draws_a_panel_a_quantity_and_a_line_a_model():
    figure = beam_temperature_curves({"hard": HARD, "smooth": SMOOTH})
    assert [ax.get_ylabel() for ax in figure.axes] == ["WER", "ECE", "NLL (nats)"]
    assert {ax.get_xlabel() for ax in figure.axes} == {"Temperature"}
    for ax, quantity in zip(figure.axes, ("wer", "ece", "nll"), strict=True):
        drawn = lines(ax)
        order = [1, 2, 0]  # by rising temperature
        np.testing.assert_allclose(drawn["hard"], np.array([HARD["temperature"], HARD[quantity]])[:, order])
        np.testing.assert_allclose(drawn["smooth"], [SMOOTH["temperature"], SMOOTH[quantity]])
    assert legend(figure) == ["hard", "smooth", "best value"]


def test_stars_mark_the_best_where_it_is_known():
    curves = {"temperature": [1, 2, 3], "wer": [3, 1, 2], "bleu": [5, 4, 9], "length": [7, 8, 9]}
    figure = beam_temperature_curves({"model": curves})
    assert [stars(ax) for ax in figure.axes] == [[(2, 1)], [(3, 9)], []]


def test_runs_are_a_mean_and_a_band():
    figure = beam_temperature_curves({"model": {"temperature": [2, 1], "ece": [[0.1, 0.2], [0.3, 0.6]]}})
    (ax,) = figure.axes
    np.testing.assert_allclose(lines(ax)["model"], [[1, 2], [0.4, 0.2]])
    band, _ = ax.collections  # the other one is empty, for the legend
    assert band.get_paths()[0].get_extents().bounds == pytest.approx((1.0, 0.1, 1.0, 0.5))


def test_nan_breaks_the_line_and_is_never_best():
    figure = beam_temperature_curves({"model": {"temperature": [1, 2, 3], "nll": [np.nan, 0.5, 0.7]}})
    assert np.isnan(lines(figure.axes[0])["model"][1]).tolist() == [True, False, False]
    assert stars(figure.axes[0]) == [(2, 0.5)]
    figure = beam_temperature_curves({"model": {"temperature": [1], "nll": [np.nan]}})
    assert stars(figure.axes[0]) == []


def test_draws_against_other_arrays():
    figure = beam_temperature_curves({"model": {"length_penalty": [1, 8], "wer": [0.3, 0.2]}}, against="length_penalty")
    assert figure.axes[0].get_xlabel() == "Length penalty"
    assert figure.axes[0].get_xscale() == "linear"


def test_beam_widths_have_a_logarithmic_axis_with_each_of_them():
    widths = {"a": {"beam_width": [1, 8, 2], "wer": [0.3, 0.2, 0.1]}, "b": {"beam_width": [3, 8], "wer": [0.3, 0.2]}}
    (ax,) = beam_temperature_curves(widths, against="beam_width").axes
    assert ax.get_xlabel() == "Beam width"
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "3", "8"]
    np.testing.assert_allclose(ax.get_xticks(), [1, 2, 3, 8])
    assert not len(ax.get_xticks(minor=True))
    with pytest.raises(ValueError, match=r"`curves\['a'\]\['beam_width'\]` must be above 0\. Received: .*0"):
        beam_temperature_curves({"a": {"beam_width": [0, 8], "wer": [0.3, 0.2]}}, against="beam_width")


def test_rates_are_drawn_in_percent_where_asked():
    figure = beam_temperature_curves({"hard": HARD, "smooth": SMOOTH}, percent=["wer"])
    assert [ax.get_ylabel() for ax in figure.axes] == ["WER (%)", "ECE", "NLL (nats)"]
    np.testing.assert_allclose(lines(figure.axes[0])["hard"][1], [40, 30, 20])
    np.testing.assert_allclose(lines(figure.axes[1])["hard"][1], [0.3, 0.2, 0.1])
    assert stars(figure.axes[0]) == [(2, 20), (1, 10)]


@pytest.mark.parametrize("percent", ["wer", ["cer"], ["temperature"], None, 1.5, b"", b"wer", [["wer"]]])
def test_refuses_percent_of_what_is_no_quantity(percent):
    with pytest.raises(ValueError, match=r"`percent` must hold names among \['wer', 'ece', 'nll'\]\. Received"):
        beam_temperature_curves({"hard": HARD}, percent=percent)


def test_the_legend_explains_stars_and_bands_and_covers_nothing():
    runs = {"temperature": [1, 2], "length": [[3, 4], [5, 6]], "wer": [[0.1, 0.2], [0.3, 0.6]]}
    figure = beam_temperature_curves({"model": runs})
    assert legend(figure) == ["model", "best value", "range of the runs"]
    figure.savefig(io.BytesIO())  # lays it out
    box = figure.axes[-1].get_legend().get_window_extent()
    assert box.x0 >= figure.axes[-1].get_window_extent().x1
    assert box.x1 <= figure.bbox.x1
    assert legend(beam_temperature_curves({"model": {"temperature": [1], "length": [2]}})) == ["model"]


def test_draws_in_a_given_figure_that_pyplot_does_not_know():
    given = Figure()
    assert beam_temperature_curves({"hard": HARD}, figure=given) is given
    assert len(given.axes) == 3
    import matplotlib.pyplot as plt

    figure = beam_temperature_curves({"hard": HARD})
    assert not plt.get_fignums()
    written = io.BytesIO()
    figure.savefig(written, format="png")
    assert written.getvalue()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "at least one model"),
        ([HARD], "at least one model"),
        ({"hard": [1, 2]}, "dict of arrays"),
        ({"hard": {"wer": [1.0]}}, "'temperature' and at least one quantity"),
        ({"hard": {"temperature": [1.0]}}, "'temperature' and at least one quantity"),
        ({"hard": {"temperature": [], "wer": []}}, "must be finite"),
        ({"hard": {"temperature": [np.nan], "wer": [1.0]}}, "must be finite"),
        ({"hard": {"temperature": [1.0, 2.0], "wer": [1.0]}}, r"\(2,\) or \(R, 2\).*\(1,\)"),
        ({"hard": {"temperature": [1.0], "wer": [["a"]]}}, "must be an array of real numbers"),
        ({"hard": HARD, "smooth": {"temperature": [1.0], "wer": [1.0]}}, "the same quantities"),
    ],
)
def test_bad_curves_are_refused(curves, message):
    with pytest.raises(ValueError, match=message):
        beam_temperature_curves(curves)
