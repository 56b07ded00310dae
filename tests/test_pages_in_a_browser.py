"""Pages of the package and of the demos: they fit a phone and a desktop, read well in light and dark, and print."""

import base64

import numpy as np
import pytest
from browsers import headless, needs_browser
from harness import ROOT

import keras_ls
from demos.reproduce import report
from demos.reproduce.experiment import TITLES

pytestmark = needs_browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of a diagnosis with long names of classes, and the report of the stored results."""
    folder, rng = tmp_path_factory.mktemp("pages"), np.random.default_rng(0)
    labels, logits = rng.integers(0, 40, 400), 3 * rng.normal(size=(400, 40))
    keras_ls.diagnose_predictions(labels, logits, num_resamples=5, from_logits=True).to_html(folder / "diagnosis.html")
    report.write(ROOT / "docs" / "reproduction" / "results", "smoke", list(TITLES), folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    with headless() as driver:
        yield driver


@pytest.mark.parametrize("name", ["diagnosis", "report"])
class TestPage:
    @pytest.mark.parametrize("width", [360, 1400])
    def test_it_is_as_wide_as_the_screen(self, pages, browser, name, width):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((pages / f"{name}.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script("return document.documentElement.scrollHeight") > 1000
        broken = "return [...document.images].filter(each => !(each.complete && each.naturalWidth)).length"
        assert browser.execute_script(broken) == 0

    def test_it_asks_for_nothing_else(self, pages, browser, name):
        browser.get((pages / f"{name}.html").as_uri())
        asked = "return performance.getEntriesByType('resource').map(each => each.name)"
        assert not [each for each in browser.execute_script(asked) if not each.startswith("data:")]

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_its_text_stands_out_in(self, pages, browser, name, scheme):
        preference = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
        browser.get((pages / f"{name}.html").as_uri())
        style = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        page, text = (brightness(each) for each in browser.execute_script(style))
        assert (page > text) == (scheme == "light")
        assert abs(page - text) > 150

    def test_it_can_be_printed(self, pages, browser, name):
        browser.get((pages / f"{name}.html").as_uri())
        printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
        assert printed.startswith(b"%PDF")
        assert len(printed) > 20_000


def brightness(colour):
    """0 to 255, of rgb(…)."""
    return float(np.mean([float(part) for part in colour.strip("rgba()").split(",")[:3]]))
