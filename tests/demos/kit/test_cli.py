"""The command line of demos: quick help, a quiet terminal, errors of one line; really started and killed."""

import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from harness import BACKEND

from demos import redraw
from demos.__main__ import demos
from demos.image import calibration
from demos.kit import cli, epochs
from demos.kit.errors import DamagedFile

ROOT = pathlib.Path(__file__).parents[3]
SMALL = ("--hidden", "8", "--batch-size", "300", "--seeds", "0", "--label-smoothing", "0.1")
DEMOS = list(demos())


def start(*arguments, **options):
    """Starts a module of the demos."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    command = [sys.executable, "-m", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **{**pipes, **options})


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize("name", DEMOS)
def test_help_imports_nothing_heavy(name):
    code = f"import sys, {name}; {name}.COMMAND.parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"keras", "tensorflow", "jax", "torch", "matplotlib", "keras_ls"} & set(done.stdout.split())


@pytest.mark.parametrize("name", DEMOS)
def test_every_option_has_a_help_with_its_default(name):
    command = __import__(name, fromlist=["COMMAND"]).COMMAND
    without = {"data_dir", "resume", "from_run"}  # those of the speech demo follow
    without |= {"reverse", "fused_output", "speaker_held_out", "snr", "skip_bad", "quick", "run", "files", "json"}
    for action in command.parser()._actions[1:]:
        assert action.help
        assert "(default: " in action.help or action.dest in without, action.dest


def test_demos_are_listed():
    done = subprocess.run([sys.executable, "-m", "demos"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = ("image.calibration", "speech.train", "reproduce", "redraw", "advice")
    for name in (f"demos.{each}" for each in names):
        assert f"python -m {name}" in done.stdout
    assert len(DEMOS) == 10


@pytest.mark.slow
def test_a_killed_run_goes_on_and_a_second_one_is_refused_while_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr(epochs, "SHORTEST_EPOCH", 100)
    out = tmp_path / "out"
    arguments = (*SMALL, "--steps", "1000", "--out", str(out))
    first = start("demos.image.calibration", *arguments)
    second = None
    try:
        wait_for((out / "alpha-0.1" / "seed-0" / "checkpoint.npz").exists, first)
        os.kill(first.pid, signal.SIGSTOP)
        second = start("demos.image.calibration", *arguments, "--resume")
        output, errors = second.communicate()
        assert (second.returncode, output) == (2, "")
        assert re.fullmatch(r"python -m demos\.image\.calibration: error: Another run is at work in .*\n", errors)
    finally:
        first.kill()
        _, errors = first.communicate()
    assert errors == ""  # no log lines of TensorFlow
    assert calibration.main([*arguments, "--resume"]) == 0
    assert calibration.main([*SMALL, "--steps", "1000", "--out", str(tmp_path / "whole")]) == 0
    resumed, whole = (json.loads((tmp_path / name / "results.json").read_text())["trials"] for name in ("out", "whole"))
    assert [epoch["epoch"] for epoch in resumed[0]["history"]] == list(range(1, 11))
    for got, wanted in zip(resumed[0]["history"], whole[0]["history"], strict=True):
        assert got == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_a_reader_that_leaves_is_one_line(tmp_path):
    process = start("demos.image.calibration", *SMALL, "--steps", "3", "--out", str(tmp_path / "out"))
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 1
    assert errors.splitlines() == [
        "python -m demos.image.calibration: nobody reads the output any more. "
        "The same command with --resume goes on from here."
    ]


@pytest.mark.parametrize("library", ["numpy", "tensorflow"])
def test_an_interrupt_while_starting_is_one_line(tmp_path, library):
    if not pathlib.Path("/proc/self/maps").exists() or BACKEND != "tensorflow":
        pytest.skip("needs /proc to see what is loaded")
    process = start("demos.image.calibration", *SMALL, "--out", str(tmp_path / "out"))
    wait_for(lambda: library in pathlib.Path(f"/proc/{process.pid}/maps").read_text(), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "\nInterrupted.\n")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OSError(28, "No space left on device", "x.npz"), 1, "[Errno 28] No space left on device: 'x.npz'."),
        (DamagedFile("a\nb"), 1, "a b"),
        (MemoryError(), 1, "out of memory."),
        (type("ResourceExhaustedError", (Exception,), {})("disk\nfull"), 1, "disk full."),
        (RuntimeError("RESOURCE_EXHAUSTED: " + 500 * "x"), 1, "RESOURCE_EXHAUSTED: " + 280 * "x" + "."),
    ],
)
def test_errors_of_a_run_are_one_line(capsys, error, status, line):
    def run(planned):
        raise error

    with pytest.raises(SystemExit) as stopped:
        cli.execute(cli.Parser(prog="demo"), [], lambda options: None, run)
    assert stopped.value.code == status
    assert capsys.readouterr().err == f"demo: {line}\n"


def test_a_package_that_is_missing_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.Command("demo", "", "", (), "needs_more").main([])
    assert stopped.value.code == 2
    assert "demo needs no_such_package, which is not installed." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "it lacks 'experiment'"),
        ("null", "damaged"),
        ('{"experiment": "os", "title": "", "pictures": []}', "no demo"),
    ],
)
def test_redraw_refuses_what_is_no_results_file(tmp_path, capsys, text, message):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(SystemExit):
        redraw.main([str(tmp_path / "results.json")])
    assert message in capsys.readouterr().err


def test_an_interrupt_of_what_runs_is_an_exception():
    # The handler that `demos` sets for the time of imports ends the process, and leaves behind what it has started.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        parser = cli.Parser(prog="demo")
        with pytest.raises(SystemExit) as stopped:
            cli.execute(parser, [], lambda _: None, lambda _: signal.raise_signal(signal.SIGINT))
        assert stopped.value.code == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_json_is_escaped_where_the_terminal_lacks_its_characters(monkeypatch):
    assert cli.json_line({"text": "ñ"}) == '{"text": "ñ"}'
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert cli.json_line({"text": "ñ"}) == '{"text": "\\u00f1"}'


def test_demos_start_without_a_standard_error(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr(sys, "stderr", None)
    with cli.quiet_start():
        pass


def test_redraw_takes_the_directory_of_a_run(tmp_path, capsys):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(SystemExit):
        redraw.main([str(tmp_path)])
    assert f"{tmp_path / 'results.json'} is damaged" in capsys.readouterr().err
