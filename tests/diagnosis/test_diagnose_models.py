"""Diagnoses of models, on every kind of data, and the command line."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
from harness import ROOT
from keras import Input, Model, Sequential, layers

import keras_ls
from keras_ls.diagnosis.cli import main

FAST = {"num_resamples": 10}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240)
    return (2 * np.eye(3)[y] + rng.normal(size=(240, 3))).astype("float32"), y


def classifier(activation=None, units=3):
    identity = layers.Dense(units, activation=activation, kernel_initializer="identity", name="head")
    return Sequential([Input((3,)), layers.Activation("linear"), identity])


def tagger():
    inputs = Input((None, 3))
    return Model(inputs, layers.Dense(3, kernel_initializer="identity")(inputs))


def test_logits_softmax_and_predictions_agree(data):
    x, y = data
    expected = keras_ls.diagnose_predictions(y, x, from_logits=True, **FAST)
    for activation in (None, "softmax"):
        found = keras_ls.diagnose(classifier(activation), x, y, **FAST)
        assert found.findings[0].verdict == expected.findings[0].verdict
        for name, estimate in expected.estimates.items():
            np.testing.assert_allclose(found.estimates[name].value, estimate.value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_settings_and_weights_reach_the_measurements(data):
    x, y = data
    how = {"num_bins": 4, "seed": 3, "sample_weight": 1 + np.arange(240) % 3, "num_resamples": 10}
    found = keras_ls.diagnose(classifier(), x, y, **how).estimates
    expected = keras_ls.diagnose_predictions(y, x, from_logits=True, **how).estimates
    for name, estimate in expected.items():
        np.testing.assert_allclose(found[name].value, estimate.value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_training_data_add_clusters_and_what_they_teach(data):
    x, y = data
    model = classifier("softmax")
    found = keras_ls.diagnose(model, x, y, x_train=x, y_train=y, **FAST)
    collapse = keras_ls.neural_collapse(x, y, keras_ls.class_templates(model))
    statistics = keras_ls.cluster_statistics(x, y, keras_ls.class_templates(model))
    gamma = keras_ls.equivalent_smoothing(x, y)
    expected = {**vars(collapse), **vars(statistics), "gamma": gamma}
    for name, value in expected.items():
        estimate = found.estimates[name]
        np.testing.assert_allclose(estimate.value, value, rtol=1e-5, atol=1e-9, err_msg=name)
        if name.startswith("template"):  # which no training example changes
            assert estimate.low == estimate.value == estimate.high, name
        else:
            assert estimate.low < estimate.value < estimate.high < np.inf, name
    assert [finding.topic for finding in found.findings[-2:]] == ["clusters", "teaching"]
    again = keras_ls.diagnose(model, x, y, x_train=Batches(x, y), **FAST)
    assert again.estimates["gamma"] == found.estimates["gamma"]


class Batches:
    """A dataset of two batches, as any iterable is."""

    def __init__(self, *arrays):
        self.parts = [tuple(array[part] for array in arrays) for part in (slice(100), slice(100, None))]

    def __iter__(self):
        return iter(self.parts)


class NoBatches:
    """A dataset without batches that does not say so."""

    def __iter__(self):
        return iter(())


@pytest.mark.parametrize("classes", [2, 3])
def test_angles_of_two_classes_or_few_features_say_nothing(data, classes):
    x, y = data
    head = layers.Dense(1, activation="sigmoid") if classes == 2 else layers.Dense(3, activation="softmax")
    model = Sequential([Input((3,)), layers.Dense(3 if classes == 2 else 1, activation="tanh"), head])
    y = y % classes
    found = keras_ls.diagnose(model, x, y, x_train=x, y_train=y, **FAST)
    assert found.num_classes == classes
    templates = keras_ls.class_templates(model)
    if classes == 2:
        templates = np.concatenate([np.zeros_like(templates), templates])
    expected = keras_ls.neural_collapse(keras_ls.penultimate_activations(model, x), y, templates)
    for name in ("means_angle", "templates_angle"):
        estimate = found.estimates[name]
        assert estimate.value == pytest.approx(getattr(expected, name), abs=1e-6)
        assert np.isnan([estimate.low, estimate.high]).all()
    assert "Cosines" not in found.findings[-2].text
    assert np.isfinite(found.estimates["cdnv"].high)
    assert any("Angles" in note for note in found.notes)


def test_masked_steps_weights_outputs_and_datasets(data):
    x, y = data
    steps = np.where(np.arange(6) < 4, 1 + np.arange(240)[:, None] % 5, 0)
    inputs = Input((6,), dtype="int32")
    hidden = layers.Embedding(6, 4, mask_zero=True)(inputs)
    model = Model(inputs, {"tag": layers.Dense(3, name="tag")(hidden), "other": layers.Dense(2, name="other")(hidden)})
    labels = {"tag": np.repeat(y[:, None], 6, 1)}
    found = keras_ls.diagnose(model, steps, labels, output="tag", x_train=steps, y_train=labels, **FAST)
    assert (found.num_examples, found.num_predictions) == (240, 960)
    dataset = keras_ls.diagnose(classifier(), Batches(x, y), **FAST)
    assert str(dataset) == str(keras_ls.diagnose(classifier(), x, y, batch_size=100, **FAST))
    weight = np.repeat([1.0, 0.0], 120)
    half = keras_ls.diagnose(classifier(), x, y, sample_weight=weight, **FAST)
    assert half.num_predictions == 120


def test_masked_positions_of_several_axes_do_not_count_on_training_data(rng):
    model = Sequential([Input((3, 4, 6)), layers.Masking(), layers.Dense(5)])
    x, y = rng.normal(size=(40, 3, 4, 6)).astype("float32"), rng.integers(0, 5, (40, 3, 4))
    x[:, 2], y[:, 2] = 0, -1
    found = keras_ls.diagnose(model, x, y, x_train=x, y_train=y, **FAST)
    expected = keras_ls.neural_collapse(x[:, :2].reshape(-1, 6), y[:, :2].reshape(-1), keras_ls.class_templates(model))
    assert found.estimates["cdnv"].value == pytest.approx(expected.cdnv, rel=1e-4)


def test_a_last_dense_for_each_step_of_one_prediction_is_named_not_its_mask(data):
    steps = 1 + np.arange(240)[:, None] % 5 * np.ones((1, 4), "int32")
    inputs = Input((4,), dtype="int32")
    scores = layers.Dense(3)(layers.Embedding(6, 4, mask_zero=True)(inputs))
    model = Model(inputs, layers.GlobalAveragePooling1D()(scores))
    with pytest.raises(ValueError, match=r"its last Dense one row per prediction. Received: 960 rows for 240"):
        keras_ls.diagnose(model, steps, data[1], x_train=steps, y_train=data[1], from_logits=True, **FAST)


def test_sequences_of_several_batches_stay_apart(data):
    x, y = data[0].reshape(120, 2, 3), data[1].reshape(120, 2)
    found = keras_ls.diagnose(tagger(), Batches(x, y), **FAST)
    assert (found.num_examples, found.num_predictions) == (120, 240)
    assert str(found) == str(keras_ls.diagnose(tagger(), x, y, batch_size=100, **FAST))


def test_gamma_is_of_the_training_steps_that_count():
    rng = np.random.default_rng(0)
    inputs = Input((6,), dtype="int32")
    hidden = layers.Embedding(7, 4, mask_zero=True, embeddings_initializer="orthogonal")(inputs)
    model = Model(inputs, layers.Dense(3)(hidden))
    x, y, weight = rng.integers(1, 7, (240, 6)), rng.integers(0, 3, (240, 6)), 1.0 * (np.arange(240) < 150)
    x[:, 5], y[0] = 0, -1
    found = keras_ls.diagnose(model, x, y, x_train=Batches(x, y, weight), ignore_class=-1, **FAST)
    logits = model.predict(x[1:150], verbose=0)[:, :5]
    expected = keras_ls.equivalent_smoothing(logits.reshape(-1, 3), y[1:150, :5].reshape(-1))
    assert found.estimates["gamma"].value == pytest.approx(expected, rel=1e-5)


def test_a_feature_that_no_template_reads_changes_no_distance(data):
    x, y = data
    noise = 30 * np.random.default_rng(0).normal(size=(240, 1))
    noisy = np.concatenate([x, noise], axis=1).astype("float32")
    model = Sequential([Input((4,)), layers.Dense(3, kernel_initializer="identity")])
    found = keras_ls.diagnose(model, noisy, y, x_train=noisy, y_train=y, **FAST).estimates
    expected = keras_ls.diagnose(classifier(), x, y, x_train=x, y_train=y, **FAST).estimates
    for name in ("within", "between", "ratio"):
        limits = [[each.value, each.low, each.high] for each in (found[name], expected[name])]
        np.testing.assert_allclose(*limits, rtol=1e-4, err_msg=name)


def test_a_higher_level_gives_wider_intervals(data):
    x, y = data
    narrow, wide = (
        keras_ls.diagnose(classifier(), x, y, x_train=x, y_train=y, level=level, **FAST).estimates
        for level in (0.5, 0.99)
    )
    for name, estimate in narrow.items():
        if "norm" not in name and not name.startswith("template"):
            assert estimate.high - estimate.low < wide[name].high - wide[name].low, name


def test_training_data_are_resampled_by_examples_not_by_steps(data, monkeypatch):
    x, y = data
    model = tagger()
    steps, labels = np.repeat(x[:, None], 9, 1), np.repeat(y[:, None], 9, 1)
    alone = keras_ls.diagnose(classifier(), x, y, x_train=x, y_train=y, **FAST).estimates
    copies = keras_ls.diagnose(model, x[:, None], y[:, None], x_train=steps, y_train=labels, **FAST)
    batches = keras_ls.diagnose(model, x[:, None], y[:, None], x_train=Batches(steps, labels), **FAST)
    assert batches.estimates["gamma"] == copies.estimates["gamma"]
    for name in ("gamma", "cdnv", "ratio"):
        found, expected = copies.estimates[name], alone[name]
        assert found.value == pytest.approx(expected.value, rel=1e-4)
        # Nine copies of each step tell no more than one; taken for examples they would, by a factor of 3.
        assert 0.6 < (found.high - found.low) / (expected.high - expected.low) < 1.6, name
    monkeypatch.setattr("keras_ls.diagnosis._geometry.MOST_EXAMPLES", 100)
    some = keras_ls.diagnose(model, x[:, None], y[:, None], x_train=Batches(steps, labels), **FAST)
    assert any("100 of 2,160 training predictions" in note for note in some.notes)
    some = keras_ls.diagnose(classifier(), x, y, x_train=x, y_train=y, **FAST)
    assert any("100 of 240 training examples" in note for note in some.notes)
    assert some.estimates["cdnv"].value == pytest.approx(alone["cdnv"].value, rel=0.5)
    some = keras_ls.diagnose(model, x[:, None], y[:, None], x_train=steps, y_train=labels, **FAST)
    assert [note.partition(" training ")[0] for note in some.notes[-2:]] == [
        "Clusters are those of 100 of 240",
        "Clusters are those of 100 of 900",
    ]
    monkeypatch.setattr("keras_ls.diagnosis._geometry.MOST_EXAMPLES", 10)  # fewer than 20 of each class
    some = keras_ls.diagnose(classifier(), x, y, x_train=x, y_train=y, **FAST)
    assert any("60 of 240 training examples" in note for note in some.notes)


def test_a_few_long_training_sequences_have_no_intervals(data):
    x, y = data
    long = np.repeat(x[None], 3, 0), np.repeat(y[None], 3, 0)
    found = keras_ls.diagnose(tagger(), x[:, None], y[:, None], x_train=long[0], y_train=long[1], **FAST)
    assert np.isfinite(found.estimates["cdnv"].value)
    assert np.isnan([found.estimates[name].high for name in ("cdnv", "ratio", "gamma", "nearest_mean_agreement")]).all()
    assert [finding.verdict for finding in found.findings[-2:]] == ["cannot tell"] * 2
    assert any("Fewer than 5 training examples" in note for note in found.notes)


def test_training_data_of_one_class(data):
    x, y = data
    zeros = np.zeros(240, int)
    found = keras_ls.diagnose(classifier(), x, y, x_train=x, y_train=zeros, **FAST).estimates["gamma"]
    assert found.value == pytest.approx(keras_ls.equivalent_smoothing(x, zeros), rel=1e-5)
    assert found.low < found.value < found.high < np.inf


def test_bad_arguments(data):
    x, y = data
    with pytest.raises(ValueError, match="`y_train` must be given"):
        keras_ls.diagnose(classifier(), x, y, x_train=x)
    with pytest.raises(ValueError, match="`y_train` must come with"):
        keras_ls.diagnose(classifier(), x, y, y_train=y)
    with pytest.raises(ValueError, match="same length"):
        keras_ls.diagnose(classifier(), x, y[:-1])
    with pytest.raises(ValueError, match="`x_train` and `y_train` must be of the same length"):
        keras_ls.diagnose(None, x, y, x_train=x, y_train=y[:-1])  # before the model is asked
    with pytest.raises(ValueError, match="`x_train` must be of a shape that the model takes"):
        keras_ls.diagnose(classifier(), x, y, x_train=x[:, :-1], y_train=y)
    with pytest.raises(ValueError, match="`y_train` must be None if `x_train` is a dataset"):
        keras_ls.diagnose(classifier(), x, y, x_train=Batches(x, y), y_train=y)
    with pytest.raises(ValueError, match="`x_train` must hold"):
        keras_ls.diagnose(classifier(), x, y, x_train=NoBatches(), **FAST)
    with pytest.raises(ValueError, match="`x_train` must be an array or a dataset that can be read repeatedly"):
        keras_ls.diagnose(classifier(), x, y, x_train=iter([(x, y)]), **FAST)


def test_training_data_that_are_not_finite_are_named(data):
    x, y = data
    for broken in (np.nan, np.inf):
        bad = x.copy()
        bad[3] = broken
        with pytest.raises(ValueError, match="`x_train` must give finite activations"):
            keras_ls.diagnose(classifier(), x, y, x_train=bad, y_train=y, **FAST)


def test_the_command_line(data, tmp_path, capsys, monkeypatch):
    x, y = data
    model, arrays, predictions = (str(tmp_path / name) for name in ("m.keras", "d.npz", "p.npz"))
    classifier().save(model)
    np.savez(arrays, x=x, y=y)
    np.savez(predictions, logits=x, labels=y)
    assert main(["diagnose", model, arrays, "--num-resamples", "10", "--json", str(tmp_path / "a.json")]) == 0
    first = capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["diagnose", predictions, "--num-resamples", "10", "--html", str(page)]) == 0
    assert capsys.readouterr().out == first
    assert "confidence: " in first
    assert (tmp_path / "a.json").stat().st_size > 1000
    assert page.read_text(encoding="utf-8").count("<svg") == 3
    np.savez(arrays, x=x)
    strange = [str(tmp_path / f"{name}.npz") for name in ("unused", "objects", "bfloat16", "other")]
    np.savez(strange[0], logits=x, labels=y, files=np.array(["a", None]))
    assert main(["diagnose", strange[0], "--num-resamples", "10"]) == 0
    assert capsys.readouterr().out == first
    np.savez(strange[1], logits=x, labels=y, sample_weight=np.array(None))
    np.savez(strange[2], logits=np.zeros(4, "V2"), labels=y)
    np.savez(strange[3], outputs=x, labels=y)
    for arguments, message in (
        ([model, arrays], "must hold the arrays x and y. Received: x."),
        ([str(tmp_path / "absent.npz")], "There is no file"),
        ([model], "must hold the arrays"),
        (strange[1:2], f"The array sample_weight of {strange[1]} cannot be read: Object arrays"),
        (strange[2:3], f"The array logits of {strange[2]} is of a dtype that .npz files lose, such as bfloat16"),
        (strange[3:], "must hold the arrays logits or probabilities and labels. Received: labels, outputs."),
        ([predictions, "--html", str(tmp_path / "no" / "p.html")], "no folder"),
        ([predictions, "--html", str(tmp_path)], "is a folder"),
        ([predictions, "--json", predictions], "--html and --json must be files of their own"),
        ([predictions, "--json", str(tmp_path / "x"), "--html", str(tmp_path / "x")], "must be files of their own"),
        ([predictions, "--level", "2"], "`level`"),
        ([predictions, "--from-logits"], "--from-logits needs a model"),
    ):
        assert main(["diagnose", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:  # the diagnosis is not lost
        patch.setattr("keras_ls.diagnosis.report.Diagnosis.to_html", full)
        assert main(["diagnose", predictions, "--num-resamples", "10", "--html", str(page)]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == (first, "keras-ls diagnose: No space left on device\n")

    def out_of_memory(*args, **kwargs):
        raise MemoryError("8 GB\nare too many")

    monkeypatch.setattr("keras_ls.diagnosis.cli.diagnose_predictions", out_of_memory)
    assert main(["diagnose", predictions]) == 2
    assert capsys.readouterr().err == "keras-ls diagnose: MemoryError: 8 GB are too many\n"


def test_the_command_line_hands_on_every_option_and_array(data, tmp_path):
    x, y = data
    inputs = Input((3,))
    head = layers.Dense(3, kernel_initializer="identity", name="head")(inputs)
    model = Model(inputs, {"head": head, "other": layers.Dense(2, name="other")(inputs)})
    model.save(tmp_path / "m.keras")
    probabilities = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    labels, weight = np.where(np.arange(240) < 40, -1, y), 1 + np.arange(240) % 3
    np.savez(tmp_path / "p.npz", probabilities=probabilities, labels=labels, sample_weight=weight)
    np.savez(tmp_path / "d.npz", x=x, y=labels, sample_weight=weight, x_train=x[:200], y_train=y[:200])
    options = {"num_bins": 7, "level": 0.9, "num_resamples": 12, "seed": 3, "ignore_class": -1}
    flags = [part for name, value in options.items() for part in ("--" + name.replace("_", "-"), str(value))]
    options["sample_weight"] = weight
    training = {"x_train": x[:200], "y_train": y[:200], "output": "head", "from_logits": True}
    for files, more, expected in (
        (["p.npz"], [], keras_ls.diagnose_predictions(labels, probabilities, **options)),
        (
            ["m.keras", "d.npz"],
            ["--output", "head", "--from-logits"],
            keras_ls.diagnose(model, x, labels, **training, **options),
        ),
    ):
        command = ["diagnose", *(str(tmp_path / file) for file in files), *flags, *more]
        assert main([*command, "--json", str(tmp_path / "found.json")]) == 0
        expected.to_json(tmp_path / "expected.json")
        found, expected = (json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in ("found", "expected"))
        assert found == expected


def test_the_command_line_names_damaged_files_and_survives_a_narrow_encoding(data, tmp_path, capsys, monkeypatch):
    x, y = data
    arrays, broken, empty = (tmp_path / name for name in ("d.npz", "broken.npz", "empty.keras"))
    np.savez_compressed(arrays, logits=x, labels=y, x=x, y=y)
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    broken.write_bytes(content)
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("metadata.json", "{}")
    for files, message in (([broken], "broken.npz cannot be read"), ([empty, arrays], "empty.keras cannot be read")):
        assert main(["diagnose", *map(str, files)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", narrow)
    target = tmp_path / "a.json"
    assert main(["diagnose", str(arrays), "--num-resamples", "10", "--json", str(target)]) == 0
    assert json.loads(target.read_text(encoding="utf-8"))["num_examples"] == len(y)
    narrow.flush()
    assert "accuracy" in narrow.buffer.getvalue().decode("cp1252")


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/stdout")
def test_the_command_line_in_a_shell(data, tmp_path):
    x, y = data
    np.savez(tmp_path / "p.npz", logits=x, labels=y)
    program = "import sys; from keras_ls.diagnosis.cli import main; sys.exit(main())"
    command = f'{sys.executable} -c "{program}" diagnose p.npz --num-resamples 5'
    (tmp_path / "all.log").write_text("kept\n")
    for line, status in (
        (f"{command} --json /dev/stdout >> all.log", 0),
        (f"{command} --json a.json >&-", 0),
        (f"{command} | true; exit ${{PIPESTATUS[0]}}", 2),
    ):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("keras-ls diagnose:")) == (status, int(status > 0)), done.stderr
        assert "Exception ignored" not in done.stderr
    log = (tmp_path / "all.log").read_text("utf-8")
    assert log.startswith("kept\nDiagnosis of")
    assert log.endswith("}\n")
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["num_examples"] == len(y)


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes")
def test_files_are_written_through_links_and_into_pipes(data, tmp_path):
    x, y = data
    found = keras_ls.diagnose_predictions(y, x, from_logits=True, num_resamples=10)
    target, link, pipe = (tmp_path / name for name in ("a.json", "link.json", "pipe"))
    link.symlink_to(target)
    found.to_json(link)
    assert link.is_symlink()
    assert json.loads(target.read_text(encoding="utf-8"))["num_examples"] == len(y)
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")))
    read = []
    reader.start()
    found.to_json(pipe)
    reader.join(10)
    assert read == [target.read_text(encoding="utf-8")]
    assert pipe.is_fifo()


def test_classes_of_one_example_and_means_that_coincide_have_no_intervals_of_spreads(data):
    x, y = data
    rng = np.random.default_rng(0)
    points, classes = rng.normal(size=(3, 3)), np.arange(3)
    found = keras_ls.diagnose(classifier(), x, y, x_train=points, y_train=classes, **FAST)
    for name in ("cdnv", "within", "ratio", "variability"):
        assert np.isnan([found.estimates[name].low, found.estimates[name].high]).all(), name
    assert [finding.verdict for finding in found.findings[-2:]] == ["cannot tell", "cannot tell"]
    assert any("single example" in note for note in found.notes)
    points, classes = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]]), [0, 0, 1, 1]
    found = keras_ls.diagnose(classifier(), x, y, x_train=points, y_train=classes, **FAST)
    assert found.findings[-2].verdict == "cannot tell"


def test_gamma_is_of_what_the_model_gives(data):
    x, y = data
    scaled = keras_ls.calibrate(classifier(), x, y)
    found = keras_ls.diagnose(scaled, x, y, x_train=x, y_train=y, **FAST).estimates["gamma"]
    expected = keras_ls.equivalent_smoothing(scaled.predict(x, verbose=0), y, from_logits=False)
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert found.value != pytest.approx(keras_ls.equivalent_smoothing(x, y), rel=1e-2)


def test_a_few_sequences_do_not_tell_the_accuracy(data):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 100, 3)), np.zeros((2, 100), int)
    logits[:, :50, 0] = 9  # about as often right in both
    found = keras_ls.diagnose_predictions(labels, logits, from_logits=True, num_resamples=20).estimates["accuracy"]
    assert found.high - found.low > 0.1


def test_one_sure_prediction_does_not_tell_the_temperature():
    found = keras_ls.diagnose_predictions([0], [[1000.0, 0.0, 0.0]], from_logits=True)
    assert 10 < found.estimates["temperature"].high <= 100
    assert found.findings[0].verdict == "cannot tell"
    for name in ("nll_scaled", "calibration_loss", "ece_scaled"):  # there is no other half
        assert np.isnan(dataclasses.astuple(found.estimates[name])).all()


def test_levels_next_to_one_are_taken():
    found = keras_ls.diagnose_predictions([0, 1, 0], [[2.0, 1, 0]] * 3, from_logits=True, level=1 - 2**-53)
    assert found.estimates["accuracy"].low < 0.02
