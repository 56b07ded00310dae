"""A trial: done once, continued where it was killed, refused where its files are of another run or damaged."""

import dataclasses
import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
from harness import BACKEND, EAGER, slow

from demos.kit import checkpoints, trials
from demos.kit.errors import DamagedFile, Diverged
from demos.kit.runs import Run
from demos.kit.trials import Trial, run_trial, run_trials

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X @ np.array([[1.0], [2.0], [-1.0], [0.5]], "float32")


class Batches(keras.utils.PyDataset):
    """Endless batches, each a function of its place; from step `breaks` on they are infinite."""

    def __init__(self, first, breaks=1_000):
        super().__init__()
        self.first, self.breaks = first, breaks

    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        rows = np.random.default_rng(self.first + index).integers(0, 64, 8)
        return X[rows], Y[rows] * (np.inf if self.first + index >= self.breaks else 1)


class Measure(keras.callbacks.Callback):
    """Measures every third epoch and repeats it, and after a break the first, as callbacks of keras_ls do."""

    freq = 3

    def on_train_begin(self, logs=None):
        self.first = self.value = None

    def on_epoch_end(self, epoch, logs=None):
        self.first = epoch if self.first is None else self.first
        if (epoch + 1) % self.freq == 0 or epoch == self.first > 0:
            self.value = float(np.sum(self.model.get_weights()[0]))
        if self.value is not None:
            logs["val_sum"] = self.value


def trial(name="a", rate=0.05, breaks=1_000, **changes):
    def build():
        # Resumed training draws other dropout masks on PyTorch.
        dropout = keras.layers.Dropout(0.0 if BACKEND == "torch" else 0.5)
        model = keras.Sequential([keras.Input((4,)), dropout, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse", run_eagerly=EAGER)
        model.optimizer.build(model.trainable_variables)
        return model, model

    def evaluate(network, history):
        return {"error": None if network is None else float(np.mean((network.predict(X, verbose=0) - Y) ** 2))}

    common = {"steps_per_epoch": 3, "epochs": 5, "evaluate": evaluate, "fields": {"error": (float, None)}}
    values = {**common, "callbacks": lambda network, folder: [Measure()], "label": name, **changes}
    return Trial(name, 3, {"rate": rate, "seed": 3}, build, lambda first: Batches(first, breaks), **values)


def killed(monkeypatch, at, *arguments):
    """Runs trials that are interrupted before checkpoint number `at` is written."""
    saved = []
    with monkeypatch.context() as patch:
        save = checkpoints.save

        def stopped(*state):
            saved.append(state)
            if len(saved) == at:
                raise KeyboardInterrupt
            save(*state)

        patch.setattr(checkpoints, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_trials(*arguments)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "out", {"steps": 15})


@pytest.mark.parametrize("at", [2, slow(3), slow(4), slow(5)])
def test_history_and_result_after_a_kill_are_those_without_one(run, tmp_path, monkeypatch, at):
    whole = run_trial(trial(), Run(tmp_path / "whole", {"steps": 15}))
    killed(monkeypatch, at, [trial()], run)
    resumed = run_trial(trial(), run)
    assert [set(epoch) for epoch in resumed["history"]] == [set(epoch) for epoch in whole["history"]]
    for got, wanted in zip(resumed["history"], whole["history"], strict=True):
        assert got == pytest.approx(wanted, rel=1e-5)
    assert resumed["error"] == pytest.approx(whole["error"], rel=1e-5)
    assert "settings" not in resumed
    assert sorted(path.name for path in (run.out / "a").iterdir()) == ["model.keras", "result.json"]


def test_a_result_names_what_all_sessions_ran_on(run, monkeypatch):
    here = trials.provenance()
    with monkeypatch.context() as patch:
        patch.setattr(trials, "provenance", lambda: here | {"device": "another"})
        killed(monkeypatch, 3, [trial()], run)
    result = run_trial(trial(), run)
    assert result["device"] == here["device"]
    assert result["earlier_sessions"] == [here | {"device": "another"}]
    assert "earlier_sessions" not in run_trial(trial("b"), run)


def test_seconds_of_a_result_are_those_of_all_sessions(run, monkeypatch):
    killed(monkeypatch, 3, [trial()], run)
    path = run.out / "a" / "checkpoint.npz"
    with np.load(path) as file:
        arrays = dict(file)
    state = json.loads(str(arrays.pop("state")))
    assert 0 < state["seconds"] < 1_000
    for seconds, least in ((5_000, 5_000), (None, 0)):  # earlier versions did not say
        changed = {name: value for name, value in (state | {"seconds": seconds}).items() if value is not None}
        np.savez(path, state=np.array(json.dumps(changed)), **arrays)
        other = dataclasses.replace(run, out=run.out.with_name(f"from-{seconds}"))
        shutil.copytree(run.out, other.out)
        assert least < run_trial(trial(), other)["seconds"] < least + 1_000


def test_checkpoints_are_seconds_apart_and_the_last_epoch_has_one(run, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 1_000.0)
    saved, save = [], checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda *state: (saved.append(state[2]), save(*state)))
    assert len(run_trial(trial(), run)["history"]) == 5
    assert saved == [1, 5]


def test_a_network_whose_saving_is_cut_off_is_not_there(run, monkeypatch):
    def cut_off(network, path, *_, **__):
        pathlib.Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run_trial(trial(), run)
    assert [path.name for path in (run.out / "a").iterdir()] == ["checkpoint.npz"]
    run_trial(trial(), run)
    assert checkpoints.load_network(run.out / "a").count_params() == 5


def test_what_is_done_is_not_done_again(run, monkeypatch):
    first = run_trials([trial("a"), trial("b", keeps_network=False)], run)
    monkeypatch.setattr(trials, "fit", None)
    assert run_trials([trial("a"), trial("b")], run) == first
    assert not (run.out / "b" / "model.keras").exists()


def test_files_of_other_settings_are_refused(run, monkeypatch):
    other = dataclasses.replace(run, settings={"steps": 16})
    killed(monkeypatch, 3, [trial()], run)
    with pytest.raises(DamagedFile, match=r"checkpoint\.npz was made with other settings: steps was 15, now 16"):
        run_trial(trial(), other)
    run_trial(trial(), run)
    with pytest.raises(DamagedFile, match=r"result\.json was made with other settings: steps was 15, now 16"):
        run_trial(trial(), other)
    with pytest.raises(DamagedFile, match=r"result\.json is of another training: its rate is 0\.05, not 0\.1"):
        run_trial(trial(rate=0.1), run)


def test_results_of_earlier_versions_are_those_of_settings_json_alone(run):
    path = run.out / "a" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"error": 0.5, "rate": 0.05}')
    assert run_trial(trial(), run)["error"] == 0.5
    with pytest.raises(DamagedFile, match=r"settings\.json was not there"):
        run_trial(trial(), dataclasses.replace(run, is_known=False))


@pytest.mark.parametrize("content", ["{}", "null", '{"error": "x"}', "[", "folder"])
def test_damaged_results_are_one_line(run, content):
    path = run.out / "a" / "result.json"
    path.parent.mkdir(parents=True)
    path.mkdir() if content == "folder" else path.write_text(content)
    with pytest.raises(DamagedFile, match=r"result\.json is damaged") as error:
        run_trial(trial(), run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", "empty", "other", "short", "history", "folder"])
def test_damaged_checkpoints_are_one_line(run, content):
    path = run.out / "a" / "checkpoint.npz"
    path.parent.mkdir(parents=True)
    state = {"epoch": 1, "history": [{"epoch": 1}]}
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        state = {"empty": {}, "history": {"epoch": 2, "history": [{}]}}.get(content, state)
        shapes = {"other": [(2,)] * 7}.get(content, [(4, 1)])
        np.savez(path, state=np.array(json.dumps(state)), **{str(i): np.zeros(s) for i, s in enumerate(shapes)})
    with pytest.raises(DamagedFile, match=r"checkpoint\.npz is (damaged|of another network)") as error:
        run_trial(trial(), run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", "absent", "folder", "endless"])
def test_networks_that_cannot_be_loaded_are_named(tmp_path, content):
    path = tmp_path / "model.keras"
    if content == "endless":
        path.symlink_to("/dev/zero")
    elif content == "folder":
        path.mkdir()
    elif content != "absent":
        path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"model\.keras (is damaged|cannot be used)"):
        checkpoints.load_network(tmp_path)


def test_a_network_that_breaks_in_its_last_step_has_diverged(run):
    for _ in range(2):
        with pytest.raises(Diverged, match="after 5 epochs: lower"):
            run_trial(trial(breaks=14), run)
        assert (run.out / "a" / "checkpoint.npz").exists()  # of the last epoch that was whole
    result = run_trial(trial(breaks=14, may_diverge=True), run)
    assert result["error"] is None


def test_weights_that_are_no_longer_finite_are_noticed_where_the_loss_is(run, monkeypatch):
    monkeypatch.setattr(checkpoints, "is_finite", lambda model: False)
    with pytest.raises(Diverged, match="The weights are no longer finite after 1 epochs"):
        run_trial(trial(), run)


def test_the_estimate_is_of_all_that_is_left(run, capsys):
    run_trials([trial("a"), trial("b")], run)
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch 5/5" in line]
    assert lines[0].endswith("of training to go in all)")
    assert lines[1].endswith("0 s of training to go)")


@pytest.mark.parametrize("value", [1.0, np.nan, np.inf])
def test_all_weights_are_looked_at(value):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.layers[-1].kernel.assign(np.array([[0.0], [0.0], [value], [0.0]], "float32"))
    assert checkpoints.is_finite(model) == np.isfinite(value)
