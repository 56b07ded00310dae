"""The losses inside `model.fit`: every kind of input, compiled, in mixed precision, saved and loaded."""

import shutil

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, numpy, slow

import keras_ls
from keras_ls._backend import set_mask

NUM_CLASSES = 4
LOSSES = {
    "dense": keras_ls.SmoothedCategoricalCrossentropy(0.1, from_logits=True),
    "sparse": keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True),
    "sparse, prior": keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, prior=[4, 3, 2, 1], from_logits=True),
    "sparse, probabilities": keras_ls.SmoothedSparseCategoricalCrossentropy(0.1),
    "sparse, bfloat16": keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True, dtype="bfloat16"),
}
# Whether Keras compiles on a CPU where a test does not ask for it.
COMPILES = BACKEND == "jax"


class Batches(keras.utils.PyDataset):
    """Batches of 16, the last one ragged."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return -(-len(self.x) // 16)

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * (index + 1))
        return self.x[rows], self.y[rows]


def make_data(loss):
    """Four separable clusters, 100 examples (no multiple of the batch)."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, NUM_CLASSES, 100)
    x = (np.eye(NUM_CLASSES)[labels] + 0.1 * rng.standard_normal((100, NUM_CLASSES))).astype("float32")
    return x, labels if "sparse" in loss else np.eye(NUM_CLASSES, dtype="float32")[labels]


def make_model(loss):
    last = "softmax" if "probabilities" in loss else None
    return keras.Sequential(
        [keras.Input((NUM_CLASSES,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(NUM_CLASSES, last)]
    )


def assert_learns(model, loss, data, **compile_options):
    model.compile(keras.optimizers.Adam(0.05), LOSSES[loss], metrics=["accuracy"], **compile_options)
    if isinstance(data, tuple):
        history = model.fit(*data, batch_size=16, epochs=3, verbose=0)
    else:
        history = model.fit(data, epochs=3, verbose=0)
    assert history.history["loss"][-1] < 0.8 * history.history["loss"][0]
    assert history.history["accuracy"][-1] > 0.9


@pytest.mark.parametrize("source", ["PyDataset", "tf.data"])
def test_fit_learns_from_datasets(source):
    x, y = make_data("sparse")
    data = Batches(x, y)
    if source == "tf.data":
        tf = pytest.importorskip("tensorflow", reason="tf.data needs TensorFlow")
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    assert_learns(make_model("sparse"), "sparse", data)


@pytest.mark.parametrize(
    ("loss", "policy", "jit_compile"),
    [
        ("sparse, probabilities", "float32", not COMPILES),
        *(slow(loss, "float32", not COMPILES) for loss in LOSSES if loss != "sparse, probabilities"),
        ("dense", "mixed_bfloat16", False),
        *(slow(loss, "mixed_bfloat16", False) for loss in LOSSES if loss != "dense"),
        ("sparse", "mixed_bfloat16", True),
        slow("sparse, probabilities", "mixed_bfloat16", True),
    ],
)
def test_fit_learns_compiled_and_in_mixed_precision(loss, policy, jit_compile):
    if BACKEND == "torch" and jit_compile:
        if shutil.which("g++") is None:
            pytest.skip("torch.compile needs a C++ compiler at run time")
        if (loss, policy) != ("sparse", "float32"):
            pytest.skip("torch.compile takes half a minute: one case stands for all")
    keras.config.set_dtype_policy(policy)
    try:
        assert_learns(make_model(loss), loss, make_data(loss), jit_compile=jit_compile)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("loss", [loss if loss == "sparse, prior" else slow(loss) for loss in LOSSES])
def test_a_compiled_model_saves_and_loads_with_no_custom_objects(loss, tmp_path):
    model, (x, y) = make_model(loss), make_data(loss)
    assert_learns(model, loss, (x, y))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-6)
    loaded.fit(x, y, epochs=1, verbose=0)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_model_compiled_with_a_function_saves_and_loads(kind, tmp_path):
    model, (x, y) = make_model("probabilities"), make_data(kind)
    functions = {
        "dense": keras_ls.smoothed_categorical_crossentropy,
        "sparse": keras_ls.smoothed_sparse_categorical_crossentropy,
    }
    model.compile("sgd", functions[kind])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-6)


def test_padding_of_a_masked_sequence_does_not_count():
    rng = np.random.default_rng(4)
    x = rng.integers(1, 9, (12, 6))
    x[:, 4:] = 0
    y = rng.integers(0, NUM_CLASSES, x.shape)
    model = keras.Sequential([keras.layers.Embedding(9, 8, mask_zero=True), keras.layers.Dense(NUM_CLASSES)])
    model.compile("sgd", LOSSES["sparse"])
    whole = model.evaluate(x, y, verbose=0)
    y[:, 4:] = 0
    assert model.evaluate(x, y, verbose=0) == pytest.approx(whole, rel=1e-6)
    logits = model.predict(x, verbose=0)[:, :4]
    alone = keras_ls.smoothed_sparse_categorical_crossentropy(y[:, :4], logits, from_logits=True)
    assert numpy(alone).mean() == pytest.approx(whole, rel=1e-5)


def test_a_wrong_shape_stops_fit_at_the_first_batch():
    model = make_model("sparse")
    model.compile("sgd", LOSSES["sparse"])
    with pytest.raises(ValueError, match="`y_true` must hold one class id per prediction"):
        model.fit(np.zeros((8, NUM_CLASSES)), np.zeros((8, NUM_CLASSES)), verbose=0)


def fitted_weights(model, x, y, sample_weight=None):
    """The weights after one step of plain gradient descent on all examples at once."""
    model.fit(x, y, batch_size=len(x), epochs=1, shuffle=False, verbose=0, sample_weight=sample_weight)
    return [numpy(weight) for weight in model.trainable_weights]


def test_sample_weights_taken_from_labels_are_class_weights_of_sequences():
    """What `fit` does with them is descent along the gradient of Σ w[y]·loss / Σ 1 over the B·T positions."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((6, 5, 3)).astype("float32")
    y = rng.integers(0, NUM_CLASSES, (6, 5))
    class_weights = np.array([0.5, 2.0, 1.0, 0.0])
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.Dense(NUM_CLASSES)])
    model.compile(keras.optimizers.SGD(0.5), keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True))
    kernel, bias = (numpy(weight).astype("float64") for weight in model.trainable_weights)
    logits = x.astype("float64") @ kernel + bias
    targets = reference.smoothed_targets(y, NUM_CLASSES, 0.1)
    weights = class_weights[y]
    history = model.evaluate(x, y, batch_size=6, sample_weight=np.take(class_weights, y), verbose=0)
    assert history == pytest.approx((weights * reference.cross_entropy(targets, logits)).mean(), rel=1e-5)

    slope = weights[..., None] * reference.cross_entropy_gradient(targets, logits) / weights.size
    new_kernel, new_bias = fitted_weights(model, x, y, np.take(class_weights, y))
    np.testing.assert_allclose(new_kernel, kernel - 0.5 * np.einsum("btd,btk->dk", x, slope), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new_bias, bias - 0.5 * slope.sum((0, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_a_weight_of_2_is_the_example_twice(kind):
    x, y = make_data(kind)
    x, y = x[:12], y[:12]
    weights = np.array([1, 2] * 6)
    twice = np.repeat(np.arange(12), weights)
    model = make_model(kind)
    # The sum, since Keras divides by the number of examples, and not by the sum of the weights.
    loss = type(LOSSES[kind])(0.1, from_logits=True, reduction="sum")
    model.compile(keras.optimizers.SGD(0.01), loss)
    start = [numpy(weight) for weight in model.trainable_weights]
    weighted = fitted_weights(model, x, y, weights)
    for variable, value in zip(model.trainable_weights, start, strict=True):
        variable.assign(value)
    for ours, expected in zip(weighted, fitted_weights(model, x[twice], y[twice]), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_masked_predictions_may_be_anything(rng, bad, from_logits):
    y_pred = rng.random((2, 3, NUM_CLASSES)).astype("float32")
    labels = rng.integers(0, NUM_CLASSES, (2, 3))
    mask = np.array([[True, True, False], [True, False, False]])
    targets = np.eye(NUM_CLASSES, dtype="float32")[labels]
    losses = (
        (keras_ls.SmoothedCategoricalCrossentropy(0.1, from_logits=from_logits), targets),
        (keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=from_logits), labels),
    )
    for loss, y_true in losses:
        found = []
        for value in (0.5, bad):
            tensor = keras.ops.convert_to_tensor(np.where(mask[..., None], y_pred, np.float32(value)))
            set_mask(tensor, keras.ops.convert_to_tensor(mask))
            found.append(float(loss(y_true, tensor)))
        assert np.isfinite(found[0])
        np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
