"""Callbacks that measure the same inputs after the same epoch share one pass, and measure what each does alone."""

import keras
import numpy as np
import pytest
from harness import EAGER, slow
from keras import layers
from tensorboard.backend.event_processing import event_accumulator

from keras_ls._models.data import Predictor
from keras_ls._models.head import Probe
from keras_ls.callbacks import Calibration, EmbeddingProjector, PenultimateProjection

COUNT = 60


@pytest.fixture
def data(rng):
    y = np.arange(COUNT) % 3
    return (rng.normal(size=(COUNT, 5)) + 2 * np.eye(5)[y]).astype("float32"), y


@pytest.fixture
def passes(monkeypatch):
    """The number of examples in each pass over arrays since training began its epochs."""
    seen = []
    forward, predict = Probe.forward, Predictor.predict
    monkeypatch.setattr(Probe, "forward", lambda self, x, *rest: seen.append(len(x)) or forward(self, x, *rest))
    monkeypatch.setattr(Predictor, "predict", lambda self, x, *rest: seen.append(len(x)) or predict(self, x, *rest))
    return seen


class Forget(keras.callbacks.Callback):
    """Empties a list before the first epoch."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 0:
            self.seen.clear()


class Zero(keras.callbacks.Callback):
    """Sets the weights to 0, as others swap averages in, after an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.set_weights([np.zeros_like(weight) for weight in self.model.get_weights()])


def fit(data, *callbacks, epochs=2):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu"), layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=EAGER)
    return model.fit(*data, epochs=epochs, verbose=0, callbacks=list(callbacks)).history


def embedding(folder, epoch):
    return np.fromfile(folder / f"projector/epoch_{epoch:04d}_tensors.bytes", "<f4")


@pytest.mark.parametrize(("order", "one_hot"), [slow(1, False), (-1, False), slow(-1, True)])
def test_one_pass_per_epoch(data, passes, tmp_path, order, one_hot):
    x, y = data

    def make(folder):
        return [
            Calibration(x, y, from_logits=True, temperature_scaling=False),
            PenultimateProjection(x, np.eye(3)[y] if one_hot else y, (0, 1, 2), folder / "plane", examples_per_class=5),
            EmbeddingProjector(x, folder / "points", labels=y, freq=1),
        ]

    alone = make(tmp_path / "alone")
    histories = [fit(data, callback) for callback in alone]
    together = fit(data, Forget(passes), *make(tmp_path / "together")[::order])
    assert passes == [COUNT, COUNT]
    for name in ("val_ece", "val_nll"):
        np.testing.assert_allclose(together[name], histories[0][name], rtol=1e-4)
    for epoch in (1, 2):
        points = (embedding(tmp_path / folder / "points", epoch) for folder in ("together", "alone"))
        np.testing.assert_allclose(*points, rtol=1e-4, atol=1e-6)


def test_examples_that_the_model_masks_do_not_count(data, tmp_path):
    x, y = data
    x, y = np.where(np.arange(COUNT)[:, None] < 20, 0, x), np.where(np.arange(COUNT) < 20, -1, y)

    def history(*more):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5,)), layers.Masking(), layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        calibration = Calibration(x, y, from_logits=True, temperature_scaling=False)
        return model.fit(x[20:], y[20:], verbose=0, callbacks=[calibration, *more]).history["val_nll"]

    assert history(EmbeddingProjector(x, tmp_path, freq=1)) == history()


def two_outputs():
    """A model whose weights stay as they are."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    hidden = layers.Dense(4, activation="relu")(inputs)
    model = keras.Model(inputs, {"a": layers.Dense(3, name="a")(hidden), "b": layers.Dense(3, name="b")(inputs)})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), {"a": loss, "b": loss}, run_eagerly=EAGER)
    return model


def test_outputs_rows_and_weights_stay_apart(data, rng, tmp_path):
    x, y = data
    weight = rng.random(COUNT)

    def run(*callbacks):
        return two_outputs().fit(x, {"a": y, "b": y}, verbose=0, callbacks=list(callbacks)).history

    def calibrations():
        how = {"from_logits": True, "temperature_scaling": False, "sample_weight": weight}
        return [Calibration(x, y, prefix=f"{output}_", output=output, **how) for output in "ab"]

    def plane(folder):
        return PenultimateProjection(x, y, (0, 1, 2), tmp_path / folder, examples_per_class=5, output="a")

    def shown(folder):
        events = event_accumulator.EventAccumulator(str(tmp_path / folder)).Reload()
        return [events.Scalars(name)[0].value for name in sorted(events.Tags()["scalars"])]

    expected, _ = run(*calibrations()), run(plane("alone"))
    found = run(*calibrations(), plane("together"))
    for name in ("a_ece", "a_nll", "b_ece", "b_nll"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(shown("together"), shown("alone"), rtol=1e-3, atol=1e-6)


def test_only_of_the_same_inputs_and_epochs(data, passes, tmp_path):
    x, y = data
    calibration = Calibration(x, y, from_logits=True, temperature_scaling=False)
    fit(data, Forget(passes), calibration, EmbeddingProjector(x.copy(), tmp_path / "a", freq=1))
    assert passes == [COUNT] * 4
    fit(data, Forget(passes), calibration, EmbeddingProjector(x, tmp_path / "b", freq=2))
    assert passes == [COUNT] * 2


def test_not_where_weights_change_in_between(data, tmp_path):
    x, y = data
    projector = EmbeddingProjector(x, tmp_path, freq=1)
    history = fit(data, projector, Zero(), Calibration(x, y, from_logits=True, temperature_scaling=False), epochs=1)
    np.testing.assert_allclose(history["val_nll"], np.log(3), rtol=1e-5)
    assert np.abs(embedding(tmp_path, 1)).max() > 1e-3


def test_predictions_are_not_kept(data, tmp_path):
    x, y = data
    calibration = Calibration(x, y, from_logits=True, temperature_scaling=False)
    fit(data, calibration, EmbeddingProjector(x, tmp_path, freq=1))
    assert calibration._outputs is None
