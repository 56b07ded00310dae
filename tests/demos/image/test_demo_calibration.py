"""The image demo from its command line: what it writes, how it is resumed, what it refuses."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import BACKEND, WITHOUT_XLA, slow
from image_files import cifar_like, image_folders

import keras_ls
from demos.image import calibration, data
from demos.image.analysis import smoothing
from demos.kit import checkpoints, epochs, measures
from demos.kit.seeds import DATA_SEED

for package in ("sklearn", "PIL"):
    pytest.importorskip(package, reason='the demos need pip install -e ".[demos]"')

ROOT = pathlib.Path(__file__).parents[3]
SMALL = [*WITHOUT_XLA, "--hidden", "16", "--steps", "12", "--batch-size", "300"]


@pytest.fixture
def short_epochs(monkeypatch):
    """Epochs of 4 steps where a pass over the data is shorter."""
    monkeypatch.setattr(epochs, "SHORTEST_EPOCH", 4)


def run(out, *arguments):
    """Runs the demo in this process; returns results.json."""
    assert calibration.main([*arguments, "--out", str(out)]) == 0
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The directory of a run of one network, which tests copy before they change it, and its results."""
    out = tmp_path_factory.mktemp("one") / "out"
    return out, run(out, *SMALL, "--label-smoothing", "0.1", "--seeds", "0")


def refused(capsys, *arguments):
    """Runs the demo, which must exit with status 2; returns the one line it says."""
    with pytest.raises(SystemExit) as stopped:
        calibration.main(list(arguments))
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def numbers(results):
    """What a run must reproduce, as an array."""
    return np.array([[run[name] for name in smoothing.MEASURES] for run in results["trials"]], "float64")


class TestRun:
    def test_what_it_writes_and_prints(self, tmp_path, capsys, short_epochs):
        out = tmp_path / "out"
        results = run(out, *SMALL, "--label-smoothing", "0", "0.1", "--seeds", "0", "5")
        assert [(r["label_smoothing"], r["seed"]) for r in results["trials"]] == [(0, 0), (0.1, 0), (0, 5), (0.1, 5)]
        assert results["label_smoothing"] == [0, 0.1]
        assert results["seeds"] == [0, 5]
        assert results["settings"]["noise"] == 0.4
        assert results["settings"]["steps"] == 12
        assert results["settings"]["data"]["held_out_images"] == 897
        assert results["provenance"]["backend"] == BACKEND
        assert {"python", "keras", "keras_ls", "numpy", BACKEND} == set(results["provenance"]["versions"])
        assert "half" in results["evaluation"]
        for row in results["summary"]:
            group = [r for r in results["trials"] if r["label_smoothing"] == row["label_smoothing"]]
            for name in smoothing.MEASURES:
                a, b = (r[name] for r in group)
                assert row[name]["mean"] == pytest.approx((a + b) / 2)
                assert row[name]["sd"] == pytest.approx(abs(a - b) / 2**0.5)
        for line in results["series"]:
            assert sum(line["curve"]["count"]) == sum(line["curve_scaled"]["count"]) == 2 * 897
        for one in results["trials"]:
            assert 0 <= one["ece"] <= 1
            assert measures.curve_from_json(one["curve"]).ece() == pytest.approx(one["ece"])
            assert [epoch["epoch"] for epoch in one["history"]] == [1, 2, 3]
            assert {"loss", "accuracy", "val_ece", "val_temperature"} <= set(one["history"][-1])
            directory = out / f"alpha-{one['label_smoothing']}" / f"seed-{one['seed']}"
            assert list(directory.glob("events.out.tfevents.*"))
            assert not list(directory.glob("checkpoint*"))

        from PIL import Image

        with Image.open(out / "reliability.png") as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(2**24)) > 50  # something was drawn
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == f"tensorboard --logdir {out}"
        header = next(line for line in lines if line.startswith("α "))
        assert header.split("  ")[0] == "α"
        assert header.endswith("  excess AURC")
        assert any(line.startswith("0.1 ") and line.count("±") == 6 for line in lines)

    def test_saved_network_gives_the_numbers(self, one):
        out, results = one
        model = keras.models.load_model(out / "alpha-0.1" / "seed-0" / "model.keras")
        images = data.load("digits", noise=0.4)
        accuracy = np.mean(model.predict(images.x_test, verbose=0).argmax(-1) == images.y_test)
        assert accuracy == pytest.approx(results["trials"][0]["accuracy"])
        assert model.loss.label_smoothing == 0.1

    @pytest.mark.slow
    def test_noisy_digits_are_calibrated_by_smoothing_and_clean_ones_are_not(self, tmp_path):
        arguments = ["--steps", "400", "--seeds", "0", "--label-smoothing", "0", "0.05"]
        hard, smooth = run(tmp_path / "noisy", *arguments)["trials"]
        assert 0.7 < hard["accuracy"] < 0.8
        assert hard["ece"] > 0.12
        assert smooth["ece"] < hard["ece"] / 2
        assert hard["ece_scaled"] < hard["ece"] / 2
        assert hard["temperature"] > 1.5
        hard, smooth = run(tmp_path / "clean", *arguments, "--noise", "0")["trials"]
        assert hard["accuracy"] > 0.95
        assert smooth["ece"] > 2 * hard["ece"]

    @pytest.mark.parametrize(
        ("arguments", "shape"),
        [
            slow(["--dataset", "cifar10", "--model", "alexnet", "--steps-per-execution", "2"], [32, 32, 3]),
            (["--dataset", "folder", "--model", "resnet", "--depth", "8", "--image-size", "12"], [12, 12, 3]),
            slow(["--dataset", "cifar10", "--hidden", "8", "--precision", "mixed_bfloat16"], [32, 32, 3]),
        ],
    )
    def test_every_network_on_files(self, tmp_path, arguments, shape):
        cifar_like(tmp_path)
        image_folders(tmp_path)
        common = ["--data-dir", str(tmp_path), "--steps", "4", "--batch-size", "6"]
        common += ["--seeds", "0", "--label-smoothing", "0.1"]
        results = run(tmp_path / "out", *arguments, *common)
        assert results["settings"]["data"]["image_shape"] == shape
        assert results["settings"]["loss_scale"] == (3 if "cifar10" in arguments else 1)
        assert np.isfinite(numbers(results)).all()

    @pytest.mark.slow
    def test_steps_in_one_call_change_nothing(self, tmp_path, short_epochs):
        arguments = [*SMALL, "--seeds", "0", "--label-smoothing", "0.1"]
        one = run(tmp_path / "one", *arguments)
        two = run(tmp_path / "two", *arguments, "--steps-per-execution", "2")
        np.testing.assert_allclose(numbers(two), numbers(one), rtol=1e-3, atol=1e-4)


class TestResume:
    ARGUMENTS = (*SMALL, "--label-smoothing", "0", "0.1", "--seeds", "0")
    ONE = (*SMALL, "--label-smoothing", "0.1", "--seeds", "0")

    @pytest.mark.slow
    def test_a_killed_run_ends_as_one_that_was_not(self, tmp_path, monkeypatch, capsys, short_epochs):
        whole = run(tmp_path / "whole", *self.ARGUMENTS)
        saved = []

        def save(path, *arguments):
            saved.append(path)
            if len(saved) == 5:  # in the second epoch of the second run
                raise KeyboardInterrupt
            original(path, *arguments)

        original = checkpoints.save
        monkeypatch.setattr(checkpoints, "save", save)
        out = tmp_path / "killed"
        with pytest.raises(SystemExit) as stopped:
            calibration.main([*self.ARGUMENTS, "--out", str(out)])
        assert stopped.value.code == 130
        assert "--resume" in capsys.readouterr().err
        resumed = run(out, *self.ARGUMENTS, "--resume")
        assert len(saved) == 5 + 2  # its first epoch was kept, and so was the first run
        np.testing.assert_allclose(numbers(resumed), numbers(whole), rtol=1e-3, atol=1e-4)
        assert run(out, *self.ARGUMENTS, "--resume")["trials"] == resumed["trials"]
        assert len(saved) == 7

    def test_more_seeds_and_other_smoothing_can_be_added(self, one, tmp_path):
        out, first = shutil.copytree(one[0], tmp_path / "out"), one[1]
        results = run(out, *SMALL, "--label-smoothing", "0.1", "0.2", "--seeds", "0", "--resume")
        assert [r["label_smoothing"] for r in results["trials"]] == [0.1, 0.2]
        assert results["trials"][0] == first["trials"][0]

    def test_other_settings_are_refused(self, one, tmp_path, capsys):
        out = shutil.copytree(one[0], tmp_path / "out")
        line = refused(capsys, *self.ONE, "--momentum", "0.5", "--out", str(out), "--resume")
        assert "momentum was 0.9, now 0.5" in line

    def test_an_earlier_run_is_moved_aside(self, tmp_path, capsys):
        out = tmp_path / "out"
        first = run(out, *self.ONE, "--learning-rate", "0.01")
        for _ in range(2):
            run(out, *self.ONE)
        assert json.loads((tmp_path / "out.1" / "results.json").read_text()) == first
        assert (tmp_path / "out.2").is_dir()
        assert "the earlier run" in capsys.readouterr().out


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--label-smoothing", "0", "1"], r"--label-smoothing: must be in \[0, 1\). Received: '1'"),
            (["--label-smoothing", "nan"], "--label-smoothing"),
            (["--label-smoothing=-0.1"], "--label-smoothing"),
            (["--noise=-1"], "--noise"),
            (["--noise", "inf"], "--noise"),
            (["--depth", "57"], r"--depth: must be 6·n \+ 2"),
            (["--depth", "8"], "--depth is for --model resnet. Received: --model mlp"),
            (["--model", "resnet", "--hidden", "8"], "--hidden is for --model mlp. Received: --model resnet"),
            (["--image-size", "12"], "--image-size is for --dataset folder. Received: --dataset digits"),
            (["--data-dir", "x"], "--data-dir is not for --dataset digits"),
            (["--steps", "0"], "--steps: must be an integer of at least 1"),
            (["--seeds", "x"], "--seeds"),
            (["--batch-size", "901"], r"The batch size must be at most .* \(900\)"),
            (["--dataset", "svhn"], "svhn"),
            (["--learning-rate", "0"], "--learning-rate"),
            (["--momentum", "0", "--nesterov"], "--nesterov needs"),
            (["--decay-at", "0.5", "0.2"], "--decay-at must rise"),
            (["--dataset", "folder"], "--data-dir"),
        ],
    )
    def test_arguments(self, tmp_path, capsys, arguments, message):
        assert re.search(message, refused(capsys, *arguments, "--out", str(tmp_path / "out")))
        assert not (tmp_path / "out").exists()

    def test_absent_data_names_both_ways(self, tmp_path, capsys, monkeypatch):
        def offline():
            raise Exception("URL fetch failure on https://example.org:\n no route to host")

        monkeypatch.delenv("KERAS_LS_DATA", raising=False)
        monkeypatch.setattr(keras.datasets.cifar10, "load_data", offline)
        line = refused(capsys, "--dataset", "cifar10", "--data-dir", str(tmp_path))
        assert "--data-dir" in line
        assert "$KERAS_LS_DATA" in line
        assert "keras.datasets" in line

    def test_unreadable_image(self, tmp_path, capsys):
        (image_folders(tmp_path) / "train" / "dog" / "x.jpg").write_text("no image")
        assert "train/dog/x.jpg" in refused(capsys, "--dataset", "folder", "--data-dir", str(tmp_path))

    def test_missing_package(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        line = refused(capsys, "--dataset", "digits")
        assert "sklearn" in line
        assert 'pip install -e ".[demos]"' in line

    def test_divergence(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as stopped:
            calibration.main([*SMALL, "--learning-rate", "1e30", "--out", str(tmp_path)])
        assert stopped.value.code == 1
        assert "lower the learning rate" in capsys.readouterr().err

    def test_as_a_command(self):
        command = [sys.executable, "-m", "demos.image.calibration", "--label-smoothing", "1"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "error: argument --label-smoothing" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(BACKEND == "tensorflow", reason="for the other backends, without TensorFlow")
def test_runs_where_tensorflow_is_not_installed(tmp_path):
    code = (
        "import importlib.machinery, sys\n"
        "finder = importlib.machinery.PathFinder\n"
        "find = finder.find_spec\n"
        "finder.find_spec = lambda name, *args: None if name.split('.')[0] == 'tensorflow' else find(name, *args)\n"
        "from demos.image.calibration import main\n"
        f"sys.exit(main({[*SMALL, '--seeds', '0', '--out', str(tmp_path)]!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "results.json").read_text())["trials"]) == 3
    assert list(tmp_path.glob("alpha-0.05/seed-0/events*"))


class TestEvaluation:
    def logits(self, rng, temperature, size=4000, classes=5):
        """Logits whose labels are drawn from softmax(z / temperature)."""
        z = rng.normal(size=(size, classes)) * 2
        gumbel = rng.gumbel(size=z.shape)
        return (z * temperature).astype("float32"), (z + gumbel).argmax(-1).astype("int32")

    def test_finds_the_temperature(self, rng):
        result = smoothing.evaluate(*self.logits(rng, 2.5))
        assert result["temperature"] == pytest.approx(2.5, rel=0.05)
        assert result["ece"] > 0.1 > 0.05 > result["ece_scaled"]
        assert result["nll_scaled"] < result["nll"]

    def test_each_half_is_scaled_with_the_temperature_of_the_other(self, rng):
        logits, labels = self.logits(rng, 1.0, size=1000)
        halves = np.array_split(np.random.default_rng(DATA_SEED).permutation(1000), 2)
        expected = [float(keras_ls.TemperatureScaling().fit(logits[h], labels[h]).temperature) for h in halves[::-1]]
        result = smoothing.evaluate(logits, labels)
        assert result["temperatures"] == pytest.approx(expected, rel=1e-6)
        assert result["temperature"] == pytest.approx(np.mean(expected))
        scaled = logits.copy()
        for half, temperature in zip(halves, expected, strict=True):
            scaled[half] /= temperature
        assert result["ece_scaled"] == pytest.approx(
            keras_ls.calibration_error(labels, scaled, from_logits=True), abs=1e-6
        )

    def test_pooled_curves_are_the_curve_of_all(self, rng):
        logits, labels = self.logits(rng, 1.5, size=300)
        parts = [
            keras_ls.reliability_curve(labels[rows], logits[rows], from_logits=True)
            for rows in (slice(0, 20), slice(20, 300))
        ]
        assert any(np.isnan(part.accuracy).any() for part in parts)  # empty bins
        pooled = measures.pool(map(measures.curve_to_json, parts))
        whole = keras_ls.reliability_curve(labels, logits, from_logits=True)
        for name in ("bin_edges", "confidence", "accuracy", "count"):
            np.testing.assert_allclose(getattr(pooled, name), getattr(whole, name), rtol=1e-6)

    def test_curves_survive_json(self, rng):
        logits, labels = self.logits(rng, 1.0, size=30)
        curve = keras_ls.reliability_curve(labels, logits, from_logits=True)
        copy = measures.curve_from_json(json.loads(json.dumps(measures.curve_to_json(curve), allow_nan=False)))
        np.testing.assert_array_equal(copy.accuracy, curve.accuracy)
        assert copy.ece() == curve.ece()

    def test_table(self):
        row = {name: {"mean": 0.5, "sd": None} for name in smoothing.MEASURES}
        row["accuracy"] = {"mean": 0.7212, "sd": 0.003}
        lines = measures.table([{"label_smoothing": 0.05, **row}], smoothing.COLUMNS).splitlines()
        assert lines[-1].split() == ["0.05", "72.12", "±", "0.30", "0.5000", "0.5000", "0.500", "0.5000"]
        assert lines[0].index("NLL") == lines[-1].index("0.5000")
