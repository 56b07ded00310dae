"""Experiments as files: the pages show their commands, and the demos take them."""

import importlib
import pathlib
import re
import shlex

import pytest

from demos.reproduce import Experiment, experiments

ROOT = pathlib.Path(__file__).parents[3]
EXPERIMENTS = experiments()


def shown(experiment):
    """The commands in the section of the page, each as its words."""
    page, _, heading = experiment.shown.partition(": ")
    text = (ROOT / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    blocks = "".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in blocks.splitlines()]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_page_shows_the_commands_and_the_demo_takes_them(name):
    experiment = EXPERIMENTS[name]
    commands = [["python", "-m", module, *arguments] for module, arguments in experiment.arguments()]
    assert commands
    assert shown(experiment) == commands
    for module, arguments in experiment.arguments():
        importlib.import_module(module).COMMAND.parser().parse_args(arguments)
    assert all(vars(experiment).values())


@pytest.mark.parametrize("page", ["calibration", "projection", "distillation"])
def test_every_run_under_a_heading_of_its_own_is_an_experiment(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    sections = re.findall(r"^#+ (.*)\n((?:(?!^#).*\n)*)", text, re.MULTILINE)
    headings = {heading for heading, body in sections if "\npython -m demos.image" in body} - {"The demo"}
    assert {f"docs/{page}.md: {heading}" for heading in headings} == {
        each.shown for each in EXPERIMENTS.values() if page in each.shown
    }


def test_commands_may_span_lines():
    experiment = Experiment("python -m a --b \\\n c 'd e'\npython -m f".replace("\\\n", ""), "", "", "")
    assert experiment.arguments() == [("a", ["--b", "c", "d e"]), ("f", [])]


def test_files_stay_small():
    for path in (ROOT / "demos" / "reproduce" / "experiments").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 12, path
