"""Experiments as files: pages show their commands, demos take them, and their claims are of numbers they have."""

import dataclasses
import importlib
import pathlib
import re
import shlex
import types

import pytest
from kept_results import RESULTS, section_of

from demos.image import data, distillation
from demos.image.analysis import distillation_curves
from demos.kit import records
from demos.kit.options import Output
from demos.reproduce.experiment import NEARER_TO_1, SCALES, TITLES, Experiment, Setting, Trial, experiments, trials
from demos.reproduce.kept import kept_of, path_of

ROOT = pathlib.Path(__file__).parents[3]
EXPERIMENTS = experiments()
CASES = [(name, scale) for name, each in EXPERIMENTS.items() for scale in each.scales]
SHOWN = {setting.shown: setting for each in EXPERIMENTS.values() for setting in each.scales.values() if setting.shown}


def trial(commands, arguments=""):
    return Trial(Experiment("x", "", "", {"cpu": Setting(commands, 1)}, {}), "cpu", arguments)


def shown_on_page(where):
    """The commands in the section of the page, each as its words."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", section_of(where), re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in blocks.splitlines()]


@pytest.mark.parametrize("where", SHOWN)
def test_the_page_shows_the_commands(where):
    commands = trial(SHOWN[where].commands).commands()
    assert shown_on_page(where) == [["python", "-m", module, *arguments] for module, arguments in commands]


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_the_demos_take_the_commands(name, scale):
    setting = EXPERIMENTS[name].scales[scale]
    for arguments in setting.trials:
        commands = Trial(EXPERIMENTS[name], scale, arguments).commands()
        for module, words in commands:
            command = importlib.import_module(module).COMMAND
            command.parser().parse_args(words)
            assert "--from" in words or any(issubclass(group.fields, Output) for group in command.groups)
        module, words = commands[0]
        short = shlex.split(setting.short.format(steps=100))
        importlib.import_module(module).COMMAND.parser().parse_args([*words, *short])
    assert setting.minutes or setting.updates
    assert scale != "cpu" or setting.minutes <= 60
    assert setting.once_trained is None or setting.once_trained < setting.minutes


def settings_now(module, words):
    """Of a demo of images that come with a package: the data and, of Figure 5, the recipes; None of other data."""
    options = importlib.import_module(module).COMMAND.choose(words)
    if module != "demos.image.distillation":
        return None if data.get(options.dataset).reads_files else {"data": data.load_chosen(options).fingerprint}
    options.settle("experiment")
    if data.get(options.experiment).reads_files:
        return None
    images = data.load(options.experiment, noise=options.noise)
    recipes = distillation_curves.Figure5(options, images).settings
    return {"data": images.fingerprint, **records.to_json(recipes)}


def test_what_was_kept_is_what_the_demos_would_do_now():
    checked, stale = 0, []
    for trial in (trial for scale in ("smoke", "cpu") for trial in trials(scale, EXPERIMENTS)):
        (module, words), *_ = trial.commands()
        if not module.startswith("demos.image.") or not path_of(trial, RESULTS).exists():
            continue
        now = settings_now(module, words)
        if now is not None:
            kept = kept_of(trial, RESULTS)["results"][0]["settings"]
            stale += [trial.label] if {name: kept[name] for name in now} != now else []
            checked += 1
    assert checked > 15
    assert stale == []


def test_the_parts_of_a_seed_are_the_whole():
    def networks(arguments):
        ((_, words),) = Trial(EXPERIMENTS["distillation_cifar10"], "cpu", arguments).commands()
        options = distillation.COMMAND.choose(words)
        options.settle("experiment")
        images = types.SimpleNamespace(name="cifar10", x_train=range(10_000))
        return [network.name for network in distillation_curves.Figure5(options, images).networks()]

    parts = EXPERIMENTS["distillation_cifar10"].scales["cpu"].trials
    found = [name for part in parts for name in networks(part)]
    assert sorted(found) == sorted(networks("--seeds 0 1 2"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_claims_are_of_numbers_that_the_experiment_has(name):
    experiment = EXPERIMENTS[name]
    assert experiment.about
    assert experiment.paper
    assert set(experiment.scales) <= set(SCALES)
    assert set(experiment.parts) <= set(TITLES)
    for setting in experiment.scales.values():
        demos = {module for module, _ in trial(setting.commands).commands()}
        for part in experiment.parts.values():
            labels = [number.label for number in part.numbers]
            assert len(set(labels)) == len(labels)
            assert {number.demo for number in part.numbers} <= demos
            assert part.picture is None or part.picture[0] in demos
            assert part.claims
            for claim in part.claims:
                assert claim.number in labels
                assert claim.than in labels or isinstance(claim.than, float)
                assert claim.side in ("below", "above", NEARER_TO_1)


def label_smoothing_of(experiment, scale):
    """Of all networks that its trials train."""
    trained = set()
    for arguments in experiment.scales[scale].trials:
        module, words = Trial(experiment, scale, arguments).commands()[0]
        trained |= set(importlib.import_module(module).COMMAND.choose(words).label_smoothing or ())
    return trained


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_claims_are_of_networks_that_are_trained(name, scale):
    experiment = EXPERIMENTS[name]
    trained = label_smoothing_of(experiment, scale)
    if experiment.hard_targets:
        trained |= label_smoothing_of(EXPERIMENTS[experiment.hard_targets], scale) & {0.0}
    numbers = [number for part in experiment.parts.values() for number in part.numbers]
    # Without the option distillation's own choice depends on the data.
    assert not trained or {n.where["label_smoothing"] for n in numbers if "label_smoothing" in n.where} <= trained


def test_every_table_and_figure_has_an_experiment():
    assert {part for each in EXPERIMENTS.values() for part in each.parts} == set(TITLES)


@pytest.mark.parametrize("page", ["calibration", "projection", "distillation"])
def test_every_run_under_a_heading_of_its_own_is_an_experiment(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    sections = re.findall(r"^#+ (.*)\n((?:(?!^#).*\n)*)", text, re.MULTILINE)
    headings = {heading for heading, body in sections if "\npython -m demos.image" in body} - {"The demo"}
    assert {f"docs/{page}.md: {heading}" for heading in headings} == {each for each in SHOWN if page in each}


def test_a_trial_adds_its_arguments_to_what_it_trains_and_has_a_name():
    one = trial(
        "python -m a --b \\\n c 'd e'\npython -m f --from a".replace("\\\n", ""), "--seeds 0 --label-smoothing 0"
    )
    own = ["--seeds", "0", "--label-smoothing", "0"]
    assert one.commands() == [("a", ["--b", "c", "d e", *own]), ("f", ["--from", "a"])]
    assert one.name == "seeds-0-label-smoothing-0"
    picks = dataclasses.replace(one.setting, picks=True)
    told = dataclasses.replace(one, experiment=dataclasses.replace(one.experiment, scales={"cpu": picks}))
    assert told.commands() == [("a", ["--b", "c", "d e", *own]), ("f", ["--from", "a", *own])]
    assert trial("python -m a").name == "all"


def test_names_of_trials_differ():
    for scale in SCALES:
        names = [(each.experiment.name, each.name) for each in trials(scale, list(TITLES))]
        assert len(set(names)) == len(names)


def test_what_measures_networks_comes_after_what_trains_them():
    order = [each.label for each in trials("cpu", list(TITLES))]
    for measures, trains in (
        (
            "projection_cifar100 --seeds 1 --label-smoothing 0.1",
            "calibration_cifar100 --seeds 1 --label-smoothing 0.1",
        ),
        ("projection_cifar10 --seeds 0", "calibration_cifar10 --seeds 0"),
        ("speech_sums --seeds 1 --label-smoothing 0.1", "speech_multi30k --seeds 1 --label-smoothing 0.1"),
    ):
        assert order.index(measures) > order.index(trains)
    assert order.index("calibration_cifar10 --seeds 1") > order.index(
        "information_cifar10 --seeds 0 --label-smoothing 0"
    )


def test_what_is_stored_is_of_the_trials_as_they_are_now():
    current = {
        path_of(each, RESULTS) for scale in SCALES for each in trials(scale, list(TITLES)) if kept_of(each, RESULTS)
    }
    assert set(RESULTS.rglob("*.json")) == current


def test_experiments_can_be_named_as_well_as_tables_and_figures():
    named = trials("smoke", ["translation_toy", "fig1"])
    assert {each.experiment.name for each in named} == {"translation_toy", "projection_digits"}
    one, other = (EXPERIMENTS[name] for name in ("translation_toy", "projection_digits"))
    assert one.chosen(["translation_toy", "fig1"]) == list(one.parts)
    assert other.chosen(["translation_toy", "fig1"]) == ["fig1"]


def test_files_stay_small():
    for path in (ROOT / "demos" / "reproduce" / "experiments").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 36, path
