import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import harness, page
from benchmarks.harness import Bound

ROOT = pathlib.Path(page.__file__).parent.parent


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="needs Linux's memory gauge")
def test_the_gauge_reads_one_allocation():
    size = 64 << 20

    def allocate():
        np.ones(size, "uint8")

    # The kernel adds up its count of pages in lots.
    assert harness.peak_memory(allocate) / size == pytest.approx(1.0, abs=0.02)
    assert harness.peak_memory(lambda: None) / size < 0.02


def test_ratios_are_medians_of_the_rounds_ratios():
    results = {
        "ours": {"seconds": [1.0, 4.0, 30.0], "memory": 3.0},
        "peer": {"seconds": [2.0, 4.0, 10.0], "memory": 2.0},
        "absent": {"missing": "no such package"},
    }
    assert harness.compare(Bound("ours", 1.0, "peer"), results) == 1.0
    assert harness.compare(Bound("ours", 1.0, "peer", "seconds"), results) == 0.0
    assert harness.compare(Bound("ours", 1.0, "peer", "memory"), results) == 1.5
    assert harness.compare(Bound("ours", 1.0, "peer", "beyond"), results) == 2.0
    assert harness.compare(Bound("ours", 1.0, measure="memory"), results) == 3.0
    assert harness.compare(Bound("ours", 1.0, "absent"), results) is None
    assert harness.compare(Bound("absent", 1.0, "peer"), results) is None


def test_the_page_is_made_from_the_results():
    assert page.page(ROOT / "benchmarks" / "results") == (ROOT / "docs" / "benchmarks.md").read_text("utf-8")


def test_results_are_whole():
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        results = json.loads(file.read_text("utf-8"))
        subject = page.subject(file.stem.rpartition("-")[0])
        assert list(results["cases"]) == [case.name for case in subject.cases], file.name
        bounds = [(bound["case"], bound["peer"], bound["at_most"]) for bound in results["bounds"]]
        assert bounds == [(bound.case, bound.peer, bound.at_most) for bound in subject.bounds], file.name


def test_names_that_are_no_subject_are_refused():
    command = [sys.executable, "-m", "benchmarks", "loses"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert "NAME must be among losses" in run.stderr
