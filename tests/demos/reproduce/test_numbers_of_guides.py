"""The guides show the numbers that were kept of the experiments."""

import itertools
import json
import math
import re
import statistics

import pytest
from kept_results import DOCS, RESULTS, networks_of, results_of, section_of

from demos.kit import drawing
from demos.reproduce.experiment import experiments

EXPERIMENTS = experiments()
CASES = [
    (name, scale)
    for name, each in EXPERIMENTS.items()
    for scale, setting in each.scales.items()
    if setting.shown and results_of(name, scale)
]
# How tables begin that are not as demos print them; each has a test of its own.
ARRANGED = ("| steps |", "| noise |", "| training | last", "| temperature, beam 8 |", "| |", "| T |")
ARRANGED += ("| beam width |", "| seed 0, α |")


def tables_of(section):
    """The cells of each row of each table, without its head, by how the table begins."""
    for table in re.findall(r"^\|(?:.*\|\n)+", section, re.MULTILINE):
        head, _, *rows = table.splitlines()
        yield head, [[cell.strip(" *") for cell in row.strip("|").split("|")] for row in rows]


def arranged(where, beginning):
    """The rows of the table in the section that begins so."""
    (rows,) = [rows for head, rows in tables_of(section_of(where)) if head.startswith(beginning)]
    return rows


def mean(networks, path):
    """The mean over networks of what stands at a path of names and places in a list."""
    values = []
    for network in networks:
        for key in path.split("."):
            network = network[int(key) if key.isdigit() else key]
        values.append(network)
    return statistics.mean(values)


def printed_tables(text):
    """The head and the rows of each table that demos print, whose columns the dashes under the head show."""
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if re.fullmatch(r"-+(  -+)+", line):
            starts = [dashes.start() for dashes in re.finditer(r"-+", line)]
            rows = itertools.takewhile(str.strip, (lines[place - 1], *lines[place + 1 :]))
            ends = [*starts[1:], None]
            head, *rest = [[row[i:j].strip() for i, j in zip(starts, ends, strict=True)] for row in rows]
            yield head, rest


def columns_of(shown, printed):
    """Where the columns of a page's table are in a printed one, which may have more; None if it lacks one."""
    found, columns = [], iter(enumerate(printed))
    for name in shown:
        found.append(next((place for place, other in columns if other == name), None))
    return None if None in found else found


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_the_tables_of_the_page_are_those_that_the_demos_print(name, scale):
    of_trials = [[results | {"pictures": []} for results in of_demos] for of_demos in results_of(name, scale)]
    printed = "\n".join(drawing.shown(list(of_demo), name)[0] for of_demo in zip(*of_trials, strict=True))
    tables = list(tables_of(section_of(EXPERIMENTS[name].scales[scale].shown)))
    tables = [(head, rows) for head, rows in tables if not head.startswith(ARRANGED)]
    assert tables
    for head, rows in tables:
        shown = [cell.strip() for cell in head.strip("|").split("|")]
        all_rows = [
            [row[place] for place in places]
            for columns, printed_rows in printed_tables(printed)
            if (places := columns_of(shown, columns))
            for row in printed_rows
        ]
        assert rows
        for row in rows:
            assert row in all_rows, head


def test_the_readme_shows_the_first_demo():
    heading = "README.md: Run the demos"
    rows = arranged(heading, "| label smoothing |")
    assert len(rows) == 3
    for alpha, *cells in rows:
        networks = networks_of("calibration_digits", "demos.image.calibration", "smoke", label_smoothing=float(alpha))
        assert len(networks) == 3
        columns = (
            ("accuracy", 100, 2),
            ("ece", 1, 3),
            ("temperature", 1, 2),
            ("ece_scaled", 1, 3),
            ("excess_aurc", 1, 3),
        )
        for cell, (name, scale, digits) in zip(cells, columns, strict=True):
            values = [scale * network[name] for network in networks]
            assert cell == f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


@pytest.mark.parametrize(
    ("heading", "name", "against"),
    [
        ("An open vocabulary: where smoothing helps", "speech_multi30k", "temperature"),
        ("Compare hypotheses by the mean log p per token", "speech_sums", "beam_width"),
    ],
)
def test_the_guide_shows_what_sweeps_do_to_the_words(heading, name, against):
    (head, rows), *_ = (
        (head, rows)
        for head, rows in tables_of(section_of(f"docs/speech.md: {heading}"))
        if head.startswith(f"| {against.replace('_', ' ')}, ")
    )
    swept = [float(value) for value in head.strip("| ").split(" | ")[1:]]
    assert len(rows) > 1
    for label, *cells in rows:
        measure, alpha = label.split(", α = ")
        networks = networks_of(name, "demos.speech.beam_search", label_smoothing=float(alpha))
        assert len(networks) == 3
        assert all(network[against][against] == swept for network in networks)
        for place, cell in enumerate(cells):
            value = mean(networks, f"{against}.{measure.split()[0].lower()}.{place}")
            assert cell == (f"{100 * value:.1f}" if measure == "WER %" else f"{value:.3f}"), (label, place)


SWEPT = "docs/translation.md: What it shows"


def of_translators(alpha):
    networks = networks_of("translation_multi30k", "demos.translation.calibration", label_smoothing=alpha)
    assert networks
    return networks


def test_the_guide_shows_how_temperature_changes_translations():
    for place, (temperature, *cells) in enumerate(arranged(SWEPT, "| T |")):
        assert {network["temperature"]["temperature"][place] for network in of_translators(0.0)} == {float(temperature)}
        for alpha, (bleu, ece, nll) in zip((0.0, 0.1), (cells[:3], cells[3:]), strict=True):
            found = {
                name: mean(of_translators(alpha), f"temperature.{name}.{place}") for name in ("bleu", "ece", "nll")
            }
            assert [bleu, ece, nll] == [f"{100 * found['bleu']:.2f}", f"{found['ece']:.3f}", f"{found['nll']:.3f}"]


def test_the_guide_shows_translators_beside_the_papers():
    hard, smoothed = (
        networks_of("translation_multi30k", "demos.translation.train", label_smoothing=alpha) for alpha in (0.0, 0.1)
    )
    errors, perplexities, bleu = (row[1:4] for row in arranged(SWEPT, "| |"))
    temperature = mean(hard, "temperature")
    assert errors == [
        f"{mean(hard, 'ece'):.3f}",
        f"{mean(hard, 'ece_scaled'):.3f} (T = {temperature:.2f})",
        f"{mean(smoothed, 'ece'):.3f}",
    ]
    nll = mean(hard, "nll"), mean(hard, "nll_scaled"), mean(smoothed, "nll")
    assert perplexities == [f"{math.exp(value):.2f}" for value in nll]
    swept = of_translators(0.0)[0]["temperature"]["temperature"]
    nearest = min(swept, key=lambda value: abs(value - temperature))
    scaled = mean(of_translators(0.0), f"temperature.bleu.{swept.index(nearest)}")
    assert bleu == [
        f"{100 * mean(hard, 'beam_bleu'):.2f}",
        f"{100 * scaled:.2f} (T = {nearest:g})",
        f"{100 * mean(smoothed, 'beam_bleu'):.2f}",
    ]


def test_the_guide_shows_the_translators_of_one_seed():
    rows = arranged(SWEPT, "| seed 0, α |")
    assert [row[0] for row in rows] == ["0", "0.05", "0.1"]
    for alpha, *cells in rows:
        of_alpha = networks_of("translation_multi30k", "demos.translation.train", label_smoothing=float(alpha))
        (network,) = [each for each in of_alpha if each["seed"] == 0]
        numbers = [f"{100 * network['token_accuracy']:.2f}", f"{network['nll']:.4f}", f"{network['ece']:.4f}"]
        numbers += [f"{network['temperature']:.3f}", f"{network['ece_scaled']:.4f}"]
        texts = ("greedy_bleu", "beam_bleu", "beam_chrf", "dev_beam_bleu")
        assert cells == numbers + [f"{100 * network[name]:.2f}" for name in texts]


def test_the_guide_shows_what_widths_and_length_penalties_do_to_translations():
    for place, (width, *bleu, _, penalty, hard, length, smoothed, its_length) in enumerate(
        arranged(SWEPT, "| beam width |")
    ):
        networks = of_translators(0.0), of_translators(0.1)
        assert networks[0][0]["beam_width"]["beam_width"][place] == int(width)
        assert bleu == [f"{100 * mean(each, f'beam_width.bleu.{place}'):.2f}" for each in networks]
        if penalty:
            assert networks[0][0]["length_penalty"]["length_penalty"][place] == float(penalty)
            found = [
                f"{scale * mean(each, f'length_penalty.{name}.{place}'):.{digits}f}"
                for each in networks
                for name, scale, digits in (("bleu", 100, 2), ("length_ratio", 1, 3))
            ]
            assert [hard, length, smoothed, its_length] == found


def test_the_guide_shows_how_clusters_tighten_with_training():
    table = re.search(r"^\| steps \|.*\n(?:\|.*\n)+", (DOCS / "projection.md").read_text("utf-8"), re.M)[0]
    _, _, _, *rows = table.splitlines()
    for row in rows:
        steps, *shown = row.strip("| ").split(" | ")
        steps = steps.replace(",", "")
        kept = RESULTS / "cpu" / "projection_digits_steps" / f"steps-{steps}.json"
        kept = kept if kept.exists() else RESULTS / "smoke" / "projection_digits" / "all.json"
        (found,) = json.loads(kept.read_text("utf-8"))["results"]
        assert found["settings"]["steps"] == int(steps)
        for place, measure in enumerate(("ratio", "template_distance_cv", "variability", "cdnv", "means_angle")):
            for alpha, cell in zip((0.0, 0.1), shown[2 * place : 2 * place + 2], strict=True):
                networks = [each for each in found["trials"] if each["label_smoothing"] == alpha]
                values = [each["statistics"]["training"][measure] for each in networks]
                assert cell == f"{statistics.mean(values):.3f}", (steps, measure, alpha)


def test_the_guide_shows_held_out_clusters_against_accuracy():
    rows = arranged("docs/projection.md: Digits, the default", "| noise |")
    assert len(rows) == 5
    for noise, *cells in rows:
        of_trials = [results for (results,) in results_of("projection_digits_noise", "cpu")]
        (results,) = [each for each in of_trials if each["settings"]["noise"] == float(noise)]
        groups = [[each for each in results["trials"] if each["label_smoothing"] == alpha] for alpha in (0.0, 0.1)]
        expected = [f"{100 * mean(group, 'accuracy'):.1f}" for group in groups]
        expected += [f"{mean(group, 'statistics.held-out.ratio'):.3f}" for group in groups]
        assert cells == expected


def test_the_guide_says_how_near_trainings_come_to_their_least_loss():
    text = (DOCS / "projection.md").read_text("utf-8")
    table = re.search(r"^\| training \|.*least.*\n(?:\|.*\n)+", text, re.M)[0]
    rows = {name: cells for name, *cells in (row.strip("| ").split(" | ") for row in table.splitlines()[2:])}
    for name, trained, projected in (
        ("CIFAR-10, 10,000 images", "calibration_cifar10", "projection_cifar10"),
        ("the same, four times as many steps", "projection_cifar10_long", "projection_cifar10_long"),
        ("CIFAR-100, 10,000 images", "calibration_cifar100", "projection_cifar100"),
        ("CIFAR-100, 1,000 images", "projection_cifar100_few", "projection_cifar100_few"),
    ):
        losses = [
            network["history"][-1]["loss"] / 3  # the loss scale
            for network in networks_of(trained, "demos.image.calibration")
            if network["label_smoothing"] == 0.1
        ]
        ratios = {0.0: [], 0.1: []}
        for network in networks_of(projected, "demos.image.projection"):
            if network["label_smoothing"] in ratios:
                ratios[network["label_smoothing"]].append(network["statistics"]["training"]["ratio"])
        loss, least, *shown = rows.pop(name)
        assert loss == f"{statistics.mean(losses):.3f}"
        assert float(least) < float(loss)
        assert shown == [f"{statistics.mean(ratios[alpha]):.3f}" for alpha in (0.0, 0.1)]
    assert not rows


def test_the_guide_says_how_far_apart_similar_classes_end():
    networks = {
        alpha: networks_of("projection_cifar10_long", "demos.image.projection", label_smoothing=alpha)
        for alpha in (0.0, 0.1)
    }
    hard, smooth = (
        {
            name: mean(networks[alpha], f"statistics.training.{path}")
            for name, path in {
                "seen": "first_two_over_others_in_span.1",
                "whole": "first_two_over_others.1",
                "correlation": "distances_correlation",
            }.items()
        }
        for alpha in (0.0, 0.1)
    )
    trained = networks_of("projection_cifar10_long", "demos.image.calibration", label_smoothing=0.1)
    text = " ".join(section_of("docs/projection.md: CIFAR-10: four times as many steps").split())
    for said in (
        f"with hard targets {hard['seen']:.2f} times as far apart as they are from trucks,",
        f"come to {smooth['seen']:.2f} times.",
        f"({hard['whole']:.2f} times, then {smooth['whole']:.2f})",
        f"is {smooth['correlation']:.2f}, with hard targets {hard['correlation']:.2f}.)".replace("-", "−"),
        f"their temperature is {mean(trained, 'temperature'):.2f}",
    ):
        assert said in text


def test_the_guide_counts_the_rankings_of_the_kept_diagnoses():
    networks = {}  # experiments share some, which count once
    for path in sorted((RESULTS / "cpu").rglob("*.json")):
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
    text = (DOCS / "diagnosis.md").read_text(encoding="utf-8")
    sentence = re.search(r"In the\s+diagnoses of \d+ networks kept.*?label smoothing\.", text, re.DOTALL)[0]
    assert list(map(int, re.findall(r"\d+", sentence))) == counted


@pytest.mark.parametrize(
    ("experiment", "number", "said"),
    [
        ("advice_cifar", 18, "its AURC is {:.3f} to {:.3f} higher (`advice_cifar`)"),
        ("speech_multi30k", 12, "it is {:.4f} to {:.4f} higher (`speech_multi30k`)"),
        ("speech_unigram", 3, "{0:.4f} to {1:.4f} (`speech_unigram`)"),
        ("advice_spoken_digits", 9, "up to {1:.5f} (`advice_spoken_digits`)"),
        ("translation_multi30k", 5, "{0:.3f} to {1:.3f} higher (`translation_multi30k`)"),
    ],
)
def test_the_guide_says_how_the_largest_logit_ranks(experiment, number, said):
    changes = [
        network["diagnosis"]["estimates"]["aurc_largest_logit"]["value"]
        - network["diagnosis"]["estimates"]["aurc"]["value"]
        for path in (RESULTS / "cpu" / experiment).glob("*.json")
        for results in json.loads(path.read_text("utf-8"))["results"]
        for network in results["trials"]
        if "aurc_largest_logit" in network.get("diagnosis", {}).get("estimates", {})
    ]
    assert len(changes) == number
    text = " ".join((DOCS / "diagnosis.md").read_text(encoding="utf-8").split())
    assert said.format(min(changes), max(changes)) in text
