"""A teacher's logits on file: resumed, reused, recognised, repaired, and written by several processes."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings

import keras
import numpy as np
import pytest
from harness import BACKEND, ROOT, TESTS, slow
from keras import layers, ops
from teachers import D, K, counting, network

from keras_ls.distillation import _lock, teacher_logits
from keras_ls.distillation._cache import load_or_compute
from keras_ls.distillation._format import read_complete
from keras_ls.distillation._identity import identity_of
from keras_ls.distillation._inputs import Fingerprint


@pytest.fixture
def x(rng):
    return rng.standard_normal((50, D)).astype("float32")


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_complete_file_is_read_back_without_the_teacher(x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    first = np.array(teacher_logits(teacher, x, 8, path))
    seen = counting(monkeypatch)
    for batch_size in (8, 50):
        np.testing.assert_array_equal(teacher_logits(teacher, x, batch_size, str(path)), first)
    teacher.save(tmp_path / "teacher.keras")
    loaded = keras.saving.load_model(tmp_path / "teacher.keras")
    np.testing.assert_array_equal(teacher_logits(loaded, x.copy(), 8, path), first)
    again = network(seed=5)  # other layer names
    again.set_weights(teacher.get_weights())
    np.testing.assert_array_equal(teacher_logits(again, x, 8, path), first)
    assert seen == []


@pytest.mark.parametrize("done", [0, 1, 3])
@pytest.mark.parametrize("torn", [0, 5])
def test_an_interrupted_file_goes_on_where_it_was(done, torn, x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    whole = teacher_logits(teacher, x, 8)
    with monkeypatch.context() as patch:
        counting(patch, fail_after=done)
        with pytest.raises(KeyboardInterrupt):
            teacher_logits(teacher, x, 8, path)
    assert not path.exists()  # half a file is none
    assert len(os.listdir(tmp_path)) == (2 if done else 0)
    for part in tmp_path.glob("*.part") if torn else ():  # the machine went down in the middle of a row
        with open(part, "r+b") as file:
            file.truncate(part.stat().st_size - torn)
    seen = counting(monkeypatch)
    found = teacher_logits(teacher, x, 8, path)
    assert sum(seen) == 50 - 8 * done + (8 if torn and done else 0)
    np.testing.assert_allclose(found, whole, rtol=1e-6)
    assert os.listdir(tmp_path) == ["zt.npy"]


def test_another_batch_size_goes_on_too(x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    with monkeypatch.context() as patch:
        counting(patch, fail_after=3)
        with pytest.raises(KeyboardInterrupt):
            teacher_logits(teacher, x, 8, path)
    seen = counting(monkeypatch)
    np.testing.assert_allclose(teacher_logits(teacher, x, 10, path), teacher_logits(teacher, x), rtol=1e-5, atol=1e-6)
    assert seen[:3] == [10, 10, 10]  # rows 20 to 50, the first 24 of which were there


def test_texts_are_the_same_in_batches_of_any_size():
    texts, digests = np.array([["a, b"], ["c"], ["日"]], object), set()
    for size in (1, 2, 3):
        fingerprint = Fingerprint()
        for start in range(0, 3, size):
            batch = texts[start : start + size]
            fingerprint.update(len(batch), batch)
        digests.add(fingerprint.digest())
    assert len(digests) == 1


def test_a_teacher_that_is_frozen_meanwhile_is_the_same(x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    teacher_logits(teacher, x, path=path)
    teacher.trainable = False
    seen = counting(monkeypatch)
    teacher_logits(teacher, x, path=path)
    assert seen == []


def changed(x, how):
    """Another teacher, or other data."""
    teacher = network()
    weights = teacher.get_weights()
    if how == "weights":
        weights[0][0, 0] += 1e-6
        teacher.set_weights(weights)
    elif how == "batch statistics":
        weights[-3] = weights[-3] + 0.5
        teacher.set_weights(weights)
    elif how == "layers":
        teacher = network(hidden="tanh")
        teacher.set_weights(weights)
    elif how == "dtype policy":
        teacher = network(dtype="mixed_bfloat16")
        teacher.set_weights(weights)
    elif how == "one value":
        x = x.copy()
        x[49, 3] += 1e-6
    elif how == "order":
        x = x[::-1]
    elif how == "length":
        x = x[:49]
    elif how == "dtype":
        x = x.astype("float64")
    return teacher, x


@pytest.mark.parametrize(
    "how",
    ["weights", "batch statistics", "layers", "dtype policy", "one value", "order", "length", "dtype"],
)
@pytest.mark.parametrize("complete", [True, False])
def test_another_teacher_or_other_data_are_noticed(how, complete, x, tmp_path, monkeypatch):
    path = tmp_path / "zt.npy"
    with monkeypatch.context() as patch:
        counting(patch, fail_after=None if complete else 3)
        try:
            old = teacher_logits(network(), x, 8, path)
        except KeyboardInterrupt:
            old = None
    teacher, other = changed(x, how)
    seen = counting(monkeypatch)
    found = teacher_logits(teacher, other, 8, path)
    assert sum(seen) == len(other)
    expected = teacher.predict(other, verbose=0).astype("float32")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2 if "dtype" in how else 1e-5)
    assert os.listdir(tmp_path) == ["zt.npy"]
    if old is not None:  # what was read before stays what it was
        np.testing.assert_allclose(old, network().predict(x, verbose=0), rtol=1e-5, atol=1e-6)


class WithoutSettings(keras.Model):
    """A subclass that Keras describes by its name alone."""

    def __init__(self, activation):
        super().__init__()
        self.hidden, self.out = layers.Dense(8, activation), layers.Dense(4)

    def call(self, inputs):
        return self.out(self.hidden(inputs))


class NoConfig(layers.Layer):
    """A layer with an argument that is no plain value."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def with_a_layer_without_config(activation):
    return keras.Sequential([keras.Input((D,)), layers.Dense(8, activation), NoConfig(abs), layers.Dense(4)])


@pytest.mark.parametrize("make", [WithoutSettings, with_a_layer_without_config])
def test_settings_of_layers_are_noticed_though_the_model_has_no_config(make, x, tmp_path):
    teacher, other = make("relu"), make("tanh")
    for model in (teacher, other):
        model(x[:1])  # builds it
    first = np.array(teacher_logits(teacher, x, path=tmp_path / "zt.npy", from_logits=True))
    other.set_weights(teacher.get_weights())
    found = teacher_logits(other, x, path=tmp_path / "zt.npy", from_logits=True)
    np.testing.assert_allclose(found, other.predict(x, verbose=0), rtol=1e-5, atol=1e-5)
    assert np.abs(found - first).max() > 0.01


class Scaled(layers.Layer):
    """A layer whose setting is an array."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, inputs):
        return inputs * keras.ops.convert_to_tensor(self.factor)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class WithArrays(keras.Model):
    """A subclass whose layers have arrays for settings."""

    def __init__(self, factor):
        super().__init__()
        self.scaled, self.out = Scaled(factor), layers.Dense(4)

    def call(self, inputs):
        return self.out(self.scaled(inputs))


@pytest.mark.parametrize("kind", [functools.partial(np.array, dtype="float32"), np.float32, ops.convert_to_tensor])
def test_settings_that_are_arrays_are_noticed(kind, x, tmp_path):
    teacher, other = WithArrays(kind(0.5)), WithArrays(kind(2.0))
    for model in (teacher, other):
        model(x[:1])  # builds it
    other.set_weights(teacher.get_weights())
    first = np.array(teacher_logits(teacher, x, path=tmp_path / "zt.npy", from_logits=True))
    found = teacher_logits(other, x, path=tmp_path / "zt.npy", from_logits=True)
    assert np.abs(found - first).max() > 0.01


def test_what_was_said_of_the_output_is_noticed(x, tmp_path):
    teacher = keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(4, "softmax")])
    mistaken = np.array(teacher_logits(teacher, x, path=tmp_path / "zt.npy", from_logits=True))
    np.testing.assert_allclose(mistaken.sum(axis=-1), 1.0, rtol=1e-5)
    found = teacher_logits(teacher, x, path=tmp_path / "zt.npy")
    np.testing.assert_allclose(found, teacher_logits(teacher, x), rtol=1e-5, atol=1e-6)


def test_a_layer_called_like_a_setting_hides_no_setting(x, tmp_path):
    weights = None
    for name in ("relu", "tanh"):
        hidden = layers.Dense(8, activation=name, name=name)
        teacher = keras.Sequential([keras.Input(x.shape[1:]), hidden, layers.Dense(4)])
        weights = weights or teacher.get_weights()
        teacher.set_weights(weights)
        found = teacher_logits(teacher, x, path=tmp_path / "zt.npy")
        np.testing.assert_allclose(found, teacher_logits(teacher, x), rtol=1e-5, atol=1e-6)


def test_which_input_an_array_is_is_noticed(x, tmp_path):
    a, z = (keras.Input(x.shape[1:], name=name) for name in "az")
    teacher = keras.Model([z, a], layers.Dense(2)(layers.Concatenate()([z, 2.0 * a])))
    for inputs in ({"a": x, "z": x[::-1]}, [x, x[::-1]]):
        found = teacher_logits(teacher, inputs, path=tmp_path / "zt.npy")
        np.testing.assert_allclose(found, teacher_logits(teacher, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has strings")
@pytest.mark.parametrize("output_mode", ["multi_hot", "tf_idf"])
def test_another_adapted_vocabulary_is_noticed(output_mode, tmp_path):
    dense, x = layers.Dense(K), np.array([["a"], ["b"], ["a b"]])
    for text in (["a", "b", "b"], ["a", "a", "b"], ["a", "a", "b b"]):
        lookup = layers.TextVectorization(output_mode=output_mode)
        lookup.adapt(text)
        teacher = keras.Sequential([keras.Input((1,), dtype="string"), lookup, dense])
        found = teacher_logits(teacher, x, path=tmp_path / "zt.npy")
        np.testing.assert_array_equal(found, teacher_logits(teacher, x))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"nonsense", "cut", "no mark", "other mark", "zip"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_that_holds_something_else_is_refused_and_left(content, linked, x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    whole = np.array(teacher_logits(teacher, x, path=path))
    data = path.read_bytes()
    if content == "cut":
        path.write_bytes(data[:-100])
    elif content == "no mark":
        np.save(path, whole + 1)
    elif content == "other mark":
        path.write_bytes(data[: data.rindex(b"{")] + json.dumps({"x": 1}).encode())
    elif content == "zip":
        with open(path, "wb") as file:
            np.savez(file, whole)
    else:
        path.write_bytes(content)
    before, seen = path.read_bytes(), counting(monkeypatch)
    given = path
    if linked:
        given = tmp_path / "link.npy"
        given.symlink_to(path)
    with pytest.raises(ValueError, match=r"`path` must be a file that teacher_logits wrote.* another file"):
        teacher_logits(teacher, x, path=given)
    assert path.read_bytes() == before
    assert seen == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs")
def test_what_is_no_regular_file_is_refused_at_once(x, tmp_path, monkeypatch):
    seen = counting(monkeypatch)
    fifo, folder, device = tmp_path / "fifo", tmp_path / "folder", tmp_path / "device"
    os.mkfifo(fifo)
    folder.mkdir()
    device.symlink_to("/dev/null")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path, what in ((fifo, "not a regular file"), (folder, "a folder"), (device, "not a regular file")):
        with pytest.raises(ValueError, match=f"`path` must be a file that teacher_logits wrote.* {what}"):
            teacher_logits(network(), x, path=path)
    with pytest.raises(ValueError, match="`path` must be a file that can be written"):
        teacher_logits(network(), x, path=loop)
    with pytest.raises(ValueError, match="it is a URL"):
        teacher_logits(network(), x, path="gs://bucket/logits.npy")
    assert sorted(os.listdir(tmp_path)) == ["device", "fifo", "folder", "loop"]
    assert seen == []


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_stays_and_the_file_behind_it_is_written(dangling, x, tmp_path):
    (tmp_path / "disk").mkdir()
    link, file = tmp_path / "zt.npy", tmp_path / "disk" / "logits.npy"
    link.symlink_to(file)
    if not dangling:
        teacher_logits(network(seed=1), x, path=file)
    found = teacher_logits(network(), x, path=link)
    np.testing.assert_allclose(found, network().predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert link.is_symlink()
    assert os.listdir(file.parent) == ["logits.npy"]
    np.testing.assert_array_equal(np.load(file), found)


def test_a_file_that_appears_during_the_computation_is_left(x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    predict = keras.Model.predict_on_batch

    def interfering(self, x):
        path.write_text("mine")
        return predict(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "predict_on_batch", interfering)
        with pytest.raises(ValueError, match="which is another file"):
            teacher_logits(teacher, x, 8, path)
    assert path.read_text() == "mine"
    path.unlink()
    seen = counting(monkeypatch)
    teacher_logits(teacher, x, 8, path)
    assert seen == []  # the rows had been kept
    assert os.listdir(tmp_path) == ["zt.npy"]


def test_files_of_earlier_versions_stay_valid(x, tmp_path, monkeypatch):
    """They hold no checksums; what they are the logits of is computed as it was."""
    path, teacher = tmp_path / "zt.npy", network()
    whole = np.array(teacher_logits(teacher, x, path=path))
    mark = json.loads(path.read_bytes()[path.read_bytes().rindex(b"{") :])["keras_ls.teacher_logits"]
    np.save(path, whole)
    with open(path, "ab") as file:
        file.write(json.dumps({"keras_ls.teacher_logits": mark}).encode())
    seen = counting(monkeypatch)
    np.testing.assert_array_equal(teacher_logits(teacher, x, path=path), whole)
    assert seen == []
    # Values that version 1.0 computed.
    fingerprint = Fingerprint()
    fingerprint.update(3, {"a": np.arange(6.0).reshape(3, 2), "b": np.array([b"x", b"y", b"z"], object)})
    assert identity_of(fingerprint.digest(), "exact") == "2ea16274aa4a5237496d9b6fb8c76c66"


def test_the_order_of_bytes_of_an_earlier_file_is_not_damaged(x, tmp_path):
    path, teacher = tmp_path / "zt.npy", network()
    whole = np.array(teacher_logits(teacher, x, path=path))
    mark = path.read_bytes()[-34:-2].decode()
    np.save(path, whole)
    with open(path, "ab") as file:
        file.write(json.dumps({"keras_ls.teacher_logits": mark}).encode())
    path.write_bytes(path.read_bytes().replace(b"'<f4'", b"'>f4'"))  # one bit
    with pytest.warns(UserWarning, match="is damaged in its header or trailer; all rows are computed again"):
        np.testing.assert_allclose(teacher_logits(teacher, x, path=path), whole, rtol=1e-5, atol=1e-6)


# --- damage ----------------------------------------------------------------------------------------------------------


def flipped(data, position, bit=3):
    return data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]


def test_every_flipped_bit_of_a_complete_file_is_noticed(x, tmp_path):
    path, teacher = tmp_path / "zt.npy", network()
    whole = np.array(teacher_logits(teacher, x, path=path))
    data = path.read_bytes()
    mark = data.rindex(b'"keras_ls.teacher_logits"')
    rows = range(len(data))[128 : 128 + whole.nbytes]
    for position in [*range(128), *rows[::37], *range(rows[-1], len(data))]:
        path.write_bytes(flipped(data, position))
        if len(data) - 34 <= position < len(data) - 2 and chr(path.read_bytes()[position]) in "0123456789abcdef":
            found = teacher_logits(teacher, x, path=path)  # to all appearances another teacher's
        elif position >= mark:
            with pytest.raises(ValueError, match="another file, or a damaged one"):
                teacher_logits(teacher, x, path=path)
            continue
        else:
            with pytest.warns(UserWarning, match=r"zt\.npy' is damaged in (its header or trailer|some rows)"):
                found = teacher_logits(teacher, x, path=path)
        np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)
        assert path.read_bytes()[: len(data)] == data
        assert os.listdir(tmp_path) == ["zt.npy"]


def test_a_damaged_shape_takes_no_memory(tmp_path):
    path = tmp_path / "zt.npy"
    teacher = keras.Sequential([keras.Input((1,)), layers.Dense(100)])
    teacher_logits(teacher, np.zeros((48_000, 1), "float32"), 8000, path)
    data = path.read_bytes()
    path.write_bytes(flipped(data, data.index(b"48000") + 1))  # 40000
    tracemalloc.start()
    stored = read_complete(str(path), data[-34:-2].decode(), 48_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stored.array is None
    assert stored.damage
    assert peak < 1e6  # the file has 19 MB


def test_only_the_damaged_rows_are_computed_again(rng, tmp_path, monkeypatch):
    x = rng.standard_normal((3000, D)).astype("float32")
    path, teacher = tmp_path / "zt.npy", network()
    whole = np.array(teacher_logits(teacher, x, path=path))
    data = path.read_bytes()
    path.write_bytes(flipped(data, 128 + 1500 * 4 * K))  # in rows 1,024 to 2,048
    seen = counting(monkeypatch)
    with pytest.warns(UserWarning, match="is damaged in some rows; these are computed again"):
        found = teacher_logits(teacher, x, 512, path)
    assert seen == [512, 512]
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        np.testing.assert_array_equal(teacher_logits(teacher, x, 512, path), found)


def test_every_flipped_bit_of_an_unfinished_file_is_noticed(x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    whole = teacher_logits(teacher, x, 8)
    with monkeypatch.context() as patch:
        counting(patch, fail_after=3)
        with pytest.raises(KeyboardInterrupt):
            teacher_logits(teacher, x, 8, path)
    left = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(left) == 2
    for changed_file, data in left.items():
        for position in range(0, len(data), 3):
            path.unlink(missing_ok=True)
            for file, content in left.items():
                file.write_bytes(flipped(content, position) if file == changed_file else content)
            np.testing.assert_allclose(teacher_logits(teacher, x, 8, path), whole, rtol=1e-5, atol=1e-6)
            assert os.listdir(tmp_path) == ["zt.npy"]


def test_an_unfinished_file_of_an_earlier_version_is_computed_anew(x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    with monkeypatch.context() as patch:
        counting(patch, fail_after=3)
        with pytest.raises(KeyboardInterrupt):
            teacher_logits(teacher, x, 8, path)
    (log,) = tmp_path.glob("*.log")
    log.unlink()
    seen = counting(monkeypatch)
    teacher_logits(teacher, x, 8, path)
    assert sum(seen) == 50
    assert os.listdir(tmp_path) == ["zt.npy"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit for the size of files")
def test_a_full_disk_leaves_the_rows_that_fitted(x, tmp_path, monkeypatch):
    import resource

    path, teacher = tmp_path / "zt.npy", network()
    whole = teacher_logits(teacher, x, 8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 30 * 4 * K, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            teacher_logits(teacher, x, 8, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    seen = counting(monkeypatch)
    np.testing.assert_allclose(teacher_logits(teacher, x, 8, path), whole, rtol=1e-6)
    assert seen == [8, 8, 8, 2]


def test_an_error_of_the_teacher_leaves_the_rows_before_it(x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    predict = keras.Model.predict_on_batch
    for good in (0, 2):
        calls = []

        def failing(self, x, calls=calls, good=good):
            calls.append(len(x))
            if len(calls) > good:
                raise RuntimeError("out of memory")
            return predict(self, x)

        with monkeypatch.context() as patch:
            patch.setattr(keras.Model, "predict_on_batch", failing)
            with pytest.raises(RuntimeError, match="out of memory"):
                teacher_logits(teacher, x, 8, path)
        assert len(os.listdir(tmp_path)) == (2 if good else 0)
    seen = counting(monkeypatch)
    teacher_logits(teacher, x, 8, path)
    assert sum(seen) == 50 - 16


# --- several processes -----------------------------------------------------------------------------------------------


def process(folder, name, seed=0, others=0, seconds=0.2):
    """A process that computes the logits of `network(seed)` slowly, once `others` more have come as far."""
    code = f"""
import json, os, sys, time
sys.path.insert(0, {str(TESTS)!r})
import keras, numpy as np
from keras_ls.distillation import teacher_logits
from teachers import D, network

x = np.random.default_rng(1906).standard_normal((50, D)).astype("float32")
teacher, seen, predict = network(seed={seed}), [], keras.Model.predict_on_batch
expected = teacher.predict(x, verbose=0)

def slow(self, x):
    time.sleep({seconds})
    seen.append(len(x))
    print("batch", flush=True)
    return predict(self, x)

keras.Model.predict_on_batch = slow
open({str(folder)!r} + "/ready-{name}", "w").close()
while len([file for file in os.listdir({str(folder)!r}) if file.startswith("ready-")]) <= {others}:
    time.sleep(0.01)
found = teacher_logits(teacher, x, 8, {str(folder / "zt.npy")!r})
np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
print(json.dumps(seen))
"""
    environment = {**os.environ, "KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("same", [True, slow(False)])
def test_two_processes_at_once_both_end_with_their_logits(same, x, tmp_path, monkeypatch):
    processes = [process(tmp_path, i, seed=0 if same else i, others=1) for i in range(2)]
    outputs = [found.communicate(timeout=240) for found in processes]
    for found, (_, errors) in zip(processes, outputs, strict=True):
        assert found.returncode == 0, errors
    seen = [sum(json.loads(output.splitlines()[-1])) for output, _ in outputs]
    assert sorted(seen) == ([0, 50] if same else [50, 50])
    assert ("waiting until it ends" in outputs[0][1] + outputs[1][1]) == same
    assert sorted(os.listdir(tmp_path)) == ["ready-0", "ready-1", "zt.npy"]
    stored = np.load(tmp_path / "zt.npy")
    expected = [network(seed=seed).predict(x, verbose=0) for seed in range(2)]
    (there,) = (seed for seed in range(2) if np.allclose(stored, expected[seed], rtol=1e-5, atol=1e-6))
    counted = counting(monkeypatch)
    teacher_logits(network(seed=there), x, path=tmp_path / "zt.npy")
    assert counted == []
    teacher_logits(network(seed=1 - there), x, path=tmp_path / "zt.npy")
    assert sum(counted) == 50


def test_a_killed_process_leaves_its_rows_and_no_lock(x, tmp_path, monkeypatch):
    killed = process(tmp_path, 0, seconds="60 if len(seen) == 3 else 0")  # stops itself after its third batch
    for _ in range(3):
        assert killed.stdout.readline() == "batch\n"
    killed.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
    killed.communicate()
    teacher, seen = network(), counting(monkeypatch)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Another computation holds")
        found = teacher_logits(teacher, x, 8, tmp_path / "zt.npy")
    assert 50 - 24 <= sum(seen) <= 50 - 16
    np.testing.assert_allclose(found, teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert sorted(os.listdir(tmp_path)) == ["ready-0", "zt.npy"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    path = str(tmp_path / "log")
    file = _lock.open_locked(path)
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        assert _lock.try_open_locked(path) is None
        file.close()  # what the end of the process does
        until, again = time.monotonic() + 20, _lock.try_open_locked(path)
        while again is None and time.monotonic() < until:  # the child has yet to close its copy
            time.sleep(0.02)
            again = _lock.try_open_locked(path)
        assert again is not None
        _lock.remove_locked(again)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_without_locks_rows_are_computed_under_a_name_of_their_own(x, tmp_path, monkeypatch):
    def unsupported(descriptor):
        raise _lock.LocksUnsupportedError("no locks here")

    monkeypatch.setattr(_lock, "_lock", unsupported)
    path, teacher = tmp_path / "zt.npy", network()
    with monkeypatch.context() as patch:
        counting(patch, fail_after=3)
        with pytest.raises(KeyboardInterrupt):
            teacher_logits(teacher, x, 8, path)
    seen = counting(monkeypatch)
    np.testing.assert_allclose(teacher_logits(teacher, x, 8, path), teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert sum(seen) == 50
    np.testing.assert_array_equal(np.load(path), teacher_logits(teacher, x, 8, path))
    assert os.listdir(tmp_path) == ["zt.npy"]  # nobody would find the interrupted rows


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_a_process_killed_at_any_moment_leaves_no_wrong_row(rng, tmp_path):
    path, whole = tmp_path / "zt.npy", rng.standard_normal((2500, K)).astype("float32")

    def compute(size, seen, last=None):
        def rows_of(rows):
            if rows.start == last:
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(rows)
            return whole[rows]

        batches = ((len(whole[at : at + size]), slice(at, at + size)) for at in range(0, len(whole), size))
        return load_or_compute(str(path), 32 * "0", len(whole), batches, rows_of)

    for kill in range(40):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                compute(size=(7, 100)[kill % 2], seen=[])
                status = 0
            finally:
                os._exit(status)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] in (0, signal.SIGKILL)
        if path.exists():
            np.testing.assert_array_equal(np.load(path), whole)
            if kill % 4:
                path.unlink()
    np.testing.assert_array_equal(compute(64, []), whole)  # of whatever the last one left
    for file in tmp_path.iterdir():
        file.unlink()
    child = os.fork()
    if child == 0:
        try:
            compute(100, [], last=1000)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 2
    np.testing.assert_array_equal(compute(64, seen := []), whole)
    np.testing.assert_array_equal(compute(64, again := []), whole)
    assert [rows.start for rows in seen] == list(range(960, 2500, 64))  # the first 1,000 rows were there
    assert not again
    assert os.listdir(tmp_path) == ["zt.npy"]


def test_windows_locks_a_byte_that_nobody_reads(tmp_path, monkeypatch):
    import types

    calls = []
    fake = types.SimpleNamespace(LK_NBLCK=2)
    fake.locking = lambda descriptor, mode, length: calls.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, length))
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    monkeypatch.setattr(_lock, "fcntl", None)
    with _lock.open_locked(str(tmp_path / "log")) as file:
        file.write(b"line")
        file.seek(0)
        assert file.readall() == b"line"
    assert calls == [(2**30, 2, 1)]


def test_reading_back_takes_the_memory_of_a_batch(tmp_path, monkeypatch):
    """The inputs are on file, too: neither they nor the logits are ever whole in memory."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "float32", (40_000, 64))
    x[:] = 1.0
    teacher = keras.Sequential([keras.Input((64,)), layers.Dense(100)])
    teacher_logits(teacher, x[:512], path=tmp_path / "zt.npy")  # compiles

    def peak():
        tracemalloc.start()
        logits = teacher_logits(teacher, np.load(tmp_path / "x.npy", mmap_mode="r"), 256, tmp_path / "zt.npy")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found, logits

    assert peak()[0] < 4e6  # the inputs have 10 MB, the logits 16 MB
    seen = counting(monkeypatch)
    memory, logits = peak()
    assert memory < 1e6
    assert logits.shape == (40_000, 100)
    assert seen == []
