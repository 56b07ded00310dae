"""The MutualInformation callback: its numbers, its place in training, its event files, what it refuses."""

import math

import keras
import numpy as np
import pytest
from harness import EAGER
from keras import layers

from keras_ls.callbacks import MutualInformation
from keras_ls.information import logit_mutual_information


@pytest.fixture
def data(rng):
    """40 examples of each of three classes."""
    y = np.tile(np.arange(3), 40)
    return (rng.normal(size=(120, 2)) + y[:, None]).astype("float32"), y


def blur(batch):
    return batch + np.random.normal(size=batch.shape).astype("float32")


def keras_noise(batch):
    return batch + keras.random.normal(batch.shape)


def classifier(*, rate=0.1, augment=None, run_eagerly=EAGER):
    front = [] if augment is None else [augment]
    model = keras.Sequential(
        [keras.Input((2,)), *front, layers.Dense(8, activation="relu"), layers.Dropout(0.3), layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, run_eagerly=run_eagerly)
    return model


def fit(model, data, *callbacks, epochs=1, **options):
    return model.fit(*data, epochs=epochs, batch_size=32, verbose=0, callbacks=list(callbacks), **options).history


@pytest.mark.filterwarnings("ignore:Class .* examples, fewer")
class TestCallback:
    def test_of_one_of_several_outputs(self, data):
        x, y = data
        inputs = keras.Input((2,))
        own, other = layers.Dense(3, name="own")(inputs), layers.Dense(2, name="other")(inputs)
        model, labels = keras.Model(inputs, {"own": own, "other": other}), {"own": y, "other": y % 2}
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.0), {"own": loss, "other": loss}, run_eagerly=EAGER)
        expected = logit_mutual_information(keras.Model(inputs, own), x, y, (0, 2), blur)
        for given in (labels, y):
            callback = MutualInformation(x, given, (0, 2), blur, output="own")
            history = model.fit(x, labels, verbose=0, callbacks=[callback]).history
            assert history["mutual_information"][0] == pytest.approx(expected, rel=1e-6)

    def test_logs_the_estimate_each_epoch(self, data):
        expected = []

        class Measure(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                assert logs["mutual_information"] == pytest.approx(
                    logit_mutual_information(self.model, *data, (0, 2), blur, num_samples=4), rel=1e-6
                )
                expected.append(logs["mutual_information"])

        history = fit(classifier(), data, MutualInformation(*data, (0, 2), blur, num_samples=4), Measure(), epochs=3)
        assert history["mutual_information"] == expected
        assert len(set(expected)) == 3
        assert isinstance(expected[0], float)

    def test_draws_the_same_each_time(self, data):
        history = fit(classifier(rate=0.0), data, MutualInformation(*data, (0, 2), layers.GaussianNoise(1.0)), epochs=2)
        first, second = history["mutual_information"]
        assert first == second

    def test_frequency(self, data):
        values = fit(classifier(), data, MutualInformation(*data, (0, 2), blur, freq=2), epochs=5)["mutual_information"]
        assert len(values) == 4  # nothing before the first measurement
        assert values[0] == values[1]
        assert values[2] == values[3]
        assert values[1] != values[2]

    def test_a_second_fit_starts_anew(self, data):
        callback, model = MutualInformation(*data, (0, 2), blur, freq=2), classifier()
        fit(model, data, callback, epochs=2)
        assert "mutual_information" not in fit(model, data, callback, epochs=1)
        assert "mutual_information" in fit(classifier(), data, callback, epochs=2)

    def test_training_is_the_same_with_and_without(self, data):
        def run(measured):
            keras.utils.set_random_seed(7)
            noise = layers.GaussianNoise(0.5)  # the network's own, with its generator
            model = classifier(augment=noise, run_eagerly=False)
            callbacks = [MutualInformation(*data, (0, 2), augment) for augment in (noise, keras_noise) if measured]
            history = fit(model, data, *callbacks, epochs=3)
            return model.get_weights(), history["loss"]

        plain, measured = run(False), run(True)
        assert plain[1] == measured[1]
        for before, after in zip(plain[0], measured[0], strict=True):
            np.testing.assert_array_equal(before, after)

    def test_a_model_that_its_first_step_builds_is_measured(self, data):
        model = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(3, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        assert len(fit(model, data, MutualInformation(*data, (0, 2), blur))["mutual_information"]) == 1

    def test_a_network_that_breaks_gives_nan(self, data):
        class Break(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.layers[-1].bias.assign([np.nan] * 3)

        history = fit(classifier(), data, Break(), MutualInformation(*data, (0, 2), blur))
        assert math.isnan(history["mutual_information"][0])

    def test_tensorboard(self, data, tmp_path):
        from tensorboard.backend.event_processing import event_accumulator

        callback = MutualInformation(*data, (0, 2), blur, log_dir=tmp_path / "run", freq=2)
        values = fit(classifier(), data, callback, epochs=4)["mutual_information"]
        events = event_accumulator.EventAccumulator(str(tmp_path / "run")).Reload()
        assert events.Tags()["scalars"] == ["mutual_information"]
        points = events.Scalars("mutual_information")
        assert [point.step for point in points] == [1, 3]
        np.testing.assert_allclose([point.value for point in points], values[::2], rtol=1e-6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"classes": (1, 1)}, "`classes`"),
            ({"augment": "flip"}, "`augment`"),
            ({"num_samples": 1}, "`num_samples`"),
            ({"freq": 0}, "`freq` must be at least 1"),
            ({"y": [0, 1]}, "same length"),
            ({"log_dir": __file__}, "`log_dir` must be a folder that can be written"),
        ],
    )
    def test_refuses_when_it_is_made(self, data, options, message):
        with pytest.raises(ValueError, match=message):
            MutualInformation(**{"x": data[0], "y": data[1], "classes": (0, 1), "augment": blur, **options})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"classes": (0, 3)}, r"`classes` must be in \[0, 3\)"),
            ({"y": np.tile([0, 1, 3], 40)}, r"`y` must hold integers in \[0, 3\)"),
            ({"y": np.tile([0, 2, 2], 40)}, "none of class 1"),
            ({"augment": lambda batch: batch[:1]}, "`augment` must return"),
        ],
    )
    def test_refuses_before_it_trains(self, data, options, message):
        model = classifier()
        weights = model.get_weights()
        given = {"x": data[0], "y": data[1], "classes": (0, 1), "augment": blur, **options}
        with pytest.raises(ValueError, match=message):
            fit(model, data, MutualInformation(**given))
        for before, after in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)
