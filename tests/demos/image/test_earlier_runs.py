"""Directories of runs that an earlier version left unfinished go on, and what they hold is not trained again.

Under tests/data/runs is what 12 steps (distillation: 8) of networks with 4 hidden units left when they were
interrupted, without files for TensorBoard.
"""

import importlib
import json
import pathlib
import shutil

import pytest
from harness import BACKEND, slow

from demos import redraw
from demos.kit import drawing
from demos.reproduce import running

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="the runs are of TensorFlow")

RUNS = pathlib.Path(__file__).parents[2] / "data" / "runs"
NETWORKS = ("--hidden", "4", "--steps", "12", "--batch-size", "300", "--seeds", "0", "--label-smoothing", "0.1", "0")
STUDENTS = ("--steps", "8", "--hidden", "4", "--student-hidden", "--seeds", "0", "--label-smoothing", "0", "0.3")
ARGUMENTS = {
    "calibration": NETWORKS,
    "projection": NETWORKS,
    "information": (*NETWORKS, "--measure-every", "4"),
    "distillation": (*STUDENTS, "--temperature", "4"),
}


@pytest.fixture
def short_epochs(monkeypatch):
    monkeypatch.setattr(importlib.import_module("demos.kit.epochs"), "SHORTEST_EPOCH", 4)


def check_redraw(out):
    """The pictures of results.json can be drawn again, from it alone."""
    again = out.parent / "again"
    assert redraw.main([str(out / "results.json"), "--out", str(again)]) == 0
    results = json.loads((out / "results.json").read_text())
    pictures = results["pictures"]
    for name in pictures:
        assert (again / name).stat().st_size > 1_000
        if name.endswith(".png"):
            assert (again / name).read_bytes() == (out / name).read_bytes()
    assert any(name.endswith(".png") for name in pictures)
    assert drawing.shown([running.small(results)], out)[1] is not None  # what a reproduction keeps can be drawn, too


def run(demo, out, *arguments):
    """Runs a demo; returns the text of each result."""
    main = importlib.import_module(f"demos.image.{demo}").main
    assert main([*arguments, "--out", str(out)]) == 0
    check_redraw(out)
    return {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("result.json")}


@pytest.mark.parametrize("demo", ["calibration", slow("projection"), slow("information")])
def test_one_network_is_there_and_the_other_goes_on(demo, tmp_path, short_epochs):
    out = shutil.copytree(RUNS / demo, tmp_path / "out")
    results = run(demo, out, *ARGUMENTS[demo], "--resume")
    finished = RUNS / demo / "alpha-0.1" / "seed-0" / "result.json"
    assert results.pop("alpha-0.1/seed-0/result.json") == finished.read_text()
    other = json.loads(results.pop("alpha-0.0/seed-0/result.json"))
    assert not results
    assert other["label_smoothing"] == 0
    if demo == "information":
        assert other["steps"] == [0, 4, 8, 12]
    else:
        assert [epoch["epoch"] for epoch in other["history"]] == [1, 2, 3]
    assert not list(out.rglob("checkpoint*"))


def test_teachers_are_there_and_students_follow(tmp_path):
    out = shutil.copytree(RUNS / "distillation", tmp_path / "out")
    results = run("distillation", out, *ARGUMENTS["distillation"], "--resume")
    assert len(results) == 6
    for path in RUNS.glob("distillation/**/result.json"):
        assert results[path.relative_to(RUNS / "distillation").as_posix()] == path.read_text()


def test_networks_of_a_calibration_run_are_projected(tmp_path):
    arguments = ("--from", str(RUNS / "calibration"), "--label-smoothing", "0.1")
    assert run("projection", tmp_path / "out", *arguments) == {}
    (network,) = json.loads((tmp_path / "out" / "results.json").read_text())["trials"]
    theirs = json.loads((RUNS / "calibration" / "alpha-0.1" / "seed-0" / "result.json").read_text())
    assert network["accuracy"] == theirs["accuracy"]
    assert (network["label_smoothing"], network["seed"]) == (0.1, 0)
