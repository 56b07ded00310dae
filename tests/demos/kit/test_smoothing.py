"""What the demos that compare label smoothing have in common: names, results, and the reliability picture."""

import argparse
import dataclasses
import json

import pytest
from harness import BACKEND

from demos.kit import runs, smoothing
from demos.kit.options import Chosen, Group, Output
from demos.kit.smoothing import Comparison


def named(**names):
    return argparse.Namespace(**names)


def test_finished_networks_are_found_by_their_directories(tmp_path):
    networks = [(0.0, 10), (0.0, 9), (0.05, 3), (1e-05, 0), (0.1, 1)]
    for alpha, seed in networks:
        folder = tmp_path / smoothing.directory(alpha, seed)
        folder.mkdir(parents=True)
        (folder / "model.keras").touch()
        if (alpha, seed) != (0.1, 1):
            (folder / "result.json").touch()
    assert smoothing.finished(tmp_path) == sorted(networks[:-1])
    assert smoothing.finished(tmp_path / "absent") == []


@dataclasses.dataclass
class Recipe:
    model: str = "mlp"


def test_a_run_goes_on_with_its_backend_or_if_it_does_not_name_one(tmp_path):
    def prepare(**given):
        options = Chosen([Group("", Output)], {"out": str(tmp_path), **given})
        try:
            return smoothing.prepare(options, named(name="digits", fingerprint="1"), Recipe(), "runs").run
        finally:
            runs.unlock()

    settings = tmp_path / "settings.json"
    assert prepare().settings["backend"] == json.loads(settings.read_text())["backend"] == BACKEND
    of_other_backend = {"model": "mlp", "data": "1", "backend": "other"}
    settings.write_text(json.dumps(of_other_backend))
    with pytest.raises(ValueError, match=f"backend was 'other', now '{BACKEND}'"):
        prepare(resume=True)
    of_earlier_version = {"model": "mlp", "data": "1"}
    settings.write_text(json.dumps(of_earlier_version))
    run = prepare(resume=True)
    run.check(tmp_path / "result.json", of_earlier_version)
    with pytest.raises(ValueError, match="backend was 'other'"):
        run.check(tmp_path / "result.json", of_other_backend)


def test_results_name_the_data_the_network_and_the_seeds():
    def results(*seeds):
        options = named(label_smoothing=[0.0, 0.1], seeds=list(seeds))
        comparison = Comparison(options, named(name="digits"), named(model="mlp"), None)
        return comparison.networks, comparison.results("demos.x", more=1)

    networks, made = results(2, 0)
    assert networks == [(0.0, 2), (0.1, 2), (0.0, 0), (0.1, 0)]
    assert made["title"] == "digits, mlp, 2 seeds (mean ± s.d.)"
    assert (made["experiment"], made["label_smoothing"], made["seeds"], made["more"]) == (
        "demos.x",
        [0, 0.1],
        [2, 0],
        1,
    )
    assert results(7)[1]["title"] == "digits, mlp, 1 seed"


def test_the_reliability_picture_has_hard_targets_scaled_too():
    def curve(confidence, accuracy, count):
        return {"bin_edges": [0.0, 0.5, 1.0], "confidence": confidence, "accuracy": accuracy, "count": count}

    trials = [
        {
            "label_smoothing": alpha,
            "seed": seed,
            "curve": curve([None, 0.8], [None, hit], [0, 10]),
            "curve_scaled": curve([0.4, 0.7], [0.5, hit], [4, 6]),
        }
        for alpha, hit, seed in ((0.0, 0.5, 0), (0.1, 0.6, 0), (0.0, 0.9, 1))
    ]
    series = smoothing.pooled_curves(trials)
    assert [row["label_smoothing"] for row in series] == [0.0, 0.1]
    assert series[0]["curve"]["accuracy"] == [None, 0.7]
    assert series[0]["curve_scaled"]["count"] == [8, 12]
    results = {"series": series, "title": f"digits{smoothing.SPREAD}", "trials": trials}
    figure = smoothing.reliability(results, "T = 2")
    texts = " ".join(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text")))
    assert "hard targets, 2 seeds, T = 2" in texts
    assert "α = 0.1, 1 seed" in texts
    assert "α = 0.1, 1 seed, T" not in texts
    assert figure.axes[0].get_title() == "digits, predictions pooled"
    alike = smoothing.reliability({**results, "trials": trials[:2]})
    assert alike.axes[0].get_title() == "digits"
    assert not any("seed" in text.get_text() for text in alike.findobj(lambda part: hasattr(part, "get_text")))
