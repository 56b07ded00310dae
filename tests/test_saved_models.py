"""Models saved before modules moved, on the oldest Keras, load and give what they gave."""

import json

import keras
import numpy as np
import pytest
from harness import TESTS, numpy

import keras_ls  # noqa: F401  registers what the files hold

SAVED = TESTS / "data" / "saved"
EXPECTED = json.loads((SAVED / "expected.json").read_text(encoding="utf-8"))
X = np.linspace(-2, 2, 24).reshape(6, 4).astype("float32")
Y = {"sparse": np.arange(6) % 3, "one_hot": np.eye(3, dtype="float32")[np.arange(6) % 3]}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_saved_models_load_and_give_what_they_gave(name):
    model, expected = keras.saving.load_model(SAVED / f"{name}.keras"), EXPECTED[name]
    np.testing.assert_allclose(numpy(model(X)), expected["predictions"], rtol=1e-5, atol=1e-6)
    if "evaluate" in expected:
        found = model.evaluate(X, Y[name], verbose=0, return_dict=True)
        assert found == pytest.approx(expected["evaluate"], rel=1e-5)
