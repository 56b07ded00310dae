"""Checks of what a demo's results hold for the report of the reproduction."""

from demos.reproduce import verdict
from demos.reproduce.experiment import experiments
from demos.reproduce.kept import Found


def assert_tells_whether_networks_are_like_the_papers(name, results):
    """All numbers of the experiment's part "regime" are in the results of its demo, and within their ranges."""
    experiment = experiments()[name]
    rows = list(Found(experiment, "cpu", [{"results": [results]}]).rows())
    learnt, ece, temperature = (verdict.values(number, rows) for number in experiment.parts["regime"].numbers)
    assert learnt.keys() == ece.keys() == temperature.keys() == {row["seed"] for row in rows}
    assert all(1 <= percent <= 100 for percent in learnt.values())
    assert all(0 <= error <= 1 for error in ece.values())
    assert all(0.01 <= value <= 100 for value in temperature.values())
