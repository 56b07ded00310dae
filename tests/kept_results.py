"""What was kept of the experiments, where guides show it, and checks of what results hold for the report."""

import json
import pathlib
import re

from demos.reproduce import verdict
from demos.reproduce.experiment import experiments
from demos.reproduce.kept import Found

DOCS = pathlib.Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "reproduction" / "results"


def section_of(where):
    """What stands under the heading of the page."""
    page, _, heading = where.partition(": ")
    text = (DOCS.parent / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    return section


def results_of(name, scale):
    """The results of each demo of an experiment, a list for each trial that was kept."""
    return [json.loads(path.read_text("utf-8"))["results"] for path in sorted((RESULTS / scale / name).glob("*.json"))]


def networks_of(name, demo, scale="cpu", **where):
    """What a demo kept of each network of an experiment, of those with these values."""
    found = [results for of_trial in results_of(name, scale) for results in of_trial if results["experiment"] == demo]
    networks = [network for results in found for network in results["trials"]]
    return [network for network in networks if all(network[key] == value for key, value in where.items())]


def assert_tells_whether_networks_are_like_the_papers(name, results):
    """All numbers of the experiment's part "regime" are in the results of its demo, and within their ranges."""
    experiment = experiments()[name]
    rows = list(Found(experiment, "cpu", [{"results": [results]}]).rows())
    learnt, ece, temperature = (verdict.values(number, rows) for number in experiment.parts["regime"].numbers)
    assert learnt.keys() == ece.keys() == temperature.keys() == {row["seed"] for row in rows}
    assert all(1 <= percent <= 100 for percent in learnt.values())
    assert all(0 <= error <= 1 for error in ece.values())
    assert all(0.01 <= value <= 100 for value in temperature.values())
