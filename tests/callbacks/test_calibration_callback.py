"""The Calibration callback: its numbers, its place in training, its event files."""

import copy
import io
import os
import time

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, EAGER, slow
from keras import layers

import keras_ls
import keras_ls.plots
from keras_ls.calibration import TemperatureScaling, risk_coverage_curve
from keras_ls.callbacks import Calibration
from keras_ls.metrics import AreaUnderRiskCoverage, ExpectedCalibrationError

NAMES = ["val_ece", "val_nll", "val_temperature", "val_ece_scaled", "val_aurc"]


@pytest.fixture
def data(rng):
    x = rng.normal(size=(64, 5)).astype("float32")
    return x, (x[:, :3] + rng.normal(size=(64, 3))).argmax(axis=-1)


def classifier(from_logits=False, rate=0.1, **options):
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.4),
            layers.Dense(3, activation=None if from_logits else "softmax"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    options = {"run_eagerly": EAGER, **options}
    model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"], **options)
    return model


def fit(model, data, *callbacks, epochs=1, **options):
    return model.fit(*data, epochs=epochs, batch_size=32, verbose=0, callbacks=list(callbacks), **options).history


class Batches(keras.utils.PyDataset):
    """(x, y) in batches of 32, in another order each time; counts its passes."""

    def __init__(self, x, y):
        super().__init__()
        self.data, self.rng, self.passes = (x, y), np.random.default_rng(0), 0

    @property
    def num_batches(self):
        return len(self.data[0]) // 32

    def on_epoch_begin(self):
        self.passes += 1
        self.order = self.rng.permutation(len(self.data[0]))

    def __getitem__(self, index):
        chosen = self.order[32 * index : 32 * (index + 1)]
        return tuple(part[chosen] for part in self.data)


class Predictions(keras.callbacks.Callback):
    """Keeps what the model predicts for `x` at the end of each epoch."""

    def __init__(self, x):
        super().__init__()
        self.x, self.kept = x, []

    def on_epoch_end(self, epoch, logs=None):
        self.kept.append(self.model.predict(self.x, verbose=0))


class Break(keras.callbacks.Callback):
    """Makes the model predict NaN, as one that has diverged does."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.layers[-1].bias.assign([np.nan] * 3)


def expected_values(labels, outputs, from_logits):
    probs = reference.softmax(outputs) if from_logits else outputs
    logits = outputs if from_logits else np.log(outputs.astype("float64"))
    temperature = float(TemperatureScaling().fit(logits, labels).temperature)
    return {
        "val_ece": reference.expected_calibration_error(labels, probs),
        "val_nll": reference.nll_of_logits(labels, outputs) if from_logits else reference.nll(labels, outputs),
        "val_temperature": temperature,
        "val_ece_scaled": reference.expected_calibration_error(labels, reference.softmax(logits / temperature)),
    }


class TestValues:
    @pytest.mark.parametrize("from_logits", [False, True])
    def test_are_those_of_the_definitions_each_epoch(self, data, from_logits):
        x, labels = data[0][:50], data[1][:50]  # the last batch is smaller
        predictions = Predictions(x)
        callback = Calibration(x, labels, from_logits=from_logits)
        history = fit(classifier(from_logits, run_eagerly=False), data, callback, predictions, epochs=2)
        for epoch, outputs in enumerate(predictions.kept):
            for name, value in expected_values(labels, outputs, from_logits).items():
                assert history[name][epoch] == pytest.approx(value, rel=1e-5), name
                assert isinstance(history[name][epoch], float)
            exact = risk_coverage_curve(labels, outputs, from_logits).aurc()
            assert history["val_aurc"][epoch] == pytest.approx(exact, abs=0.02)
            metric = AreaUnderRiskCoverage(from_logits=from_logits)
            metric.update_state(labels, outputs)
            assert history["val_aurc"][epoch] == pytest.approx(float(metric.result()), rel=1e-5)
        assert history["val_ece"][0] != history["val_ece"][1]

    def test_are_the_same_for_labels_of_every_form_and_datasets(self, data):
        x, labels = data
        forms = [
            (x, labels.astype("float32")),
            (x, labels[:, None]),
            (x, np.eye(3)[labels]),
            (Batches(x, labels), None),
            (keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(labels)),
        ]
        callbacks = [Calibration(*form, prefix=f"form{i}_") for i, form in enumerate(forms)]
        history = fit(classifier(), data, Calibration(*data), *callbacks)
        for i in range(len(forms)):
            for name in NAMES:
                assert history[name.replace("val", f"form{i}")] == pytest.approx(history[name], rel=1e-5), (i, name)

    def test_of_a_binary_model_that_gives_one_number_per_example(self, data):
        x, y = data[0], (data[1] > 0).astype("int64")
        model = keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(1, activation="sigmoid"), layers.Reshape(())])
        model.compile("sgd", "binary_crossentropy")
        callbacks = [
            Calibration(x, y),
            Calibration(x, y[:, None], prefix="column_"),
            Calibration(Batches(x, y), prefix="batches_"),
        ]
        history = fit(model, (x, y), *callbacks)
        metric = ExpectedCalibrationError()
        metric.update_state(y, model.predict(x, verbose=0)[:, None])
        for prefix in ("val_", "column_", "batches_"):
            assert history[f"{prefix}ece"][-1] == pytest.approx(float(metric.result()), abs=1e-5)

    def test_of_one_example_with_a_weight(self, data):
        x, y = data[0][:1], data[1][:1]
        for weight in (2.0, [2.0], [[2.0]]):
            history = fit(classifier(), data, Calibration(x, y, sample_weight=np.array(weight)))
            assert np.isfinite(history["val_nll"][-1])

    def test_of_time_steps(self, rng):
        x, labels = rng.normal(size=(12, 4, 5)), rng.integers(0, 3, (12, 4))
        model = keras.Sequential([keras.Input((4, 5)), layers.Dense(3, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        predictions = Predictions(x)
        history = fit(model, (x, labels), Calibration(x, labels, num_bins=5), predictions)
        probs = predictions.kept[0].reshape(-1, 3)
        expected = reference.expected_calibration_error(labels.ravel(), probs, 5)
        assert history["val_ece"][0] == pytest.approx(expected, rel=1e-6)

    def test_of_several_inputs(self, data):
        x, labels = data
        inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((3,), name="b")}
        outputs = layers.Dense(3, activation="softmax")(layers.Concatenate()([inputs["a"], inputs["b"]]))
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "sparse_categorical_crossentropy")
        arrays = {"a": x[:, :2], "b": x[:, 2:]}
        assert set(NAMES) < set(fit(model, (arrays, labels), Calibration(arrays, labels)))

    def test_without_temperature_scaling(self, data):
        history = fit(classifier(), data, Calibration(*data, temperature_scaling=False))
        assert [name for name in history if name.startswith("val_")] == ["val_ece", "val_nll", "val_aurc"]

    @pytest.mark.parametrize("units", [1, 3])
    def test_logits_that_look_like_probabilities_are_refused_before_training(self, data, units):
        model = keras.Sequential([keras.Input((5,)), layers.Dense(units, kernel_initializer="zeros")])
        loss = keras.losses.SparseCategoricalCrossentropy if units > 1 else keras.losses.BinaryCrossentropy
        model.compile("sgd", loss(from_logits=True))
        x, y = data[0], data[1] % max(2, units)
        with pytest.raises(ValueError, match="`from_logits` must be True"):
            model.fit(x, y, callbacks=[Calibration(x, y)], verbose=0)
        assert model.optimizer.iterations == 0

    @pytest.mark.parametrize("from_logits", [False, True])
    def test_of_a_model_that_diverged_are_nan(self, data, from_logits):
        history = fit(classifier(from_logits), data, Break(), Calibration(*data, from_logits=from_logits))
        assert all(np.isnan(history[name][0]) for name in NAMES)

    def test_of_a_model_with_one_broken_class_are_nan(self, data):
        x, labels = data
        model = keras.Sequential([keras.Input((5,)), layers.Dense(4)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

        class BreakUnusedClass(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.layers[-1].bias.assign([0.0, 0.0, 0.0, np.nan])

        history = fit(model, data, BreakUnusedClass(), Calibration(x, labels, from_logits=True))
        assert all(np.isnan(history[name][0]) for name in NAMES)

    def test_of_a_class_that_cannot_occur(self, data):
        class Forbid(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.layers[-1].bias.assign([0.0, -np.inf, 0.0])

        history = fit(classifier(from_logits=True), data, Forbid(), Calibration(*data, from_logits=True))
        assert history["val_nll"] == [np.inf]
        assert 0 < history["val_ece"][0] < 1
        assert np.isnan(history["val_temperature"][0])
        assert np.isnan(history["val_ece_scaled"][0])

    def test_of_probabilities_that_underflow(self, data):
        class Sharpen(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                kernel = self.model.layers[-1].kernel
                kernel.assign(kernel * 1e5)

        history = fit(classifier(), data, Sharpen(), Calibration(*data))
        assert all(np.isfinite(history[name][0]) for name in NAMES)
        assert history["val_nll"][0] <= -np.log(1e-7) + 1e-6


class Task(keras.Model):
    """Preprocesses in `predict`, as KerasHub's tasks do."""

    preprocessor = staticmethod(lambda x: x / 255)

    def predict(self, x, *args, **kwargs):
        return super().predict(self.preprocessor(x), *args, **kwargs)

    def predict_on_batch(self, x, *args, **kwargs):
        return super().predict_on_batch(self.preprocessor(x), *args, **kwargs)


def test_a_preprocessor_is_applied_once(data):
    x, labels = data
    inputs = keras.Input((5,))
    model = Task(inputs, layers.Dense(3, kernel_initializer="identity")(inputs))
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = fit(model, data, Calibration(255 * x, labels, from_logits=True))
    for name, value in expected_values(labels, x[:, :3], from_logits=True).items():
        assert history[name][0] == pytest.approx(value, rel=1e-5), name


class TestTraining:
    @pytest.mark.parametrize(
        ("kind", "steps"), [slow("arrays", 1), slow("data_loader", 1), ("py_dataset", 1), ("arrays", 2)]
    )
    def test_is_the_same_with_and_without(self, data, kind, steps):
        if BACKEND == "torch" and steps > 1:
            pytest.skip("Keras runs one step at a time on PyTorch")
        x, labels = data

        def run(*callbacks):
            keras.utils.set_random_seed(7)
            model = classifier(steps_per_execution=steps, run_eagerly=False)
            history = fit(model, data, *callbacks, epochs=3)
            return model.get_weights(), [np.array(v) for v in model.optimizer.variables], history

        if kind == "data_loader":
            torch = pytest.importorskip("torch", reason="torch is not installed")
            pairs = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(labels))
            given = (torch.utils.data.DataLoader(pairs, batch_size=32, shuffle=True), None)
        else:
            given = data if kind == "arrays" else (Batches(x, labels), None)
        plain, measured = run(), run(Calibration(*given))
        for before, after in zip(plain[0] + plain[1], measured[0] + measured[1], strict=True):
            np.testing.assert_array_equal(before, after)
        assert {name: measured[2][name] for name in plain[2]} == plain[2]
        assert len(measured[2]["val_ece"]) == 3

    def test_is_the_same_with_validation_data(self, data):
        def run(*callbacks):
            keras.utils.set_random_seed(7)
            return fit(classifier(run_eagerly=False), data, *callbacks, epochs=2, validation_data=data)

        plain, measured = run(), run(Calibration(*data, from_logits=False))
        assert {name: measured[name] for name in plain} == plain
        np.testing.assert_allclose(measured["val_nll"], measured["val_loss"], rtol=1e-5)

    def test_mixed_precision(self, data):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            history = fit(classifier(run_eagerly=False), data, Calibration(*data))
        finally:
            keras.config.set_dtype_policy("float32")
        assert all(np.isfinite(history[name][0]) for name in NAMES)

    def test_frequency(self, data):
        dataset = Batches(*data)
        history = fit(classifier(), data, Calibration(dataset, freq=2), epochs=5)
        assert dataset.passes == 1 + 2  # the labels before training, then epochs 2 and 4
        assert len(history["loss"]) == 5
        for name in NAMES:
            assert len(history[name]) == 4  # nothing before the first measurement
            assert history[name][0] == history[name][1]
            assert history[name][2] == history[name][3]
        assert history["val_ece"][1] != history["val_ece"][2]

    def test_what_keras_has_just_measured_stays_between_measurements(self, data):
        model = classifier()
        model.compile(model.optimizer, model.loss, metrics=[ExpectedCalibrationError()])
        history = fit(model, data, Calibration(*data, freq=2), epochs=4, validation_data=data)
        assert len(set(history["val_ece"])) == 4
        assert history["val_nll"][0] == history["val_nll"][1]

    def test_a_second_fit_starts_anew(self, data):
        callback = Calibration(*data, freq=2)
        model = classifier()
        fit(model, data, callback, epochs=2)
        assert "val_ece" not in fit(model, data, callback, epochs=1)

    def test_stops_early_on_the_calibration_error(self, data):
        stop = keras.callbacks.EarlyStopping(monitor="val_ece", mode="min", patience=1, restore_best_weights=True)
        history = fit(classifier(rate=0.0), data, Calibration(*data), stop, epochs=9)
        values = history["val_ece"]
        assert len(values) < 9
        assert stop.best == min(values)

    def test_a_checkpoint_keeps_the_best_calibrated_model(self, data, tmp_path):
        path = tmp_path / "best.keras"
        keep = keras.callbacks.ModelCheckpoint(path, monitor="val_ece", mode="min", save_best_only=True)
        history = fit(classifier(rate=0.5), data, Calibration(*data), keep, epochs=4)
        probs = keras.models.load_model(path).predict(data[0], verbose=0)
        best = reference.expected_calibration_error(data[1], probs)
        assert best == pytest.approx(min(history["val_ece"]), rel=1e-5)


class TestRefuses:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x, y: ((x[:0], y[:0]), {}), "must hold examples"),
            (lambda x, y: ((x, y[:-1]), {}), "same length"),
            (lambda x, y: ((x,), {}), "`y` must be given"),
            (lambda x, y: ((iter([(x, y)]),), {}), "read only once"),
            (lambda x, y: ((x, y), {"freq": 0}), "`freq` must be at least 1"),
            (lambda x, y: ((x, y), {"freq": 1.5}), "`freq` must be an integer"),
            (lambda x, y: ((x, y), {"num_bins": 0}), "`num_bins` must be at least 1"),
            (lambda x, y: ((x, y), {"log_dir": __file__}), "`log_dir` must be a folder that can be written"),
            (lambda x, y: ((x, y), {"log_dir": os.path.join(__file__, "below")}), "`log_dir`"),
            (lambda x, y: ((x, y), {"log_dir": 3}), "`log_dir`"),
        ],
    )
    def test_when_it_is_made(self, data, change, message):
        positional, options = change(*data)
        with pytest.raises(ValueError, match=message):
            Calibration(*positional, **options)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x, y: (x, np.where(np.arange(64) == 63, 3, y)), r"integers in \[0, 3\). Received: \[3.0\]"),
            (lambda x, y: (x, y - 1), "integers in"),
            (lambda x, y: (x, y + 0.5), "integers in"),
            (lambda x, y: (x, np.eye(4)[y]), "`y` must hold one class id"),
            (lambda x, y: (Batches(x, np.where(np.arange(64) == 63, 3, y)), None), "`labels` must hold integers"),
        ],
    )
    def test_before_it_trains(self, data, change, message):
        model = classifier()
        weights = model.get_weights()
        with pytest.raises(ValueError, match=message):
            fit(model, data, Calibration(*change(*data)))
        for before, after in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)

    def test_data_of_which_none_count(self, data):
        x, y = data
        for options in ({"sample_weight": np.zeros(64)}, {"ignore_class": 1}):
            callback = Calibration(x, np.ones_like(y), freq=20, **options)
            with pytest.raises(ValueError, match="`x` must hold at least one prediction that counts"):
                fit(classifier(), data, callback)
        with pytest.raises(ValueError, match="`x` must hold at least one prediction that counts"):
            fit(classifier(), data, Calibration(Batches(x, np.ones_like(y)), freq=20, ignore_class=1))

    def test_logits_passed_off_as_probabilities(self, data):
        with pytest.raises(ValueError, match="from_logits=True"):
            fit(classifier(from_logits=True), data, Calibration(data[0] * 9, data[1]))

    def test_several_outputs(self, data):
        inputs = keras.Input((5,))
        model = keras.Model(inputs, [layers.Dense(3)(inputs), layers.Dense(3)(inputs)])
        model.compile("sgd", ["mse", "mse"])
        with pytest.raises(ValueError, match="one output"):
            fit(model, (data[0], [np.zeros((64, 3))] * 2), Calibration(*data))


def read_events(log_dir):
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(str(log_dir), size_guidance={"images": 0})
    return events.Reload()


class TestTensorBoard:
    def test_the_picture_has_the_scaled_curve_too(self, data, tmp_path, monkeypatch):
        drawn, draw = [], keras_ls.plots.reliability_diagram
        monkeypatch.setattr(keras_ls.plots, "reliability_diagram", lambda curves: drawn.append(curves) or draw(curves))
        history = fit(classifier(), data, Calibration(*data, num_bins=4, log_dir=tmp_path))
        (curves,) = drawn
        assert list(curves) == ["as trained", f"T = {history['val_temperature'][0]:.2f}"]
        assert [curve.ece() for curve in curves.values()] == [history["val_ece"][0], history["val_ece_scaled"][0]]
        assert {len(curve.count) for curve in curves.values()} == {4}

    def test_gets_scalars_and_pictures(self, data, tmp_path):
        from PIL import Image

        history = fit(classifier(), data, Calibration(*data, log_dir=tmp_path / "run", freq=2), epochs=4)
        events = read_events(tmp_path / "run")
        assert sorted(events.Tags()["scalars"]) == sorted(NAMES)
        for name in NAMES:
            points = events.Scalars(name)
            assert [point.step for point in points] == [1, 3]
            np.testing.assert_allclose([point.value for point in points], history[name][::2], rtol=1e-6)
        pictures = events.Images("val_reliability_diagram")
        assert [picture.step for picture in pictures] == [1, 3]
        for picture in pictures:
            opened = Image.open(io.BytesIO(picture.encoded_image_string))
            assert opened.format == "PNG"
            assert opened.size == (picture.width, picture.height)
            assert len(np.unique(np.asarray(opened.convert("RGB")).reshape(-1, 3), axis=0)) > 20  # not blank

    def test_has_each_epoch_while_training_goes_on(self, data, tmp_path):
        seen = []

        def counts():
            events = read_events(tmp_path)
            tags = events.Tags()
            if "val_ece" not in tags["scalars"] or "val_reliability_diagram" not in tags["images"]:
                return 0, 0
            return len(events.Scalars("val_ece")), len(events.Images("val_reliability_diagram"))

        class Look(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                for _ in range(500):  # another thread writes them
                    found = counts()
                    if found == (epoch + 1, epoch + 1):
                        break
                    time.sleep(0.02)
                seen.append(found)

        fit(classifier(), data, Calibration(*data, log_dir=str(tmp_path)), Look(), epochs=2)
        assert seen == [(1, 1), (2, 2)]

    def test_a_second_fit_writes_a_second_file(self, data, tmp_path):
        callback = Calibration(*data, log_dir=tmp_path, temperature_scaling=False, prefix="test_")
        model = classifier()
        fit(model, data, callback)
        fit(model, data, callback, epochs=2, initial_epoch=1)
        assert len(list(tmp_path.iterdir())) == 2
        points = read_events(tmp_path).Scalars("test_ece")
        assert [point.step for point in points] == [0, 1]

    def test_nan_is_written_as_nan(self, data, tmp_path):
        fit(classifier(), data, Break(), Calibration(*data, log_dir=tmp_path))
        events = read_events(tmp_path)
        assert np.isnan(events.Scalars("val_ece")[0].value)
        assert len(events.Images("val_reliability_diagram")) == 1


class Noise(layers.Layer):
    """Noise in inference, too, as where a latent variable is sampled."""

    def __init__(self, seed):
        super().__init__()
        self.seed = keras.random.SeedGenerator(seed) if seed else None

    def call(self, inputs):
        return inputs + 0.3 * keras.random.normal(keras.ops.shape(inputs), seed=self.seed)


@pytest.mark.parametrize(
    "seed", [3, pytest.param(None, marks=pytest.mark.skipif(BACKEND == "jax", reason="needs one"))]
)
def test_training_draws_what_it_draws_without_the_callback(data, seed):
    x, y = data
    weights = []
    for is_watched in (True, False):
        keras.utils.clear_session()  # Keras 3.12 goes on with its generator otherwise
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((5,)), layers.Dense(8), Noise(seed), layers.Dense(3, "softmax")])
        keras.utils.set_random_seed(2)  # which drops the generator that was made while the model was built
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=EAGER)
        model.fit(x, y, epochs=2, callbacks=[Calibration(x, y)] * is_watched, verbose=0)
        weights.append(model.get_weights())
    for watched, alone in zip(*weights, strict=True):
        np.testing.assert_array_equal(watched, alone)


def test_states_of_recurrent_layers_stay_as_they_are(rng):
    x, y = rng.normal(size=(8, 6, 2)).astype("float32"), rng.integers(0, 3, 8)
    recurrent = layers.GRU(4, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(8, 6, 2)), recurrent, layers.Dense(3)])
    before = [keras.ops.convert_to_numpy(state) for state in recurrent.states]
    keras_ls.calibrate(model, x, y, batch_size=8)
    for state, value in zip(recurrent.states, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(state), value)


def test_a_callback_can_be_copied_after_training(data):
    x, y = data
    callback, model = Calibration(x, y), classifier()
    model.fit(x, y, callbacks=[callback], verbose=0)
    copied = copy.deepcopy(callback)
    assert "val_ece" in model.fit(x, y, callbacks=[copied], verbose=0).history
