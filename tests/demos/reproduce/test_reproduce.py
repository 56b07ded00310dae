"""The command: what it runs, keeps and reports; how it goes on, and what it refuses."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from harness import BACKEND, ROOT, slow

from demos.image.analysis import calibration, distillation_curves
from demos.kit import devices, drawing, records
from demos.kit.errors import DamagedFile
from demos.reproduce import __main__ as command
from demos.reproduce import (
    document,
    estimate,
    experiment,
    overview,
    questions,
    questions_of_text,
    report,
    running,
    verdict,
)
from demos.reproduce.experiment import TITLES, Claim, Experiment, Setting, Trial
from demos.reproduce.kept import Found, path_of, read

DEMO = "demos.image.calibration"
PLACES = ("/work", "/tmp", "/root", "/home")
STORED = ROOT / "docs" / "reproduction"


def curve(confidence):
    edges = [0.0, 0.5, 1.0]
    return {"bin_edges": edges, "confidence": [None, confidence], "accuracy": [None, 0.7], "count": [0.0, 100.0]}


def network(alpha, seed):
    """What a network would have measured: over-confident with hard targets, and not with smoothing."""
    ece = (0.02 if alpha else 0.15) + 0.001 * seed
    scaled = {"ece_scaled": 0.02, "nll_scaled": 1.0, "temperature": 1.0 if alpha else 2.0 + 0.1 * seed}
    curves = {"curve": curve(0.72 if alpha else 0.9), "curve_scaled": curve(0.71)}
    numbers = {"accuracy": 0.7 + 0.002 * seed + alpha / 10, "nll": 1.2, "ece": ece, **scaled, **curves}
    return {
        "label_smoothing": alpha,
        "seed": seed,
        **numbers,
        "history": [{"loss": 2.0}, {"loss": 1.0, "accuracy": 0.99}],
    }


def results_of(seeds):
    """What the calibration demo would write."""
    trials = [network(alpha, seed) for seed in seeds for alpha in (0.0, 0.1)]
    versions = {"python": "3.11.0", "keras": "3.15.0"}
    return {
        "experiment": DEMO,
        "title": f"digits, mlp, {len(seeds)} seeds",
        "seeds": seeds,
        "trials": trials,
        **calibration.of_trials(trials),
        "pictures": ["reliability.png"],
        "settings": {"steps": 1000, "from_run": "runs/elsewhere", "checksum_of_networks": str(seeds)},
        "provenance": {"backend": "tensorflow", "device": "CPU (2 cores)", "versions": versions},
    }


def kept_by(demo, without=""):
    """What is kept of a trial, as text, without one of the results' names."""
    results = {name: value for name, value in results_of([0]).items() if name != without}
    kept = {
        "commands": [f"python -m {DEMO} --noise 1 --seeds 0"],
        "seconds": 1,
        "machine": "",
        "results": [results | {"experiment": demo}],
    }
    return json.dumps(records.to_json(kept))


@pytest.fixture
def fake(monkeypatch):
    """Two experiments, and commands that take no time; returns the command lines that were run."""
    parts = questions.calibration("cifar100", 0.1)
    cut = Setting(f"python -m {DEMO} --noise 1", 3, trials=("--seeds 0", "--seeds 1", "--seeds 2"))
    both = {
        "a": Experiment("a", "Cut.", "Table 3", {"smoke": cut}, parts),
        "b": Experiment(
            "b", "One.", "Table 2", {"smoke": Setting(f"python -m {DEMO}", 1)}, {"table2": parts["table2"]}
        ),
    }
    monkeypatch.setattr(experiment, "experiments", lambda: both)
    ran = []

    def run(words, clock, log=None, jobs=1):
        ran.append(words)
        seeds = [int(words[words.index("--seeds") + 1])] if "--seeds" in words else [0, 1]
        folder = pathlib.Path(words[words.index("--out") + 1])
        results = results_of(seeds)
        if "--label-smoothing" in words:
            results["trials"] = [each for each in results["trials"] if each["label_smoothing"] == 0.1]
            results["settings"]["smoothing_kind"] = "unigram"
        records.write_json(folder / "results.json", results)
        records.write_json(clock, {"seconds": 60.0, "ended": True})
        return 0

    monkeypatch.setattr(running, "run_command", run)
    monkeypatch.setattr(running, "machine", lambda *_: "a machine")
    return ran


def test_trials_are_run_kept_and_reported(fake, tmp_path, capsys):
    assert command.main(["--out", str(tmp_path)]) == 0
    own = [words[words.index("--seeds") + 1] for words in fake if "--seeds" in words]
    assert (len(fake), own) == (4, ["0", "1", "2"])
    assert all(words[:3] == [sys.executable, "-m", DEMO] and "--resume" in words for words in fake)
    kept = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "results").rglob("*.json"))
    assert kept == [f"results/smoke/{name}.json" for name in ("a/seeds-0", "a/seeds-1", "a/seeds-2", "b/all")]
    text = (tmp_path / kept[0]).read_text()
    assert text.count('"loss"') == text.count('"history"') == 2  # the end of each
    assert not any(place in text for place in PLACES)
    assert "About 10 minutes in all" in capsys.readouterr().out

    said = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| ECE, hard targets | 0.150 | 0.1510 ± 0.0025 | 3 |" in said
    assert "| accuracy %, α = 0.1 | 72.7 ± 0.3 | 71.20 ± 0.50 | 3 |" in said
    assert "its ECE is below that of hard targets. **Agrees**: ECE, α = 0.1 − ECE, hard targets is -0.13" in said
    assert f"python -m {DEMO} --noise 1 --seeds 2" in said
    assert "| Time | 3.0 minutes |" in said
    assert "| Steps | 1,000 |" in said
    assert "Not run yet" not in said
    assert (tmp_path / "pictures" / "a-fig2.png").stat().st_size > 5000
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == said.count("![") == 1
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count('class="verdict yes"') == said.count("**Agrees**") > 0
    assert page.count('class="verdict no"') == said.count("**Does not**")
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_the_report_is_made_again_from_what_was_kept(fake, tmp_path):
    assert command.main(["--out", str(tmp_path / "first")]) == 0
    ran = len(fake)
    again = ["--report-only", "--results", str(tmp_path / "first" / "results"), "--out", str(tmp_path / "again")]
    assert command.main(again) == 0
    assert len(fake) == ran
    for name in ("report.md", "report.html", "pictures/a-fig2.png"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_what_is_kept_is_not_run_again(fake, tmp_path):
    assert command.main(["--out", str(tmp_path), "--trials", "1"]) == 0
    assert len(fake) == 1
    assert (tmp_path / "report.md").read_text(encoding="utf-8").count(
        "Not run yet: a --seeds 1, a --seeds 2; about 3"
    ) == 4
    assert command.main(["--out", str(tmp_path), "--resume"]) == 0
    assert len(fake) == 4
    assert command.main(["--out", str(tmp_path), "--resume"]) == 0
    assert len(fake) == 4
    # Elsewhere, with the results of this machine.
    assert command.main(["--out", str(tmp_path / "new"), "--results", str(tmp_path / "results")]) == 0
    assert len(fake) == 4


def test_without_resume_an_earlier_run_is_moved_aside(fake, tmp_path):
    for _ in range(2):
        assert command.main(["--out", str(tmp_path / "out")]) == 0
    assert len(fake) == 8
    assert (tmp_path / "out.1" / "report.md").exists()


def test_only_what_is_asked_for_is_run_and_reported(fake, tmp_path):
    assert command.main(["--out", str(tmp_path), "--only", "fig2"]) == 0
    assert len(fake) == 3
    headings = re.findall(r"^## (.*)", (tmp_path / "report.md").read_text(encoding="utf-8"), re.M)
    assert headings == ["What agrees", TITLES["fig2"]]


def test_a_trial_that_fails_leaves_the_others_alone(fake, tmp_path, monkeypatch, capsys):
    run = running.run_command
    monkeypatch.setattr(running, "run_command", lambda words, *how: 2 if "--noise" in words else run(words, *how))
    assert command.main(["--out", str(tmp_path)]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "a --seeds 0 failed with status 2; the others go on."
    assert errors[-1] == "Failed: a --seeds 0, a --seeds 1, a --seeds 2. The same command with --resume tries again."
    assert [path.name for path in (tmp_path / "results").rglob("*.json")] == ["all.json"]
    said = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Not run yet: a --seeds 0, a --seeds 1, a --seeds 2; about 3 minutes each" in said
    assert "Smoothing costs less than one point of accuracy. | b |  |  | a |" in said
    assert f"| {overview.UNKNOWN} | 1 | 0 | 0 |" in said


def test_what_no_trial_has_measured_is_not_run_yet(fake, tmp_path):
    assert command.main(["--out", str(tmp_path), "--trials", "2", "--only", "table2"]) == 0
    (found,) = [each for each in read(tmp_path / "results", "smoke", ["table2"]) if each.kept and each.missing]
    part = found.experiment.parts["table2"]
    other = dataclasses.replace(part.numbers[0], label="other", where={"dataset": "none"})
    claims = (*part.claims[:1], Claim("Other networks do, too.", "other", "above", 0.0))
    part = dataclasses.replace(part, numbers=(*part.numbers, other), claims=claims)
    words = [each.word for each in report.judged(found, part)]
    assert words == ["cannot tell", "not run yet"]  # of one seed, and of none
    half = dataclasses.replace(part, claims=(Claim("These are better.", claims[0].number, "above", "other"),))
    assert [each.word for each in report.judged(found, half)] == ["not run yet"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_trial_whose_results_are_damaged_leaves_the_others_alone(fake, tmp_path, monkeypatch, capsys, jobs):
    run = running.run_command

    def damage(words, clock, log, jobs):
        run(words, clock)
        if "--seeds" in words and words[words.index("--seeds") + 1] == "1":
            (clock.parent / "results.json").write_text("{")
        return 0

    monkeypatch.setattr(running, "run_command", damage)
    assert command.main(["--out", str(tmp_path), "--jobs", jobs]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("a --seeds 1 failed: ")
    assert "results.json is damaged" in errors[0]
    assert errors[-1].startswith("Failed: a --seeds 1.")
    assert len(list(tmp_path.glob("results/smoke/*/*.json"))) == 3


def test_what_other_commands_gave_is_run_again(fake, tmp_path, monkeypatch):
    assert command.main(["--out", str(tmp_path)]) == 0
    a, b = experiment.experiments().values()
    longer = dataclasses.replace(b, scales={"smoke": Setting(f"python -m {DEMO} --steps 9", 1)})
    monkeypatch.setattr(experiment, "experiments", lambda: {"a": a, "b": longer})
    assert command.main(["--out", str(tmp_path), "--report-only"]) == 0
    assert "Not run yet: b;" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert command.main(["--out", str(tmp_path), "--resume"]) == 0
    assert (len(fake), fake[-1][3:5]) == (5, ["--steps", "9"])
    assert "Not run yet" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_several_trials_at_a_time_write_into_files(fake, tmp_path, monkeypatch, capsys):
    assert command.main(["--out", str(tmp_path / "one")]) == 0
    run, at_once, logs = running.run_command, threading.Barrier(2, timeout=60), []

    def meet(words, clock, log, jobs):
        if log.name in ("a-seeds-0.log", "b-all.log"):
            at_once.wait()
        logs.append(log)
        return run(words, clock)

    monkeypatch.setattr(running, "run_command", meet)
    assert command.main(["--out", str(tmp_path / "two"), "--jobs", "2"]) == 0
    for name in ("report.md", *(f"results/smoke/a/seeds-{seed}.json" for seed in range(3)), "results/smoke/b/all.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert sorted(log.name for log in logs) == ["a-seeds-0.log", "a-seeds-1.log", "a-seeds-2.log", "b-all.log"]
    assert "a --seeds 1: done" in capsys.readouterr().out


def test_trials_that_begin_alike_wait_for_each_other(fake, tmp_path, monkeypatch, capsys):
    a = experiment.experiments()["a"]
    again = dataclasses.replace(a.scales["smoke"], once_trained=0)
    c = dataclasses.replace(a, name="c", scales={"smoke": again})
    monkeypatch.setattr(experiment, "experiments", lambda: {"a": a, "c": c})
    run, at_work = running.run_command, []

    def alone(words, clock, log, jobs):
        folder = words[words.index("--out") + 1]
        assert folder not in at_work
        at_work.append(folder)
        time.sleep(0.05)
        at_work.remove(folder)
        return run(words, clock)

    monkeypatch.setattr(running, "run_command", alone)
    assert command.main(["--out", str(tmp_path), "--jobs", "4"]) == 0
    assert "About 9 minutes in all" in capsys.readouterr().out  # what they have in common is run once
    assert len(list(tmp_path.glob("results/smoke/*/*.json"))) == 6


def test_the_estimate_knows_networks_that_are_not_trained(fake, tmp_path, monkeypatch, capsys):
    a = experiment.experiments()["a"]
    setting = dataclasses.replace(a.scales["smoke"], minutes=8, once_trained=3)
    monkeypatch.setattr(experiment, "experiments", lambda: {"a": dataclasses.replace(a, scales={"smoke": setting})})
    assert command.main(["--out", str(tmp_path), "--list"]) == 0
    assert "a --seeds 0  8 " in capsys.readouterr().out
    assert command.main(["--out", str(tmp_path), "--trials", "1"]) == 0
    assert "About 8 minutes in all" in capsys.readouterr().out
    said = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "about 8 minutes each on 2 cores of an AMD EPYC, or 3 where another experiment has trained" in said
    shutil.rmtree(tmp_path / "results")
    assert command.main(["--out", str(tmp_path), "--list"]) == 0
    assert "a --seeds 0  3 " in capsys.readouterr().out
    (clock,) = (tmp_path / "work").rglob("*-seeds-0.clock.json")
    for text, minutes in ((clock.read_text(), 11), ('{"seconds": 60.0, "ended": false}', 16), ("{", 16)):
        clock.write_text(text)
        (trial, other), there = command.trials("smoke", ["a"])[:2], command.are_there
        found = there([trial, other], tmp_path / "work")
        assert command.minutes_of(trial, found) + command.minutes_of(other, found) == minutes


def test_a_list_of_trials_does_nothing(fake, tmp_path, capsys):
    assert command.main(["--out", str(tmp_path / "out"), "--list"]) == 0
    assert "a --seeds 1  3        2 cores of an AMD EPYC  to do" in capsys.readouterr().out
    assert not fake
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "table9"], "argument --only: invalid choice: 'table9'"),
        (["--scale", "large"], "argument --scale: invalid choice: 'large'"),
        (["--trials", "0"], "argument --trials: must be an integer of at least 1. Received: '0'"),
        (["--only", "mnist"], "--only mnist is not at --scale smoke, but at none."),
        (["--report-only"], "--report-only needs results of --scale smoke in"),
        (["--report-only", "--list"], "--list does nothing with --report-only: leave it out."),
        (["--list", "--jobs", "2"], "--jobs does nothing with --list: leave it out."),
        (["--results", __file__], f"--results {__file__} cannot be written: File exists."),
        (["--only", "fig2", "--scale", "paper"], "--only fig2 is not at --scale paper, but at smoke."),
    ],
)
def test_bad_arguments_are_one_line(fake, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        command.main([*arguments, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert errors.startswith(f"python -m demos.reproduce: error: {message}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("{}", "it lacks 'commands'"),
        (kept_by("os"), "not those of the experiment's demos"),
        (kept_by(DEMO, "title"), "it lacks 'title'"),
    ],
)
def test_a_damaged_result_is_named_and_left_out(fake, tmp_path, capsys, text, message):
    assert command.main(["--out", str(tmp_path)]) == 0
    path = tmp_path / "results" / "smoke" / "a" / "seeds-0.json"
    path.write_text(text)
    capsys.readouterr()
    assert command.main(["--report-only", "--out", str(tmp_path)]) == 0
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert errors.startswith(f"What was kept of a --seeds 0 cannot be used: {path}")
    assert message in errors
    assert "Not run yet: a --seeds 0;" in (tmp_path / "report.md").read_text("utf-8")


def test_a_result_that_cannot_be_drawn_is_named(fake, tmp_path, capsys):
    path = tmp_path / "results" / "smoke" / "a" / "seeds-0.json"
    path.parent.mkdir(parents=True)
    path.write_text(kept_by(DEMO, "series"))
    with pytest.raises(SystemExit) as stopped:
        command.main(["--report-only", "--out", str(tmp_path)])
    assert stopped.value.code == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "/results/smoke/a is damaged: KeyError 'series'" in errors


def test_common_beginnings_are_run_once_and_runs_find_each_other(tmp_path):
    def steps(commands):
        trial = Trial(Experiment("x", "", "", {"cpu": Setting(commands, 1)}, {}), "cpu", "--seeds 3")
        return list(running.steps(trial, tmp_path))

    train, project = "python -m demos.image.calibration --noise 0", "python -m demos.image.projection --from runs/x"
    (alone,), (first, then) = steps(train), steps(f"{train}\n{project}")
    assert alone == first
    assert then.folder != first.folder
    assert then.arguments == ["--from", str(first.folder), "--out", str(then.folder), "--resume"]
    more = steps(f"{train}\n{train} --resume --label-smoothing 0.3")
    assert more[0].folder == more[1].folder == first.folder
    at_cpu = experiment.trials("cpu", ["calibration_cifar100", "projection_cifar100"])
    trial = next(each for each in at_cpu if each.arguments == "--seeds 1 --label-smoothing 0")
    (one,), (other,), *shown = (
        list(running.steps(each, tmp_path))
        for each in (
            trial,
            dataclasses.replace(trial, arguments="--seeds 1 --label-smoothing 0.1"),
            *(each for each in at_cpu if each.label.startswith("projection_cifar100 --seeds 1")),
        )
    )
    assert [first.arguments for first, _ in shown] == [one.arguments, other.arguments]
    assert len({each.folder for each in (one, other, *(first for first, _ in shown))}) == 1
    assert len({each.clock for each in (one, other, *(first for first, _ in shown))}) == 4
    for (_, project), alpha in zip(shown, ("0", "0.1"), strict=True):
        assert project.arguments[:2] == ["--from", str(one.folder)]
        assert project.arguments[-7:-3] == ["--seeds", "1", "--label-smoothing", alpha]
    assert shown[0][1].folder != shown[1][1].folder
    (train, sweep) = steps("python -m demos.speech.train\npython -m demos.speech.beam_search --from runs/y")
    assert sweep.arguments == ["--from", str(train.folder), "--out", str(sweep.folder)]


def to_estimate(updates):
    setting = Setting("python -m a", None, updates=updates)
    return Trial(Experiment("x", "", "", {"paper": setting}, {}), "paper", "")


def short_runs(seconds_per_step):
    """What stands in for `subprocess.run`: networks that take 30 seconds and some more for each step."""

    def run(words, **_):
        steps, out = int(words[words.index("--steps") + 1]), pathlib.Path(words[words.index("--out") + 1])
        for name, seconds in seconds_per_step.items():
            records.write_json(out / name / "result.json", {"name": name, "seconds": 30 + seconds * steps})
        return subprocess.CompletedProcess(words, 0)

    return run


def test_the_estimate_is_of_steps_alone(monkeypatch):
    monkeypatch.setattr(subprocess, "run", short_runs({"one": 0.5, "two": 0.5}))
    assert estimate.hours(to_estimate(7200)) == pytest.approx(1.0)
    failed = subprocess.CompletedProcess([], 2, stderr="python -m a: error: no data.\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert estimate.hours(to_estimate(7200)) == "python -m a: error: no data."


def test_the_estimate_knows_networks_that_are_unlike(monkeypatch):
    monkeypatch.setattr(subprocess, "run", short_runs({"teacher/a": 2.0, "teacher/b": 1.0, "student-alone/a": 0.1}))
    assert estimate.hours(to_estimate({"teacher/": 3600, "student-": 36_000})) == pytest.approx(1.5 + 1.0)


def test_what_nobody_has_run_is_estimated_before_it_starts(fake, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(estimate, "hours", lambda trial: asked.append(trial.label) or 1.25)
    cut = dataclasses.replace(experiment.experiments()["a"].scales["smoke"], minutes=None)
    only = dataclasses.replace(experiment.experiments()["a"], scales={"paper": cut})
    monkeypatch.setattr(experiment, "experiments", lambda: {"a": only})
    assert command.main(["--out", str(tmp_path), "--scale", "paper"]) == 0
    assert asked == ["a --seeds 0"]  # the others have the same command
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == [f"3 trials to do at the scale paper, in {tmp_path}.", "a --seeds 0: about 1.2 hours here"]
    assert printed[3] == "a --seeds 2: about 1.2 hours here"
    both = {name: dataclasses.replace(only, name=name) for name in ("a", "c")}
    monkeypatch.setattr(experiment, "experiments", lambda: both)
    assert command.main(["--out", str(tmp_path / "both"), "--scale", "paper"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1:3] == [
        "a --seeds 0: about 1.2 hours here",
        "c --seeds 0: no training, its networks are there by then",
    ]


def test_help_imports_nothing_heavy():
    code = "import sys; from demos.reproduce.__main__ import parser; parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"keras", "tensorflow", "jax", "torch", "matplotlib", "keras_ls", "numpy"} & set(done.stdout.split())


SMALL = """
import sys
from demos.reproduce import __main__, experiment, questions
from demos.kit import epochs
command = "python -m demos.image.calibration --hidden 8 --label-smoothing 0 0.1 --steps 400"
both = experiment.Setting(command, 1, trials=("--seeds 0", "--seeds 1"))
x = experiment.Experiment("x", "About.", "Table 3", {"smoke": both}, questions.calibration("cifar100", 0.1))
experiment.experiments = lambda: {"x": x}
raise SystemExit(__main__.main(sys.argv[1:]))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="one backend shows it")
@pytest.mark.parametrize(
    ("kill", "jobs"),
    [
        slow(signal.SIGINT, 1),
        (signal.SIGTERM, 1),
        slow(signal.SIGTERM, 2),
    ],
)
def test_a_killed_reproduction_goes_on(tmp_path, kill, jobs):
    def start(*arguments):
        words = [sys.executable, "-c", SMALL, "--out", str(tmp_path), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, cwd=ROOT, start_new_session=True, **pipes)

    first = start("--jobs", str(jobs))
    while not (checkpoints := list(tmp_path.glob("work/*/alpha-0.0/seed-0/checkpoint.npz"))):
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    if kill == signal.SIGINT:
        os.killpg(first.pid, kill)  # as a terminal does
    else:
        first.send_signal(kill)
    _, errors = first.communicate(timeout=60)  # which ends when the demo has ended, too
    assert first.returncode == (130 if kill == signal.SIGINT else 143)
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("results/**/*.json"))
    assert checkpoints[0].exists()
    with np.load(checkpoints[0]) as checkpoint:
        done = json.loads(str(checkpoint["state"]))["epoch"]
    second = start("--resume", "--trials", "1")
    said, errors = second.communicate()
    assert second.returncode == 0, errors
    assert int(re.search(r"α=0 seed=0 epoch (\d+)/", said)[1]) > done
    assert not list(tmp_path.glob("work/*.1"))  # nothing was moved aside
    (kept,) = tmp_path.glob("results/smoke/x/*.json")
    found = json.loads(kept.read_text(encoding="utf-8"))
    assert [row["label_smoothing"] for row in found["results"][0]["trials"]] == [0, 0.1]
    assert "cannot tell" in (tmp_path / "report.md").read_text(encoding="utf-8")
    history = json.loads((checkpoints[0].parent / "result.json").read_text())["history"]
    assert [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))


@pytest.mark.parametrize("scale", sorted(path.name for path in STORED.glob("results/*")))
def test_what_does_not_agree_is_explained(scale):
    for found in read(STORED / "results", scale, list(TITLES)):
        for name, part in found.experiment.parts.items():
            disagree = [each.claim for each in report.judged(found, part) if each.word == verdict.DISAGREES]
            assert not disagree or found.experiment.why[scale][name], (found.experiment.name, name, disagree)


@pytest.mark.parametrize("scale", sorted(path.name for path in STORED.glob("results/*")))
def test_the_stored_report_is_that_of_the_stored_results(tmp_path, scale):
    blocks = report.make(read(STORED / "results", scale, list(TITLES)), scale, list(TITLES))
    if scale == "smoke":  # which has every kind of picture
        report.write(STORED / "results", scale, list(TITLES), tmp_path)
        assert (tmp_path / "report.md").read_text("utf-8") == document.to_markdown(blocks)
        assert len(list(tmp_path.glob("pictures/*"))) == len(list((STORED / scale).glob("pictures/*")))
    assert (STORED / scale / "report.md").read_text("utf-8") == document.to_markdown(blocks)
    named = {pathlib.PurePath(block.file).name for block in blocks if isinstance(block, document.Picture)}
    assert {path.name for path in (STORED / scale).glob("pictures/*")} == named
    for path in (STORED / "results").rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert not any(f'"{place}/' in text for place in PLACES), path
    shutil.rmtree(tmp_path)


def test_a_damaged_result_is_run_again(fake, tmp_path, capsys):
    path = tmp_path / "results" / "smoke" / "a" / "seeds-0.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert command.main(["--out", str(tmp_path), "--resume"]) == 0
    assert "What was kept of a --seeds 0 cannot be used" in capsys.readouterr().err
    assert len(fake) == 4
    assert read(tmp_path / "results", "smoke", ["a"])[0].missing == []


def test_trials_are_compared_with_those_of_their_kind(fake, tmp_path, monkeypatch):
    a = experiment.experiments()["a"]
    kinds = [f"--noise {noise} --seeds {seed}" for noise in (1, 2) for seed in (0, 1)]
    scales = {"smoke": dataclasses.replace(a.scales["smoke"], trials=kinds)}
    monkeypatch.setattr(experiment, "experiments", lambda: {"a": dataclasses.replace(a, scales=scales)})
    for trial in experiment.trials("smoke", ["a"]):
        assert running.run(trial, tmp_path / "work", path_of(trial, tmp_path)) == 0

    def change(name, steps):
        path = tmp_path / "smoke" / "a" / f"{name}.json"
        kept = json.loads(path.read_text("utf-8"))
        kept["results"][0]["settings"]["steps"] = steps
        path.write_text(json.dumps(kept))

    change("noise-2-seeds-0", 999)
    change("noise-2-seeds-1", 999)
    assert len(read(tmp_path, "smoke", ["a"])[0].kept) == 4
    change("noise-2-seeds-1", 998)
    with pytest.raises(DamagedFile, match=r"noise-2-seeds-1.json is of other networks than .*noise-2-seeds-0.json"):
        read(tmp_path, "smoke", ["a"])


def test_trials_of_other_settings_are_refused(fake, tmp_path, capsys):
    assert command.main(["--out", str(tmp_path)]) == 0
    path = tmp_path / "results" / "smoke" / "a" / "seeds-1.json"
    kept = json.loads(path.read_text("utf-8"))
    kept["results"][0]["settings"]["steps"] = 999
    path.write_text(json.dumps(kept))
    with pytest.raises(SystemExit):
        command.main(["--report-only", "--out", str(tmp_path)])
    assert re.search(r"seeds-1.json is of other networks than .*its steps is 999, not 1000", capsys.readouterr().err)
    kept["results"][0]["settings"]["steps"] = 1000
    kept["results"][0]["provenance"]["backend"] = "jax"
    path.write_text(json.dumps(kept))
    with pytest.raises(SystemExit):
        command.main(["--report-only", "--out", str(tmp_path)])
    assert "its backend is jax, not tensorflow" in capsys.readouterr().err


def test_smoothing_is_compared_with_the_hard_targets_of_another_experiment(fake, tmp_path, capsys):
    smoothing = f"python -m {DEMO} --smoothing-kind unigram --label-smoothing 0.1"
    setting, part = Setting(smoothing, 3, trials=("--seeds 0", "--seeds 2")), questions.table3("cifar100", 0.1)
    experiment.experiments()["c"] = Experiment("c", "", "", {"smoke": setting}, {"speech": part}, hard_targets="a")
    says, heading = "| Smoothing calibrates: its ECE is below that of hard targets. | ", f"### {TITLES['speech']}\n"

    def report_of(*arguments):
        assert command.main(["--out", str(tmp_path), "--only", *arguments]) == 0
        return (tmp_path / "report.md").read_text(encoding="utf-8")

    alone = report_of("speech", "--resume")
    assert "Its hard targets are those of a, which has not been run." in alone
    assert "| Hard targets |" not in alone
    shutil.rmtree(tmp_path)
    assert heading not in report_of("table2", "--resume")
    assert f"{says} |  |  | c |" in report_of("speech", "table2", "--report-only")
    said = report_of("speech", "--resume")
    assert f"{says}*c* |  |  |\n" in said
    assert "| ECE, hard targets | 0.150 | 0.1510 ± 0.0025 | 3 |" in said
    assert "| ECE, α = 0.1 |  | 0.021 ± 0.013 | 2 |" in said
    assert "| Hard targets | those of a |" in said
    assert "which has not been run" not in said

    path = tmp_path / "results" / "smoke" / "a" / "seeds-1.json"
    path.write_text(path.read_text("utf-8").replace('"steps": 1000', '"steps": 999'))
    with pytest.raises(SystemExit):
        report_of("speech", "--report-only")
    assert re.search(r"seeds-1.json is of other networks than .*its steps is 999, not 1000", capsys.readouterr().err)


def test_seeds_that_diverged_are_counted(fake, tmp_path):
    assert command.main(["--out", str(tmp_path)]) == 0
    path = tmp_path / "results" / "smoke" / "a" / "seeds-1.json"
    kept = json.loads(path.read_text("utf-8"))
    kept["results"][0]["trials"][0]["ece"] = None
    path.write_text(json.dumps(kept))
    blocks = report.make(read(tmp_path / "results", "smoke", ["a"]), "smoke", ["a"])
    rows = [row for block in blocks if isinstance(block, document.Table) for row in block.rows]
    assert {row[3] for row in rows if row[0] == "ECE, hard targets"} == {"2 of 3"}
    assert any(isinstance(block, document.Paragraph) and "diverged" in block.text for block in blocks)
    assert command.main(["--report-only", "--out", str(tmp_path)]) == 0


def test_points_of_figure_5_count_for_all_seeds_or_for_none():
    def network(name, alpha, seed, gamma, accuracy, temperature=None):
        lesson = temperature and {"teacher": f"teacher/alpha-0/seed-{seed}", "temperature": temperature}
        row = {"name": f"{name}/alpha-{alpha:g}/seed-{seed}", "label_smoothing": alpha, "seed": seed, "lesson": lesson}
        return row | {"gamma": gamma, "accuracy": accuracy}

    kept = []
    for seed, gamma in ((0, 0.5), (1, 0.8)):  # the student alone has α up to 0.6
        trials = [network("student-alone", alpha, seed, alpha, 0.5) for alpha in (0.0, 0.6)]
        trials += [network("student-of-hard", 0.0, seed, g, 0.5 + g / 10, t) for g, t in ((0.1, 1), (gamma, 8))]
        results = {"experiment": "demos.image.distillation", "title": "digits, 1 seed", "settings": {}, "teachers": []}
        kept.append({"results": [results | {"trials": trials} | distillation_curves.of_trials(trials)]})
    experiment = Experiment("a", "", "", {}, {})
    rows = list(Found(experiment, "cpu", kept).rows())
    _, _, of_hard, at_1, *_, at_8, _ = questions.students(0.6).numbers
    assert verdict.values(of_hard, rows) == pytest.approx({0: 1.0, 1: 1.0})  # T = 8 has γ = 0.65 in all
    assert verdict.values(at_1, rows) == pytest.approx({0: 1.0, 1: 1.0})
    assert verdict.values(at_8, rows) == {}

    # A seed of which only a part has been trained is left out.
    trials = [network("student-alone", 0.0, 2, 0.0, 0.5), network("student-of-hard", 0.0, 2, 0.1, 0.9, 1)]
    kept.append({"results": [results | {"trials": trials} | distillation_curves.of_trials(trials)]})
    with_part = list(Found(experiment, "cpu", kept).rows())
    assert [row for row in with_part if "curve" in row] == [row for row in rows if "curve" in row]
    together = drawing.together([results for each in kept for results in each["results"]], "a")
    assert (together["title"], together["seeds"], len(together["trials"])) == ("digits, 2 seeds", [0, 1], 8)


@pytest.mark.parametrize(
    ("ece", "seeds", "expected"),
    [(0.15, 3, report.LIKE), (0.05, 3, report.UNLIKE), (0.15, 1, report.UNKNOWN), (0.15, 0, report.UNASKED)],
)
def test_networks_are_like_the_papers_if_they_know_their_images_and_are_too_sure(ece, seeds, expected):
    parts = questions.calibration("cifar100", 0.1)
    kept = []
    for seed in range(seeds):
        results = results_of([seed])
        results["trials"][0]["ece"] = ece + 0.001 * seed
        results["trials"][0]["history"][-1]["accuracy"] += 0.001 * seed
        kept.append({"results": [results]})
    found, number = Found(Experiment("a", "", "", {}, parts), "smoke", kept), parts["table3"].numbers[0]
    assert report.likeness(found, number) == expected


@pytest.mark.parametrize(("ece", "expected"), [(0.07, report.LIKE), (0.03, report.UNLIKE)])
def test_translators_are_held_against_the_papers(ece, expected):
    parts, kept = questions_of_text.translation(0.1), []
    for seed in range(3):
        network = {"label_smoothing": 0.0, "seed": seed, "ece": ece + 0.001 * seed, "temperature": 1.15 + 0.01 * seed}
        kept.append({"results": [{"experiment": "demos.translation.train", "settings": {}, "trials": [network]}]})
    found = Found(Experiment("a", "", "", {}, parts), "cpu", kept)
    assert report.likeness(found, parts["table3"].numbers[0]) == expected


def test_each_case_of_an_experiment_is_judged_by_its_own_networks():
    experiment = Experiment("a", "", "", {}, questions.advice({f"noise {level}": {"noise": level} for level in (0, 1)}))
    numbers, kept = experiment.parts["advice"].numbers, []
    for noise, ece in ((0, 0.05), (1, 0.15)):
        results = results_of([0, 1, 2])
        for trial in results["trials"]:
            trial["ece"] = ece + 0.001 * trial["seed"]
        kept.append({"results": [results | {"settings": {"noise": noise}}]})
    for order in (kept, kept[::-1]):
        found = Found(experiment, "smoke", order)
        assert [report.likeness(found, number) for number in numbers] == 3 * [report.UNLIKE] + 3 * [report.LIKE]
    with pytest.raises(DamagedFile, match=r"Several networks of .* with seed 0 have: ECE"):
        verdict.values(questions.regime().numbers[1], found.rows())


def test_each_claim_is_listed_with_the_experiments_and_their_cases(fake):
    a, b = experiment.experiments().values()
    finding = {word: document.Finding("", "", word, "") for word in (*overview.WORDS, overview.NOT_RUN)}
    claim = Claim("It falls.", "x", "below", 0.0)
    at = [dataclasses.replace(claim, case=f"noise {noise}") for noise in range(3)]
    assert at[1].sentence == "It falls: noise 1."
    judgements = [
        overview.Judgement("fig1", a, at[0], report.UNLIKE, finding["agrees"]),
        overview.Judgement("fig1", a, at[1], report.LIKE, finding["does not"]),
        overview.Judgement("fig1", a, at[2], report.LIKE, finding["does not"]),
        overview.Judgement("fig1", b, claim, report.UNASKED, finding["cannot tell"]),
        overview.Judgement("advice", b, claim, report.LIKE, finding["agrees"]),
        overview.Judgement("advice", b, claim, report.LIKE, finding[overview.NOT_RUN]),
    ]
    counts, _, *listed = overview.of(judgements)
    rows = [("1", "0", "0"), ("0", "2", "0"), ("0", "0", "1")]
    assert dict(zip((report.UNLIKE, report.LIKE, report.UNASKED), rows, strict=True)) == {
        kind: tuple(cells) for kind, *cells in counts.rows[1:]
    }
    assert [block.text for block in listed[::2]] == [TITLES["fig1"], TITLES["advice"]]
    columns = ("claim", "agrees", "does not", "cannot tell", "not run yet")
    of_fig1 = ["It falls.", "a (noise 0)", "*a* (noise 1; noise 2)", "b"]
    assert [list(map(list, block.rows)) for block in listed[1::2]] == [
        [list(columns[:-1]), of_fig1],
        [list(columns), ["It falls.", "*b*", "", "", "b"]],
    ]


def test_networks_that_other_trials_trained_are_counted_beside():
    kept = []
    for seconds, trained in ((100.0, 90.0), (60.0, 90.0)):
        results = results_of([0])
        for trial in results["trials"]:
            trial["seconds"] = trained / 2
        kept.append({"seconds": seconds, "results": [results]})
    found = Found(Experiment("a", "", "", {}, {}), "smoke", kept)
    assert report.networks_of_others(found) == ["trained in 1.5 minutes"]
    assert report.networks_of_others(Found(found.experiment, "smoke", kept[:1])) == []


def test_rows_of_single_networks_are_those_of_all_trials():
    of_trials = [results_of([seed]) | {"significance": [{"seed": seed}]} for seed in range(2)]
    assert drawing.together(of_trials, "x")["significance"] == [{"seed": 0}, {"seed": 1}]
    assert "significance" not in drawing.together([results_of([seed]) for seed in range(2)], "x")


def test_networks_that_one_command_trained_are_named(fake, tmp_path):
    assert command.main(["--out", str(tmp_path)]) == 0
    assert "| Run together |" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    for seed in (0, 2):
        path = tmp_path / "results" / "smoke" / "a" / f"seeds-{seed}.json"
        one = {"cut_from": {"commands": [f"python -m {DEMO}"], "seconds": 9.0}}
        records.write_json(path, records.read_json(path) | one)
    assert command.main(["--report-only", "--out", str(tmp_path)]) == 0
    assert "| Run together | seeds-0, seeds-2 |\n" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_what_has_not_been_run_is_not_shown_without_the_arguments_of_its_trials(fake, tmp_path):
    found = {each.experiment.name: each for each in read(tmp_path, "smoke", ["a", "b"])}
    assert report.commands(found["a"]) == "python -m demos.reproduce --scale smoke --only a"
    assert report.commands(found["b"]) == f"python -m {DEMO}"


def test_commands_and_titles_of_several_trials(fake, tmp_path, capsys):
    assert command.main(["--out", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    head = "```sh\npython -m demos.reproduce --scale smoke --only a\n# which runs, in folders of their own, for each "
    assert f"{head}trial:\n# seeds-0\n# python -m {DEMO} --noise 1 --seeds 0\n" in text
    assert "| Data and networks | digits, mlp |\n" in text
    capsys.readouterr()
    assert command.main(["--out", str(tmp_path), "--list"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("a --seeds 1"))
    assert line.endswith("there")
    assert running.machine() in line


@pytest.mark.parametrize(
    ("said", "last", "shown"),
    [
        ("python -m a --seeds 0 1 2 --out 'x y' --seeds 1", "--seeds 1", "python -m a --out 'x y' --seeds 1"),
        (
            "python -m a --classes x y --classes z --seeds 1",
            "--seeds 1",
            "python -m a --classes x y --classes z --seeds 1",
        ),
        ("python -m a --noise 1 --quick --noise 0.2", "--noise 0.2", "python -m a --quick --noise 0.2"),
        ("python -m b --from a --seeds 0", "--seeds 1", "python -m b --from a --seeds 0"),
        ("python -m a --seeds 0", "", "python -m a --seeds 0"),
    ],
)
def test_commands_are_shown_without_what_the_trial_overrules(said, last, shown):
    assert report.without_overruled(said, last) == shown


def test_experiments_that_were_added_afterwards_are_counted_apart(fake, monkeypatch, tmp_path):
    def counts():
        assert command.main(["--out", str(tmp_path), "--resume"]) == 0
        return re.findall(r"^\| (of [^|]*) \| (\d+) \|", (tmp_path / "report.md").read_text(encoding="utf-8"), re.M)

    ((alike, met), (unknown, of_b)) = counts()
    assert (alike, unknown) == (report.LIKE, report.UNKNOWN)
    both = experiment.experiments()
    later = {**both, "a": dataclasses.replace(both["a"], afterwards=True)}
    monkeypatch.setattr(experiment, "experiments", lambda: later)
    assert counts() == [(report.UNKNOWN, of_b), (overview.AFTERWARDS, met)]
    assert "| *a†* | " in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_the_clock_counts_the_sessions_before_and_knows_their_commits(tmp_path, monkeypatch):
    clock, failing = tmp_path / "clock.json", [sys.executable, "-c", "raise SystemExit(3)"]
    records.write_json(clock, {"seconds": 5000.0})
    for commit in ("first", "first", None, "second"):
        monkeypatch.setattr(running, "code", lambda commit=commit: commit)
        assert running.run_command(failing, clock) == 3
    told = records.read_json(clock, {"seconds": float, "code": [str]})
    assert 5000 < told["seconds"] < 5100
    assert told["code"] == ["first", "second"]


def test_trials_at_a_time_share_the_cores(tmp_path, monkeypatch):
    shown = [sys.executable, "-c", f"import os; print(*map(os.environ.get, {running.THREADS}))"]
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(devices, "cores", lambda: 5)
    for names, jobs in (({}, 2), ({}, 9), ({running.THREADS[1]: "3"}, 2)):
        for name in running.THREADS:
            monkeypatch.delenv(name, raising=False)
        for name, value in names.items():
            monkeypatch.setenv(name, value)
        assert running.run_command(shown, tmp_path / "clock.json", tmp_path / "log", jobs) == 0
    assert (tmp_path / "log").read_text().splitlines() == ["2 2", "1 1", "2 3"]
    assert running.machine(2).endswith(", 2 of 8 cores")
    assert running.machine().endswith(", 5 of 8 cores")
    monkeypatch.setattr(devices, "cores", lambda: 8)
    assert running.machine().endswith(", 8 cores")


def test_the_commit_is_that_which_the_commands_ran_with(tmp_path, monkeypatch):
    def run(words, clock, log=None, jobs=1):
        records.write_json(clock, {"seconds": 1.0, "code": ["then", "later"]})
        folder = pathlib.Path(words[words.index("--out") + 1])
        records.write_json(folder / "results.json", results_of([0]))
        return 0

    monkeypatch.setattr(running, "run_command", run)
    monkeypatch.setattr(running, "code", lambda: "now")
    one = Trial(Experiment("a", "", "", {"smoke": Setting(f"python -m {DEMO}", 1)}, {}), "smoke", "")
    assert running.run(one, tmp_path / "work", tmp_path / "kept.json") == 0
    assert records.read_json(tmp_path / "kept.json")["code"] == "then, later"


def test_steps_lost_in_noise_are_bounded_by_the_longer_run(monkeypatch):
    monkeypatch.setattr(subprocess, "run", short_runs({"one": 0.0}))
    assert estimate.hours(to_estimate(7200)) == pytest.approx(30 / 400 * 7200 / 3600)
