"""What a demo trains on several devices, in one process or two, is what it trains on one, also after a kill."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from harness import BACKEND, ROOT, TESTS
from keras import ops

from demos.image import calibration, projection
from demos.kit import devices
from demos.kit.options import Chosen
from demos.sequence.buckets import filled
from demos.sequence.objective import TokenObjective, token_loss
from demos.sequence.tokenizers import IGNORED
from demos.translation import train

pytest.importorskip("sklearn", reason='the demos need pip install -e ".[demos]"')
COMMON = ["--steps", "50", "--label-smoothing", "0.1", "--seeds", "0"]
SHORT = ["--steps", "20", "--seeds", "0"]
TOY = ["--size", "tiny", "--dropout", "0", "--batch-tokens", "150", "--vocabulary-size", "70", "--beam-width", "2"]
RESNET = ["--model", "resnet", "--depth", "8", "--no-augment", "--clipnorm", "0", "--learning-rate", "0.01"]
DEMOS = {
    "digits": ["demos.image.calibration", "--hidden", "16", "--batch-size", "60", "--calibration-freq", "10", *COMMON],
    "translation": ["demos.translation.train", *TOY, *COMMON],
}
SHORT_DEMOS = {
    "projection": ["demos.image.projection", "--batch-size", "60", *SHORT],
    "information": ["demos.image.information", "--batch-size", "60", *SHORT],
    "distillation": ["demos.image.distillation", "--label-smoothing", "0", "0.1", "--temperature", "2", *SHORT],
    "speech": [
        *["demos.speech.train", "--train-sentences", "64", "--dev-sentences", "8", "--test-sentences", "8"],
        *["--units", "16", "--dropout", "0", "--label-smoothing", "0.1", "--beam-width", "2", *SHORT],
    ],
}
STRATEGY = {"tensorflow": "mirrored", "jax": "data-parallel"}.get(BACKEND)
TWO_DEVICES = ["--strategy", STRATEGY, "--virtual-devices", "2"]
on_jax = pytest.mark.skipif(BACKEND != "jax", reason="Keras runs several processes on JAX alone")
needs_demos = pytest.mark.skipif(STRATEGY is None, reason="Keras 3.15 trains on several devices on JAX and TensorFlow")


def start(name, out, *arguments):
    """Starts a demo."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": BACKEND}
    demo = (DEMOS | SHORT_DEMOS)[name]
    command = [sys.executable, str(TESTS / "small_demo.py"), *demo, "--out", str(out), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def start_two(name, out, *arguments, devices_of_each=2):
    """Starts a demo in two processes of two devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    where = ["--strategy", STRATEGY, "--virtual-devices", str(devices_of_each)]
    where += ["--processes", "2", "--coordinator", coordinator]
    return [start(name, out, *where, "--process", str(process), *arguments) for process in range(2)]


def finish(*processes):
    """What processes print, when they have ended well."""
    try:
        outputs = [process.communicate(timeout=1200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [output for output, _ in outputs]


# What is measured of texts jumps where two tokens are about as probable, as they are after 50 steps.
UNSTEADY = ("seconds", "greedy_", "beam_", "dev_greedy_", "dev_beam_", "val_chrf")


def result_of(out):
    """The result of the only network of a run."""
    (path,) = out.glob("alpha-*/seed-*/result.json")
    return json.loads(path.read_text())


def numbers(out):
    """The curves and measures of the only network of a run."""
    result = result_of(out)
    found = {name: value for name, value in result.items() if isinstance(value, float)}
    found |= {f"{name} of step {row['epoch']}": row[name] for row in result["history"] for name in row}
    return {name: value for name, value in found.items() if not name.startswith(UNSTEADY)}


def differences(found, expected, tolerance=1e-4):
    assert found.keys() == expected.keys()

    def close(value, wanted):
        is_number = isinstance(wanted, float)
        return value == (pytest.approx(wanted, rel=tolerance, abs=tolerance, nan_ok=True) if is_number else wanted)

    return {name: (found[name], expected[name]) for name in expected if not close(found[name], expected[name])}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function that gives the directory of a finished run, trained once: on one device, or in two processes."""
    outs = {}

    def trained(name, together=False):
        if (name, together) not in outs:
            out = outs[name, together] = tmp_path_factory.mktemp("runs") / "out"
            finish(*(start_two(name, out) if together else [start(name, out)]))
        return outs[name, together]

    return trained


@pytest.mark.slow
@needs_demos
@pytest.mark.parametrize("name", DEMOS)
def test_two_devices_train_as_one(run, tmp_path, name):
    if (name, BACKEND) == ("translation", "tensorflow"):
        pytest.skip("the loss of tokens is refused with MirroredStrategy")
    finish(start(name, tmp_path, *TWO_DEVICES))
    assert result_of(tmp_path)["device"].startswith("2 × ")
    assert not result_of(run(name))["device"].startswith("2 × ")
    assert not differences(numbers(tmp_path), numbers(run(name)))


@pytest.mark.slow
@needs_demos
def test_batch_normalisation_takes_the_statistics_of_all_devices(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start("digits", one, *RESNET), start("digits", two, *RESNET, *TWO_DEVICES))
    assert result_of(two)["device"].startswith("2 × ")
    curve, expected = ([row["loss"] for row in result_of(out)["history"]] for out in (two, one))
    assert len(curve) == 50
    assert curve == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@on_jax
@pytest.mark.parametrize("name", DEMOS)
def test_two_processes_train_as_one_and_the_first_writes(run, name):
    alone, together = run(name), run(name, together=True)
    assert result_of(together)["device"].startswith("4 × ")
    assert not differences(numbers(together), numbers(alone))
    written = [[path.name.split("tfevents")[0] for path in sorted(out.rglob("*"))] for out in (alone, together)]
    assert written[0] == written[1]


def leaves(value, path=""):
    """All values in nested dictionaries and lists, by their paths."""
    if not isinstance(value, dict | list):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {name: leaf for key, part in items for name, leaf in leaves(part, f"{path}/{key}").items()}


@pytest.mark.slow
@on_jax
@pytest.mark.parametrize("name", SHORT_DEMOS)
def test_two_processes_write_the_results_of_one(tmp_path, name):
    alone, together = tmp_path / "alone", tmp_path / "together"
    # 50 images of an update of the distillation are not for four devices.
    finish(*start_two(name, together, devices_of_each=1 if name == "distillation" else 2))
    finish(start(name, alone))
    found, expected = (leaves(json.loads((out / "results.json").read_text())) for out in (together, alone))
    of_the_machine = {path for path in expected if "seconds" in path or path.endswith("/device")}
    for results in (found, expected):
        for path in of_the_machine:
            results.pop(path, None)
    assert not differences(found, expected)


def epoch_of(out):
    """The step that the checkpoint of a run is of, or 0."""
    for checkpoint in out.glob("alpha-*/seed-*/checkpoint.npz"):
        with np.load(checkpoint) as file:
            return json.loads(str(file["state"]))["epoch"]
    return 0


@pytest.mark.slow
@on_jax
@pytest.mark.parametrize(("name", "at"), [("digits", 17), ("translation", 6)])
def test_after_a_kill_of_one_process_both_go_on_where_they_were(run, tmp_path, name, at):
    expected, out = run(name, together=True), tmp_path / "out"
    processes = start_two(name, out)
    try:
        while epoch_of(out) < at:
            assert all(process.poll() is None for process in processes)
            time.sleep(0.01)
        processes[at % 2].kill()  # the one that writes in one case, the other in the other
    finally:
        for process in processes:  # the other one would wait
            process.kill()
            process.communicate()
    assert at <= epoch_of(out) < 50
    alone = shutil.copytree(out, tmp_path / "alone")
    finish(*start_two(name, out, "--resume"))
    assert not differences(numbers(out), numbers(expected), 1e-6)
    for texts in expected.glob("alpha-*/seed-*/texts.txt"):
        assert (out / texts.relative_to(expected)).read_bytes() == texts.read_bytes()
    finish(start(name, alone, "--resume"))
    assert not differences(numbers(alone), numbers(expected), 1e-2)  # rounding of two kinds, which grows in 50 steps


def refused(capsys, main, *arguments):
    """The line that a demo says when it exits with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.partition("error: ")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--processes", "2"], "--processes is for --strategy data-parallel. Received: none."),
        (
            ["--strategy", "mirrored", "--process", "1"],
            "--process is for --strategy data-parallel. Received: mirrored.",
        ),
        (["--virtual-devices", "2"], "--virtual-devices needs a --strategy. Received: none."),
        (
            ["--strategy", "data-parallel", "--processes", "2", "--process", "1"],
            "--processes, --process and --coordinator go together. Received: --processes and --process.",
        ),
        (
            ["--strategy", "data-parallel", "--processes", "2", "--process", "2", "--coordinator", "localhost:1234"],
            "--process must be below --processes (2). Received: 2.",
        ),
    ],
)
def test_options_that_do_not_fit_together_are_refused(capsys, arguments, words):
    assert refused(capsys, calibration.main, *arguments) == words


def test_a_strategy_of_another_backend_is_refused(capsys):
    other = "mirrored" if BACKEND == "jax" else "data-parallel"
    words = f"--strategy {other} needs KERAS_BACKEND={devices.BACKENDS[other]}. Received: {BACKEND}."
    assert refused(capsys, calibration.main, "--strategy", other) == words


@pytest.fixture
def four_devices(monkeypatch):
    """As if there were four devices."""
    monkeypatch.setattr(devices, "engine", lambda: devices.Engine(strategy="mirrored", number=4))


def test_batches_that_devices_do_not_divide_are_refused(four_devices, tmp_path, capsys):
    line = refused(capsys, calibration.main, "--batch-size", "30", "--out", str(tmp_path))
    assert line == "The examples of an update must be a multiple of the number of devices (4). Received: 30."


def test_bounds_on_the_gradient_of_each_device_are_refused(four_devices, tmp_path, capsys):
    line = refused(capsys, calibration.main, "--batch-size", "32", "--clipnorm", "1", "--out", str(tmp_path))
    assert line.startswith("The gradient's norm must not be bounded with --strategy mirrored")


def test_what_does_not_train_and_what_would_train_otherwise_is_refused(tmp_path):
    plan = projection.COMMAND.load().plan
    for flag, option in (("strategy", {"strategy": "mirrored"}), ("jit-compile", {"jit_compile": "yes"})):
        with pytest.raises(ValueError, match=f"--{flag} is for training: leave it out with --from"):
            plan(Chosen(projection.COMMAND.groups, {**option, "from_run": str(tmp_path)}))
    pytest.importorskip("tensorflow", reason="the translation demo writes event files with TensorFlow")
    with pytest.raises(ValueError, match="--strategy must be data-parallel, with KERAS_BACKEND=jax"):
        train.COMMAND.load().plan(Chosen(train.COMMAND.groups, {"strategy": "mirrored"}))


def test_devices_are_no_part_of_the_settings_of_a_run():
    options = Chosen([devices.GROUP], {"strategy": "mirrored"})
    assert not options.settings()
    assert options.free() == {"strategy", "processes", "process", "coordinator", "virtual_devices"}


def test_each_process_feeds_its_rows_in_the_order_of_the_processes(monkeypatch):
    batches = [({"a": np.arange(6)}, ops.arange(12)), ({"a": np.arange(4)}, ops.arange(8))]
    parts = []
    for process in range(2):
        monkeypatch.setattr(devices, "engine", lambda process=process: devices.Engine(processes=2, process=process))
        parts.append(list(devices.part_of(batches)))
    for (x, y), (x_0, y_0), (x_1, y_1) in zip(batches, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate([x_0["a"], x_1["a"]]), x["a"])
        np.testing.assert_array_equal(np.concatenate([y_0, y_1]), ops.convert_to_numpy(y))


def test_rows_that_fill_up_a_batch_of_tokens_count_for_nothing(rng):
    x, y = {"tokens": rng.integers(0, 5, (3, 4))}, rng.integers(0, 5, (3, 4)).astype("int32")
    y[0, 2:] = IGNORED
    more_x, more_y = filled(x, y, 4)
    assert more_x["tokens"].shape == more_y.shape == (4, 4)
    assert filled(x, y, 3) == (x, y)
    vectors = rng.normal(size=(5, 5)).astype("float32")
    network = types.SimpleNamespace(logits=ops.convert_to_tensor)  # which are the outputs themselves
    objective = TokenObjective(network, token_loss("uniform", 0.1, 5))
    found = []
    for inputs, labels in ((x, y), (more_x, more_y)):
        objective.mean_loss.reset_state()
        objective.accuracy.reset_state()
        loss = objective.compute_loss(y=ops.convert_to_tensor(labels), y_pred=vectors[inputs["tokens"]])
        rows = objective.mean_loss.variables[1]  # the weight that the batch has in the mean of an epoch
        found.append([float(each) for each in (loss, objective.accuracy.result(), objective.mean_loss.result(), rows)])
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[1][-1] == 3
