"""What all tests of demos have in common."""

import pytest

from demos.kit import checkpoints


@pytest.fixture(scope="session", autouse=True)
def _a_checkpoint_after_each_epoch():
    """Small networks have all their epochs within seconds, and tests stop their training between any two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        yield
