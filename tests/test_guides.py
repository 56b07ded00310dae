"""The code of the guides runs from top to bottom, and gives what the guides say."""

import importlib.util
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import BACKEND, ROOT
from keras import ops

import keras_ls

DOCS = ROOT / "docs"
needs_keras_hub = pytest.mark.skipif(importlib.util.find_spec("keras_hub") is None, reason="KerasHub is not installed")


def run_guide(page, **given):
    """Runs the Python blocks of a page, those that need KerasHub only where it is; returns the names they define."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if importlib.util.find_spec("keras_hub") is None:
        text, _, _ = text.partition("import keras_hub")
    found = given
    keras.utils.set_random_seed(1906)
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S):
        line = text.count("\n", 0, block.start()) + 1
        exec(compile("\n" * line + block[1], str(DOCS / page), "exec"), found)
    return found


@pytest.fixture(scope="module")
def sequences():
    return run_guide("sequences.md")


@pytest.fixture(scope="module")
def classifiers():
    return run_guide("classifiers.md")


def fitted(calibrated):
    return float(ops.convert_to_numpy(calibrated.layers[-1].temperature))


def test_the_readme_trains_stops_and_calibrates_as_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = run_guide("../README.md")
    pattern = r"accuracy (0\.\d+), ECE (0\.\d+), after temperature scaling (0\.\d+)"
    said = re.search(pattern, (ROOT / "README.md").read_text(encoding="utf-8"))
    printed = re.search(pattern, capsys.readouterr().out)
    np.testing.assert_allclose(
        [float(value) for value in printed.groups()], [float(v) for v in said.groups()], atol=0.03
    )
    assert found["scaled_ece"] < found["ece"] / 2
    assert 5 < len(found["model"].history.epoch) < 50
    assert list((tmp_path / "logs").glob("events.out.tfevents.*"))


def test_the_diagnosis_page_finds_what_smoothing_mends():
    found = run_guide("diagnosis.md")
    hard, smoothed = found["hard"], found["smoothed"]
    assert [finding.verdict for finding in hard.findings[:3]] == ["over-confident", "helps", "worth trying"]
    assert abs(np.log(smoothed.estimates["temperature"].value)) < np.log(hard.estimates["temperature"].low)


@pytest.mark.slow
def test_the_decisions_follow_from_what_is_diagnosed(capsys):
    pytest.importorskip("sklearn", reason="the images and the table are scikit-learn's")
    found = run_guide("decisions.md")
    verdicts = {
        name: [diagnosis.findings[0].verdict for diagnosis in found[name].values()]
        for name in ("digits", "reading", "tumours")
    }
    assert verdicts["digits"][0] == "over-confident"
    error = {name: diagnosis.estimates["ece"].value for name, diagnosis in found["digits"].items()}
    assert max(error["scaled"], error["smoothed"]) < error["hard"] / 2
    assert verdicts["reading"][1] == "under-confident"
    assert verdicts["tumours"][1] == "under-confident"
    assert capsys.readouterr().out.count("excess_aurc") == 7


def test_the_losses_page_shows_how_to_find_labels_that_are_no_class():
    with pytest.raises(ValueError, match=re.escape("in [0, 3). Received: [-1, 3].")):
        run_guide("losses.md")


@pytest.mark.slow
@pytest.mark.skipif(BACKEND not in ("jax", "tensorflow"), reason="Keras 3.15 has no distribution for PyTorch")
def test_the_page_of_devices_gets_the_numbers_of_one_device(tmp_path):
    text = (DOCS / "devices.md").read_text(encoding="utf-8")
    programs = [block[1] for block in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)]
    (program,) = (program for program in programs if f'["KERAS_BACKEND"] = "{BACKEND}"' in program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    if BACKEND == "jax":
        program += "\nprint(len(keras.distribution.list_devices()))\n"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    printed = [np.array(re.findall(r"[\d.e-]+", line), float) for line in done.stdout.splitlines()]
    if BACKEND == "jax":
        assert printed[0] < 1e-5
        assert printed[-1] == 4  # else one device would be compared with itself
    else:
        assert [line.size for line in printed] == [4, 4]  # two epochs of losses, and of errors, on one and on several
        for line in printed:
            one, several = line.reshape(2, -1)
            np.testing.assert_allclose(several, one, atol=1e-5)


def test_the_page_of_the_fused_output_trains_and_saves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run_guide("fused_output.md")
    assert set(found["history"]) == {"loss", "accuracy", "nll", "ece"}
    assert found["history"]["loss"][1] < found["history"]["loss"][0]
    assert type(found["loaded"]) is type(found["model"])
    again = found["loaded"].predict(found["x"][:2], verbose=0)
    np.testing.assert_allclose(again, found["logits"], rtol=1e-5, atol=1e-6)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """What the pages on classifiers call their data: images of ten classes, to train on and held out."""
    monkeypatch.chdir(tmp_path)
    images, labels = np.random.default_rng(0).random((150, 8, 8, 1)).astype("float32"), np.arange(150) % 10
    return {"x_train": images[:100], "y_train": labels[:100], "x_val": images[100:], "y_val": labels[100:]}


def classifier(shape):
    """A compiled model of ten classes."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(12, "relu"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input(shape), *layers])
    model.compile("adam", keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True))
    return model


def test_the_calibration_page_watches_scales_and_draws(data, tmp_path):
    found = run_guide("calibration.md", model=classifier((8, 8, 1)), **data)
    assert {"val_ece", "val_nll", "val_aurc"} <= set(found["model"].history.history)
    assert fitted(keras.saving.load_model("calibrated.keras")) == pytest.approx(fitted(found["calibrated"]))
    assert found["curve"].count.sum() == len(data["y_val"])
    assert (tmp_path / "reliability.png").stat().st_size > 5000


def test_the_distillation_page_teaches_students(data):
    tensorflow = pytest.importorskip("tensorflow", reason="the page maps a dataset of tf.data")
    given = {name: values.reshape(len(values), -1) for name, values in data.items() if name.startswith("x")}
    given = data | given | {"augment": lambda x: x + np.random.random(), "binary_labels": data["y_train"] // 5}
    given["dataset"] = tensorflow.data.Dataset.from_tensor_slices((given["x_train"], data["y_train"])).batch(25)
    given["binary_teacher"] = keras.Sequential([keras.Input((64,)), keras.layers.Dense(1, "sigmoid")])
    found = run_guide("distillation.md", teacher=classifier((64,)), student=classifier((64,)), **given)
    assert found["logits"].shape == (800, 10)
    assert 0 < found["gamma"] < 2
    assert found["scatter"].ratio > 0
    assert keras.saving.load_model("student.keras").output_shape == (None, 10)


def test_the_projection_page_draws_and_64_features_are_enough_for_100_classes(data, tmp_path, capsys):
    pytest.importorskip("scipy", reason="the least loss is found by SciPy")
    found = run_guide("projection.md", model=classifier((8, 8, 1)), **data)
    assert found["activations"].shape == (50, 12)
    assert (tmp_path / "projection.png").stat().st_size > 5000
    assert (tmp_path / "logs" / "run1" / "activations" / "projector_config.pbtxt").exists()
    text = (DOCS / "projection.md").read_text(encoding="utf-8")
    said = re.search(r"cross-entropy\s+of\s+(0\.\d+),\s+barely\s+above\s+the\s+(0\.\d+)\s+of\s+an\s+exact", text)
    printed = re.search(r"(0\.\d+) with 64 features, (0\.\d+) with any number", capsys.readouterr().out)
    np.testing.assert_allclose(*([float(value) for value in found.groups()] for found in (printed, said)), atol=1e-3)


@pytest.mark.slow
def test_masked_steps_take_no_part(sequences):
    model, x, y = (sequences[name] for name in ("model", "x", "y"))
    held_out, is_token = slice(192, None), x[192:] != 0
    # The model was trained further since; its callback measured before.
    callback = keras_ls.Calibration(x[held_out], y[held_out], from_logits=True)
    logs = model.fit(
        x[:192], y[:192], validation_data=(x[held_out], y[held_out]), callbacks=[callback], verbose=0
    ).history
    measured = model.evaluate(x[held_out], y[held_out], return_dict=True, verbose=0)
    for name in ("ece", "nll"):
        np.testing.assert_allclose(logs[f"val_{name}"][-1], measured[name], rtol=1e-5)

    tokens = model.predict(x[held_out], verbose=0)[is_token]
    alone = keras_ls.TemperatureScaling().fit(tokens, y[held_out][is_token])
    np.testing.assert_allclose(
        fitted(keras_ls.calibrate(model, x[held_out], y[held_out])),
        float(ops.convert_to_numpy(alone.temperature)),
        rtol=1e-4,
    )


@pytest.mark.slow
def test_ignored_labels_take_no_part(sequences):
    curve, segments = sequences["curve"], sequences["segments"]
    assert curve.count.sum() == (segments != 255).sum()


def assert_same_hypotheses(cached, start, logits_of, sizes, **settings):
    """The results of a search with cached keys and values are those of one that reads each prefix anew."""
    batch, length = sizes

    def step(tokens, state):
        at = state["position"][0]
        prefix = ops.slice_update(state["prefix"], (0, at), tokens[:, None])
        return ops.take(logits_of(prefix), at, axis=1), {"prefix": prefix, "position": state["position"] + 1}

    state = {"prefix": ops.zeros((batch, length), "int32"), "position": start["position"]}
    anew = keras_ls.beam_search(step, state, batch, start_token=0, end_token=1, max_length=length, **settings)
    np.testing.assert_array_equal(ops.convert_to_numpy(cached.tokens), ops.convert_to_numpy(anew.tokens))
    np.testing.assert_allclose(ops.convert_to_numpy(cached.scores), ops.convert_to_numpy(anew.scores), rtol=1e-5)


@pytest.mark.slow
def test_cached_keys_and_values_change_no_hypothesis(sequences):
    embed, query, key, value, predict = (sequences[name] for name in ("embed", "query", "key", "value", "predict"))
    batch, steps, width = (sequences[name] for name in ("batch", "steps", "width"))

    def logits_of(prefix):
        embedded = embed(prefix)
        scores = ops.matmul(query(embedded), ops.transpose(key(embedded), (0, 2, 1))) / width**0.5
        scores = ops.where(np.tri(steps, dtype=bool), scores, -1e9)
        return predict(ops.matmul(ops.softmax(scores), value(embedded)))

    assert_same_hypotheses(
        sequences["result"], sequences["start"], logits_of, (batch, steps), beam_width=4, num_results=2
    )


@pytest.mark.skipif(BACKEND != "jax", reason="the compiled search of the page is for JAX")
def test_the_compiled_search_finds_the_same(sequences):
    for found, expected in zip(sequences["compiled"], sequences["result"], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.peer
@needs_keras_hub
def test_the_cache_of_keras_hub_changes_no_hypothesis(sequences):
    decoder = sequences["decoder"]

    def logits_of(prefix):
        return decoder({"token_ids": prefix, "padding_mask": ops.ones_like(prefix)}, training=False)

    assert_same_hypotheses(
        sequences["sentences"],
        {"position": ops.zeros((sequences["batch"],), "int32")},
        logits_of,
        (sequences["batch"], sequences["length"]),
        beam_width=4,
        length_penalty=1.0,
    )


@pytest.mark.slow
def test_one_sigmoid_unit_is_two_classes(classifiers):
    x, y, scaled = (classifiers[name] for name in ("x", "y", "scaled"))
    p = scaled.predict(x[400:], verbose=0)
    assert p.shape == (200, 1)
    columns = np.concatenate([1 - p, p], axis=1)
    np.testing.assert_allclose(
        keras_ls.calibration_error(y[400:], p[:, 0]), keras_ls.calibration_error(y[400:], columns), atol=1e-6
    )
    brier = keras_ls.BrierScore()
    brier.update_state(y[400:], p)
    np.testing.assert_allclose(float(brier.result()), 2 * np.mean((p[:, 0] - y[400:]) ** 2), rtol=1e-5)


@pytest.mark.slow
def test_each_output_has_a_temperature_of_its_own(classifiers):
    x = classifiers["x"]
    assert classifiers["kind"].predict(x, verbose=0).shape == (600, 4)
    assert classifiers["defect"].predict(x, verbose=0).shape == (600, 1)
    assert fitted(classifiers["kind"]) != fitted(classifiers["defect"])


@pytest.mark.slow
def test_several_sigmoids_are_refused(classifiers):
    with pytest.raises(ValueError, match="multi-label"):
        keras_ls.calibrate(classifiers["tags"], classifiers["x"], classifiers["marked"])


@pytest.mark.peer
@needs_keras_hub
def test_a_keras_hub_classifier_is_calibrated_without_its_preprocessor(classifiers):
    task, images, preprocessor = (classifiers[name] for name in ("classifier", "images", "preprocessor"))
    task.preprocessor = None
    logits = task.predict(preprocessor(images), verbose=0)
    task.preprocessor = preprocessor
    expected = ops.softmax(logits / fitted(classifiers["calibrated"]))
    np.testing.assert_allclose(classifiers["probabilities"], ops.convert_to_numpy(expected), atol=1e-5)
    with pytest.raises(ValueError, match="preprocessor"):
        keras_ls.calibrate(task, images, classifiers["classes"][:24])
