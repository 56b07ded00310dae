"""Experiments as files: pages show their commands, demos take them, and their claims are of numbers they have."""

import importlib
import json
import pathlib
import re
import shlex
import statistics

import pytest

from demos.kit import drawing
from demos.kit.options import Output
from demos.reproduce.experiment import SCALES, TITLES, Experiment, Setting, Trial, experiments, trials

ROOT = pathlib.Path(__file__).parents[3]
EXPERIMENTS = experiments()
CASES = [(name, scale) for name, each in EXPERIMENTS.items() for scale in each.scales]
SHOWN = {setting.shown: setting for each in EXPERIMENTS.values() for setting in each.scales.values() if setting.shown}


def kept(name, scale):
    """What was kept of an experiment that a page shows."""
    folder = ROOT / "docs" / "reproduction" / "results" / scale / name
    return sorted(folder.glob("*.json")) if EXPERIMENTS[name].scales[scale].shown else []


def trial(commands, arguments=""):
    return Trial(Experiment("x", "", "", {"cpu": Setting(commands, 1)}, {}), "cpu", arguments)


def section_of(where):
    """What stands under the heading of the page."""
    page, _, heading = where.partition(": ")
    text = (ROOT / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    return section


def shown_on_page(where):
    """The commands in the section of the page, each as its words."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", section_of(where), re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in blocks.splitlines()]


@pytest.mark.parametrize("where", SHOWN)
def test_the_page_shows_the_commands(where):
    commands = trial(SHOWN[where].commands).commands()
    assert shown_on_page(where) == [["python", "-m", module, *arguments] for module, arguments in commands]


@pytest.mark.parametrize(("name", "scale"), [case for case in CASES if kept(*case)])
def test_the_first_table_of_the_page_has_the_numbers_that_were_kept(name, scale):
    table = re.search(r"^\|(?:.*\|\n)+", section_of(EXPERIMENTS[name].scales[scale].shown), re.M)[0]
    of_trials = [json.loads(path.read_text("utf-8"))["results"] for path in kept(name, scale)]
    of_trials = [[results | {"pictures": []} for results in of_demos] for of_demos in of_trials]
    printed = [drawing.shown(list(of_demo), name)[0] for of_demo in zip(*of_trials, strict=True)]
    _, _, *rows = table.splitlines()
    cells = {cell.strip(" *") for row in rows for cell in row.strip("|").split("|")}
    assert len(cells) > 4
    assert cells <= set(re.split(r" {2,}|\n", "\n".join(printed)))


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
                assert claim.side in ("below", "above")


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
    assert trial("python -m a").name == "all"


def test_names_of_trials_differ():
    for scale in SCALES:
        names = [(each.experiment.name, each.name) for each in trials(scale, list(TITLES))]
        assert len(set(names)) == len(names)


def test_experiments_can_be_named_as_well_as_tables_and_figures():
    named = trials("smoke", ["translation_toy", "fig1"])
    assert {each.experiment.name for each in named} == {"translation_toy", "projection_digits"}
    one, other = (EXPERIMENTS[name] for name in ("translation_toy", "projection_digits"))
    assert one.chosen(["translation_toy", "fig1"]) == list(one.parts)
    assert other.chosen(["translation_toy", "fig1"]) == ["fig1"]


def test_files_stay_small():
    for path in (ROOT / "demos" / "reproduce" / "experiments").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 36, path


def test_the_guide_shows_how_clusters_tighten_with_training():
    table = re.search(r"^\| steps \|.*\n(?:\|.*\n)+", (ROOT / "docs" / "projection.md").read_text("utf-8"), re.M)[0]
    _, _, _, *rows = table.splitlines()
    results = ROOT / "docs" / "reproduction" / "results"
    for row in rows:
        steps, *shown = row.strip("| ").split(" | ")
        steps = steps.replace(",", "")
        kept = results / "cpu" / "projection_digits_steps" / f"steps-{steps}.json"
        kept = kept if kept.exists() else results / "smoke" / "projection_digits" / "all.json"
        (found,) = json.loads(kept.read_text("utf-8"))["results"]
        assert found["settings"]["steps"] == int(steps)
        for place, measure in enumerate(("ratio", "template_distance_cv", "variability", "cdnv", "means_angle")):
            for alpha, cell in zip((0.0, 0.1), shown[2 * place : 2 * place + 2], strict=True):
                networks = [each for each in found["trials"] if each["label_smoothing"] == alpha]
                values = [each["statistics"]["training"][measure] for each in networks]
                assert cell == f"{statistics.mean(values):.3f}", (steps, measure, alpha)


def of_demo(name, demo):
    """What a demo kept of each network of an experiment."""
    kept_here = (ROOT / "docs" / "reproduction" / "results" / "cpu" / name).glob("*.json")
    found = [results for path in kept_here for results in json.loads(path.read_text("utf-8"))["results"]]
    return [trial for results in found if results["experiment"] == demo for trial in results["trials"]]


def test_the_guide_says_how_near_trainings_come_to_their_least_loss():
    text = (ROOT / "docs" / "projection.md").read_text("utf-8")
    table = re.search(r"^\| training \|.*least.*\n(?:\|.*\n)+", text, re.M)[0]
    rows = {name: cells for name, *cells in (row.strip("| ").split(" | ") for row in table.splitlines()[2:])}
    for name, trained, projected in (
        ("CIFAR-10, 10,000 images", "calibration_cifar10", "projection_cifar10"),
        ("CIFAR-100, 10,000 images", "calibration_cifar100", "projection_cifar100"),
        ("CIFAR-100, 1,000 images", "projection_cifar100_few", "projection_cifar100_few"),
    ):
        losses = [
            network["history"][-1]["loss"] / 3  # the loss scale
            for network in of_demo(trained, "demos.image.calibration")
            if network["label_smoothing"] == 0.1
        ]
        ratios = {0.0: [], 0.1: []}
        for network in of_demo(projected, "demos.image.projection"):
            if network["label_smoothing"] in ratios:
                ratios[network["label_smoothing"]].append(network["statistics"]["training"]["ratio"])
        loss, least, *shown = rows.pop(name)
        assert loss == f"{statistics.mean(losses):.3f}"
        assert float(least) < float(loss)
        assert shown == [f"{statistics.mean(ratios[alpha]):.3f}" for alpha in (0.0, 0.1)]
    assert not rows


def test_the_guide_counts_the_rankings_of_the_kept_diagnoses():
    networks = {}  # experiments share some, which count once
    for path in sorted((ROOT / "docs" / "reproduction" / "results" / "cpu").rglob("*.json")):
        for results in json.loads(path.read_text("utf-8"))["results"]:
            for network in results["trials"]:
                alpha = network["label_smoothing"] if "diagnosis" in network else None
                key = json.dumps([results["settings"], alpha, network["seed"]])
                if alpha is not None:
                    networks.setdefault(key, (alpha > 0, network["diagnosis"]["findings"]["ranking"]))
    better, worse = (
        [is_smoothed for is_smoothed, said in networks.values() if said == verdict]
        for verdict in ("normalised logits rank better", "probability ranks better")
    )
    counted = [len(networks), sum(is_smoothed for is_smoothed, _ in networks.values())]
    counted += [len(better), sum(better), len(worse), sum(worse)]
    text = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    sentence = re.search(r"In the diagnoses of \d+ networks kept.*?label smoothing\.", text, re.DOTALL)[0]
    assert list(map(int, re.findall(r"\d+", sentence))) == counted


@pytest.mark.parametrize(
    ("experiment", "number", "said"),
    [
        ("advice_cifar", 18, "its AURC is {:.3f} to {:.3f} higher (`advice_cifar`)"),
        ("speech_multi30k", 12, "it is {:.4f} to {:.4f} higher (`speech_multi30k`)"),
        ("advice_spoken_digits", 9, "up to {1:.5f} (`advice_spoken_digits`)"),
    ],
)
def test_the_guide_says_how_the_largest_logit_ranks(experiment, number, said):
    changes = [
        network["diagnosis"]["estimates"]["aurc_largest_logit"]["value"]
        - network["diagnosis"]["estimates"]["aurc"]["value"]
        for path in (ROOT / "docs" / "reproduction" / "results" / "cpu" / experiment).glob("*.json")
        for results in json.loads(path.read_text("utf-8"))["results"]
        for network in results["trials"]
        if "aurc_largest_logit" in network.get("diagnosis", {}).get("estimates", {})
    ]
    assert len(changes) == number
    text = " ".join((ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8").split())
    assert said.format(min(changes), max(changes)) in text
