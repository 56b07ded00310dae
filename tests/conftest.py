"""Options and fixtures of the test suite."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# Tests that serve pages ask this machine for them.
os.environ.update({name: f"{os.environ.get(name, '')},127.0.0.1,localhost" for name in ("no_proxy", "NO_PROXY")})

import keras
import numpy as np
import pytest


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")
    parser.addoption("--every", type=int, default=1, metavar="N", help="run only every N-th test")


def pytest_report_header():
    return f"keras {keras.__version__} on {keras.backend.backend()}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives a file to one process, so that what its tests share is made once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: "demos/" not in item.nodeid)  # the longest first, so that no process ends much later
    every = config.getoption("--every")
    if every > 1:
        kept = items[::every]
        config.hook.pytest_deselected(items=[item for i, item in enumerate(items) if i % every])
        items[:] = kept
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: needs --slow"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Fails a comparison that is skipped for want of the other library where all of them should be installed."""
    report = yield
    if report.skipped and "peer" in item.keywords and "slow" not in item.keywords and "KERAS_LS_PEERS" in os.environ:
        report.outcome = "failed"
    return report


def pytest_collection_finish():
    """Spares the garbage collector the objects of the imported packages, and most of its rounds through all others.

    They took a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], 50)


@pytest.fixture
def rng():
    return np.random.default_rng(1906)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(1906)
