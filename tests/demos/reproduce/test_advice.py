"""Whether a diagnosis predicts what smoothing does: the rule, what counts as a difference, and the command."""

import json
import math
import re

import numpy as np
import pytest
from harness import ROOT

from demos import advice as command
from demos.kit import measures
from demos.reproduce import advice


def diagnosis(ece=0.15, accuracy=0.7, temperature=1.5, num_classes=10):
    values = {"ece": ece, "accuracy": accuracy, "temperature": temperature}
    return {
        "num_classes": num_classes,
        "estimates": {name: {"value": value, "low": value, "high": value} for name, value in values.items()},
    }


def results(hard, smoothed, alpha=0.1):
    """A results.json of networks with these calibration errors, one per seed."""
    trials = [
        {"label_smoothing": a, "seed": seed, "ece": ece, "nll_scaled": 0.5, "excess_aurc": 0.1}
        | {"diagnosis": diagnosis(ece)}
        for a, values in ((0.0, hard), (alpha, smoothed))
        for seed, ece in enumerate(values)
    ]
    return {"title": "data, mlp, 2 seeds", "settings": {"values": [hard, smoothed]}, "trials": trials}


class TestRule:
    @pytest.mark.parametrize(
        ("found", "alpha", "ece"),
        [
            (diagnosis(ece=0.13), 0.1, "lower"),
            (diagnosis(ece=0.11), 0.1, "higher"),  # below 2 · 0.1 · (0.7 − 0.1)
            (diagnosis(ece=0.11), 0.05, "lower"),
            (diagnosis(ece=0.11, num_classes=2), 0.1, "lower"),
            (diagnosis(ece=0.3, temperature=0.9), 0.1, "higher"),
        ],
    )
    def test_of_the_calibration_error(self, found, alpha, ece):
        assert advice.predict([found] * 3, alpha)["ece"] == ece

    @pytest.mark.parametrize(
        ("accuracy", "scaled", "ranking"),
        [(0.9, "lower", "lower"), (0.7, "no difference", "lower"), (0.5, "higher", "no difference")],
    )
    def test_of_what_a_temperature_does_not_change(self, accuracy, scaled, ranking):
        found = advice.predict([diagnosis(accuracy=accuracy)] * 3, 0.1)
        assert (found["nll_scaled"], found["excess_aurc"]) == (scaled, ranking)

    def test_most_seeds_decide_and_a_tie_decides_nothing(self):
        one, other = diagnosis(), diagnosis(ece=0.05)
        assert advice.predict([one, other, one], 0.1)["ece"] == "lower"
        assert advice.predict([one, other], 0.1)["ece"] == "no difference"

    def test_says_which_label_smoothing_it_knows(self):
        with pytest.raises(ValueError, match=r"label smoothing by 0\.05 or 0\.1, of two seeds"):
            advice.outcomes(results([0.2] * 2, [0.1] * 2, alpha=0.3)["trials"])

    def test_sees_nothing_of_smoothed_networks(self):
        one, other = (advice.outcomes(results([0.2, 0.21], each)["trials"]) for each in ([0.1, 0.11], [0.3, 0.4]))
        assert [row["predicted"] for row in one] == [row["predicted"] for row in other]
        assert [row["seen"] for row in one] != [row["seen"] for row in other]

    def test_takes_what_the_demos_record(self, rng):
        logits = 5 * rng.normal(size=(300, 4))
        recorded = measures.diagnosis(logits, (logits / 5 + rng.gumbel(size=logits.shape)).argmax(-1))
        assert recorded["excess_aurc"] > 0
        assert advice.predict([json.loads(json.dumps(recorded["diagnosis"]))], 0.1)["ece"] == "lower"


def networks(values):
    return [{"seed": seed, "ece": value} for seed, value in enumerate(values)]


class TestSeen:
    def test_differences_are_of_the_same_seed(self):
        seen = advice.compare(networks([0.2, 0.3, 0.4]), networks([0.19, 0.28, 0.38])[::-1], "ece")
        differences = [-0.01, -0.02, -0.02]
        half_width = 4.303 * np.std(differences, ddof=1) / math.sqrt(3)
        expected = [np.mean(differences), np.mean(differences) - half_width, np.mean(differences) + half_width]
        assert [seen[name] for name in ("difference", "low", "high")] == pytest.approx(expected)
        assert seen["seen"] == "lower"

    @pytest.mark.parametrize(
        ("smoothed", "seen"), [([0.1, 0.1], "lower"), ([0.3, 0.3], "higher"), ([0.2, 0.2], "no difference")]
    )
    def test_without_spread(self, smoothed, seen):
        assert advice.compare(networks([0.2, 0.2]), networks(smoothed), "ece")["seen"] == seen


class TestCommand:
    def test_counts_hits_beside_rules_of_one_outcome(self, tmp_path, capsys):
        for name, smoothed in (("better", [0.10, 0.11]), ("worse", [0.40, 0.41])):
            (tmp_path / name).mkdir()
            (tmp_path / name / "results.json").write_text(json.dumps(results([0.2, 0.21], smoothed)))
        files = [str(tmp_path / name / "results.json") for name in ("better", "worse")]
        assert command.main([*files, "--out", str(tmp_path / "advice.json")]) == 0
        printed = capsys.readouterr().out
        assert (
            'ECE: 1 of 2 predictions came true; always "lower" 1, always "higher" 1, always "no difference" 0.'
            in printed
        )
        assert advice.RULE in printed
        written = json.loads((tmp_path / "advice.json").read_text())
        assert [row["data"] for row in written["rows"]] == ["better"] * 3 + ["worse"] * 3
        assert written["counts"] == advice.counts(written["rows"])

    def test_takes_the_seeds_of_a_run_from_the_files_that_reproduce_kept(self, tmp_path, capsys):
        whole = results([0.2, 0.21, 0.22], [0.1, 0.11, 0.12])
        files = []
        for seed in range(3):
            of_seed = whole | {"trials": [trial for trial in whole["trials"] if trial["seed"] == seed]}
            files.append(tmp_path / f"{seed}.json")
            kept = {"trial": f"dataset-data-no-augment-seeds-{seed}", "results": [of_seed, {**of_seed, "trials": []}]}
            files[-1].write_text(json.dumps(kept))
        out = tmp_path / "advice.json"
        assert command.main([*map(str, files), "--out", str(out)]) == 0
        rows = json.loads(out.read_text())["rows"]
        assert [row["data"] for row in rows] == ["data no augment"] * 3
        assert rows[0]["difference"] == pytest.approx(-0.1)
        with pytest.raises(SystemExit):
            command.main([*map(str, files), str(files[0]), "--out", str(out)])
        assert f"{files[0]} has networks that {files[0]} has, too." in capsys.readouterr().err

    @pytest.mark.parametrize("kept", [{"results": []}, {"trial": "all", "results": []}, {"results": 1}, []])
    def test_refuses_damaged_files(self, tmp_path, capsys, kept):
        (tmp_path / "all.json").write_text(json.dumps(kept))
        with pytest.raises(SystemExit):
            command.main([str(tmp_path / "all.json")])
        (line,) = capsys.readouterr().err.splitlines()
        assert "damaged" in line

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda r: r["trials"].pop(0),  # one seed of hard targets
            lambda r: r.update(trials=[t for t in r["trials"] if t["label_smoothing"]]),
            lambda r: r.update(trials=[t for t in r["trials"] if not t["label_smoothing"]]),
            lambda r: r["trials"][0].pop("diagnosis"),
            lambda r: r["trials"][0].pop("ece"),
            lambda r: r["trials"][0].update(diagnosis={}),
            lambda r: r.pop("trials"),
        ],
    )
    def test_refuses_what_it_cannot_use(self, tmp_path, capsys, spoil):
        spoiled = results([0.2, 0.21], [0.1, 0.11])
        spoil(spoiled)
        (tmp_path / "results.json").write_text(json.dumps(spoiled))
        with pytest.raises(SystemExit) as stopped:
            command.main([str(tmp_path / "results.json"), "--out", str(tmp_path / "advice.json")])
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(tmp_path / "results.json") in line
        assert not (tmp_path / "advice.json").exists()


def test_the_table_of_the_guide_is_that_of_the_kept_results(tmp_path):
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    folders = re.search(r"python -m demos.advice docs/reproduction/results/cpu/\{(.*)\}/\*.json", text)[1].split(",")
    results = ROOT / "docs" / "reproduction" / "results" / "cpu"
    files = [str(path) for folder in folders for path in sorted((results / folder).glob("*.json"))]
    assert command.main([*files, "--out", str(tmp_path / "advice.json")]) == 0
    written = json.loads((tmp_path / "advice.json").read_text())
    expected = written["rows"]
    assert "\n".join(written["counts"]) in text
    table = text[text.index("| data | α | ECE") :].partition("\n\n")[0].replace("−", "-").splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert len(rows) == len(expected) / 3
    for (_, alpha, *cells), of_row in zip(rows, np.reshape(expected, (-1, 3)), strict=True):
        assert {float(alpha)} == {each["label_smoothing"] for each in of_row}
        for (number, predicted, seen), each in zip(np.reshape(cells, (3, 3)), of_row, strict=True):
            assert (predicted, seen) == (each["predicted"], each["seen"])
            hard, _, smoothed = number.partition(" → ")
            difference = float(smoothed) - float(hard) if smoothed else float(hard)
            assert difference == pytest.approx(each["difference"], abs=1e-3 if smoothed else 5.1e-5)
