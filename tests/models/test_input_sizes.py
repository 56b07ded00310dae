"""Inputs of other sizes or dtypes than those that a model, or a model made of it, has first seen."""

import keras
import numpy as np
import pytest
from harness import EAGER
from keras import layers, ops

import keras_ls
from keras_ls.callbacks import Calibration

LENGTHS = (4, 7, 5)


class Batches(keras.utils.PyDataset):
    """A batch of tokens for each length, with a label per sequence."""

    def __init__(self, rng):
        super().__init__()
        self.items = [(rng.integers(1, 9, (8, length)), rng.integers(0, 3, 8)) for length in LENGTHS]

    @property
    def num_batches(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def pooling():
    """A model without an `Input`, which Keras builds with the sizes of its first batch and calls with any."""
    embedding = layers.Embedding(9, 4, embeddings_initializer=keras.initializers.RandomNormal(stddev=3))
    return keras.Sequential([embedding, layers.GlobalAveragePooling1D(), layers.Dense(3, "softmax")])


def built(rng):
    model = pooling()
    model(rng.integers(1, 9, (8, 6)))
    return model


def test_calibrated_sequential_models_take_any_length(rng):
    model, batches = built(rng), Batches(rng)
    for x, y in batches.items:  # three of four are right
        y[:] = (model.predict(x, verbose=0).argmax(-1) + (np.arange(8) % 4 == 0)) % 3
    calibrated = keras_ls.calibrate(model, batches)
    temperature = float(calibrated.layers[-1].temperature)
    assert 0.1 < temperature < 10
    for x, _ in batches.items:
        powers = model.predict(x, verbose=0) ** (1 / temperature)
        expected = powers / powers.sum(-1, keepdims=True)
        np.testing.assert_allclose(calibrated.predict(x, verbose=0), expected, rtol=1e-4)


@pytest.mark.parametrize("make", [lambda rng: pooling(), built])
def test_calibration_in_fit_takes_any_length(rng, make):
    model, batches = make(rng), Batches(rng)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=EAGER)
    measure = Calibration(batches, temperature_scaling=False)
    found = model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[measure]).history
    predictions = np.concatenate([model.predict(x, verbose=0) for x, _ in batches.items])
    labels = np.concatenate([y for _, y in batches.items])
    assert found["val_ece"][-1] == pytest.approx(keras_ls.calibration_error(labels, predictions), abs=1e-5)


def test_students_and_teachers_take_any_length(rng):
    teacher, batches = built(rng), Batches(rng)
    distiller = keras_ls.Distiller(teacher, pooling(), temperature=2.0)
    distiller.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=EAGER)
    assert np.isfinite(distiller.fit(batches, verbose=0).history["loss"]).all()
    for x, _ in batches.items:
        expected = np.log(teacher.predict(x, verbose=0))
        found = keras_ls.teacher_logits(teacher, x)
        np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-5)


def test_sizes_that_a_layer_does_not_take_are_refused(rng):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"`x` must be of a shape that the model takes, \(None, 6\)"):
        keras_ls.calibrate(model, rng.normal(size=(8, 5)), rng.integers(0, 3, 8))
    with pytest.raises(ValueError, match="`x` must be of a shape that the model takes"):
        keras_ls.teacher_logits(built(rng), np.ones((8, 6, 2), "int32"))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_model_calibrated_on_other_floats_takes_floats_as_they_are(rng, dtype):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    model = Subclassed()
    x = rng.normal(size=(40, 5))
    y = (ops.convert_to_numpy(model(x.astype("float32"))).argmax(-1) + (np.arange(40) % 4 == 0)) % 3
    calibrated = keras_ls.calibrate(model, x.astype(dtype), y, from_logits=True)
    assert calibrated.inputs[0].dtype == "float32"
    scaling = calibrated.layers[-1]
    np.testing.assert_allclose(
        calibrated.predict(x, verbose=0), ops.convert_to_numpy(scaling(model(x.astype("float32")))), rtol=1e-5
    )
