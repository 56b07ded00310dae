"""Projections: what is drawn, where, in what colour, and the grid."""

import dataclasses
import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import keras_ls.plots
from keras_ls.plots import class_projection, projection_grid
from keras_ls.projection import Projection

CORNERS = np.array([[-1.0, -0.5], [1.0, -0.5], [0.0, 1.0]])


@pytest.fixture
def projection(rng):
    """Seven examples of the classes 5, 2 and 9, in this order of the classes."""
    labels = np.array([9, 2, 5, 5, 2, 9, 9])
    return Projection(rng.normal(size=(7, 2)), labels, CORNERS, ("five", "two", "nine"), (5, 2, 9))


def scatters(ax):
    """(points, colour) of each group of examples; the templates' (points, colours) come last."""
    found = [(c.get_offsets().data, c.get_facecolor()[:, :3]) for c in ax.collections]
    return found[:3], found[-1]


def test_examples_are_coloured_by_class_in_the_order_of_the_classes(projection):
    ax = class_projection(projection)
    groups, _ = scatters(ax)
    for (points, color), class_id, place in zip(groups, (5, 2, 9), range(3), strict=True):
        np.testing.assert_array_equal(points, projection.points[projection.labels == class_id])
        np.testing.assert_allclose(color, [to_rgb(f"C{place}")])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["five", "two", "nine", "templates"]


def test_templates_have_the_colours_of_their_classes(projection):
    ax = class_projection(projection)
    _, (corners, colors) = scatters(ax)
    np.testing.assert_array_equal(corners, CORNERS)
    np.testing.assert_allclose(colors, [to_rgb(f"C{place}") for place in range(3)])
    triangle = next(line for line in ax.get_lines() if len(line.get_xdata()) == 4)
    np.testing.assert_array_equal(triangle.get_xydata(), CORNERS[[0, 1, 2, 0]])


def test_both_axes_have_one_scale(projection):
    wide = dataclasses.replace(projection, points=projection.points * [30, 1])
    for figure in (class_projection(wide).figure, projection_grid([[wide, projection]])):
        figure.savefig(io.BytesIO())  # lays it out
        ax = figure.axes[0]
        across, up = np.diff(ax.transData.transform([[0, 0], [1, 1]]), axis=0)[0]
        assert across == pytest.approx(up)
        assert ax.get_xlim()[0] <= wide.points[:, 0].min()
        assert wide.points[:, 0].max() <= ax.get_xlim()[1]


def test_draws_in_the_given_axes(projection):
    axes = Figure().subplots(1, 2)
    assert class_projection(projection, axes[1]) is axes[1]
    assert not axes[0].collections
    shared = Figure()
    for ax in shared.subplots(1, 2, sharex=True, sharey=True):
        class_projection(projection, ax)
    shared.savefig(io.BytesIO())  # lays it out


def test_a_grid_has_the_titles_of_its_dicts(projection):
    other = dataclasses.replace(projection, class_names=("a", "b", "c"))
    figure = projection_grid(
        {"first": {"hard": projection, "smoothed": other}, "second": {"hard": other, "smoothed": other}}
    )
    assert [ax.get_title() for ax in figure.axes] == ["hard", "smoothed", "", ""]
    assert [ax.get_ylabel() for ax in figure.axes] == ["first", "", "second", ""]
    assert [text.get_text() for text in figure.texts] == ["First axis of the plane", "Second axis of the plane"]
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes if ax.get_legend()]
    assert legends == [["five", "two", "nine", "templates"], ["a", "b", "c", "templates"]]
    for ax in figure.axes:
        groups, _ = scatters(ax)
        np.testing.assert_array_equal(groups[0][0], projection.points[projection.labels == 5])


def test_the_panels_of_a_grid_are_of_one_size_beside_their_legends(projection):
    long = dataclasses.replace(projection, points=1e4 * projection.points, class_names=("a long name", "b", "c"))
    figure = projection_grid({"first": [projection, long, projection], "second": [long, projection, projection]})
    figure.suptitle("A title")
    figure.savefig(io.BytesIO())  # lays it out
    sizes = [ax.get_window_extent().size for ax in figure.axes]
    np.testing.assert_allclose(sizes, np.full((6, 2), sizes[0][0]))
    for ax in figure.axes:
        if legend := ax.get_legend():
            assert legend.get_window_extent().x0 >= ax.get_window_extent().x1
            assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_one_projection_has_labelled_axes_and_a_legend_that_covers_nothing(projection):
    names = ("Ankle boot, brown", "T-shirt/top, short", "Trouser, with pockets")
    ax = class_projection(dataclasses.replace(projection, class_names=names))
    ax.figure.savefig(io.BytesIO())  # lays it out
    assert [ax.get_xlabel(), ax.get_ylabel()] == ["First axis of the plane", "Second axis of the plane"]
    legend = ax.get_legend().get_window_extent()
    assert legend.y1 <= ax.xaxis.label.get_window_extent().y0
    assert min(legend.x0, legend.y0) >= 0
    assert legend.x1 <= ax.figure.bbox.x1
    assert class_projection(projection, Figure().add_subplot()).get_xlabel() == "First axis of the plane"


def test_names_of_classes_are_no_mathematics(projection):
    names = ("$5 (10%) to $10", "$$", "price in $")
    ax = class_projection(dataclasses.replace(projection, class_names=names))
    ax.figure.savefig(io.BytesIO())
    shown = [text.get_text().replace(r"\$", "$") for text in ax.get_legend().get_texts()]
    assert shown[:3] == list(names)


def test_a_grid_of_lists_has_no_titles_and_may_have_gaps(projection):
    figure = projection_grid([[projection, None], (None, projection), [None, None]])
    assert len(figure.axes) == 6
    assert not any(ax.get_title() or ax.get_ylabel() for ax in figure.axes)
    assert [bool(ax.collections) for ax in figure.axes] == [True, False, False, True, False, False]


def test_projections_in_no_row_are_a_row(projection):
    other = dataclasses.replace(projection, class_names=("a", "b", "c"))
    figure = projection_grid({"hard": projection, "smoothed": other})
    assert [ax.get_title() for ax in figure.axes] == ["hard", "smoothed"]
    assert len(projection_grid([projection, None, other]).axes) == 3


@pytest.mark.parametrize("draw", [lambda p: class_projection(p).figure, lambda p: projection_grid([[p]])])
def test_can_be_written_without_pyplot(projection, draw):
    from matplotlib import pyplot

    before, stream = pyplot.get_fignums(), io.BytesIO()
    broken = dataclasses.replace(projection, points=np.full((7, 2), np.nan))
    draw(broken).savefig(stream, format="png")
    draw(projection).savefig(stream, format="pdf")
    assert stream.getvalue().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == before


@pytest.mark.parametrize("given", [None, [], "abc", CORNERS])
def test_refuses_what_is_no_projection(given):
    with pytest.raises(ValueError, match="`projection` must be a Projection"):
        class_projection(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda p: p, "`projections` must be a list or dict"),
        (lambda p: [], "`projections` must be a list or dict"),
        (lambda p: {"a": 1}, "Each row of `projections` must be a list or dict"),
        (lambda p: [p, [p]], "Each panel of `projections` must be a Projection"),
        (lambda p: [[p], []], "Each row of `projections` must be a list or dict"),
        (lambda p: [[1]], "Each panel of `projections` must be a Projection"),
        (lambda p: [[p, p], [p]], "same columns"),
        (lambda p: [{"a": p}, {"b": p}], "same columns"),
    ],
)
def test_refuses_what_is_no_grid(projection, given, message):
    with pytest.raises(ValueError, match=message):
        projection_grid(given(projection))


@pytest.mark.parametrize("ax", [3, "axes", CORNERS])
def test_refuses_what_is_no_axes(projection, ax):
    curves = {"a": ([0.0, 1.0], [0.5, 0.6])}
    for draw in (
        lambda: class_projection(projection, ax),
        lambda: keras_ls.plots.information_curves(curves, ax=ax),
        lambda: keras_ls.plots.distillation_curves(curves, ax),
        lambda: keras_ls.plots.reliability_diagram(keras_ls.reliability_curve([0], [[1.0, 0.0]]), ax),
    ):
        with pytest.raises(ValueError, match="`ax` must be a matplotlib Axes or None"):
            draw()
    with pytest.raises(ValueError, match="`figure` must be a matplotlib Figure or None"):
        keras_ls.plots.beam_temperature_curves({"a": {"temperature": [1.0], "wer": [0.1]}}, ax)


def test_refusals_stay_on_one_short_line(projection):
    long = "line\n" * 500
    for draw in (
        lambda: class_projection(np.arange(10**4)),
        lambda: projection_grid([[projection, projection], {long: projection}]),
        lambda: projection_grid(long),
        lambda: keras_ls.plots.information_curves({long: 3}),
        lambda: keras_ls.plots.information_curves({long: ([1, 2], [[["a"]]])}),
        lambda: keras_ls.plots.distillation_curves({long: (np.arange(999), np.arange(9))}),
        lambda: keras_ls.plots.beam_temperature_curves({long: {long: [1.0]}}),
        lambda: keras_ls.plots.beam_temperature_curves({long: {"temperature": [np.nan] * 999, long: [1.0]}}),
        lambda: keras_ls.plots.reliability_diagram([long] * 99),
    ):
        with pytest.raises(ValueError, match=r"must") as raised:
            draw()
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 500


def test_names_that_begin_with_an_underscore_and_lists():
    points = [[0, 1.0], [1, 0], [2, 2]]
    ax = class_projection(Projection(points, [0, 1, 2], points, ("_silence_", "_unknown_", "yes")))
    names = [text.get_text().strip() for text in ax.get_legend().get_texts()]
    assert names == ["_silence_", "_unknown_", "yes", "templates"]


@pytest.mark.parametrize(
    ("draw", "curve"),
    [
        (keras_ls.reliability_diagram, keras_ls.reliability_curve([0, 1], [[0.9, 0.1], [0.4, 0.6]])),
        (keras_ls.risk_coverage, keras_ls.risk_coverage_curve([0, 1], [[0.9, 0.1], [0.4, 0.6]])),
        (keras_ls.information_curves, ([1, 2], [0.5, 0.6])),
        (keras_ls.distillation_curves, ([0.1, 0.2], [0.5, 0.6])),
    ],
)
def test_curves_whose_names_begin_with_an_underscore(draw, curve):
    ax = draw({"_hard": curve, "smoothed": curve})
    assert any("_hard" in text.get_text() for text in ax.get_legend().get_texts())
