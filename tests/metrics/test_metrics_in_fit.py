"""Calibration metrics in compiled training: jit, mixed precision, masks, saving, and callbacks that watch them."""

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, slow
from keras import layers

from keras_ls.metrics import (
    BrierScore,
    ClasswiseCalibrationError,
    ExpectedCalibrationError,
    NegativeLogLikelihood,
)

REFERENCES = {
    "ece": reference.expected_calibration_error,
    "classwise_ece": reference.classwise_calibration_error,
    "nll": reference.nll,
    "brier": reference.brier,
}
JIT = {"tensorflow": [False, True], "jax": [True], "torch": [False]}[BACKEND]
JIT_OR_SLOW = JIT if len(JIT) == 1 else [False, slow(True)]


def all_metrics(**options):
    makers = (ExpectedCalibrationError, ClasswiseCalibrationError, NegativeLogLikelihood, BrierScore)
    return [make(**options) for make in makers]


def make_case(rng, n=70, num_classes=4):
    x = rng.normal(size=(n, 6)).astype("float32")
    return x, (x @ rng.normal(size=(6, num_classes)) + rng.normal(size=(n, num_classes))).argmax(-1)


def make_model(num_classes=4, **compiling):
    model = keras.Sequential([layers.Input((6,)), layers.Dense(16, "relu"), layers.Dense(num_classes)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), **compiling)
    return model


def assert_results(results, labels, probs, weights=None, **tolerance):
    for name, expected in REFERENCES.items():
        wanted = expected(labels, probs, weights=weights)
        np.testing.assert_allclose(results[name], wanted, err_msg=name, **(tolerance or {"rtol": 1e-4, "atol": 1e-6}))


@pytest.mark.parametrize("jit", JIT_OR_SLOW)
def test_in_fit_and_evaluate_and_as_callbacks_watch_them(jit, tmp_path, rng):
    x, y = make_case(rng)
    model = make_model(metrics=all_metrics(from_logits=True), jit_compile=jit)
    stops = [keras.callbacks.EarlyStopping(f"val_{name}", mode="auto", patience=10) for name in REFERENCES]
    keeps = [
        keras.callbacks.ModelCheckpoint(
            str(tmp_path / f"{name}.keras"), monitor=f"val_{name}", mode="auto", save_best_only=True
        )
        for name in REFERENCES
    ]
    callbacks = [*stops, *keeps]
    fitting = {"batch_size": 32, "epochs": 4, "validation_data": (x, y), "callbacks": callbacks}
    history = model.fit(x, y, verbose=0, **fitting).history
    results = model.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)
    assert_results(results, y, reference.softmax(model.predict(x, verbose=0)))
    for name in REFERENCES:
        np.testing.assert_allclose(history[f"val_{name}"][-1], results[name], rtol=1e-6)
        assert np.isfinite(history[name]).all()
    for callback in callbacks:
        values = history[callback.monitor]
        assert float(callback.best) == min(values) < max(values)
    best = keras.saving.load_model(keeps[0].filepath).evaluate(x, y, batch_size=32, verbose=0, return_dict=True)
    np.testing.assert_allclose(best["ece"], min(history["val_ece"]), rtol=1e-5)


def test_one_hot_targets_of_a_model_that_has_just_been_compiled(rng):
    """PyTorch traces with targets of ones, which are no one-hot rows."""
    x, y = make_case(rng)
    model = make_model()
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=all_metrics(from_logits=True))
    results = model.evaluate(x, np.eye(4, dtype="float32")[y], verbose=0, return_dict=True)
    assert_results(results, y, reference.softmax(model.predict(x, verbose=0)))


def test_weighted_metrics(rng):
    x, y = make_case(rng)
    weight = rng.random(len(y)) * (rng.random(len(y)) < 0.7)
    model = make_model(metrics=[], weighted_metrics=all_metrics(from_logits=True))
    results = model.evaluate(x, y, sample_weight=weight, batch_size=32, verbose=0, return_dict=True)
    assert_results(results, y, reference.softmax(model.predict(x, verbose=0)), weight)


@pytest.fixture
def mixed_bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.usefixtures("mixed_bfloat16")
@pytest.mark.parametrize("jit", JIT_OR_SLOW)
def test_mixed_bfloat16_with_more_than_256_classes(jit, rng):
    x, y = make_case(rng, num_classes=300)
    model = make_model(300, metrics=all_metrics(from_logits=True), jit_compile=jit)
    model.fit(x, y, batch_size=32, verbose=0)
    results = model.evaluate(x, y.astype("float32"), batch_size=32, verbose=0, return_dict=True)
    logits = np.asarray(model.predict(x, verbose=0)).astype("float64")
    # XLA may keep a bfloat16 layer's result in float32, so the logits agree to bfloat16's rounding alone.
    assert_results(results, y, reference.softmax(logits), rtol=1e-2, atol=1e-3)


class TestSequences:
    def model(self, **compiling):
        model = keras.Sequential(
            [layers.Input((None,), dtype="int32"), layers.Embedding(9, 8, mask_zero=True), layers.Dense(4)]
        )
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), **compiling)
        return model

    def tokens(self, rng):
        x = rng.integers(1, 9, (20, 7))
        for row, length in enumerate(rng.integers(0, 8, 20)):
            x[row, length:] = 0
        return x, np.where(x > 0, rng.integers(0, 4, x.shape), 0)

    @pytest.mark.parametrize("jit", [slow(jit) for jit in JIT])
    def test_embedding_mask(self, jit, rng):
        x, y = self.tokens(rng)
        model = self.model(metrics=all_metrics(from_logits=True), jit_compile=jit)
        results = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
        probs = reference.softmax(model.predict(x, verbose=0))
        assert_results(results, y[x > 0], probs[x > 0])

    def test_embedding_mask_in_fit(self, rng):
        x, y = self.tokens(rng)
        keras_nll = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="keras_nll")
        model = self.model(metrics=[*all_metrics(from_logits=True), keras_nll])
        model.optimizer.learning_rate = 0.0
        history = model.fit(x, y, batch_size=8, verbose=0).history
        np.testing.assert_allclose(history["nll"], history["keras_nll"], rtol=1e-5)
        if BACKEND != "jax":  # there Keras's training step drops the mask, for its own metrics, too
            probs = reference.softmax(model.predict(x, verbose=0))
            assert_results({name: values[0] for name, values in history.items()}, y[x > 0], probs[x > 0])


def test_saved_and_loaded_model(tmp_path, rng):
    x, y = make_case(rng)
    model = make_model(metrics=all_metrics(from_logits=True, ignore_class=3), jit_compile=JIT[0])
    model.fit(x, y, verbose=0)
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    after = loaded.evaluate(x, y, verbose=0, return_dict=True)
    assert set(REFERENCES) <= set(after)
    np.testing.assert_allclose([after[name] for name in before], list(before.values()), rtol=1e-6)
    loaded.fit(x, y, verbose=0)


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
def test_a_metric_that_was_first_traced_goes_on_eagerly(rng):
    import jax

    y, p = rng.integers(0, 4, 20), rng.dirichlet(np.ones(4), 20).astype("float32")
    metric, plain = ClasswiseCalibrationError(), ClasswiseCalibrationError()
    variables = jax.jit(lambda state: metric.stateless_update_state(state, y, p))([])
    assert float(metric.result()) == 0.0
    plain.update_state(y, p)
    assert float(metric.stateless_result(variables)) == pytest.approx(float(plain.result()))
    metric.update_state(y, p)
    assert float(metric.result()) == pytest.approx(float(plain.result()))
