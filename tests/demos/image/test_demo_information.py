"""The information demo from its command line: what it writes, how it is resumed, what it refuses."""

import json
import math
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import BACKEND, WITHOUT_XLA, slow
from image_files import cifar_like, image_folders
from kept_results import assert_tells_whether_networks_are_like_the_papers

import keras_ls
from demos.image import data, information, recipes
from demos.image.analysis import information as analysis
from demos.image.data.common.augment import crop_and_flip, noisy
from demos.image.data.common.images import ImageData
from demos.kit import checkpoints

for package in ("sklearn", "PIL"):
    pytest.importorskip(package, reason='the demos need pip install -e ".[demos]"')

ROOT = pathlib.Path(__file__).parents[3]
SMALL = [*WITHOUT_XLA, "--hidden", "16", "--steps", "12", "--batch-size", "300", "--measure-every", "4"]


def run(out, *arguments):
    """Runs the demo in this process; returns results.json."""
    assert information.main([*arguments, "--out", str(out)]) == 0
    return json.loads((out / "results.json").read_text())


def refused(capsys, *arguments):
    """Runs the demo, which must exit with status 2; returns the one line it says."""
    with pytest.raises(SystemExit) as stopped:
        information.main(list(arguments))
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def curves(results):
    """What a run must reproduce, as an array."""
    return np.array([one["mutual_information"] for one in results["trials"]], "float64")


class TestRun:
    def test_what_it_writes_and_prints(self, tmp_path, capsys):
        out = tmp_path / "out"
        results = run(out, *SMALL, "--label-smoothing", "0", "0.1", "--seeds", "0", "5")
        assert [(r["label_smoothing"], r["seed"]) for r in results["trials"]] == [(0, 0), (0.1, 0), (0, 5), (0.1, 5)]
        assert results["class_names"] == ["4", "9"]
        images = data.load("digits", noise=0.4)
        assert results["num_examples"] == np.isin(images.y_train, (4, 9)).sum()
        assert results["log_2"] == math.log(2)
        assert results["log_num_examples"] == math.log(results["num_examples"])
        assert results["settings"]["augment_noise"] == 0.1
        assert results["settings"]["noise"] == 0.4
        assert results["provenance"]["backend"] == BACKEND
        for one in results["trials"]:
            assert one["steps"] == [0, 4, 8, 12]
            assert all(0 < value < results["log_num_examples"] for value in one["mutual_information"])
            assert len(one["loss"]) == len(one["training_accuracy"]) == 3
            directory = out / f"alpha-{one['label_smoothing']}" / f"seed-{one['seed']}"
            assert list(directory.glob("events.out.tfevents.*"))
            assert not list(directory.glob("checkpoint*"))
        assert curves(results)[0, 0] == curves(results)[1, 0]  # the same seed starts from the same network
        for row, place in zip(results["summary"], ([0, 2], [1, 3]), strict=True):
            values = curves(results)[place]
            mean = values.mean(axis=0)
            assert row["start"]["mean"] == pytest.approx(mean[0])
            assert row["end"] == pytest.approx(
                {"mean": mean[-1], "min": values[:, -1].min(), "max": values[:, -1].max()}
            )
            assert row["peak"]["mean"] == pytest.approx(mean.max())
            assert row["peak_step"] == 4 * mean.argmax()
        assert_tells_whether_networks_are_like_the_papers("information_cifar10", results)

        from PIL import Image

        with Image.open(out / "information.png") as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(2**24)) > 50  # something was drawn
        assert (out / "information.pdf").read_bytes().startswith(b"%PDF")
        printed = capsys.readouterr()
        lines = printed.out.splitlines()
        assert lines[-1] == f"tensorboard --logdir {out}"
        header = next(line for line in lines if line.startswith("α "))
        assert header.split()[:3] == ["α", "start", "highest"]
        assert any(line.startswith("0.1 ") and " to " in line for line in lines)

    def test_tensorboard_has_the_curve(self, tmp_path):
        from tensorboard.backend.event_processing import event_accumulator

        results = run(tmp_path, *SMALL, "--seeds", "0", "--label-smoothing", "0.1")
        events = event_accumulator.EventAccumulator(str(tmp_path / "alpha-0.1" / "seed-0")).Reload()
        values = [point.value for point in events.Scalars("mutual_information")]
        np.testing.assert_allclose(values, curves(results)[0, 1:], rtol=1e-6)

    def test_the_last_value_is_that_of_the_saved_network(self, tmp_path):
        results = run(tmp_path, *SMALL, "--seeds", "0", "--label-smoothing", "0.1", "--classes", "7", "1")
        model = keras.models.load_model(tmp_path / "alpha-0.1" / "seed-0" / "model.keras")
        images = data.load("digits", noise=0.4)

        def augment(images):
            return noisy(0.1)(images, np.random.default_rng(np.random.randint(2**31)))

        value = keras_ls.logit_mutual_information(model, images.x_train, images.y_train, (7, 1), augment)
        assert value == pytest.approx(results["trials"][0]["mutual_information"][-1], rel=1e-4)
        assert model.loss.label_smoothing == 0.1

    @pytest.mark.slow
    def test_it_rises_then_falls_and_falls_further_with_smoothing(self, tmp_path):
        faster = ["--steps", "400", "--learning-rate", "0.3", "--measure-every", "20"]
        hard, smooth = curves(run(tmp_path, *faster, "--seeds", "0"))
        for values in (hard, smooth):
            assert values.max() > values[0] + 0.5
            assert values[:5].argmax() > 0
            assert values[-1] < values.max() - 0.1
            assert values.argmax() < len(values) / 2
        assert math.log(2) < smooth[-1] < hard[-1] - 0.2

    @pytest.mark.parametrize(
        ("arguments", "augmented"),
        [
            slow(["--dataset", "cifar10", "--model", "alexnet", "--steps-per-execution", "2"], True),
            slow(["--dataset", "cifar10", "--hidden", "8", "--precision", "mixed_bfloat16"], False),
            (["--dataset", "folder", "--model", "resnet", "--depth", "8", "--image-size", "12", "--augment"], True),
        ],
    )
    def test_every_network_on_files(self, tmp_path, arguments, augmented):
        cifar_like(tmp_path)
        image_folders(tmp_path)
        classes = ["--classes", "0", "1"]
        common = ["--data-dir", str(tmp_path), "--steps", "4", "--batch-size", "6", *classes]
        results = run(tmp_path / "out", *arguments, *common, "--seeds", "0", "--label-smoothing", "0.1")
        assert results["settings"]["augment"] is augmented
        assert results["settings"]["noise"] is None  # as earlier versions wrote it
        assert results["settings"]["augment_noise"] == (None if augmented else 0.1)
        assert np.isfinite(curves(results)).all()

    @pytest.mark.slow
    def test_steps_in_one_call_change_nothing(self, tmp_path):
        arguments = [*SMALL, "--seeds", "0", "--label-smoothing", "0.1"]
        one = run(tmp_path / "one", *arguments)
        two = run(tmp_path / "two", *arguments, "--steps-per-execution", "2")
        np.testing.assert_allclose(curves(two), curves(one), rtol=1e-3)


class TestResume:
    ARGUMENTS = (*SMALL, "--label-smoothing", "0", "0.1", "--seeds", "0")
    ONE = (*SMALL, "--label-smoothing", "0.1", "--seeds", "0")

    @pytest.mark.slow
    def test_a_killed_run_ends_as_one_that_was_not(self, tmp_path, monkeypatch, capsys):
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
            information.main([*self.ARGUMENTS, "--out", str(out)])
        assert stopped.value.code == 130
        assert "--resume" in capsys.readouterr().err
        resumed = run(out, *self.ARGUMENTS, "--resume")
        assert len(saved) == 5 + 2  # its first epoch was kept, and so was the first run
        np.testing.assert_allclose(curves(resumed), curves(whole), rtol=1e-4)
        assert run(out, *self.ARGUMENTS, "--resume")["trials"] == resumed["trials"]
        assert len(saved) == 7

    @pytest.mark.slow
    def test_more_smoothing_can_be_added(self, tmp_path):
        first = run(tmp_path, *self.ONE)
        results = run(tmp_path, *SMALL, "--label-smoothing", "0.1", "0.2", "--seeds", "0", "--resume")
        assert [r["label_smoothing"] for r in results["trials"]] == [0.1, 0.2]
        assert results["trials"][0] == first["trials"][0]

    def test_other_settings_are_refused(self, tmp_path, capsys):
        run(tmp_path, *self.ONE)
        line = refused(capsys, *self.ONE, "--classes", "3", "8", "--out", str(tmp_path), "--resume")
        assert "classes was [4, 9], now [3, 8]" in line

    @pytest.mark.slow
    def test_an_earlier_run_is_moved_aside(self, tmp_path, capsys):
        out = tmp_path / "out"
        first = run(out, *self.ONE)
        run(out, *self.ONE, "--augment-noise", "0.2")
        assert json.loads((tmp_path / "out.1" / "results.json").read_text()) == first
        assert "the earlier run" in capsys.readouterr().out


class TestParts:
    def test_networks_are_trained_on_images_with_fresh_noise(self, tmp_path):
        plan = analysis.plan(information.COMMAND.choose([*SMALL, "--out", str(tmp_path / "out")]))
        known = {image.tobytes() for image in plan.data.x_train}
        x, _ = analysis.trial(plan, 0.1, 0).batches(0)[0]
        assert not any(image.tobytes() in known for image in x)

    def test_augmented_images_depend_on_seed_and_batch_alone(self, rng):
        images = rng.integers(0, 256, (20, 8, 8, 1)).astype("uint8")
        rows, others = np.array([3, 1, 7]), np.array([3, 1, 8])
        one, same, seed = (analysis.AugmentedImages(images, noisy(0.1), s) for s in (0, 0, 1))
        np.testing.assert_array_equal(one[rows], one[rows])
        np.testing.assert_array_equal(one[rows], same[rows])
        assert (one[rows][0] != one[others][0]).any()
        assert (one[rows] != seed[rows]).any()
        assert one[rows].dtype == np.uint8
        assert (len(one), one.shape) == (20, (20, 8, 8, 1))

    def test_noise_has_its_deviation(self, rng):
        images = np.full((50, 8, 8, 1), 128, "uint8")
        noise = noisy(0.1)(images, rng).astype("float64") - 128
        assert noise.std() == pytest.approx(25.5, rel=0.05)
        assert noise.mean() == pytest.approx(0, abs=2)

    @pytest.mark.parametrize(
        ("dataset", "given", "expected"),
        [
            ("digits", None, (4, 9)),
            ("cifar10", None, (0, 5)),
            ("folder", None, (0, 1)),
            ("cifar10", ["dog", "airplane"], (5, 0)),
            ("cifar10", ["5", "ship"], (5, 8)),
        ],
    )
    def test_classes_are_named_or_numbered(self, dataset, given, expected):
        names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
        images, labels = np.zeros((1, 8, 8, 1), "uint8"), np.zeros(1, "int32")
        found = ImageData(dataset, images, labels, images, labels, names)
        options = information.COMMAND.choose(["--dataset", dataset])
        options.classes = given
        assert analysis.choose_classes(options, found) == expected

    def test_the_first_two_classes_may_be_called_by_other_numbers(self):
        images, labels = np.zeros((1, 8, 8, 1), "uint8"), np.zeros(1, "int32")
        found = ImageData("folder", images, labels, images, labels, ("1", "2", "3"))
        assert analysis.choose_classes(information.COMMAND.choose(["--dataset", "folder"]), found) == (0, 1)

    def test_cropped_networks_are_measured_with_crops(self, tmp_path):
        cifar_like(tmp_path)
        arguments = ["--dataset", "cifar10", "--model", "resnet", "--data-dir", str(tmp_path), "--batch-size", "6"]
        options = information.COMMAND.choose([*arguments, "--out", str(tmp_path / "out")])
        options.classes = ["0", "1"]
        plan = analysis.plan(options)
        assert plan.augment is crop_and_flip
        assert plan.recipe.steps == 64_000
        assert plan.recipe.steps_per_epoch == 320

    def test_table(self):
        numbers = {"mean": 1.234, "min": 1.0, "max": None}
        row = {
            "label_smoothing": 0.1,
            "peak_step": 40,
            "accuracy": 0.5,
            "start": numbers,
            "peak": numbers,
            "end": numbers,
        }
        lines = analysis.table({"summary": [row], "log_2": 0.693, "log_num_examples": 5.0}).splitlines()
        assert lines[2].split() == ["0.1", "1.23", "1.23", "40", "1.23", "1.00", "to", "NaN", "50.00"]
        assert lines[0].index("end") == lines[2].rindex("1.23")


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--label-smoothing", "0", "1"], r"--label-smoothing: must be in \[0, 1\). Received: '1'"),
            (["--classes", "4"], "--classes"),
            (["--classes", "4", "4"], "--classes must be two different ones of 0, 1, .*Received: 4 4"),
            (["--classes", "4", "dog"], "--classes must be two different ones"),
            (["--classes", "4", "10"], "--classes must be two different ones"),
            (["--augment-noise", "0"], "--augment-noise"),
            (["--augment", "--augment-noise", "0.1"], "--augment-noise is for images that are not cropped"),
            (["--measure-every", "0"], "--measure-every"),
            (["--batch-size", "901"], r"The batch size must be at most .* \(900\)"),
            (["--batch-size", "1"], "--batch-size must be at least 2 where noise is drawn for each batch"),
            (["--dataset", "folder"], "--data-dir"),
        ],
    )
    def test_arguments(self, tmp_path, capsys, arguments, message):
        assert re.search(message, refused(capsys, *arguments, "--out", str(tmp_path / "out")))
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("steps", "every", "expected"), [(1009, 1009, 1009), (1006, 503, 1006), (10, 4, 12), (10, 50, 10)]
    )
    def test_steps_are_rounded_to_measurements_alone(self, steps, every, expected):
        options = information.COMMAND.choose(["--steps", str(steps), "--measure-every", str(every)])
        recipe = analysis.measured_recipe(recipes.chosen(options, "information"), options)
        assert (recipe.steps, recipe.steps_per_epoch) == (expected, min(every, steps))

    def test_divergence(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as stopped:
            information.main([*SMALL, "--learning-rate", "1e30", "--out", str(tmp_path)])
        assert stopped.value.code == 1
        assert "lower the learning rate" in capsys.readouterr().err

    def test_help(self):
        command = [sys.executable, "-m", "demos.image.information", "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert "(default: 3,000 for the digits" in " ".join(done.stdout.split())
        assert "1,000 for the digits" not in " ".join(done.stdout.split())
        assert "log 2" in done.stdout


@pytest.mark.skipif(BACKEND == "tensorflow", reason="for the other backends, without TensorFlow")
def test_runs_where_tensorflow_is_not_installed(tmp_path):
    code = (
        "import importlib.machinery, sys\n"
        "finder = importlib.machinery.PathFinder\n"
        "find = finder.find_spec\n"
        "finder.find_spec = lambda name, *args: None if name.split('.')[0] == 'tensorflow' else find(name, *args)\n"
        "from demos.image.information import main\n"
        f"sys.exit(main({[*SMALL, '--seeds', '0', '--out', str(tmp_path)]!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "results.json").read_text())["trials"]) == 2
