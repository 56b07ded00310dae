"""What all tests of demos have in common."""

import tempfile

import pytest

from demos.kit import checkpoints
from demos.kit.options import CACHE_VARIABLE, DATA_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def _a_checkpoint_after_each_epoch():
    """Small networks have all their epochs within seconds, and tests stop their training between any two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _places_of_their_own():
    """Neither the user's cache, which a demo may be filling behind a lock, nor the user's data."""
    # Not in a test's own directory, which a demo refuses to write to where it holds the cache.
    with tempfile.TemporaryDirectory() as cache, pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, cache)
        patch.delenv(DATA_VARIABLE, raising=False)
        yield
