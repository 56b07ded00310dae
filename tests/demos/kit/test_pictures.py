"""Pictures as files."""

import warnings

from matplotlib.figure import Figure

from demos.kit import pictures


def test_characters_that_the_font_lacks_are_no_warnings(tmp_path):
    figure = Figure()
    figure.suptitle("狗")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.save(figure, [tmp_path / "a.png"])
    assert (tmp_path / "a.png").stat().st_size > 0
