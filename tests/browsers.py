"""A headless browser for tests of what pages show."""

import contextlib
import shutil

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromedriver are not installed")


@contextlib.contextmanager
def headless():
    """A browser without a window, which ends with the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.page_load_strategy = "eager"  # fonts and the like are not waited for
    for argument in (
        "--headless=new",
        "--no-sandbox",  # which root may not use
        "--disable-dev-shm-usage",
        "--window-size=1400,900",
        "--use-gl=angle",  # WebGL without a graphics card
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
