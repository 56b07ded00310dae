"""What callbacks that measure share: epochs, values in `logs`, and event files."""

import contextlib
import errno
import io
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings

import keras
import numpy as np
import pytest
from harness import BACKEND, EAGER, ROOT, TESTS, slow
from keras import layers

from keras_ls.callbacks import Calibration, EmbeddingProjector, MutualInformation, PenultimateProjection, _tensorboard
from keras_ls.callbacks._base import Measurement, MeasuringCallback


class Count(MeasuringCallback):
    """Measures the number of its measurements, and where the model was."""

    def __init__(self, freq=1, log_dir=None):
        super().__init__(freq, log_dir)
        self.epochs = []

    def _prepare(self):
        pass

    def _measure(self, epoch):
        self.epochs.append(epoch)
        return Measurement({"count": float(len(self.epochs))})


class Record(keras.callbacks.Callback):
    """Keeps what stands in `logs` behind other callbacks."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((logs or {}).get("count"))


class Fail(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("stopped")


@pytest.fixture
def data(rng):
    y = np.arange(60) % 3
    return (rng.normal(size=(60, 5)) + 2 * np.eye(5)[y]).astype("float32"), y


def classifier():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=EAGER)
    return model


def fit(model, data, *callbacks, epochs=1, **options):
    return model.fit(*data, epochs=epochs, verbose=0, callbacks=list(callbacks), **options).history


def read(path):
    """(step, tag, value) of all scalars in a file of events, with a parser that reads bytes."""
    import struct

    from tensorboard.compat.proto.event_pb2 import Event

    content, points = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + size])
        points += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[16 + size :]
    return points


def open_event_files():
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # another thread may have closed it
            found.append(os.readlink(os.path.join("/proc/self/fd", name)))
    return [path for path in found if "tfevents" in path]


def wait_until_written(*folders):
    """Another thread writes event files: waits until the only one of each folder holds points."""
    for folder in folders:
        (file,) = folder.iterdir()
        for _ in range(1000):
            if file.stat().st_size > 100 and not open_event_files():
                break
            time.sleep(0.01)


class TestValuesInLogs:
    def test_repeat_the_latest_measurement(self, data):
        record = Record()
        fit(classifier(), data, Count(freq=2), record, epochs=5)
        assert record.seen == [None, 1, 1, 2, 2]

    def test_of_a_training_that_goes_on_are_of_its_first_epoch(self, data, tmp_path):
        model, count, record = classifier(), Count(freq=3, log_dir=tmp_path), Record()
        fit(model, data, count, epochs=4)
        fit(model, data, count, record, epochs=7, initial_epoch=4)
        assert count.epochs == [2, 4, 5]
        assert record.seen == [2, 3, 3]
        points = [point for file in tmp_path.iterdir() for point in read(file)]
        assert sorted(points) == [(2, "count", 1), (5, "count", 3)]  # the other is for `logs` alone

    def test_are_measured_once_where_the_first_epoch_is_due(self, data):
        model, count, record = classifier(), Count(freq=3), Record()
        fit(model, data, count, record, epochs=4, initial_epoch=2)
        assert count.epochs == [2]
        assert record.seen == [1, 1]

    def test_of_a_training_from_the_start_are_new(self, data):
        model, count, record = classifier(), Count(freq=2), Record()
        fit(model, data, count, epochs=2)
        fit(model, data, count, record, epochs=2)
        assert record.seen == [None, 2]

    def test_serve_callbacks_behind_when_training_goes_on(self, data, tmp_path):
        path = str(tmp_path / "best.weights.h5")
        model = classifier()
        fit(model, data, epochs=1)
        keep = keras.callbacks.ModelCheckpoint(path, "count", mode="max", save_best_only=True, save_weights_only=True)
        fit(model, data, Count(freq=9), keep, epochs=3, initial_epoch=1)
        assert os.path.exists(path)

    def test_of_mutual_information_go_on_without_changing_training(self, data):
        trained = []
        for others in ([], [MutualInformation(*data, (0, 1), layers.GaussianNoise(0.1), freq=4)]):
            keras.utils.set_random_seed(3)
            model = keras.Sequential([keras.Input((5,)), layers.Dropout(0.5), layers.Dense(3)])
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            history = fit(model, data, *others, epochs=3, initial_epoch=1)
            trained.append(model.get_weights())
        assert len(history["mutual_information"]) == 2
        for plain, measured in zip(*trained, strict=True):
            np.testing.assert_array_equal(plain, measured)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's warning")
@pytest.mark.parametrize("built", [slow(True), False])
def test_all_callbacks_together_trace_without_warnings(rng, tmp_path, built):
    import tensorflow as tf

    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    y = np.arange(330) % 3
    x = (rng.normal(size=(330, 5)) + 2 * np.eye(5)[y]).astype("float32")
    tf.get_logger().addHandler(handler)
    try:
        for _ in range(3):
            body = [keras.Input((5,))] if built else []
            model = keras.Sequential([*body, layers.Dense(3, activation="softmax")])
            model.compile("sgd", "sparse_categorical_crossentropy")
            callbacks = [
                Calibration(x, y, log_dir=tmp_path, temperature_scaling=False),
                PenultimateProjection(x, y, (0, 1, 2), tmp_path),
                EmbeddingProjector(x, tmp_path, labels=y, freq=1),
                MutualInformation(x, y, (0, 1), layers.GaussianNoise(0.1), tmp_path),
            ]
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                fit(model, (x, y), *callbacks)
    finally:
        tf.get_logger().removeHandler(handler)
    assert not [message for message in messages if "retracing" in message]


def test_models_that_preprocess_are_refused(data):
    model = classifier()
    model.preprocessor = lambda x: x
    with pytest.raises(ValueError, match="must not preprocess its inputs"):
        fit(model, data, MutualInformation(*data, (0, 1), layers.GaussianNoise(0.1)))


class TestEventFiles:
    def test_are_one_per_training(self, data, tmp_path):
        count = Count(log_dir=tmp_path)
        fit(classifier(), data, count, epochs=3)
        (first,) = tmp_path.iterdir()
        assert read(first) == [(0, "count", 1), (1, "count", 2), (2, "count", 3)]
        fit(classifier(), data, count)
        (second,) = set(tmp_path.iterdir()) - {first}
        assert read(second) == [(0, "count", 4)]

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not list open files")
    def test_are_closed_when_training_fails(self, data, tmp_path):
        callbacks = [
            MutualInformation(*data, (0, 1), layers.GaussianNoise(0.1), tmp_path / "a"),
            PenultimateProjection(*data, (0, 1, 2), tmp_path / "b", examples_per_class=5),
            Fail(),
        ]
        with pytest.raises(RuntimeError, match="stopped"):
            fit(classifier(), data, *callbacks)
        wait_until_written(tmp_path / "a", tmp_path / "b")
        assert open_event_files() == []
        (file,) = (tmp_path / "a").iterdir()
        assert [(step, tag) for step, tag, _ in read(file)] == [(0, "mutual_information")]

    def test_are_written_on_another_thread_in_order(self, data, tmp_path, monkeypatch):
        threads, append = [], _tensorboard.append_records

        def slow(path, records):
            threads.append(threading.current_thread())
            time.sleep(0.02)
            append(path, records)

        monkeypatch.setattr(_tensorboard, "append_records", slow)
        fit(classifier(), data, Count(log_dir=tmp_path), epochs=4)
        (file,) = tmp_path.iterdir()
        assert read(file) == [(epoch, "count", epoch + 1) for epoch in range(4)]
        first, *others = threads  # the file is made at once
        assert first is threading.current_thread()
        assert len(others) == 4
        assert first not in others

    @pytest.mark.parametrize(("epochs", "measured"), [(1, 1), (5, 2)])
    def test_raise_what_went_wrong_where_the_model_trains(self, data, tmp_path, monkeypatch, epochs, measured):
        def full(path, records):
            if records:
                raise OSError(errno.ENOSPC, "no space left")

        monkeypatch.setattr(_tensorboard, "append_records", full)
        count = Count(log_dir=tmp_path)
        late = pytest.warns(UserWarning, match="The last values are missing in .*no space left")
        with late if epochs == 1 else pytest.raises(OSError, match="no space left"):
            fit(classifier(), data, count, epochs=epochs)
        assert len(count.epochs) == measured

    def test_stay_readable_after_a_write_that_failed(self, tmp_path, monkeypatch):
        writer = _tensorboard.BackgroundWriter(str(tmp_path))
        writer.write(0, {"a": 1.0}, {})
        writer._wait()

        class Full(io.FileIO):
            def write(self, content):
                super().write(content[:10])
                raise OSError(errno.ENOSPC, "no space left")

        with monkeypatch.context() as patch:
            patch.setattr("builtins.open", lambda path, mode, buffering: Full(path, mode))
            writer.write(1, {"a": 2.0}, {})
            with pytest.raises(OSError, match="no space left"):
                writer._wait()
        writer.write(2, {"a": 3.0}, {})
        writer.close()
        (file,) = tmp_path.iterdir()
        assert read(file) == [(0, "a", 1.0), (2, "a", 3.0)]

    def test_come_again_where_somebody_removes_them(self, tmp_path):
        folder = tmp_path / "run"
        folder.mkdir()
        writer = _tensorboard.BackgroundWriter(str(folder))
        next(folder.iterdir()).unlink()
        folder.rmdir()
        writer.write(3, {"a": 1.0}, {})
        writer.close()
        (file,) = folder.iterdir()
        assert b"brain.Event:2" in file.read_bytes()
        assert read(file) == [(3, "a", 1.0)]

    @pytest.mark.parametrize("log_dir", [3, b"", "", "a\0b", ["a"], True, 5000 * "y", "gs://bucket/run"])
    def test_need_a_path(self, log_dir):
        with pytest.raises(ValueError, match="`log_dir` must be a") as raised:
            Count(log_dir=log_dir)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 300

    @pytest.mark.parametrize("make", [Calibration, lambda x, y: EmbeddingProjector(x, "logs", y)])
    def test_callbacks_can_be_pickled(self, data, make, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        callback = make(*data)
        found = pickle.loads(pickle.dumps(callback))
        assert not found._source.is_that_of(make(*data)._source)
        assert vars(found).keys() == vars(callback).keys()
        x = found._data.x if isinstance(found, Calibration) else found._x
        np.testing.assert_array_equal(x, data[0])

    def test_leave_no_folder_behind_a_bad_argument(self, data, tmp_path):
        with pytest.raises(ValueError, match="`classes`"):
            MutualInformation(*data, (0, 0), layers.GaussianNoise(0.1), tmp_path / "run")
        assert not list(tmp_path.iterdir())


WITHOUT_TENSORFLOW = """
import pathlib, sys
sys.modules["tensorflow"] = None
folder, *paths = sys.argv[1:]
sys.path[:0] = paths
import keras, numpy as np
from keras_ls import Calibration, EmbeddingProjector, MutualInformation, PenultimateProjection, calibrate

x, y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 3
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
model.compile("sgd", "sparse_categorical_crossentropy")
noise = keras.layers.GaussianNoise(0.1)
history = model.fit(x, y, verbose=0, callbacks=[
    Calibration(x, y, log_dir=f"{folder}/calibration"),
    EmbeddingProjector(x, f"{folder}/projector", labels=y, images=x.reshape(40, 2, 2)),
    PenultimateProjection(x, y, [0, 1, 2], f"{folder}/projection", examples_per_class=10),
    MutualInformation(x, y, (0, 1), noise, log_dir=f"{folder}/information"),
]).history
assert 0 < history["mutual_information"][0] < np.log(40)
calibrate(model, x, y)
# TensorBoard's own reader without TensorFlow is another one.
from test_embedding_projector import Server
np.testing.assert_allclose(Server(pathlib.Path(folder) / "projector").points("epoch_0001"), x, rtol=1e-4)
"""


@pytest.mark.parametrize("backend", ["jax", slow("torch")])
def test_no_callback_needs_tensorflow(tmp_path, backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    if BACKEND not in ("tensorflow", backend):
        pytest.skip("tested on its own backend")
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, tmp_path, ROOT, TESTS, TESTS / "callbacks"]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, tag in (
        ("calibration", "val_ece"),
        ("projection", "projection/ratio"),
        ("information", "mutual_information"),
    ):
        (file,) = (tmp_path / name).iterdir()
        assert tag in [found for _, found, _ in read(file)]
