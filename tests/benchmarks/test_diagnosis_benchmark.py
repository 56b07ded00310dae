"""The measurements of a diagnosis print and keep what they found; the guide shows what was kept."""

import json
import pathlib
import re
import statistics
import sys

import pytest
from harness import ROOT

from benchmarks import coverage, diagnosis

KEPT = ROOT / "benchmarks" / "results" / "diagnosis"
GUIDE = " ".join((ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8").split())


def kept(name):
    return json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="needs Linux's memory gauge")
@pytest.mark.parametrize("mapped", [False, True])
def test_it_measures_what_it_says(monkeypatch, capsys, tmp_path, mapped):
    where = ["--memory-map", str(tmp_path / "logits.npy")] if mapped else []
    size = ["--examples", "300", "--classes", "5", "--resamples", "10", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["", *size, "--json", str(tmp_path / "found.json"), *where])
    diagnosis.main()
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    for line, seconds, megabytes in zip((first, second), found["seconds"], found["megabytes"], strict=True):
        assert re.fullmatch(r"\d+\.\d\d s, -?\d+ MB", line)
        assert line == f"{seconds:.2f} s, {megabytes:.0f} MB"
    assert third == "Diagnosis of 300 predictions, 5 classes"
    assert (tmp_path / "logits.npy").exists() == mapped


def test_coverage_prints_and_keeps_the_same(monkeypatch, capsys, tmp_path):
    held = dict.fromkeys((*coverage.NAMES, "biased"), 0.955)
    monkeypatch.setattr(coverage, "coverage", lambda *_, **__: held)
    arguments = ["--draws", "3", "--sizes", "200", "--steps", "5", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["", *arguments])
    coverage.main()
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("| 200 × 5 | 3 | 95.5 | ")
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert (found["draws"], [row["temperature"] for row in found["rows"]]) == (3, list(coverage.TEMPERATURES))
    assert coverage.line(found["rows"][-1]) == last


def test_the_guide_has_the_coverage_that_was_kept():
    files = [kept(name) for name in ("coverage", "coverage-sequences")]
    rows = [coverage.heading(), *(coverage.line(row) for found in files for row in found["rows"])]
    assert " ".join("\n".join(rows).split()) in GUIDE
    close = [
        [row["coverage"][name] for row in found["rows"] for name in coverage.NAMES if "ece" not in name]
        for found in files
    ]
    low, high, low_of_sequences, high_of_sequences = (f"{100 * end(each):.1f}" for each in close for end in (min, max))
    assert f"in 1,000 draws, {low} to {high} %." in GUIDE
    assert f"In 200 draws of sequences it is {low_of_sequences} to {high_of_sequences} %" in GUIDE
    assert [found["draws"] for found in files] == [1000, 200]


@pytest.mark.parametrize("name", ["coverage", "coverage-sequences"])
def test_kept_intervals_hold_the_truth_as_often_as_they_say(name):
    margin = 0.0 if name == "coverage" else 2 * (0.95 * 0.05 / 200) ** 0.5
    for row in kept(name)["rows"]:
        for estimate, share in row["coverage"].items():
            if estimate in ("ece", "ece_equal_mass", "classwise_ece"):
                assert share >= 0.93 - margin, (row, estimate)
            elif estimate != "biased":
                assert 0.91 - margin <= share <= 0.98 + margin, (row, estimate)


def test_the_guide_has_the_time_and_memory_that_were_kept():
    small, mapped = kept("time"), kept("time-memory-map")
    assert (small["examples"], small["classes"], small["resamples"]) == (10_000, 100, 1000)
    assert (mapped["examples"], mapped["classes"], mapped["resamples"]) == (1_000_000, 1000, 100)
    assert small["median_seconds"] == statistics.median(small["seconds"]) < 5
    assert max(small["megabytes"]) < 300
    assert mapped["median_seconds"] < 600
    assert f"take {small['median_seconds']:.2f} s with 1,000 resamples" in GUIDE
    assert f"at most {max(small['megabytes']):.0f} MB on top of the predictions" in GUIDE
    assert f"take {mapped['median_seconds']:.0f} s with 100 resamples" in GUIDE
    assert f"rises by {mapped['megabytes'][0] / 1000:.1f} GB" in GUIDE
    for found in (small, mapped):
        assert (found["machine"]["processor"], found["machine"]["cores"]) == ("Intel(R) Xeon(R) Processor @ 2.50GHz", 2)
    assert "Two cores of an Intel Xeon at 2.5 GHz, random logits" in GUIDE
