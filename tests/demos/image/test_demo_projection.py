"""The projection demo from its command line: what it writes, networks of earlier runs, what it refuses."""

import argparse
import json
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import BACKEND
from image_files import cifar_like, image_folders
from test_demo_calibration import ROOT, SMALL, short_epochs  # noqa: F401 (a fixture)

import keras_ls
from demos.image import calibration, data, projection
from demos.image.analysis import clusters
from demos.image.analysis import projection as analysis
from demos.image.data import cifar10, cifar100, fashion_mnist
from demos.image.data.common.images import ImageData
from demos.kit import drawing, trials
from demos.kit.smoothing import Comparison

for package in ("sklearn", "PIL"):
    pytest.importorskip(package, reason='the demos need pip install -e ".[demos]"')

TITLES = ["training, hard targets", "held-out, hard targets", "training, α = 0.1", "held-out, α = 0.1"]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """The directory of a run of the calibration demo: seeds 0 and 3 of α = 0 and 0.1, seed 0 alone of 0.2."""
    out = tmp_path_factory.mktemp("calibrated")
    common = [*SMALL, "--out", str(out)]
    assert calibration.main([*common, "--label-smoothing", "0", "0.1", "--seeds", "0", "3"]) == 0
    for seed in ("0", "3"):  # as that run would have made them
        shutil.copytree(out / "alpha-0.0" / "seed-0", out / "alpha-0.2" / f"seed-{seed}")
    (out / "alpha-0.2" / "seed-3" / "result.json").unlink()
    return out


@pytest.fixture
def grids(monkeypatch):
    """The rows that pictures were drawn of."""
    drawn = []
    original = keras_ls.projection_grid
    monkeypatch.setattr(keras_ls, "projection_grid", lambda rows: drawn.append(rows) or original(rows))
    return drawn


def run(out, *arguments):
    """Runs the demo in this process; returns results.json."""
    assert projection.main([*arguments, "--out", str(out)]) == 0
    return json.loads((out / "results.json").read_text())


def refused(capsys, out, *arguments):
    """Runs the demo, which must exit with status 2 before it writes; returns the one line it says."""
    with pytest.raises(SystemExit) as stopped:
        projection.main([*arguments, "--out", str(out)])
    assert stopped.value.code == 2
    assert not out.is_dir()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def event_tags(folder):
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    (path,) = folder.glob("events.out.tfevents.*")
    events = list(LegacyEventFileLoader(str(path)).Load())
    return [(value.tag, event.step) for event in events for value in event.summary.value]


class TestRun:
    def test_what_it_writes_and_prints(self, tmp_path, capsys, grids, short_epochs):  # noqa: F811
        out = tmp_path / "out"
        results = run(out, *SMALL, "--seeds", "0", "7")
        assert [(r["label_smoothing"], r["seed"]) for r in results["trials"]] == [(0, 0), (0.1, 0), (0, 7), (0.1, 7)]
        assert results["classes"] == [["0", "1", "2"], ["3", "5", "8"]]
        assert results["settings"]["steps"] == 12
        assert results["settings"]["noise"] == 0.4
        assert results["settings"]["from_run"] is None
        assert results["provenance"]["backend"] == BACKEND
        assert "template" in results["evaluation"]
        self.check_summary(results)
        self.check_numbers(out, results)
        self.check_picture(out, grids)
        self.check_logs(out)
        printed = capsys.readouterr().out
        table = [line.split() for line in printed.splitlines() if line.startswith(("training ", "held-out "))]
        assert [row[:2] for row in table] == [[part, a] for part in ("training", "held-out") for a in ("0", "0.1")]
        assert all(row.count("±") == len(clusters.MEASURES) for row in table)
        assert "fewer than 100 training images of 0 (79), 1 (91)" in printed
        assert printed.splitlines()[-1] == f"tensorboard --logdir {out}"
        beside = (out / "projection.txt").read_text(encoding="utf-8")
        assert beside in printed
        assert [line.split() for line in beside.splitlines()[-4:]] == table

    def check_summary(self, results):
        assert len(results["summary"]) == 4
        for row in results["summary"]:
            group = [r["statistics"] for r in results["trials"] if r["label_smoothing"] == row["label_smoothing"]]
            for name in clusters.MEASURES:
                a, b = (numbers[row["examples"]][name] for numbers in group)
                assert row[name]["mean"] == pytest.approx((a + b) / 2)
                assert row[name]["sd"] == pytest.approx(abs(a - b) / 2**0.5)

    def check_numbers(self, out, results):
        """Those of one network, from its file."""
        images = data.load("digits", noise=0.4)
        model = keras.models.load_model(out / "alpha-0.1" / "seed-7" / "model.keras", compile=False)
        cut = keras.Model(model.inputs, model.layers[-1].input)
        rows = np.asarray(cut.predict(images.x_test, verbose=0), "float64")
        kernel, bias = (np.asarray(w, "float64") for w in model.layers[-1].get_weights())
        templates = np.vstack([kernel, bias]).T
        differences = (templates[1:] - templates[0]).T
        extended = np.hstack([rows, np.ones((len(rows), 1))])
        span = extended @ (differences @ np.linalg.pinv(differences)).T
        found = results["trials"][-1]["statistics"]["held-out"]
        assert found["ratio"] == pytest.approx(scatter_ratio(span, images.y_test), rel=1e-3)
        assert found["whole_space_ratio"] == pytest.approx(scatter_ratio(rows, images.y_test), rel=1e-3)
        distances = [np.linalg.norm(a - b) for i, a in enumerate(templates) for b in templates[:i]]
        assert found["template_distance"] == pytest.approx(np.mean(distances), rel=1e-4)
        assert found["template_distance_cv"] == pytest.approx(np.std(distances) / np.mean(distances), rel=1e-3)
        means = np.stack([span[images.y_test == k].mean(axis=0) for k in range(10)])
        of_means = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]]
        assert found["means_distance_cv"] == pytest.approx(np.std(of_means) / np.mean(of_means), rel=1e-3)
        correlation = np.corrcoef(of_means, distances)[0, 1]
        assert found["distances_correlation"] == pytest.approx(correlation, abs=1e-3)
        collapse = keras_ls.neural_collapse(rows, images.y_test, templates)
        for name in clusters.COLLAPSE:
            assert found[name] == pytest.approx(getattr(collapse, name), rel=1e-3)
        for names, nearness in zip(results["classes"], found["first_two_over_others"], strict=True):
            a, b, c = (rows[images.y_test == int(name)].mean(axis=0) for name in names)
            others = np.linalg.norm(a - c) + np.linalg.norm(b - c)
            assert nearness == pytest.approx(2 * np.linalg.norm(a - b) / others, rel=1e-3)
        for names, nearness in zip(results["classes"], found["first_two_over_others_in_span"], strict=True):
            a, b, c = (means[int(name)] for name in names)
            others = np.linalg.norm(a - c) + np.linalg.norm(b - c)
            assert nearness == pytest.approx(2 * np.linalg.norm(a - b) / others, rel=1e-3)

    def check_picture(self, out, grids):
        from PIL import Image

        (rows,) = grids
        assert [list(row) for row in rows] == [TITLES, TITLES]
        assert [row[TITLES[0]].class_names for row in rows] == [("0", "1", "2"), ("3", "5", "8")]
        assert [len(panel.points) for panel in rows[0].values()] == [79 + 91 + 88, 99 + 91 + 89] * 2
        with Image.open(out / "projection.png") as picture:
            assert min(picture.size) > 500
            assert len(picture.convert("RGB").getcolors(2**24)) > 100  # something was drawn
        assert (out / "projection.pdf").read_bytes().startswith(b"%PDF")

    def check_logs(self, out):
        for folder in out.glob("alpha-*/seed-*"):
            tags = event_tags(folder)
            assert ("projection/plane", 2) in tags  # the last of three epochs
            assert ("projection/ratio", 0) in tags
            assert not list(folder.glob("checkpoint*"))
            config = (folder / "activations" / "projector_config.pbtxt").read_text()
            assert 'tensor_name: "epoch_0003"' in config
            assert "sprite" in config
            metadata = (folder / "activations" / "projector" / "epoch_0003_metadata.tsv").read_text().splitlines()
            assert metadata[0].split("\t") == ["label", "prediction", "confidence", "correct"]
            assert len(metadata) == 1 + 897

    def test_classes_by_name(self, tmp_path, grids, capsys):
        image_folders(tmp_path, classes=("cat", "dog", "fox", "owl"))
        arguments = ["--dataset", "folder", "--data-dir", str(tmp_path), "--image-size", "8", *SMALL]
        arguments += ["--batch-size", "6", "--seeds", "0", "--label-smoothing", "0.1", "--examples-per-class", "3"]
        results = run(tmp_path / "out", *arguments, "--classes", "owl", "cat", "dog", "--classes", "fox", "cat", "owl")
        assert results["classes"] == [["owl", "cat", "dog"], ["fox", "cat", "owl"]]
        assert [p.class_names for p in grids[0][0].values()] == [("owl", "cat", "dog")] * 2
        assert [p.classes for p in grids[0][1].values()] == [(2, 0, 3)] * 2
        assert "fewer than" not in capsys.readouterr().out
        assert run(tmp_path / "out", *arguments, "--resume")["classes"] == [
            ["cat", "dog", "fox"],
            ["dog", "fox", "owl"],
        ]

    @pytest.mark.slow
    def test_finished_networks_are_not_trained_again(self, tmp_path, monkeypatch):
        arguments = [*SMALL, "--seeds", "0", "--label-smoothing", "0.1"]
        first = run(tmp_path, *arguments)
        monkeypatch.setattr(trials, "fit", None)
        again = run(tmp_path, *arguments, "--resume", "--classes", "7", "8", "9")
        for part in (
            result["trials"][0]["statistics"][name] for result in (first, again) for name in ("training", "held-out")
        ):
            for name in ("first_two_over_others", "first_two_over_others_in_span"):  # of the classes that are shown
                del part[name]
        assert again["trials"] == first["trials"]
        assert again["classes"] == [["7", "8", "9"]]

    def test_digits_are_trained_longer_than_in_the_calibration_demo(self, monkeypatch):
        monkeypatch.setattr(analysis, "prepare", lambda *decided, **_: Comparison(*decided))
        assert analysis.plan(projection.COMMAND.choose([])).recipe.steps == 4_000


def scatter_ratio(rows, labels):
    means = {k: rows[labels == k].mean(0) for k in set(labels)}
    within = sum(((row - means[label]) ** 2).sum() for row, label in zip(rows, labels, strict=True))
    between = sum(((means[label] - rows.mean(0)) ** 2).sum() for label in labels)
    return within / between


class TestDefaultClasses:
    @pytest.mark.parametrize(
        ("dataset", "names", "expected"),
        [
            ("cifar10", cifar10.CLASSES, [("airplane", "automobile", "bird")]),
            ("cifar100", cifar100.CLASSES.split(", "), [("beaver", "dolphin", "otter")]),
            ("mnist", list("0123456789"), [("0", "1", "2"), ("3", "5", "8")]),
            ("fashion_mnist", fashion_mnist.CLASSES, list(fashion_mnist.DATA_SET.triples)),
            ("cifar10", list("abcd"), [("a", "b", "c"), ("b", "c", "d")]),
            ("folder", list("abc"), [("a", "b", "c")]),
        ],
    )
    def test_are_known(self, dataset, names, expected):
        found = analysis.choose_triples(self.options(dataset), self.data(names))
        assert [tuple(names[k] for k in triple) for triple in found] == expected

    def test_need_three_classes(self):
        with pytest.raises(ValueError, match="three different classes"):
            analysis.choose_triples(self.options("folder"), self.data(["cat", "dog"]))

    def test_need_images_in_both_parts(self):
        data = self.data(list("abcd"), held_out=[0, 1, 3])
        with pytest.raises(ValueError, match=r"held-out images in small\. Received: c, without any"):
            analysis.choose_triples(self.options("folder"), data)

    def options(self, dataset):
        return argparse.Namespace(dataset=dataset, classes=None, examples_per_class=1)

    def data(self, names, held_out=None):
        train = np.arange(len(names))
        test = train if held_out is None else np.array(held_out)
        x = np.zeros((len(names), 2, 2, 1), "uint8")
        return ImageData("small", x, train, x[: len(test)], test, tuple(names))


class TestFrom:
    def test_takes_the_networks_as_they_are(self, tmp_path, calibrated, grids, monkeypatch):
        before = sorted(calibrated.rglob("*"))
        monkeypatch.setattr(trials, "fit", None)
        results = run(tmp_path / "out", "--from", str(calibrated))
        assert [(r["label_smoothing"], r["seed"]) for r in results["trials"]] == [(0, 0), (0.1, 0), (0, 3), (0.1, 3)]
        theirs = json.loads((calibrated / "results.json").read_text())["trials"]
        assert [r["accuracy"] for r in results["trials"]] == [r["accuracy"] for r in theirs]
        assert results["settings"]["from_run"] == str(calibrated)
        assert list(grids[0][0]) == TITLES
        model = keras.models.load_model(calibrated / "alpha-0.1" / "seed-0" / "model.keras", compile=False)
        images = data.load("digits", noise=0.4)
        expected = keras_ls.project_classes(model, images.x_train, images.y_train, (0, 1, 2))
        np.testing.assert_allclose(grids[0][0]["training, α = 0.1"].points, expected.points, rtol=1e-4, atol=1e-5)
        assert sorted(calibrated.rglob("*")) == before
        folder = tmp_path / "out" / "alpha-0.1" / "seed-3"
        assert "projection/plane" in {tag for tag, _ in event_tags(folder)}
        assert (folder / "activations" / "projector_config.pbtxt").exists()
        assert not (folder / "model.keras").exists()

    def test_arguments_that_fit_may_be_given(self, tmp_path, calibrated):
        arguments = ["--dataset", "digits", "--steps", "12", "--hidden", "16", "--noise", "0.4", "--seeds", "3", "3"]
        results = run(tmp_path / "out", "--from", str(calibrated), *arguments, "--label-smoothing", "0.1")
        assert [(r["label_smoothing"], r["seed"]) for r in results["trials"]] == [(0.1, 3)]
        assert results["summary"][0]["ratio"]["sd"] is None

    def test_results_of_single_networks_are_drawn_together(self, tmp_path, calibrated, grids):
        every = [("0", "0"), ("0", "0.1"), ("3", "0"), ("3", "0.1")]
        found = []
        for seed, alpha in every:
            out, chosen = tmp_path / f"{seed}-{alpha}", ["--seeds", seed, "--label-smoothing", alpha]
            found.append(run(out, "--from", str(calibrated), *chosen))
        whole = run(tmp_path / "whole", "--from", str(calibrated))
        together = drawing.together(found, tmp_path)
        for name in ("trials", "summary", "series", "caption"):
            assert together[name] == whole[name]
        analysis.figure(together)
        assert [list(row) for row in grids[-1]] == [TITLES, TITLES]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--steps", "13"], r"--steps 13 does not fit .*, which has 12; leave it out"),
            (["--dataset", "mnist"], "--dataset mnist does not fit"),
            (["--no-augment", "--hidden", "16", "17"], r"--hidden \[16, 17\] does not fit .* \[16\]"),
            (["--seeds", "0", "1"], r"lacks networks for α=0 0.1 with seeds 0 1\. It holds: α=0 seed=0, α=0 seed=3"),
            (["--label-smoothing", "0.3"], r"lacks networks for α=0.3\. It holds: α=0 seed=0, .*α=0.2 seed=0\."),
            (["--label-smoothing", "0.2", "--seeds", "3"], "lacks networks for α=0.2 with seeds 3"),
            (["--classes", "0", "1", "ten"], "known ones: 0, 1, .*9. Received: ten"),
        ],
    )
    def test_refuses_what_does_not_fit(self, tmp_path, capsys, calibrated, arguments, message):
        line = refused(capsys, tmp_path / "out", "--from", str(calibrated), *arguments)
        assert re.search(message, line), line

    def test_refuses_other_data(self, tmp_path, capsys, calibrated):
        copy = shutil.copytree(calibrated, tmp_path / "copy")
        settings = json.loads((copy / "settings.json").read_text())
        settings["data"]["crc32"] += 1
        (copy / "settings.json").write_text(json.dumps(settings))
        line = refused(capsys, tmp_path / "out", "--from", str(copy))
        assert "trained on other data than is here: crc32 was" in line

    def test_refuses_broken_networks(self, tmp_path, capsys, calibrated):
        copy = shutil.copytree(calibrated, tmp_path / "copy")
        path = copy / "alpha-0.1" / "seed-3" / "model.keras"
        path.write_bytes(path.read_bytes()[:1000])
        assert f"{path} cannot be used" in refused(capsys, tmp_path / "out", "--from", str(copy))
        inputs = keras.Input((8, 8, 1))
        keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs))).save(path)
        line = refused(capsys, tmp_path / "out", "--from", str(copy))
        assert "cannot be used: it has 3 classes, the data 10" in line

    def test_refuses_directories_of_other_kinds(self, tmp_path, capsys, calibrated):
        out = tmp_path / "out"
        assert "with settings.json in it" in refused(capsys, out, "--from", str(tmp_path))
        (tmp_path / "settings.json").write_text("[1")
        assert "with settings.json in it" in refused(capsys, out, "--from", str(tmp_path))
        (tmp_path / "settings.json").write_text('{"dataset": "digits", "model": "mlp"}')
        assert "is of another demo: it lacks noise, steps, data" in refused(capsys, out, "--from", str(tmp_path))
        shutil.copy(calibrated / "settings.json", tmp_path)
        assert "It holds: no network at all" in refused(capsys, out, "--from", str(tmp_path))

    def test_never_writes_over_the_networks(self, capsys, calibrated):
        for out in (calibrated, calibrated.parent):
            with pytest.raises(SystemExit):
                projection.main(["--from", str(calibrated), "--out", str(out)])
            assert "--out must not be the directory of --from" in capsys.readouterr().err
        assert (calibrated / "alpha-0.1" / "seed-3" / "model.keras").exists()


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--classes", "0", "1", "cat"], "--classes must be known ones: 0, 1, 2, .*9. Received: cat"),
            (["--classes", "0", "1"], "three different classes. Received: 0, 1"),
            (["--classes", "0", "1", "1"], "three different classes. Received: 0, 1, 1"),
            (["--classes", "0", "1", "2", "--classes", "3", "4", "5", "6"], "Received: 3, 4, 5, 6"),
            (["--classes"], "--classes: expected at least one argument"),
            (["--examples-per-class", "0"], "--examples-per-class: must be an integer of at least 1"),
            (["--label-smoothing", "1"], "--label-smoothing"),
            (["--from", "nowhere"], "--from must be an output directory"),
            (["--dataset", "breast_cancer"], "A projection is of three different classes. breast_cancer has 2"),
            (["--batch-size", "901"], "The batch size must be at most"),
        ],
    )
    def test_arguments(self, tmp_path, capsys, arguments, message):
        line = refused(capsys, tmp_path / "out", *arguments)
        assert re.search(message, line), line

    def test_labels_that_do_not_match(self, tmp_path, capsys):
        cifar_like(tmp_path, y_train=np.zeros(49, "uint8"))
        line = refused(capsys, tmp_path / "out", "--dataset", "cifar10", "--data-dir", str(tmp_path))
        assert "one integer per image" in line

    def test_images_that_are_none(self, tmp_path, capsys):
        (image_folders(tmp_path, classes=("a", "b", "c")) / "train" / "b" / "x.jpg").write_text("no image")
        line = refused(capsys, tmp_path / "out", "--dataset", "folder", "--data-dir", str(tmp_path))
        assert "train/b/x.jpg cannot be read as an image" in line

    def test_a_directory_that_cannot_be_written(self, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        assert "file" in refused(capsys, tmp_path / "file" / "out", *SMALL)

    def test_missing_package(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        assert 'pip install -e ".[demos]"' in refused(capsys, tmp_path / "out")

    def test_divergence(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as stopped:
            projection.main([*SMALL, "--learning-rate", "1e30", "--out", str(tmp_path)])
        assert stopped.value.code == 1
        assert "lower the learning rate" in capsys.readouterr().err

    def test_as_a_command(self):
        command = [sys.executable, "-m", "demos.image.projection", "--classes", "0", "1", "x"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "error: --classes must be known ones" in done.stderr.splitlines()[-1]


class TestTable:
    def test_digits_follow_the_size(self):
        numbers = {name: {"mean": 123.456, "sd": 7.89} for name in clusters.MEASURES}
        numbers["ratio"] = {"mean": 0.012345, "sd": None}
        numbers["between"] = {"mean": 0.0, "sd": 0.0}
        row = clusters.table([{"examples": "training", "label_smoothing": 0.1, **numbers}]).splitlines()[-1]
        assert re.split(r"\s{2,}", row)[:5] == ["training", "0.1", "123 ± 8", "0.00 ± 0.00", "0.0123"]


def test_three_classes_that_are_one_point_have_no_distances():
    assert np.isnan(clusters.first_two_over_others([np.zeros(3)] * 3))
    assert clusters.first_two_over_others([np.zeros(2), np.array([0.0, 1.0]), np.array([3.0, 0.0])]) < 0.5
    assert np.isnan(clusters.in_span(np.ones((2, 3)), np.full((2, 4), np.inf))).all()
    assert clusters.in_span(np.ones((2, 3)), np.ones((2, 4))).shape == (2, 0)  # logits that see nothing
    assert clusters.pair_distances(clusters.in_span(np.ones((2, 3)), np.ones((2, 4)))).tolist() == [0.0]
