"""A teacher's logits in memory and on file: right, in order, resumed, reused, and recognised."""

import json
import os
import tracemalloc

import keras
import numpy as np
import pytest
from keras import layers

from keras_ls.distillation import Distiller, teacher_logits

K, D = 3, 4


def network(activation=None, dtype=None, hidden="relu", seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((D,)),
            layers.Dense(6, hidden, dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.Dropout(0.9, dtype=dtype),
            layers.Dense(K, activation, dtype=dtype),
        ]
    )


def counting(monkeypatch, fail_after=None):
    """A list of the numbers of rows that models predict from now on; an error once there are `fail_after` batches."""
    seen = []
    predict = keras.Model.predict_on_batch

    def counted(self, x):
        if fail_after is not None and len(seen) >= fail_after:
            raise KeyboardInterrupt
        seen.append(len(keras.tree.flatten(x)[0]))
        return predict(self, x)

    monkeypatch.setattr(keras.Model, "predict_on_batch", counted)
    return seen


@pytest.fixture
def x(rng):
    return rng.standard_normal((50, D)).astype("float32")


class Batches(keras.utils.PyDataset):
    def __init__(self, x, order=None, labels=False):
        super().__init__()
        self.x, self.labels, self.order = x, labels, order

    def __len__(self):
        return -(-len(self.x) // 8)

    def __getitem__(self, index):
        rows = self.x[8 * index : 8 * index + 8]
        return (rows, np.zeros(len(rows))) if self.labels else rows

    def on_epoch_end(self):
        if self.order is not None:
            self.x = self.x[self.order.permutation(len(self.x))]


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 50, 256])
@pytest.mark.parametrize("stored", [False, True])
def test_logits_are_those_of_predict_in_order(batch_size, stored, x, tmp_path):
    teacher = network()
    path = tmp_path / "new folder" / "zt.npy" if stored else None
    found = teacher_logits(teacher, x, batch_size, path)
    assert (found.shape, found.dtype) == ((50, K), np.float32)
    np.testing.assert_allclose(found, teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert isinstance(found, np.memmap) == stored
    if stored:
        np.testing.assert_array_equal(np.load(path), found)  # to everybody else it is a plain array
        assert sorted(os.listdir(path.parent)) == ["zt.npy"]
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 0


def test_logits_are_taken_from_before_a_softmax(x):
    teacher = network("softmax")
    logits = teacher_logits(teacher, x)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(shifted / shifted.sum(-1, keepdims=True), teacher.predict(x, verbose=0), rtol=1e-5)
    assert np.abs(np.log(teacher.predict(x, verbose=0)) - logits).max() > 0.01  # and not log p
    inputs = keras.Input((D,))
    hidden = keras.Model(inputs, layers.Lambda(lambda p: p)(teacher(inputs)))
    with pytest.raises(ValueError, match="`teacher_from_logits` must be True"):
        teacher_logits(hidden, x)
    np.testing.assert_allclose(
        teacher_logits(hidden, x, from_logits=False), np.log(teacher.predict(x, verbose=0)), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(teacher_logits(hidden, x, from_logits=True), teacher.predict(x, verbose=0), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "given"), [("mixed_float16", "float32"), ("mixed_bfloat16", "float32")])
def test_half_precision_is_widened(dtype, given, x, tmp_path):
    found = teacher_logits(network(dtype=dtype), x, path=tmp_path / "zt.npy")
    assert found.dtype == given
    np.testing.assert_allclose(found, network().predict(x, verbose=0), atol=0.05)


def test_sequences_and_several_inputs(rng, tmp_path):
    tokens, scale = rng.integers(0, 9, (20, 5)), rng.standard_normal((20, 1)).astype("float32")
    left, right = keras.Input((5,), name="tokens"), keras.Input((1,), name="scale")
    hidden = layers.Multiply()([layers.Embedding(9, D)(left), layers.Reshape((1, 1))(right)])
    teacher = keras.Model({"tokens": left, "scale": right}, layers.Dense(K)(hidden))
    x = {"tokens": tokens, "scale": scale}
    for path in (None, tmp_path / "zt.npy"):
        found = teacher_logits(teacher, x, 8, path)
        np.testing.assert_allclose(found, teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    assert found.shape == (20, 5, K)


@pytest.mark.parametrize("kind", ["PyDataset", "labelled", "tf.data", "DataLoader"])
def test_datasets_are_read_in_their_order(kind, x, tmp_path):
    if kind == "tf.data":
        tf = pytest.importorskip("tensorflow", reason="tf.data needs TensorFlow")
        dataset = tf.data.Dataset.from_tensor_slices((x, np.zeros(50))).batch(8)
    elif kind == "DataLoader":
        torch = pytest.importorskip("torch", reason="a DataLoader needs PyTorch")
        dataset = torch.utils.data.DataLoader([(row, 0) for row in x], batch_size=8)
    else:
        dataset = Batches(x, labels=kind == "labelled")
    teacher = network()
    for path in (None, tmp_path / "zt.npy"):
        found = teacher_logits(teacher, dataset, path=path)
        np.testing.assert_allclose(found, teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    # The same rows are the same data, whatever gives them.
    before = os.stat(tmp_path / "zt.npy").st_ino
    teacher_logits(teacher, x, path=tmp_path / "zt.npy")
    assert os.stat(tmp_path / "zt.npy").st_ino == before


def test_nothing_of_the_teacher_changes(x, tmp_path):
    teacher = network("softmax")
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in teacher.variables]
    teacher_logits(teacher, x, path=tmp_path / "zt.npy")
    for old, variable in zip(before, teacher.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(variable))
    assert teacher.trainable


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
    (part,) = tmp_path.glob("*.part")
    if torn and done:  # the machine went down in the middle of a row
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
    np.testing.assert_allclose(
        found, teacher.predict(other, verbose=0), rtol=1e-4, atol=1e-2 if "dtype" in how else 1e-5
    )
    assert os.listdir(tmp_path) == ["zt.npy"]
    if old is not None:  # what was read before stays what it was
        np.testing.assert_allclose(old, network().predict(x, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"nonsense", "cut", "no mark", "other mark", "zip"])
def test_a_file_that_holds_something_else_is_replaced(content, x, tmp_path):
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
    np.testing.assert_allclose(teacher_logits(teacher, x, path=path), whole, rtol=1e-6)


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


def test_the_distiller_trains_from_the_file(x, rng, tmp_path):
    y = rng.integers(0, K, 50)
    zt = teacher_logits(network(), x, path=tmp_path / "zt.npy")
    student = network()
    distiller = Distiller(None, student, 2.0, 0.5)
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = distiller.fit(x, {"labels": y, "teacher_logits": zt}, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher": keras.Sequential([layers.Dense(K)])}, "`teacher` must be a built"),
        ({"teacher": "resnet"}, "`teacher` must be a built"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"x": None}, "`x` must be arrays or a dataset"),
        ({"x": [1.0, 2.0]}, "`x` must be arrays or a dataset"),
        ({"x": np.zeros((0, D))}, "must hold examples"),
        ({"x": [np.zeros((3, D)), np.zeros((2, D))]}, r"as many each. Received lengths: \[2, 3\]"),
        ({"x": iter([np.zeros((3, D))])}, "a generator can be read once"),
        ({"x": Batches(np.zeros((0, D)))}, "without batches"),
        ({"path": 3}, "`path` must be a file"),
        ({"path": "/"}, "`path` must be a file"),
        ({"path": "/proc/nowhere/zt.npy"}, "`path` must be a file"),
    ],
)
def test_bad_arguments_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        teacher_logits(**{"teacher": network(), "x": np.zeros((4, D)), **given})


@pytest.mark.parametrize("stored", [False, True])
def test_a_dataset_that_shuffles_is_refused(stored, x, tmp_path):
    dataset = Batches(x, order=np.random.default_rng(0))
    with pytest.raises(ValueError, match="in the same order each time"):
        teacher_logits(network(), dataset, path=tmp_path / "zt.npy" if stored else None)
    assert not (tmp_path / "zt.npy").exists()


def test_sequences_that_change_their_length_are_refused(tmp_path):
    class Ragged(Batches):
        def __getitem__(self, index):
            return np.zeros((2, 3 + index), "int32")

    teacher = keras.Sequential([keras.Input((None,)), layers.Embedding(9, D), layers.Dense(K)])
    with pytest.raises(ValueError, match="change their shape"):
        teacher_logits(teacher, Ragged(np.zeros(24)), path=tmp_path / "zt.npy")
