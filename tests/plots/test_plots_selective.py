import numpy as np
import pytest

import keras_ls

figure = pytest.importorskip("matplotlib.figure")


def curve(seed=0, size=5_000):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(size, 5))
    return keras_ls.risk_coverage_curve((logits + rng.gumbel(size=logits.shape)).argmax(-1), logits, from_logits=True)


def test_lines_end_at_the_error_rate_of_all():
    curves = {"hard targets": curve(0), "α = 0.1": curve(1)}
    ax = keras_ls.risk_coverage(curves)
    lines = ax.get_lines()
    for one, (line, perfect) in zip(curves.values(), (lines[:2], lines[2:]), strict=True):
        x, y = line.get_data()
        assert (x[-1], y[-1]) == pytest.approx((100, 100 * one.risk[-1]))
        np.testing.assert_allclose(y, np.interp(x, 100 * one.coverage, 100 * one.risk), atol=1e-9)
        assert (perfect.get_ydata() <= y + 1e-9).all()
        assert len(x) <= 2_000
    assert ax.get_legend().get_texts()[1].get_text().startswith("α = 0.1: AURC ")


@pytest.mark.parametrize("given", [lambda c: c, lambda c: [c, c], lambda c: {"a": c}])
def test_axes_that_are_given_are_drawn_in(given):
    left, right = figure.Figure().subplots(1, 2)
    assert keras_ls.risk_coverage(given(curve()), right) is right
    assert not left.lines
    assert right.lines
    with pytest.raises(ValueError, match="`ax` must be"):
        keras_ls.risk_coverage(curve(), 3)


def test_nothing_to_draw_is_refused():
    for wrong in ({}, 3, {"a": keras_ls.reliability_curve([0], [0.5])}):
        with pytest.raises(ValueError, match="`curve_or_curves` must be a RiskCoverageCurve"):
            keras_ls.risk_coverage(wrong)


def test_the_dotted_line_is_that_of_a_perfect_ranking():
    one = curve(2, size=500)  # fewer than the points of a line
    _, perfect = keras_ls.risk_coverage(one).get_lines()
    assert perfect.get_ydata().mean() == pytest.approx(100 * (one.aurc() - one.excess_aurc()), rel=1e-6)
