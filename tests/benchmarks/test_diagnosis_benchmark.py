"""The measurement of a diagnosis prints time, memory and what was found, from memory and from a memory map."""

import pathlib
import re
import sys

import pytest

from benchmarks import diagnosis


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="needs Linux's memory gauge")
@pytest.mark.parametrize("mapped", [False, True])
def test_it_measures_what_it_says(monkeypatch, capsys, tmp_path, mapped):
    where = ["--memory-map", str(tmp_path / "logits.npy")] if mapped else []
    monkeypatch.setattr(sys, "argv", ["", "--examples", "300", "--classes", "5", "--resamples", "10", *where])
    diagnosis.main()
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+\.\d\d s, -?\d+ MB", first)
    assert second == "Diagnosis of 300 predictions, 5 classes"
    assert (tmp_path / "logits.npy").exists() == mapped
