"""Reliability diagrams: what is drawn, and that nothing else is touched."""

import io

import matplotlib.style
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from keras_ls.calibration import ReliabilityCurve, reliability_curve
from keras_ls.plots import reliability_diagram
from keras_ls.plots.reliability import binomial_interval


@pytest.fixture
def curve():
    """Five bins, of which the first three are empty: accuracy 0.5 at 0.75, 1.0 at 0.9."""
    return reliability_curve([0, 1, 0], [[0.7, 0.3], [0.8, 0.2], [0.9, 0.1]], num_bins=5)


def lines(ax):
    """The drawn curves (not the diagonal) as (confidence, accuracy)."""
    return [line.get_xydata().T for line in ax.get_lines() if line.get_linestyle() == "-"]


def test_draws_accuracy_at_the_mean_confidence(curve):
    (line,) = lines(reliability_diagram(curve))
    np.testing.assert_allclose(line[0][3:], [0.75, 0.9])
    np.testing.assert_allclose(line[1][3:], [0.5, 1.0])


def test_empty_bins_are_not_drawn(curve):
    ax = reliability_diagram(curve)
    (line,) = lines(ax)
    assert np.isnan(line[:, :3]).all()
    (points,) = [c for c in ax.collections if type(c).__name__ == "PathCollection"]
    np.testing.assert_allclose(points.get_offsets().compressed(), [0.75, 0.5, 0.9, 1.0])
    (gaps,) = [c for c in ax.collections if type(c).__name__ == "LineCollection"]
    ends = [segment for segment in gaps.get_segments() if len(segment) and np.isfinite(segment).all()]
    np.testing.assert_allclose(ends, [[[0.75, 0.75], [0.75, 0.5]], [[0.9, 0.9], [0.9, 1.0]]])


@pytest.mark.parametrize("band", [False, True])
def test_a_bin_of_next_to_nothing_is_a_pale_point_without_a_line(band):
    y_pred = np.repeat([[0.7, 0.3], [0.9, 0.1]], [9, 1991], axis=0)
    ax = reliability_diagram(reliability_curve(np.zeros(2000, int), y_pred, num_bins=5), band=band)
    assert np.isfinite(lines(ax)[0][0]).tolist() == [False, False, False, False, True]
    (points,) = [c for c in ax.collections if type(c).__name__ == "PathCollection"]
    np.testing.assert_allclose(points.get_offsets().compressed(), [0.7, 1.0, 0.9, 1.0])
    assert points.get_facecolor()[3, 3] < 0.5
    assert points.get_facecolor()[4, 3] == 1
    assert len(boxes(ax)) == band


def boxes(ax):
    """The boxes of the band as (left, low, right, high), without the empty one of the legend."""
    found = [c.get_paths()[0].get_extents().extents for c in ax.collections if c.get_gid() == "band"]
    return [tuple(box.tolist()) for box in found]


def test_the_band_shows_where_accuracy_lies_by_chance():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    nothing = np.nan
    curve = ReliabilityCurve(
        np.linspace(0, 1, 5),
        np.array([nothing, 0.4, 0.6, 0.9]),
        np.array([nothing, 0.1, 0.6, 1.0]),
        np.array([0.0, 50, 7, 400]),
    )
    ax = reliability_diagram(curve, band=True)
    quantiles = {
        (left, n): stats.binom.ppf([0.025, 0.975], n, p) / n
        for left, n, p in [(0.25, 50, 0.4), (0.5, 7, 0.6), (0.75, 400, 0.9)]
    }
    expected = [(left, low, left + 0.25, high) for (left, _), (low, high) in quantiles.items()]
    np.testing.assert_allclose(boxes(ax), expected, rtol=1e-12)
    assert [text.get_text() for text in ax.get_legend().get_texts()][1:] == ["95 % range by chance, if calibrated"]
    assert not boxes(reliability_diagram(curve))
    assert len(boxes(reliability_diagram([curve, curve], band=True))) == 6


def test_a_calibrated_model_lies_within_the_band(rng):
    p = rng.uniform(0.5, 1, 20_000)
    hit = rng.random(20_000) < p
    curve = reliability_curve(np.where(hit, 0, 1), np.stack([p, 1 - p], axis=1), num_bins=500)
    found = [place for place in range(500) if np.isfinite(curve.accuracy[place])]
    intervals = [binomial_interval(curve.count[k], curve.confidence[k], 0.95) for k in found]
    inside = np.mean([low <= curve.accuracy[k] <= high for k, (low, high) in zip(found, intervals, strict=True)])
    assert 0.93 < inside < 0.99  # discrete, so a little more than 95 %


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("count", [1, 2, 15, 1000, 10**6, 10**9])
@pytest.mark.parametrize("p", [1e-9, 0.003, 0.3, 0.5, 0.95, 1 - 1e-9])
def test_intervals_are_the_quantiles_of_the_binomial_distribution(count, p, level):
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    expected = stats.binom.ppf([(1 - level) / 2, (1 + level) / 2], count, p)
    np.testing.assert_array_equal(np.round(np.array(binomial_interval(count, p, level)) * count), expected)


def test_intervals_of_the_limits_and_of_weights():
    assert binomial_interval(10, 0.0, 0.95) == (0, 0)
    assert binomial_interval(10, 1.0, 0.95) == (1, 1)
    assert binomial_interval(9.6, 0.3, 0.95) == binomial_interval(10, 0.3, 0.95)
    assert binomial_interval(0.01, 0.3, 0.95) == (0, 1)


@pytest.mark.parametrize("band", [None, 1, "yes"])
def test_refuses_a_band_that_is_no_boolean(curve, band):
    with pytest.raises(ValueError, match="`band` must be True or False"):
        reliability_diagram(curve, band=band)


@pytest.mark.parametrize(("number", "band"), [(1, False), (1, True), (4, False), (7, True)])
def test_the_legend_of_a_new_figure_covers_nothing(curve, number, band):
    ax = reliability_diagram([curve] * number, band=band)
    ax.set_title("A title")
    png(ax)  # lays it out
    legend, figure = ax.get_legend().get_window_extent(), ax.figure.bbox
    label = ax.child_axes[0].xaxis.label.get_window_extent()
    assert legend.y1 <= label.y0
    assert legend.y0 >= figure.y0
    assert legend.x0 >= figure.x0
    assert legend.x1 <= figure.x1


def test_has_the_diagonal_and_the_axes_of_probabilities(curve):
    ax = reliability_diagram(curve)
    (diagonal,) = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    assert ax.get_xlim() == ax.get_ylim() == (0, 1)


def test_the_strip_shows_the_share_of_each_bin(curve):
    ax = reliability_diagram(curve)
    (strip,) = ax.child_axes
    np.testing.assert_allclose([bar.get_height() for bar in strip.patches], [0, 0, 0, 2 / 3, 1 / 3])
    assert ax.get_ylabel() == "Accuracy"
    assert strip.get_xlabel() == "Confidence"


def test_names_several_curves_with_their_error(curve):
    other = reliability_curve([0, 0], [[0.9, 0.1], [0.5, 0.5]], num_bins=5)
    ax = reliability_diagram({"hard": curve, "smoothed": other})
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [f"hard: ECE {curve.ece():.3f}", f"smoothed: ECE {other.ece():.3f}"]
    assert len(lines(ax)) == 2
    assert len({line.get_color() for line in ax.get_lines() if line.get_linestyle() == "-"}) == 2
    assert len(ax.child_axes[0].patches) == 10


@pytest.mark.parametrize("kind", [list, tuple])
def test_numbers_curves_without_names(curve, kind):
    ax = reliability_diagram(kind([curve, curve]))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1: ECE 0.200", "2: ECE 0.200"]
    assert len(lines(ax)) == 2


def test_one_curve_shows_its_error(curve):
    (label,) = reliability_diagram(curve).get_legend().get_texts()
    assert label.get_text() == "ECE 0.200"


def test_draws_in_the_given_axes(curve):
    axes = Figure().subplots(1, 2)
    assert reliability_diagram(curve, axes[1]) is axes[1]
    assert not axes[0].lines
    assert len(lines(axes[1])) == 1


def png(ax):
    stream = io.BytesIO()
    ax.figure.savefig(stream, format="png")
    return stream.getvalue()


def test_can_be_written_without_pyplot(curve):
    assert png(reliability_diagram(curve)).startswith(b"\x89PNG")


def test_a_curve_of_nan_draws_no_points():
    curve = reliability_curve([0, 0], [[np.nan, 0.1], [0.9, 0.1]])
    ax = reliability_diagram(curve)
    assert np.isnan(lines(ax)[0]).all()
    assert ax.get_legend().get_texts()[0].get_text() == "ECE nan"
    assert png(ax).startswith(b"\x89PNG")


@pytest.mark.parametrize("given", [{}, None, [], {"a": 1}, [1], "curve"])
def test_refuses_what_is_no_curve(given):
    with pytest.raises(ValueError, match="`curve_or_curves` must be a ReliabilityCurve"):
        reliability_diagram(given)


def test_leaves_nothing_to_pyplot(curve):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    reliability_diagram(curve)
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize(
    ("style", "grid"),
    [({}, 0.9), ("dark_background", 0.1), ({"axes.facecolor": "none", "figure.facecolor": "none"}, 0.9)],
)
def test_the_grid_is_faint_whatever_the_style(curve, style, grid):
    with matplotlib.style.context(style):
        ax = reliability_diagram(curve)
    assert to_rgb(ax.get_xgridlines()[0].get_color()) == pytest.approx((grid,) * 3)
