"""A teacher's logits: right, in order, the same in memory and on file, and what is refused."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import BACKEND, ROOT
from keras import layers
from teachers import Batches, D, K, counting, network

import keras_ls
from keras_ls.distillation import Distiller, teacher_logits


@pytest.fixture
def x(rng):
    return rng.standard_normal((50, D)).astype("float32")


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
    with pytest.raises(ValueError, match="`from_logits` must be True"):
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


def test_double_precision_is_kept(x, tmp_path):
    teacher = network(dtype="float64")
    expected = teacher.predict(x, verbose=0)
    for path in (None, tmp_path / "zt.npy"):
        found = teacher_logits(teacher, x, path=path)
        assert found.dtype == expected.dtype
        assert found.dtype == "float64" or BACKEND == "jax"  # which has no 64-bit numbers by default
        np.testing.assert_allclose(found, expected, rtol=100 * np.finfo(found.dtype).eps)


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


def test_the_distiller_trains_from_the_file(x, rng, tmp_path):
    y, teacher = rng.integers(0, K, 50), network()
    student = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(K)])
    start, losses = student.get_weights(), []
    for zt in (teacher_logits(teacher, x, path=tmp_path / "zt.npy"), teacher.predict(x, verbose=0)):
        student.set_weights(start)
        distiller = Distiller(None, student, 2.0, 0.5)
        distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        targets = {"labels": y, "teacher_logits": zt}
        losses.append(distiller.fit(x, targets, epochs=3, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert losses[0][-1] < losses[0][0]


class Unsized:
    """Has a shape and slices, but neither a length nor values, as sparse matrices do."""

    shape = (4, D)

    def __getitem__(self, rows):
        return self


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher": keras.Sequential([layers.Dense(K)])}, "`teacher` must be a built"),
        ({"teacher": "resnet"}, "`teacher` must be a built"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"batch_size": 2**70}, "`batch_size` must be at most"),
        ({"from_logits": "False"}, "`from_logits` must be True, False or None"),
        ({"x": None}, "`x` must be arrays or a dataset"),
        ({"x": range(3)}, "`x` must be arrays or a dataset"),
        ({"x": "abc"}, "`x` must be arrays or a dataset"),
        ({"x": b"abc"}, "`x` must be arrays or a dataset"),
        ({"x": np.float32(1)}, "`x` must be arrays or a dataset"),
        ({"x": {1, 2}}, "Each batch of `x` must hold arrays"),
        ({"x": np.array([["a", "b"]])}, "`x` must hold numbers"),
        ({"x": np.array([[None] * D])}, "`x` must hold numbers"),
        ({"x": np.zeros((2, D), "datetime64[s]")}, "`x` must hold numbers"),
        ({"x": np.zeros(2, [("a", "f4")])}, "`x` must hold numbers"),
        ({"x": keras.KerasTensor((None, D))}, "must hold the same number of examples, at least 1"),
        ({"x": Unsized()}, "`x` must hold numbers"),
        ({"x": [1.0, 2.0]}, "`x` must be arrays or a dataset"),
        ({"x": np.zeros((0, D))}, "must hold the same number of examples, at least 1"),
        ({"x": [np.zeros((3, D)), np.zeros((2, D))]}, r"at least 1. Received lengths: \[2, 3\]"),
        ({"x": iter([np.zeros((3, D))])}, "a generator can be read only once"),
        ({"x": Batches(np.zeros((0, D)))}, "without batches"),
        ({"x": np.zeros((4, D + 1))}, r"`x` must be of a shape that the model takes, \(None, 4\)"),
        ({"x": np.zeros(4)}, "`x` must be of a shape that the model takes"),
        ({"x": Batches(np.zeros((4, D + 1)))}, "`x` must be of a shape that the model takes"),
        (
            {"x": {"other": np.zeros((4, D))}},
            r"`x` must hold the inputs of .* by their names, .* Received: \['other'\]",
        ),
        ({"path": 3}, "`path` must be a file"),
        ({"path": b""}, "`path` must be a file"),
        ({"path": ""}, "`path` must be a file"),
        ({"path": "a\0b"}, "`path` must be a file"),
        ({"path": "/dev/null/zt.npy"}, "`path` must be a file"),
        ({"path": "/tmp/" + 300 * "x"}, "`path` must be a file"),
        ({"path": "/"}, "`path` must be a file"),
        ({"path": "/proc/nowhere/zt.npy"}, "`path` must be a file"),
    ],
)
def test_bad_arguments_are_refused(given, message):
    with pytest.raises(ValueError, match=message) as error:
        teacher_logits(**{"teacher": network(), "x": np.zeros((4, D)), **given})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i8", ">u2", "uint16", "uint32", "uint64"])
def test_every_order_of_bytes_and_every_integer_is_taken(dtype, rng, tmp_path, monkeypatch):
    x, teacher = rng.integers(0, 9, (20, D)), network()
    expected = teacher.predict(x.astype("float32"), verbose=0)
    found = teacher_logits(teacher, x.astype(dtype), 8, tmp_path / "zt.npy")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    seen = counting(monkeypatch)
    native = np.dtype(dtype).newbyteorder("=")
    teacher_logits(teacher, x.astype(native), 8, tmp_path / "zt.npy")  # the same values
    assert seen == []


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch has no such integers")
def test_integers_that_the_backend_does_not_have_are_refused():
    with pytest.raises(ValueError, match=r"`x` must hold integers below 2\^63"):
        teacher_logits(network(), np.full((2, D), 2**63, "uint64"))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has strings")
def test_strings_are_taken_where_the_teacher_takes_them(tmp_path):
    text = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    teacher = keras.Sequential([keras.Input((1,), dtype="string"), text, layers.Dense(K)])
    x = np.array([["a"], ["b"], ["a"]])
    expected = teacher.layers[1](np.eye(3, dtype="float32")[[1, 2, 1]])
    for given in (x, x.astype("object"), x.astype("S")):
        np.testing.assert_allclose(teacher_logits(teacher, given), expected, rtol=1e-6)
        np.testing.assert_allclose(teacher_logits(teacher, given, path=tmp_path / "zt.npy"), expected, rtol=1e-6)


def test_batches_of_unlike_structure_are_refused():
    class Odd(Batches):
        def __getitem__(self, index):
            rows = super().__getitem__(index)
            return {"one": [rows], "two": [[rows, rows]]}.get(("one", "two")[index % 2])

    with pytest.raises(ValueError, match="`x` must hold the same arrays"):
        teacher_logits(network(), Odd(np.zeros((24, D), "float32")))
    uneven = [np.zeros((3, D)), np.zeros((2, D))]
    batches = [(uneven,)]
    with pytest.raises(ValueError, match="Each batch of `x` must hold arrays, with one row per example"):
        teacher_logits(network(), Listed(batches))


class Listed:
    """A dataset of the given batches."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_a_teacher_that_gives_other_numbers_of_rows_is_refused(x, tmp_path):
    inputs = keras.Input((D,))
    twice = layers.Lambda(lambda z: keras.ops.concatenate([z, z]), output_shape=(K,))(layers.Dense(K)(inputs))
    summed = layers.Lambda(lambda z: keras.ops.sum(z, axis=0, keepdims=True), output_shape=(K,))(
        layers.Dense(K)(inputs)
    )
    for outputs, rows in ((twice, 16), (summed, 1)):
        teacher = keras.Model(inputs, outputs)
        for path in (None, tmp_path / "zt.npy"):
            with pytest.raises(ValueError, match=rf"one row of logits per input.* \({rows}, 3\) for 8 inputs"):
                teacher_logits(teacher, x, 8, path, from_logits=True)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has such strategies")
def test_replicas_share_each_batch_within_the_scope_and_outside(tmp_path):
    code = f"""
import sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np
from keras_ls.distillation import teacher_logits
x = np.random.default_rng(0).standard_normal((31, 4)).astype("float32")
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    within = teacher_logits(teacher, x, batch_size=7)
kernel, bias = teacher.get_weights()
for found in (within, teacher_logits(teacher, x), teacher_logits(teacher, x, path={str(tmp_path / "zt.npy")!r})):
    np.testing.assert_allclose(found, x @ kernel + bias, rtol=1e-4, atol=1e-6)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert os.listdir(tmp_path) == ["zt.npy"]


@pytest.mark.parametrize("stored", [False, True])
def test_a_dataset_that_shuffles_is_refused(stored, x, tmp_path):
    dataset = Batches(x, order=np.random.default_rng(0))
    with pytest.raises(ValueError, match="in the same order each time"):
        teacher_logits(network(), dataset, path=tmp_path / "zt.npy" if stored else None)
    assert os.listdir(tmp_path) == []


class Swapping(Batches):
    """Gives the rows of one pass with the batches from `first` on in another order."""

    def __init__(self, x, first, in_pass):
        super().__init__(x)
        self.first, self.in_pass, self.passes = first, in_pass, 0

    def on_epoch_begin(self):
        self.passes += 1

    def __getitem__(self, index):
        last = len(self) - 1
        swapped = self.passes == self.in_pass and self.first <= index < last
        return super().__getitem__(last - 1 - (index - self.first) if swapped else index)


def test_rows_of_a_pass_that_differs_never_survive(x, tmp_path, monkeypatch):
    path, teacher = tmp_path / "zt.npy", network()
    dataset = Swapping(x, first=2, in_pass=2)
    with pytest.raises(ValueError, match="in the same order each time"):
        teacher_logits(teacher, dataset, path=path)
    seen = counting(monkeypatch)
    found = teacher_logits(teacher, dataset, path=path)
    assert sum(seen) == 50 - 16  # two batches were the same
    np.testing.assert_allclose(found, teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("in_pass", [1, 2])
@pytest.mark.parametrize("stored", [False, True])
def test_a_pass_of_another_length_is_refused(in_pass, stored, x, tmp_path):
    class Shrinking(Batches):
        passes = 0

        def on_epoch_begin(self):
            self.passes += 1

        def __len__(self):
            return 6 if self.passes == in_pass else 7

    with pytest.raises(ValueError, match="in the same order each time"):
        teacher_logits(network(), Shrinking(x), path=tmp_path / "zt.npy" if stored else None)
    assert not (tmp_path / "zt.npy").exists()


def test_sequences_that_change_their_length_are_refused(tmp_path):
    class Ragged(Batches):
        def __getitem__(self, index):
            return np.zeros((2, 3 + index), "int32")

    teacher = keras.Sequential([keras.Input((None,)), layers.Embedding(9, D), layers.Dense(K)])
    with pytest.raises(ValueError, match=r"of one shape.*Received: rows of shape"):
        teacher_logits(teacher, Ragged(np.zeros(24)), path=tmp_path / "zt.npy")


@pytest.mark.parametrize("named", [False, True])
def test_inputs_that_do_not_fit_are_refused_one_by_one(rng, named):
    p, q = keras.Input((3,), name="p"), keras.Input((2,), name="q")
    hidden = keras.layers.Dense(4)(keras.layers.concatenate([p, q]))
    model = keras.Model({"p": p, "q": q} if named else [p, q], keras.layers.Dense(4, "softmax")(hidden))
    x, y, labels = rng.normal(size=(12, 3)), rng.normal(size=(12, 2)), np.arange(12) % 2
    right, wrong = ({"q": y, "p": x}, {"p": y, "q": x}) if named else ([x, y], [y, x])
    assert teacher_logits(model, right).shape == (12, 4)
    match = r"must be of a shape that the model takes, \(None, 3\)\. Received: shape \(12, 2\)"
    with pytest.raises(ValueError, match=match):
        teacher_logits(model, wrong)
    with pytest.raises(ValueError, match="must be of a shape that the model takes"):
        keras_ls.logit_mutual_information(model, wrong, labels, (0, 1), lambda given: given)
