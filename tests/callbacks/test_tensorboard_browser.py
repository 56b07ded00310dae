"""TensorBoard, opened in a headless browser on the logs that the callbacks wrote: what its pages show.

Screenshots go to the test's temporary folder, or to the folder that KERAS_LS_SCREENSHOTS names.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
from browsers import headless, needs_browser
from harness import slow
from keras import layers

import keras_ls

exceptions = pytest.importorskip("selenium.common.exceptions", reason="selenium is not installed")
datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
pytestmark = needs_browser

RUNS = {"hard": 0.0, "smoothed": 0.1}
EPOCHS = 8
STATISTICS = {
    f"projection/{name}" for name in ("within", "between", "ratio", "template_distance", "template_distance_cv")
}
SECONDS = 180.0
# Pages of TensorBoard consist of shadow roots, which document.querySelector does not enter.
FIND_ALL = """
const found = (selector, root = document) => [...root.querySelectorAll('*')].flatMap(each => [
    ...(each.matches(selector) ? [each] : []), ...(each.shadowRoot ? found(selector, each.shadowRoot) : [])]);
"""


def train(folder, smoothing, digits):
    """A small network on 8×8 digits, watched by every callback that writes for TensorBoard."""
    keras.utils.set_random_seed(0)
    x, y = (digits.data / 16).astype("float32"), digits.target
    hidden = [layers.Dense(128, activation="relu"), layers.Dense(64, activation="relu")]
    model = keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(smoothing, from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    callbacks = [
        keras_ls.Calibration(x[1000:], y[1000:], from_logits=True, log_dir=folder, freq=4),
        keras_ls.PenultimateProjection(x[:1000], y[:1000], [3, 5, 8], folder, freq=4, examples_per_class=90),
        keras_ls.EmbeddingProjector(x, folder, labels=y, images=16 - digits.images, freq=4),
    ]
    return model.fit(x[:1000], y[:1000], epochs=EPOCHS, batch_size=50, verbose=0, callbacks=callbacks).history


@pytest.fixture(scope="module")
def digits():
    return datasets.load_digits()


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def histories(logdir, digits):
    """What the training of each run gave."""
    return {run: train(logdir / run, smoothing, digits) for run, smoothing in RUNS.items()}


@pytest.fixture(scope="module")
def address(logdir, histories):
    """Where a TensorBoard serves the runs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logdir, "--host", "127.0.0.1", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(SECONDS, server.kill)
    watchdog.start()
    try:
        found = next(filter(None, (re.search(r"http://\S+", line) for line in server.stderr)), None)
        watchdog.cancel()
        assert found, "TensorBoard did not start"
        threading.Thread(target=server.stderr.read, daemon=True).start()  # a full pipe would stop it
        yield active(found.group(0))
    finally:
        watchdog.cancel()
        server.terminate()
        server.wait()


def active(address):
    """`address`, once TensorBoard has found all that the runs have for it."""
    until = time.monotonic() + SECONDS
    while True:
        with urllib.request.urlopen(f"{address}data/plugins_listing") as response:
            plugins = json.load(response)
        if all(plugins[name]["enabled"] for name in ("scalars", "images", "projector", "timeseries")):
            return address
        assert time.monotonic() < until, plugins
        time.sleep(0.3)


@pytest.fixture(scope="module")
def browser():
    with headless() as driver:
        yield driver


@pytest.fixture
def screenshot(browser, tmp_path):
    folder = pathlib.Path(os.environ.get("KERAS_LS_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def save(name):
        assert browser.save_screenshot(str(folder / f"{name}.png"))

    return save


class Page:
    """A tab of TensorBoard's page."""

    def __init__(self, browser, address, tab):
        self.browser, self.address = browser, address
        browser.switch_to.default_content()
        browser.get("about:blank")
        browser.get(f"{address}#{tab}")

    def run(self, code, *arguments):
        return self.browser.execute_script(FIND_ALL + code, *arguments)

    def wait_for(self, look, what):
        """The first result of `look()` that is true."""
        until = time.monotonic() + SECONDS
        while not (result := self.attempt(look)):
            assert time.monotonic() < until, (
                f"the page does not show {what}: {self.run('return document.body.innerText')}"
            )
            time.sleep(0.3)
        return result

    def attempt(self, look):
        try:
            return look()
        except exceptions.WebDriverException:  # the page is just being exchanged
            return None


class Projector(Page):
    def __init__(self, browser, address):
        super().__init__(browser, address, "projector")
        self.wait_for(self.enters_frames, "a projector")

    def enters_frames(self):
        """Goes into the two frames in which the projector lies; says whether it shows points there."""
        self.browser.switch_to.default_content()
        for _ in range(2):
            self.browser.switch_to.frame(self.run("return found('iframe')[0]"))
        return self.shows_points()

    def panel(self, expression):
        """What a JavaScript expression of `panel`, the panel of the data's settings, says."""
        return self.run(f"const panel = found('vz-projector-data-panel')[0]; return panel && ({expression});")

    def choose(self, **settings):
        """Chooses in the panel, as its menus do, and waits for the points."""
        for name, value in settings.items():
            self.wait_for(lambda name=name, value=value: self.panel(f"(panel.{name} = '{value}')"), "settings")
            self.wait_for(self.shows_points, "points")

    def shows_points(self):
        return self.number() not in (None, "", "0", "Loading...") and self.panel("Boolean(panel.spriteAndMetadata)")

    def number(self):
        return self.run("return found('span.numDataPoints').map(each => each.innerText)[0]")


@pytest.fixture
def projector(browser, address):
    return Projector(browser, address)


def test_the_projector_offers_runs_and_epochs(projector):
    assert sorted(projector.panel("panel.runNames")) == sorted(RUNS)
    assert projector.panel("panel.tensorNames.map(each => each.name)") == ["epoch_0004", "epoch_0008"]
    assert projector.panel("panel.tensorNames.map(each => each.shape)") == [[1797, 64]] * 2


def test_the_projector_labels_and_searches_by_class_to_begin_with(projector):
    assert projector.panel("panel.selectedLabelOption") == "label"
    assert projector.run("return found('vz-projector-inspector-panel')[0].selectedMetadataField") == "label"


@pytest.mark.parametrize("run", ["hard", slow("smoothed")])
def test_the_projector_shows_every_example_to_be_coloured_by_label(projector, digits, run, screenshot):
    projector.choose(selectedRun=run)
    projector.choose(selectedTensor="epoch_0008")
    assert projector.number() == "1797"
    fields = {option["name"]: option for option in projector.panel("panel.colorOptions")}
    assert {"label", "prediction", "confidence", "correct"} <= set(fields)
    counts = {int(item["label"]): item["count"] for item in fields["label"]["items"]}
    assert counts == dict(enumerate(np.bincount(digits.target).tolist()))
    assert fields["confidence"]["thresholds"]  # a gradient
    hits = {item["label"]: item["count"] for item in fields["correct"]["items"]}
    assert set(hits) == {"1", "0"}
    assert hits["1"] > 1600
    projector.choose(selectedColorOptionName="label", selectedLabelOption="label")
    legend = "return found('vz-projector-legend').map(each => each.shadowRoot.textContent).join(' ')"
    projector.wait_for(lambda: "178" in projector.run(legend), "a legend")
    time.sleep(3)  # the cloud moves into place
    screenshot(f"projector_{run}")


def test_the_projector_draws_the_images(projector, digits):
    urls = projector.wait_for(
        lambda: projector.run(
            "return performance.getEntriesByType('resource').map(each => each.name).filter(n => n.includes('sprite'))"
        ),
        "sprites",
    )
    image = projector.panel("(image => [image.naturalWidth, image.naturalHeight])(panel.spriteAndMetadata.spriteImage)")
    assert image == [43 * 32, 43 * 32]  # 1797 images in 43 rows of 43, 8 pixels drawn as 32
    assert projector.panel("panel.spriteAndMetadata.spriteMetadata.singleImageDim") == [32, 32]
    assert all(urllib.parse.urlparse(url).path.endswith("/sprite_image") for url in urls)
    with urllib.request.urlopen(urls[0]) as response:
        assert response.read(8) == b"\x89PNG\r\n\x1a\n"


def picture_sizes(page, name):
    """The pictures of a tag, as [run, width]; False in place of the width before it is loaded."""
    return page.run(
        """
        return found('tf-image-loader').filter(each => each.tag === arguments[0]).map(each => [each.run,
            ...found('img', each.shadowRoot).map(image => image.complete && image.naturalWidth)]);
        """,
        name,
    )


def test_the_images_show_reliability_and_projection(browser, address, screenshot):
    page = Page(browser, address, "images")
    for name in ("projection/plane", "val_reliability_diagram"):

        def loaded(name=name):
            pictures = picture_sizes(page, name)
            return len(pictures) == 2 and all(len(each) > 1 and each[1] for each in pictures) and pictures

        pictures = page.wait_for(loaded, f"pictures {name}")
        assert sorted(run for run, _ in pictures) == sorted(RUNS)
        assert {width for _, width in pictures} == {700}  # twice the width in which they are shown
    time.sleep(1)
    screenshot("tensorboard_images")


def test_the_scalars_show_calibration_and_clusters(browser, address):
    page = Page(browser, address, "scalars")
    tags = "return found('tf-scalar-card').map(each => each.tag)"
    page.wait_for(lambda: set(page.run(tags)) >= STATISTICS, "curves of the clusters")
    groups = page.run("return found('tf-category-paginated-view').map(each => each.category && each.category.name)")
    assert {"projection", "val_ece", "val_nll", "val_temperature", "val_ece_scaled"} <= set(groups)


def test_the_time_series_show_the_numbers_of_each_run(browser, address, histories, screenshot):
    page = Page(browser, f"{address}?tagFilter=%5Eval_ece%24", "timeseries")
    card = "return found('scalar-card').map(each => each.innerText).join(' ')"

    def shows(history):
        numbers = re.findall(r"\d\.\d+(?:e-\d+)?", page.run(card))
        # The page rounds to four decimals.
        return any(float(number) == pytest.approx(history["val_ece"][-1], abs=5.1e-5) for number in numbers)

    for run, history in histories.items():
        page.wait_for(lambda history=history: shows(history), f"the last val_ece of {run}")
    # Cards out of sight load no pictures: show these two alone.
    page = Page(browser, f"{address}?tagFilter=projection%2Fplane%7Cval_reliability_diagram", "timeseries")
    pictures = "return found('image-card img').filter(each => each.naturalWidth).length"
    page.wait_for(lambda: page.run(pictures) > 1, "pictures")
    time.sleep(2)
    screenshot("tensorboard_time_series")
