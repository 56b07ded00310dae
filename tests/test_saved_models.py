"""Models saved before modules moved, on the oldest Keras, give what they gave; exported ones need no keras_ls."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import BACKEND, TESTS, numpy

import keras_ls  # registers what the files hold

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


@pytest.mark.skipif(BACKEND != "tensorflow", reason="exports a SavedModel")
def test_an_exported_calibrated_model_is_served_without_the_package(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    labels = np.where(np.arange(6) < 4, model.predict(X, verbose=0).argmax(-1), 0)
    calibrated = keras_ls.calibrate(model, X, labels)
    calibrated.export(str(tmp_path / "served"), verbose=False)
    np.save(tmp_path / "x.npy", X)
    program = """
import sys, numpy as np, tensorflow as tf
served = tf.saved_model.load("served")
np.save("found.npy", served.serve(np.load("x.npy")))
assert "keras_ls" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), calibrated.predict(X, verbose=0), rtol=1e-5)
