"""`FusedOutput`: it trains, measures, predicts and saves as the plain model does, and refuses what it cannot fuse."""

import functools
import threading

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, EAGER, numpy, slow
from keras import layers, ops

import keras_ls
from keras_ls._models.output_layer import OutputLayer, left_out
from keras_ls.losses import linear

K = 11


@pytest.fixture
def labelled(rng):
    x, y = rng.standard_normal((40, 6)).astype("float32"), rng.integers(0, K, 40)
    y[[5, 39]] = -1
    return x, y


@pytest.fixture
def sentences(rng):
    x, y = rng.integers(1, 9, (12, 7)), rng.integers(0, K, (12, 7))
    for row in range(12):
        x[row, 2 + row % 5 :] = 0
    return x, y


class Subclassed(keras.Model):
    """A classifier that shows its layers only while it runs."""

    def __init__(self, end="logits"):
        super().__init__()
        self.end, self.hidden, self.out = end, layers.Dense(8, "relu"), layers.Dense(K)
        self.softmax = layers.Softmax()

    def call(self, inputs, training=None):
        """As `end` says."""
        logits = self.out(self.hidden(inputs))
        if self.end == "scaled":
            return logits / 2.0
        return self.softmax(logits) if self.end == "softmax" else logits


def classifier(kind):
    """A model of one kind, and whether it gives logits."""
    keras.utils.set_random_seed(7)
    hidden = [keras.Input((6,)), layers.Dense(8, "relu")]
    if kind == "sequential":
        return keras.Sequential([*hidden, layers.Dense(K, kernel_regularizer="l2", use_bias=False)]), True
    if kind == "softmax":
        return keras.Sequential([*hidden, layers.Dense(K, "softmax", kernel_constraint="max_norm")]), False
    if kind == "functional":
        inputs = keras.Input((6,))
        body = keras.Sequential(hidden)
        return keras.Model(inputs, layers.Softmax()(layers.Dense(K)(layers.Dropout(0.0)(body(inputs))))), False
    if kind == "subclassed":
        return Subclassed(), True
    return Subclassed("softmax"), False


def tagger():
    keras.utils.set_random_seed(7)
    tokens = [keras.Input((None,), dtype="int32"), layers.Embedding(9, 5, mask_zero=True)]
    return keras.Sequential([*tokens, layers.SimpleRNN(6, return_sequences=True), layers.Dense(K)])


def both(build, from_logits, ignore_class=None, metrics=None, prior=None, **options):
    """The plain model and the fused one, compiled alike."""
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, prior, from_logits, ignore_class)
    weighted = [
        keras.metrics.SparseCategoricalAccuracy("accuracy"),
        keras_ls.NegativeLogLikelihood(from_logits, ignore_class),
        keras_ls.ExpectedCalibrationError(from_logits=from_logits, ignore_class=ignore_class),
    ]
    if ignore_class is not None:  # which Keras's accuracy does not know
        weighted = weighted[1:]
    plain, fused = build(), keras_ls.FusedOutput(build(), 0.1, prior, ignore_class, chunk_size=5)
    plain.compile(keras.optimizers.SGD(0.3), loss, weighted_metrics=weighted, **options)
    fused.compile(keras.optimizers.SGD(0.3), metrics=metrics, **options)
    return plain, fused


def assert_same_training(plain, fused, x, y, measured=None, **options):
    """Both models give the same numbers in `fit`, those in `measured` or all, and the same predictions afterwards."""
    options = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0, **options}
    expected, found = plain.fit(x, y, **options).history, fused.fit(x, y, **options).history
    for name in measured or expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(fused.predict(x, verbose=0), plain.predict(x, verbose=0), rtol=1e-3, atol=1e-5)
    return found


@pytest.mark.parametrize(
    "kind", [slow("softmax"), "functional", "subclassed", slow("sequential"), slow("subclassed softmax")]
)
def test_it_trains_and_measures_as_the_plain_model(labelled, kind):
    plain, fused = both(lambda: classifier(kind)[0], classifier(kind)[1], ignore_class=-1)
    assert_same_training(plain, fused, *labelled)


STEPS = {} if BACKEND == "torch" else {"steps_per_execution": 2}


@pytest.mark.parametrize("options", [slow({"run_eagerly": True}), {"jit_compile": False, **STEPS}])
def test_it_does_so_however_it_is_compiled(labelled, options):
    plain, fused = both(lambda: classifier("softmax")[0], False, ignore_class=-1, **options)
    assert_same_training(plain, fused, *labelled, validation_data=labelled)


def test_sample_weights_and_validation(labelled, rng):
    x, y = labelled[0], np.maximum(labelled[1], 0)
    plain, fused = both(lambda: classifier("sequential")[0], True, metrics=[keras_ls.BrierScore(from_logits=True)])
    weight = rng.uniform(0, 2, len(y)) * (np.arange(len(y)) % 3 > 0)
    found = assert_same_training(plain, fused, x, y, sample_weight=weight, validation_data=(x, y))
    assert "brier" not in found  # it needs whole predictions
    assert len(found["val_brier"]) == 2
    measured = fused.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    expected = plain.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    for name, value in expected.items():
        np.testing.assert_allclose(measured[name], value, rtol=1e-4, atol=1e-5)


def test_a_metric_of_the_user_takes_the_place_of_one_of_the_same_name(labelled):
    x, y = labelled[0], np.maximum(labelled[1], 0)
    fused, weight = keras_ls.FusedOutput(classifier("sequential")[0]), np.linspace(0.0, 1.0, len(y))
    fused.compile("sgd", metrics=["accuracy", keras_ls.ExpectedCalibrationError(3, from_logits=True)])
    fused.fit(x, y, verbose=0)
    found = fused.evaluate(x, y, sample_weight=weight, return_dict=True, verbose=0)
    logits = fused.predict(x, verbose=0)
    assert found["accuracy"] == pytest.approx((logits.argmax(-1) == y).mean())
    assert found["ece"] == pytest.approx(keras_ls.calibration_error(y, logits, 3, from_logits=True), rel=1e-4)
    values = fused.evaluate(x, y, sample_weight=weight, verbose=0)
    assert sorted(values) == pytest.approx(sorted(found.values()))


def test_a_layer_that_is_quantized_later_is_refused_then(labelled):
    x, y = labelled[0], np.maximum(labelled[1], 0)
    fused = keras_ls.FusedOutput(classifier("sequential")[0])
    fused.compile("sgd")
    fused.quantize("int8")
    with pytest.raises(ValueError, match="which is quantized"):
        fused.evaluate(x, y, verbose=0)


@pytest.mark.parametrize("measures", [False, True])
def test_an_error_costs_no_weights(labelled, measures):
    x, y = labelled[0], np.maximum(labelled[1], 0)
    model = classifier("sequential")[0]
    before = model.get_weights()
    fused = keras_ls.FusedOutput(model)
    fused.compile(keras.optimizers.SGD(0.0))
    callbacks = [keras_ls.Calibration(x, y, from_logits=None)] if measures else []
    for wrong in (functools.partial(fused.fit, callbacks=callbacks), fused.evaluate):
        with pytest.raises(ValueError, match="`labels` must hold one class id"):
            wrong(x, np.eye(K)[y], verbose=0)
        for found, expected in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(found, expected)
        fused.fit(x, y, verbose=0)


def test_an_error_between_epochs_costs_no_weights(labelled):
    class Breaking(keras.utils.PyDataset):
        epochs = 0

        def __len__(self):
            return 1

        def __getitem__(self, index):
            if self.epochs == 2:
                raise OSError("the disk is gone")
            return labelled[0], np.maximum(labelled[1], 0)

        def on_epoch_end(self):
            self.epochs += 1

    x, y = labelled[0], np.maximum(labelled[1], 0)
    model = classifier("sequential")[0]
    fused = keras_ls.FusedOutput(model)
    fused.compile("sgd")
    seen = []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(model.get_weights()))
    measure = keras_ls.Calibration(x, y, from_logits=None, temperature_scaling=False)
    with pytest.raises(Exception, match="the disk is gone"):  # TensorFlow makes another of it
        fused.fit(Breaking(), epochs=5, verbose=0, callbacks=[measure, keep])
    for found, expected in zip(model.get_weights(), seen[-1], strict=True):
        np.testing.assert_array_equal(found, expected)
    fused.fit(x, y, verbose=0)


def test_class_weights(labelled):
    x, y = labelled[0], np.maximum(labelled[1], 0)
    plain, fused = both(lambda: classifier("softmax")[0], False)
    assert_same_training(plain, fused, x, y, class_weight={k: 1.0 + k % 3 for k in range(K)})


@pytest.mark.parametrize(("weights", "ignore_class"), [slow(None, None), slow("of sentences", None), ("of steps", -1)])
def test_sequences_with_masks_and_a_prior(sentences, rng, weights, ignore_class):
    x, y = sentences
    if ignore_class is not None:
        y[:, 1] = ignore_class  # which no mask hides
    plain, fused = both(tagger, True, ignore_class, prior=np.arange(1, K + 1))
    weight = {None: None, "of sentences": rng.uniform(0, 2, 12), "of steps": rng.uniform(0, 2, (12, 7))}[weights]
    if weights == "of sentences":
        weight = np.repeat(weight[:, None], 7, axis=1)
    # There Keras's training step drops the mask, for the plain model's metrics alone.
    measured = ["loss"] if BACKEND == "jax" else None
    assert_same_training(plain, fused, x, y, measured, sample_weight=weight, batch_size=6)
    expected, found = (
        model.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True) for model in (plain, fused)
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


class Spoil(layers.Layer):
    """Writes NaN where a step is masked."""

    supports_masking = True

    def call(self, inputs, mask=None):
        return inputs if mask is None else keras.ops.where(mask[..., None], inputs, np.nan)


def test_what_is_masked_may_be_anything(sentences):
    x, y = sentences
    clean, spoilt = keras_ls.FusedOutput(tagger()), tagger()
    spoilt = keras_ls.FusedOutput(keras.Sequential([*spoilt.layers[:-1], Spoil(), spoilt.layers[-1]]))
    for fused, labels in ((clean, y), (spoilt, np.where(x == 0, -1, y))):
        fused.compile(keras.optimizers.SGD(0.3))
        fused.fit(x, labels, epochs=2, batch_size=6, shuffle=False, verbose=0)
    assert np.isfinite(spoilt.get_metrics_result()["ece"])
    for one, other in zip(clean.get_weights(), spoilt.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_what_is_not_finite_or_no_class_shows_in_every_metric(rng, chunk_size):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(K)])
    fused = keras_ls.FusedOutput(model, chunk_size=chunk_size)
    fused.compile("sgd")
    x, y = rng.normal(size=(8, 6)).astype("float32"), np.zeros(8, int)
    broken = [(np.where(np.arange(8)[:, None] == 3, np.nan, x), y)]
    if BACKEND != "torch":  # where such a label raises an error
        broken.append((x, np.where(np.arange(8) == 3, K, y)))
    for inputs, labels in broken:
        found = fused.evaluate(inputs, labels, verbose=0, return_dict=True)
        assert np.isnan([found[name] for name in ("loss", "accuracy", "nll", "ece")]).all()
        weight = (np.arange(8) != 3).astype("float32")
        if inputs is not x:
            found = fused.evaluate(inputs, labels, sample_weight=weight, verbose=0, return_dict=True)
            assert np.isfinite([found[name] for name in ("accuracy", "nll", "ece")]).all()


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integers_may_reach_the_output_layer(rng, dtype):
    x, y = rng.integers(0, 2, (20, 4)).astype(dtype), rng.integers(0, K, 20)
    plain = keras.Sequential([keras.Input((4,), dtype=dtype), layers.Dense(K)])
    plain.compile("sgd", keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True))
    fused = keras_ls.FusedOutput(keras.models.clone_model(plain))
    fused.model.set_weights(plain.get_weights())
    fused.compile("sgd", run_eagerly=EAGER)
    for _ in range(2):
        found = fused.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        assert found == pytest.approx(plain.evaluate(x, y, verbose=0), rel=1e-5)
        for model in (plain, fused):
            model.fit(x, y, verbose=0, batch_size=20)


def test_a_mask_with_a_trailing_dimension(sentences):
    x, y = sentences

    class Column(layers.Embedding):
        def compute_mask(self, inputs, mask=None):
            return keras.ops.expand_dims(inputs != 0, -1)

    found = []
    for make in (layers.Embedding, Column):
        keras.utils.set_random_seed(0)
        parts = [keras.Input((7,), dtype="int32"), make(9, 4, mask_zero=True), layers.Dense(K)]
        fused = keras_ls.FusedOutput(keras.Sequential(parts))
        fused.compile("sgd", run_eagerly=EAGER)
        found.append(fused.evaluate(x, y, verbose=0, return_dict=True)["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_weights_of_examples_are_not_of_steps(rng):
    x, y, weight = rng.integers(1, 9, (7, 7)), rng.integers(0, K, (7, 7)), np.arange(7.0)
    losses = []
    for given in (weight, np.repeat(weight[:, None], 7, axis=1)):
        fused = keras_ls.FusedOutput(tagger())
        fused.compile("sgd")
        losses.append(fused.evaluate(x, y, sample_weight=given, verbose=0))
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_mixed_precision(labelled):
    def build():
        keras.utils.set_random_seed(7)
        dense = [layers.Dense(units, dtype="mixed_bfloat16") for units in (8, K)]
        return keras.Sequential([keras.Input((6,)), *dense])

    plain, fused = both(build, True, ignore_class=-1)
    options = {"epochs": 3, "batch_size": 8, "shuffle": False, "verbose": 0}
    expected, found = plain.fit(*labelled, **options).history, fused.fit(*labelled, **options).history
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-2)


@pytest.fixture
def bfloat16():
    before = keras.config.floatx()
    keras.config.set_floatx("bfloat16")
    keras.config.set_dtype_policy("bfloat16")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)


def test_statistics_are_wide_where_everything_else_is_half_precision(rng, bfloat16):
    x = rng.normal(size=(20_000, 3))
    y = (x + rng.normal(size=x.shape)).argmax(axis=1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, kernel_initializer="identity")])
    fused = keras_ls.FusedOutput(model, 0.0)
    fused.compile("sgd")
    found = fused.evaluate(x, y, batch_size=100, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx((x.argmax(axis=1) == y).mean(), abs=0.005)
    assert found["nll"] == pytest.approx(reference.nll_of_logits(y, x), abs=0.005)
    assert found["ece"] == pytest.approx(reference.expected_calibration_error(y, reference.softmax(x)), abs=0.005)


def test_penalties_of_half_precision(labelled, bfloat16):
    def build():
        keras.utils.set_random_seed(7)
        return keras.Sequential([keras.Input((6,)), layers.Dense(8, kernel_regularizer="l2"), layers.Dense(K)])

    plain, fused = both(build, True, ignore_class=-1)
    expected, found = (model.fit(*labelled, shuffle=False, verbose=0).history["loss"][0] for model in (plain, fused))
    assert float(ops.cast(found, "float32")) == pytest.approx(float(ops.cast(expected, "float32")), rel=2e-2)


def test_labels_and_weights_by_the_name_of_the_output(labelled):
    x, y = labelled[0], np.maximum(labelled[1], 0)
    weight = np.linspace(0.0, 1.0, len(y))

    def trained(y, weight):
        keras.utils.set_random_seed(7)
        inputs = keras.Input((6,))
        fused = keras_ls.FusedOutput(keras.Model(inputs, {"out": layers.Dense(K, name="out")(inputs)}))
        fused.compile("sgd", weighted_metrics=[keras_ls.BrierScore(from_logits=True)])
        fused.fit(x, y, sample_weight=weight, shuffle=False, verbose=0)
        return fused.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)

    assert trained({"out": y}, {"out": weight}) == trained(y, weight)


@pytest.mark.parametrize("end", [lambda: layers.Activation("linear", dtype="float32"), slow(layers.Identity)])
def test_logits_in_float32_after_half_precision(labelled, end):
    def build():
        keras.utils.set_random_seed(7)
        dense = [layers.Dense(units, dtype="mixed_bfloat16") for units in (8, K)]
        return keras.Sequential([keras.Input((6,)), *dense, end()])

    x, y = labelled[0], np.maximum(labelled[1], 0)
    plain, fused = both(build, True, metrics=[keras_ls.BrierScore(from_logits=True)])
    options = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
    expected, found = plain.fit(x, y, **options).history, fused.fit(x, y, **options, validation_data=(x, y)).history
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-2)
    predicted = fused.predict(x, verbose=0)
    assert predicted.dtype == "float32"
    brier = np.square(reference.softmax(predicted) - np.eye(K)[y]).sum(-1).mean()
    np.testing.assert_allclose(found["val_brier"][-1], brier, rtol=1e-3)


@pytest.mark.parametrize("end", [layers.Activation, slow(layers.Softmax)])
def test_a_softmax_in_float32_after_half_precision(labelled, end):
    def build():
        keras.utils.set_random_seed(7)
        dense = [layers.Dense(units, dtype="mixed_bfloat16") for units in (8, K)]
        given = {"activation": "softmax"} if end is layers.Activation else {}
        return keras.Sequential([keras.Input((6,)), *dense, end(dtype="float32", **given)])

    x, y = labelled[0], np.maximum(labelled[1], 0)
    plain, fused = both(build, False, metrics=[keras_ls.BrierScore()])
    options = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0}
    expected, found = plain.fit(x, y, **options).history, fused.fit(x, y, **options, validation_data=(x, y)).history
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-2)
    predicted = fused.predict(x, verbose=0)
    assert predicted.dtype == "float32"
    np.testing.assert_allclose(found["val_brier"][-1], np.square(predicted - np.eye(K)[y]).sum(-1).mean(), rtol=1e-4)


@pytest.mark.parametrize("kind", ["softmax", slow("functional")])
def test_the_saved_model_is_the_plain_one(tmp_path, labelled, kind):
    x, y = labelled
    model, _ = classifier(kind)
    fused = keras_ls.FusedOutput(model, 0.1, ignore_class=-1)
    fused.compile("adam")
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "last.keras")
    fused.fit(x, y, epochs=2, verbose=0, callbacks=[checkpoint])
    loaded = keras.models.load_model(tmp_path / "last.keras")
    assert type(loaded) is type(model)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), fused.predict(x, verbose=0), rtol=1e-5)
    loss = fused.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), loss, rtol=1e-4)
    again = keras_ls.FusedOutput(loaded, 0.1, ignore_class=-1)
    again.compile(loaded.optimizer)
    again.fit(x, y, epochs=1, verbose=0)
    fused.save_weights(tmp_path / "last.weights.h5")
    plain, _ = classifier(kind)
    plain.load_weights(tmp_path / "last.weights.h5")
    np.testing.assert_allclose(plain.predict(x, verbose=0), fused.predict(x, verbose=0), rtol=1e-5)


def test_keras_saves_the_wrapper_which_goes_on(tmp_path, labelled):
    x, y = labelled
    fused = keras_ls.FusedOutput(classifier("sequential")[0], 0.1, ignore_class=-1)
    fused.compile("adam", **STEPS)
    fused.fit(x, y, verbose=0)
    keras.saving.save_model(fused, tmp_path / "fused.keras")
    loaded = keras.saving.load_model(tmp_path / "fused.keras")
    for each in (fused, loaded):
        each.fit(x, y, shuffle=False, verbose=0)
    for ours, theirs in zip(loaded.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_what_is_saved_is_what_trains_now(tmp_path, labelled):
    x, y = labelled[0], np.maximum(labelled[1], 0)
    model, _ = classifier("sequential")
    model.compile("sgd", "mse")
    prior = np.arange(1, K + 1)
    for alpha, optimizer in ((0.1, "adam"), (0.3, keras.optimizers.SGD(0.5, momentum=0.9))):
        fused = keras_ls.FusedOutput(model, alpha, prior)
        fused.compile(optimizer)
        fused.fit(x, y, batch_size=20, verbose=0)
        fused.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert loaded.loss.label_smoothing == alpha
        np.testing.assert_allclose(loaded.loss.prior, prior / prior.sum())
        assert type(loaded.optimizer) is type(fused.optimizer)
        assert int(loaded.optimizer.iterations) == 2


def test_how_it_is_compiled_is_saved(tmp_path):
    model, _ = classifier("sequential")
    fused = keras_ls.FusedOutput(model)
    fused.compile("sgd", jit_compile=False, **STEPS)
    fused.save(tmp_path / "model.keras")
    given = keras.models.load_model(tmp_path / "model.keras").get_compile_config()
    assert given["jit_compile"] is False
    assert given["steps_per_execution"] == STEPS.get("steps_per_execution", 1)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path, labelled):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    x, y = labelled[0], np.maximum(labelled[1], 0)
    trained = []
    for stops in ([], [Stop()]):
        for interrupted in (*stops, None):
            fused = keras_ls.FusedOutput(classifier("sequential")[0])
            fused.compile(keras.optimizers.SGD(0.3, momentum=0.9))
            callbacks = [
                keras.callbacks.BackupAndRestore(tmp_path / str(len(stops))),
                *([interrupted] * bool(interrupted)),
            ]
            try:
                fused.fit(x, y, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
            except KeyboardInterrupt:
                continue
            trained.append(fused.get_weights())
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-7)


def test_its_config_is_whole(labelled):
    model, _ = classifier("functional")
    fused = keras_ls.FusedOutput(model, 0.2, np.arange(1, K + 1), -1, 7, name="fused")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(fused))
    assert isinstance(copy, keras_ls.FusedOutput)
    assert copy.name == "fused"
    for name in ("label_smoothing", "prior", "ignore_class", "chunk_size"):
        assert getattr(copy, name) == getattr(fused, name)


def test_callbacks_find_its_logits(labelled):
    x, y = labelled[0], np.maximum(labelled[1], 0)
    fused = keras_ls.FusedOutput(classifier("sequential")[0])
    fused.compile("sgd")
    logs = fused.fit(x, y, verbose=0, callbacks=[keras_ls.Calibration(x, y, from_logits=True)]).history
    assert np.isfinite(logs["val_temperature"]).all()
    calibrated = keras_ls.calibrate(fused, x, y)
    expected = keras_ls.calibrate(fused.model, x, y).predict(x, verbose=0)
    np.testing.assert_allclose(calibrated.predict(x, verbose=0), expected, rtol=1e-5)


def test_a_call_gives_predictions_also_in_training_mode(labelled):
    model, _ = classifier("softmax")
    fused = keras_ls.FusedOutput(model)
    np.testing.assert_allclose(numpy(fused(labelled[0], training=True)), numpy(model(labelled[0])), rtol=1e-6)


def build(*ends, units=K, **options):
    return keras.Sequential([keras.Input((6,)), layers.Dense(units, **options), *ends])


def shared_dense():
    a, b, dense = keras.Input((6,)), keras.Input((6,)), layers.Dense(K)
    return keras.Model([a, b], dense(layers.Add()([a, layers.Softmax()(dense(b))[:, :6]])))


def two_outputs():
    inputs = keras.Input((6,))
    return keras.Model(inputs, [layers.Dense(K)(inputs), layers.Dense(K)(inputs)])


def masked_softmax():
    inputs, allowed = keras.Input((6,)), keras.Input((K,), dtype="bool")
    return keras.Model([inputs, allowed], layers.Softmax()(layers.Dense(K)(inputs), allowed))


class WithLossOfLogits(keras.Model):
    """The z-loss of large vocabularies."""

    def __init__(self):
        super().__init__()
        self.out = layers.Dense(K)

    def call(self, inputs):
        logits = self.out(inputs)
        self.add_loss(1e-4 * keras.ops.mean(keras.ops.square(keras.ops.logsumexp(logits, axis=-1))))
        return logits


def spectral_dense():
    return keras.Sequential([keras.Input((6,)), layers.SpectralNormalization(layers.Dense(K))])


class OwnDense(layers.Dense):
    """A subclass, which may compute anything."""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: "model", "must be a Keras model"),
        (lambda: build(units=1, activation="sigmoid"), "of one unit"),
        (lambda: build(activation="sigmoid"), "activation 'sigmoid'"),
        (lambda: build(activation=functools.partial(keras.activations.elu, alpha=2.0)), "activation 'partial'"),
        (lambda: build(layers.Dropout(0.5)), "not what its last layer gives|'dropout"),
        (lambda: build(layers.Softmax(), layers.Softmax()), "softmax"),
        (lambda: build(layers.Rescaling(2.0)), "Rescaling"),
        (lambda: build(activity_regularizer="l2"), "activity_regularizer"),
        (lambda: keras.Sequential([keras.Input((6,)), OwnDense(K)]), "OwnDense"),
        (lambda: keras.Sequential([keras.Input((5, 6)), layers.Conv1D(K, 1)]), "Conv1D"),
        (two_outputs, "one output"),
        (lambda: build(layers.ActivityRegularization(l2=1e-3)), "adds a loss after it"),
        (lambda: build(layers.Activation("linear", activity_regularizer="l2")), "adds a loss after it"),
        (masked_softmax, "mask of classes"),
        (shared_dense, "calls 2 times"),
        (spectral_dense, "in another layer, which may change its kernel"),
    ],
)
def test_what_cannot_be_fused_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        keras_ls.FusedOutput(model())


def test_a_subclassed_model_that_cannot_be_fused_is_refused_at_the_first_batch(labelled):
    fused = keras_ls.FusedOutput(Subclassed("scaled"))
    fused.compile("sgd")
    with pytest.raises(ValueError, match="not what its last layer gives"):
        fused.fit(labelled[0], np.maximum(labelled[1], 0), verbose=0)


def test_losses_of_logits_are_refused_and_others_are_not(labelled):
    x, y = labelled[0], np.maximum(labelled[1], 0)
    fused = keras_ls.FusedOutput(WithLossOfLogits())
    fused.compile("sgd")
    with pytest.raises(ValueError, match="adds a loss after it"):
        fused.fit(x, y, verbose=0)

    def build():
        keras.utils.set_random_seed(7)
        hidden = layers.Dense(8, activation="relu", activity_regularizer="l2", kernel_regularizer="l2")
        return keras.Sequential([keras.Input((6,)), hidden, layers.ActivityRegularization(l1=1e-3), layers.Dense(K)])

    assert_same_training(*both(build, True), x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "`label_smoothing`"),
        ({"prior": [1.0, -1.0]}, "`prior`"),
        ({"prior": [1.0, 1.0]}, "one entry per class"),
        ({"ignore_class": "pad"}, "`ignore_class`"),
        ({"chunk_size": 0}, "`chunk_size`"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        keras_ls.FusedOutput(build(), **options)


def test_replicas_that_enter_and_leave_in_any_order_all_leave_the_last_layer_out():
    layer = layers.Dense(3, kernel_initializer="zeros")
    layer.build((None, 2))
    x, call = np.ones((1, 2), "float32"), layer.call
    entered, may_leave, found = threading.Barrier(2, timeout=30), threading.Event(), {}

    def second():
        with left_out(OutputLayer(layer, layer, None)) as given:
            entered.wait()
            may_leave.wait(30)
            found["gave"], found["given"] = layer(x), list(given)

    thread = threading.Thread(target=second)
    with left_out(OutputLayer(layer, layer, None)):
        thread.start()
        entered.wait()
    may_leave.set()
    thread.join()
    assert found["gave"].shape == (1, 2)
    assert len(found["given"]) == 1
    assert layer(x).shape == (1, 3)
    assert layer.call == call


def test_a_loss_is_refused():
    with pytest.raises(ValueError, match="`loss` and `loss_weights` must be None"):
        keras_ls.FusedOutput(build()).compile("sgd", "sparse_categorical_crossentropy")


def test_blocks_are_as_large_as_it_was_told(labelled, monkeypatch):
    given, size = [], linear._size
    monkeypatch.setattr(linear, "_size", lambda *how: given.append(how[2]) or size(*how))
    fused = keras_ls.FusedOutput(classifier("sequential")[0], chunk_size=5)
    fused.compile("sgd", run_eagerly=EAGER)
    fused.evaluate(labelled[0], np.maximum(labelled[1], 0), verbose=0)
    assert set(given) == {5}


def test_inputs_reach_the_model_as_they_come():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        inputs = keras.Input((1,))
        less = layers.Rescaling(1.0, -1000.0, dtype="float32")(inputs)
        model = keras.Model(inputs, layers.Dense(K, dtype="float32")(less))
        x = np.array([[1001.0], [1002.0], [1003.0]], "float32")  # bfloat16 has steps of 4 there
        np.testing.assert_array_equal(numpy(keras_ls.FusedOutput(model)(x)), numpy(model(x)))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a SavedModel is TensorFlow's")
def test_the_exported_model_gives_what_the_model_predicts(tmp_path, labelled):
    import tensorflow as tf

    x, y = labelled
    fused = keras_ls.FusedOutput(classifier("functional")[0], 0.1, ignore_class=-1)
    fused.compile("sgd")
    fused.fit(x, y, verbose=0)
    fused.export(str(tmp_path / "exported"))
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(x), fused.predict(x, verbose=0), rtol=1e-5, atol=1e-7)


def test_a_training_step_of_the_model_is_not_called_and_a_warning_says_so():
    class Own(keras.Sequential):
        def train_step(self, *args):
            raise AssertionError("of the model alone")

    model = Own([keras.Input((6,)), layers.Dense(K)])
    with pytest.warns(UserWarning, match="FusedOutput trains .* does not call the train_step of Own"):
        keras_ls.FusedOutput(model)
