"""Sweeps over the networks of a run: one at a time in a directory."""

import argparse
import os
import types

import pytest

from demos.kit import records, runs
from demos.sequence import sweep
from demos.sequence.earlier import Trained
from demos.speech.beam_search import COMMAND


@pytest.fixture(autouse=True)
def _unlocked():
    yield
    runs.unlock()


@pytest.mark.parametrize("out", ["out", None])
def test_a_second_sweep_is_refused_until_the_first_ends_and_training_is_not(tmp_path, monkeypatch, out):
    monkeypatch.setattr(sweep, "trained_networks", lambda *_: [])
    options = argparse.Namespace(run=str(tmp_path), out=out and str(tmp_path / out))

    def plan():
        return sweep.plan(options, None, {}, lambda _: None, lambda *_: None)

    planned = plan()
    with pytest.raises(
        ValueError, match=f"Another run is at work in {planned.out}: wait for it, or give another --out"
    ):
        plan()
    runs.open_run(planned.out, {}, False)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match=f"Another run is at work in {planned.out}"):
        runs.open_run(tmp_path, {}, False)  # which would move aside what the sweep reads
    assert planned.out.is_dir()
    runs.unlock()
    assert plan().out == planned.out


def test_results_of_an_earlier_sweep_with_other_options_are_kept(tmp_path, capsys):
    path = tmp_path / "calibration.json"
    for temperatures in ([1.0], [1.0], [2.0], [3.0]):
        sweep.set_aside(path, {"temperatures": temperatures})
        records.write_json(path, {"settings": {"temperatures": temperatures}})
    kept = {name: records.read_json(tmp_path / name)["settings"]["temperatures"] for name in os.listdir(tmp_path)}
    assert kept == {"calibration.json": [3.0], "calibration.1.json": [1.0], "calibration.2.json": [2.0]}
    assert "is now calibration.2.json" in capsys.readouterr().out
    path.write_text("{")  # all that was measured since must not be lost for it
    sweep.set_aside(path, {})
    assert (tmp_path / "calibration.3.json").read_text() == "{"


def test_a_sweep_of_another_run_into_one_directory_keeps_the_earlier_results(tmp_path, monkeypatch):
    def publish(run, results, table, figure, text_file, file, networks):
        records.write_json(run.out / file, {"settings": run.settings})
        return results

    monkeypatch.setattr(sweep, "publish", publish)
    monkeypatch.setattr(sweep.monitor, "show", lambda *_: None)
    data = types.SimpleNamespace(name="words", fingerprint="f")
    (tmp_path / "out").mkdir()
    for run, nll in (("one", 1.0), ("one", 1.0), ("two", 1.0), ("two", 2.0)):  # at last one that took its place
        options = COMMAND.choose(["--from", str(tmp_path / run), "--out", str(tmp_path / "out")])
        network = Trained(0.1, 0, tmp_path / run / "alpha-0.1" / "seed-0", {"dev_nll": nll})
        planned = sweep.Sweep(options, [(network, None)], data)
        sweep.publish_results(planned, COMMAND.name, {"trials": [{}]}, None, None)
    found = {path.name: records.read_json(path)["settings"]["from_run"] for path in (tmp_path / "out").iterdir()}
    assert found == {
        "beam_search.json": str(tmp_path / "two"),
        "beam_search.1.json": str(tmp_path / "one"),
        "beam_search.2.json": str(tmp_path / "two"),
    }
