"""Mutual information: the estimate against its definition, its limits, models, randomness."""

import functools
import math
import random
import subprocess
import sys
import tracemalloc
import warnings

import keras
import numpy as np
import pytest
from harness import BACKEND, numpy, slow
from keras import layers

from keras_ls import information
from keras_ls.information import logit_mutual_information, mutual_information


def estimate(samples):
    """The definition as plain loops over (L, N) samples, not clipped."""
    rows = [[float(f) for f in row] for row in samples]
    count = len(rows[0])
    means = [math.fsum(row[x] for row in rows) / len(rows) for x in range(count)]
    variance = math.fsum((row[x] - means[x]) ** 2 for row in rows for x in range(count)) / (len(rows) * count)
    terms = []
    for row in rows:
        for x, f in enumerate(row):
            mixture = math.fsum(math.exp(-((f - mean) ** 2) / (2 * variance)) for mean in means) / count
            terms.append(-((f - means[x]) ** 2) / (2 * variance) - math.log(mixture))
    return math.fsum(terms) / len(terms)


def gaussians(rng, means, samples, sigma=1.0):
    """(L, N) samples around the means."""
    return means + sigma * rng.standard_normal((samples, len(means)))


class TestEstimate:
    @pytest.mark.parametrize("shape", [(2, 2), (5, 9), (3, 40), (40, 3)])
    def test_is_the_definition(self, rng, shape):
        samples = rng.normal(size=shape) + 3 * rng.normal(size=shape[1])
        assert mutual_information(samples) == pytest.approx(estimate(samples), rel=1e-12)

    @pytest.mark.parametrize("chunk", [1, 7, 30, 31, 10**6])
    def test_does_not_depend_on_how_it_is_cut(self, rng, monkeypatch, chunk):
        samples = rng.normal(size=(4, 10)) + 2 * rng.normal(size=10)
        whole = estimate(samples)
        monkeypatch.setattr(information, "CHUNK", chunk)
        assert mutual_information(samples) == pytest.approx(whole, rel=1e-12)

    def test_of_gaussians_is_the_integral(self, rng):
        integrate = pytest.importorskip("scipy.integrate", reason="scipy is not installed")
        for spacing in (0.3, 1.5, 4.0):
            means = spacing * np.arange(12)

            def density(y, means=means):
                return np.mean(np.exp(-((y - means) ** 2) / 2)) / math.sqrt(2 * math.pi)

            def term(y, density=density):
                return -density(y) * math.log(density(y))

            entropy, _ = integrate.quad(term, -10, means[-1] + 10, limit=500, points=means)
            expected = entropy - 0.5 * math.log(2 * math.pi * math.e)
            found = [mutual_information(gaussians(rng, means, 1000)) for _ in range(8)]
            error = np.std(found, ddof=1) / math.sqrt(len(found))
            assert error < 0.005
            assert np.mean(found) == pytest.approx(
                expected, abs=4 * error + 1 / 1000
            )  # the second: 1000 samples a mean

    def test_of_means_that_are_gaussian_is_the_closed_form(self, rng):
        stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
        means = 3 * stats.norm.ppf((np.arange(1500) + 0.5) / 1500)
        expected = 0.5 * math.log(1 + 3**2)
        assert mutual_information(gaussians(rng, means, 60)) == pytest.approx(expected, abs=0.02)

    def test_of_examples_that_are_alike_falls_with_more_samples(self, rng):
        few, many = (mutual_information(rng.normal(size=(n, 600))) for n in (5, 50))
        assert few == pytest.approx(1 / 10, abs=0.03)
        assert many == pytest.approx(1 / 100, abs=0.003)

    def test_ten_thousand_examples_fit_in_memory(self, rng):
        samples = gaussians(rng, 2 * rng.standard_normal(10_000), 2, sigma=0.1)
        tracemalloc.start()
        try:
            value = mutual_information(samples)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 32 * 2**20
        assert 3 < value < math.log(10_000)

    @pytest.mark.parametrize("factor", [1e-200, 1e-8, -2.5, 1e8, 1e200])
    def test_scale_does_not_matter(self, rng, factor):
        samples = gaussians(rng, rng.normal(size=50) * 4, 5)
        assert mutual_information(factor * samples) == pytest.approx(mutual_information(samples), rel=1e-9)

    @pytest.mark.parametrize("shift", [-7.0, 1e3, 1e6])
    def test_shift_does_not_matter(self, rng, shift):
        samples = gaussians(rng, rng.normal(size=50) * 4, 5)
        assert mutual_information(samples + shift) == pytest.approx(mutual_information(samples), rel=1e-6)

    def test_order_of_examples_and_samples_does_not_matter(self, rng):
        samples = gaussians(rng, rng.normal(size=50) * 4, 5)
        shuffled = samples[rng.permutation(5)][:, rng.permutation(50)]
        assert mutual_information(shuffled) == pytest.approx(mutual_information(samples), rel=1e-12)

    @pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
    def test_every_dtype_is_computed_in_float64(self, rng, dtype):
        samples = (rng.normal(size=(5, 30)) * 9).astype(dtype)
        assert mutual_information(samples) == pytest.approx(max(0.0, estimate(samples)), rel=1e-12)

    def test_takes_a_list_of_outputs(self, rng):
        layer, x = layers.Dense(1), rng.normal(size=(9, 3)).astype("float32")
        rows = [layer(x)[:, 0] for _ in range(3)]  # of which PyTorch could give gradients
        assert mutual_information(rows) == pytest.approx(mutual_information(numpy(layer(x))[None, :, 0].repeat(3, 0)))
        narrow = [keras.ops.cast(row, "bfloat16") for row in rows]
        assert mutual_information(narrow) == pytest.approx(mutual_information(rows), abs=0.3)

    def test_takes_tensors_and_lists(self, rng):
        samples = rng.normal(size=(5, 30)).astype("float32")
        expected = mutual_information(samples)
        assert mutual_information(keras.ops.convert_to_tensor(samples)) == expected
        assert mutual_information(samples.tolist()) == expected
        assert isinstance(expected, float)


class TestLimits:
    @pytest.mark.parametrize("shift", [0, 0.1, 1e6])
    def test_identical_examples_give_0(self, rng, shift):
        samples = np.repeat(rng.normal(size=(5, 1)), 600, axis=1) + shift
        assert mutual_information(samples) == pytest.approx(0, abs=1e-6)

    def test_examples_far_apart_give_log_n(self, rng):
        values = [mutual_information(gaussians(rng, d * np.arange(100), 50)) for d in (0.01, 0.1, 1, 10, 100)]
        assert values == sorted(values)
        assert values[0] < 0.3
        assert values[-1] == pytest.approx(math.log(100), abs=1e-9)

    @pytest.mark.parametrize("distance", [20, 1e4, 1e8])
    def test_two_tight_clusters_give_log_2(self, rng, distance):
        means = np.repeat([0.0, distance], 300)
        samples = means + rng.standard_normal((5, 1))  # the same noise for all: nothing but the cluster is told
        assert mutual_information(samples) == pytest.approx(math.log(2), abs=1e-6)
        assert mutual_information(gaussians(rng, means, 200)) == pytest.approx(math.log(2), abs=0.01)

    def test_unequal_clusters_give_their_entropy(self, rng):
        samples = np.repeat([0.0, 9.0, 30.0], [10, 30, 60]) + 0.1 * rng.standard_normal((5, 1))
        expected = -sum(p * math.log(p) for p in (0.1, 0.3, 0.6))
        assert mutual_information(samples) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("sigma", [10.0**-k for k in (2, 4, 8, 12, 15, 17, 30, 160, 300)] + [0.0])
    def test_vanishing_noise(self, sigma):
        """Never NaN, never out of range: distinct examples approach log N, clusters the logarithm of their number."""
        noise = sigma * np.array([[-1.0], [0.0], [1.0]])
        distinct = mutual_information(np.arange(40) + noise)
        clusters = mutual_information(np.repeat([0.1, 0.7, 0.75, 3.0], 10) + noise)
        assert distinct == pytest.approx(math.log(40), abs=1e-9)
        assert clusters == pytest.approx(math.log(4), abs=1e-3)

    @pytest.mark.filterwarnings("error")
    def test_noise_of_a_few_examples_alone(self):
        """σ is all but 0 beside a single example that varies: distances of 1e30 σ and more."""
        samples = np.tile(np.arange(50.0), (3, 1))
        for step in (1e-300, 1e-16, 1e-8):
            samples[:, 0] = [0.0, step, 2 * step]
            assert mutual_information(samples) == pytest.approx(math.log(50), abs=1e-9)

    @pytest.mark.parametrize("value", [0.0, 0.1, -3e8])
    @pytest.mark.parametrize("shape", [(5, 600), (3, 7), (1, 2), (4, 1)])
    def test_one_constant_gives_0(self, value, shape):
        assert mutual_information(np.full(shape, value)) == 0.0

    @pytest.mark.parametrize("count", [1, 3])
    def test_without_noise_it_counts_distinct_values(self, rng, count):
        rows = np.tile(rng.permutation(np.repeat([0.1, 0.2, 0.7], [2, 2, 4])), (count, 1))
        expected = 2 * 0.25 * math.log(4) + 0.5 * math.log(2)
        assert mutual_information(rows) == pytest.approx(expected, rel=1e-12)
        assert mutual_information(np.tile(rng.normal(size=30), (count, 1))) == pytest.approx(math.log(30), rel=1e-12)

    def test_rounding_never_takes_it_out_of_range(self, rng):
        for _ in range(200):
            half = rng.normal(size=(3, 7))
            alike = mutual_information(np.concatenate([half, -half]) + 1 / 3)  # equal means, but for rounding
            assert 0 <= alike < 1e-12
            apart = mutual_information(half + 1000 * np.arange(7))
            assert math.log(7) - 1e-12 < apart <= math.log(7)

    @pytest.mark.filterwarnings("error")
    def test_the_whole_range_of_floats(self):
        largest = np.finfo("float64").max
        assert mutual_information([[-largest, largest, 0.0]]) == pytest.approx(math.log(3), rel=1e-12)
        samples = np.array([[-0.9, 0.8, 0.1], [-1.0, 1.0, 0.2], [-0.7, 0.9, 0.3]])
        assert mutual_information(samples * largest) == pytest.approx(mutual_information(samples), rel=1e-9)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_gives_nan(self, rng, bad):
        samples = rng.normal(size=(5, 9))
        samples[2, 3] = bad
        assert math.isnan(mutual_information(samples))

    @pytest.mark.parametrize(
        "samples",
        [0.5, [0.1, 0.2], np.zeros((2, 3, 4)), np.zeros((0, 3)), np.zeros((3, 0)), [["a", "b"]], [[1], [2, 3]]],
    )
    def test_refuses_what_is_no_array_of_samples(self, samples):
        with pytest.raises(ValueError, match="`samples` must be"):
            mutual_information(samples)


KERNEL = np.array([[1.0, -0.5, 0.2], [0.3, 0.8, -1.0]])


@pytest.fixture
def data(rng):
    """40 examples of each of three classes."""
    y = np.tile(np.arange(3), 40)
    return (rng.normal(size=(120, 2)) + y[:, None]).astype("float32"), y


def linear(*after, kernel=KERNEL, activation=None):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, use_bias=False, activation=activation), *after])
    model.layers[0].kernel.assign(kernel)
    return model


def blur(batch):
    return batch + np.random.normal(size=batch.shape).astype("float32")


def measure(model, data, augment=blur, classes=(0, 2), **options):
    return logit_mutual_information(model, *data, classes, augment, **{"examples_per_class": 40, **options})


class Recorded:
    """An augmentation with a generator of its own that keeps what it gives."""

    def __init__(self):
        self.rng, self.kept = np.random.default_rng(5), []

    def __call__(self, batch):
        self.kept.append(batch + self.rng.normal(size=batch.shape).astype("float32"))
        return self.kept[-1]


class TestOfModels:
    def test_is_that_of_the_difference_of_logits(self, data):
        augment = Recorded()
        value = measure(linear(), data, augment, num_samples=3, batch_size=32)
        assert [len(batch) for batch in augment.kept] == [32, 32, 16] * 3
        inputs = np.concatenate(augment.kept).reshape(3, 80, 2).astype("float64")
        assert value == pytest.approx(estimate(inputs @ (KERNEL[:, 0] - KERNEL[:, 2])), rel=1e-5)

    def test_each_sample_augments_the_same_examples_of_the_two_classes(self, data):
        x, y = data
        seen = []

        def look(batch):
            seen.append(batch.copy())
            return batch + np.random.normal(size=batch.shape)

        measure(linear(), data, look, classes=(2, 1), examples_per_class=25, num_samples=3)
        assert len(seen) == 3
        for batch in seen:
            np.testing.assert_array_equal(batch, seen[0])
        places = [int(np.flatnonzero((x == row).all(axis=1))[0]) for row in seen[0]]
        assert len(set(places)) == 50
        assert sorted(y[places]) == [1] * 25 + [2] * 25

    def test_logits_and_probabilities_give_the_same(self, data):
        expected = measure(linear(), data)

        class Opaque(layers.Layer):
            """A softmax that does not show what it is given."""

            def call(self, inputs):
                return keras.ops.softmax(inputs)

        for model in (
            linear(layers.Softmax()),
            linear(activation="softmax"),
            linear(activation="log_softmax"),
            linear(Opaque(), layers.Lambda(keras.ops.log), layers.Softmax()),
        ):
            assert measure(model, data) == pytest.approx(expected, rel=1e-4)

    def test_subclassed_models_say_what_they_give(self, data):
        class Classifier(keras.Model):
            def __init__(self, probabilities):
                super().__init__()
                self.dense = linear().layers[0]
                self.probabilities = probabilities

            def call(self, inputs):
                logits = self.dense(inputs)
                return keras.ops.softmax(logits) if self.probabilities else logits

        expected = measure(linear(), data)
        start = keras.Input((2,))
        with pytest.raises(ValueError, match="Softmax"):
            measure(Classifier(False), data)
        logits = keras.Sequential([start, Classifier(False), layers.Softmax()])
        probabilities = keras.Sequential([start, Classifier(True), layers.Lambda(keras.ops.log), layers.Softmax()])
        assert measure(logits, data) == pytest.approx(expected, rel=1e-5)
        assert measure(probabilities, data) == pytest.approx(expected, rel=1e-4)

    def test_the_order_of_the_classes_does_not_matter(self, data):
        assert measure(linear(), data, classes=(2, 0)) == pytest.approx(measure(linear(), data), rel=1e-9)

    def test_the_batch_size_does_not_matter(self, data):
        assert measure(linear(), data, batch_size=7) == pytest.approx(measure(linear(), data), rel=1e-5)

    def test_labels_of_every_form(self, data):
        x, y = data
        expected = measure(linear(), data)
        for labels in (y[:, None], y.astype("float32"), np.eye(3)[y], keras.ops.convert_to_tensor(y), y.tolist()):
            assert measure(linear(), (x, labels)) == expected

    def test_several_inputs(self, data):
        x, y = data
        inputs = {"a": keras.Input((1,), name="a"), "b": keras.Input((1,), name="b")}
        both = layers.Concatenate()([inputs["a"], inputs["b"]])
        model = keras.Model(inputs, layers.Dense(3, use_bias=False)(both))
        model.layers[-1].kernel.assign(KERNEL)

        def augment(batch):
            noise = np.random.normal(size=(len(batch["a"]), 2)).astype("float32")
            return {"a": batch["a"] + noise[:, :1], "b": batch["b"] + noise[:, 1:]}

        arrays = {"a": x[:, :1], "b": keras.ops.convert_to_tensor(x[:, 1:])}
        assert measure(model, (arrays, y), augment) == pytest.approx(measure(linear(), data), rel=1e-5)

    def test_one_of_several_outputs(self, data):
        inputs = keras.Input((2,))
        outputs = {"other": layers.Dense(2)(inputs), "own": layers.Dense(3, use_bias=False, name="own")(inputs)}
        model = keras.Model(inputs, outputs)
        model.get_layer("own").kernel.assign(KERNEL)
        x, y = data
        for labels in (y, {"own": y, "other": None}):
            assert measure(model, (x, labels), output="own") == pytest.approx(measure(linear(), data), rel=1e-6)

    def test_collapsed_classes_give_a_little_more_than_log_2(self, rng):
        y = np.repeat([0, 1], 300)
        x = (10.0 * y[:, None] + [[0.0, 0.0]]).astype("float32")
        value = logit_mutual_information(linear(), x, y, (0, 1), layers.GaussianNoise(0.5))
        assert math.log(2) < value < math.log(2) + 0.15

    def test_a_network_without_knowledge_gives_next_to_nothing(self, data):
        assert measure(linear(kernel=0 * KERNEL), data) == 0.0

    def test_runs_in_inference_mode_and_changes_nothing(self, data):
        model = keras.Sequential(
            [keras.Input((2,)), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3), layers.Softmax()]
        )
        before = [numpy(v).copy() for v in model.variables]
        with pytest.warns(UserWarning, match="changed no logit"):
            steady = [measure(model, data, lambda batch: batch * 1.5) for _ in range(2)]
        for old, new in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(old, numpy(new))
        assert steady == pytest.approx([math.log(80)] * 2)  # dropout would make the samples differ

    def test_mixed_precision(self, data):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = linear(layers.Softmax())
        finally:
            keras.config.set_dtype_policy("float32")
        assert measure(model, data) == pytest.approx(measure(linear(), data), rel=0.05)

    @pytest.mark.parametrize("activation", [None, "sigmoid"])
    def test_of_one_output_for_two_classes(self, data, activation):
        """Logits 0 and z: the same as two columns (0, z), and as their softmax."""
        x, y = data[0][data[1] < 2], data[1][data[1] < 2]
        one = keras.Sequential([keras.Input((2,)), layers.Dense(1, activation=activation)])
        one.layers[0].kernel.assign(KERNEL[:, :1])
        augment = Recorded()
        value = measure(one, (x, y), augment, classes=(0, 1), num_samples=3)
        inputs = np.concatenate(augment.kept).reshape(3, 80, 2).astype("float64")
        assert value == pytest.approx(estimate(inputs @ KERNEL[:, 0]), rel=1e-5)
        columns = linear(kernel=np.stack([[0, 0], KERNEL[:, 0], [0, 0]], axis=1))
        assert measure(one, (x, y), classes=(1, 0)) == pytest.approx(measure(columns, (x, y), classes=(0, 1)), rel=1e-4)
        assert measure(one, (x, y[:, None]), classes=(0, 1)) == measure(one, (x, y), classes=(0, 1))
        with pytest.raises(ValueError, match=r"`classes` must be in \[0, 2\)"):
            measure(one, (x, y), classes=(0, 2))

    @pytest.mark.slow
    def test_replicas_share_each_batch_within_the_scope_and_outside(self):
        pytest.importorskip("tensorflow", reason="tensorflow is not installed")
        if BACKEND != "tensorflow":
            pytest.skip("a strategy of TensorFlow")
        code = """
import keras, keras_ls, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
x, y = np.random.default_rng(0).normal(size=(30, 3)).astype("float32"), np.arange(30) % 2
arguments = x, y, (0, 1), keras.layers.GaussianNoise(0.1)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    within = keras_ls.logit_mutual_information(model, *arguments)
alone = keras.models.clone_model(model)
alone.set_weights(model.get_weights())
expected = keras_ls.logit_mutual_information(alone, *arguments)
np.testing.assert_allclose([within, keras_ls.logit_mutual_information(model, *arguments)], expected, rtol=1e-4)
"""
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_of_a_model_that_diverged_is_nan(self, data):
        assert math.isnan(measure(linear(kernel=np.nan * KERNEL), data))


def python_noise(batch):
    return batch + np.array([[random.gauss(0, 1)] for _ in batch], "float32")


def keras_noise(batch):
    return batch + keras.random.normal(batch.shape)


def backend_noise(batch):
    if BACKEND != "torch":
        return keras_noise(batch)
    import torch

    return torch.tensor(batch) + torch.randn(batch.shape)


def in_a_function(layer):
    return lambda batch: layer(batch, training=True)


class Held:
    """An augmentation that has a layer."""

    def __init__(self, layer):
        self.layers = [layer]

    def __call__(self, batch):
        return self.layers[0](batch, training=True)


SOURCES = {
    "layer": lambda: layers.GaussianNoise(1.0),
    "seeded layer": lambda: layers.GaussianNoise(1.0, seed=3),
    "layers": lambda: keras.Sequential([layers.GaussianNoise(0.7), layers.GaussianNoise(0.7)]),
    "layer in a function": lambda: in_a_function(layers.GaussianNoise(1.0)),
    "layer in an object": lambda: Held(layers.GaussianNoise(1.0)),
    "layer in a partial": lambda: functools.partial(layers.GaussianNoise(1.0), training=True),
    "numpy": lambda: blur,
    "python": lambda: python_noise,
    "keras": lambda: keras_noise,
    "backend": lambda: backend_noise,
}


# The one of unseeded layers shows most of what these do.
SOME = [
    slow(name) if name in ("seeded layer", "layers", "layer in a partial", "layer in an object") else name
    for name in SOURCES
]


class TestRandomness:
    @pytest.mark.parametrize("source", SOME)
    def test_comes_from_the_seed(self, data, source):
        augment = SOURCES[source]()
        first, again = (measure(linear(), data, augment, seed=1) for _ in range(2))
        other = measure(linear(), data, augment, seed=2)
        assert first == again
        assert first != other
        assert max(first, other) < 3  # log 80 is 4.4: the noise is there
        assert first == pytest.approx(other, rel=0.3)

    @pytest.mark.parametrize("source", SOME)
    def test_leaves_every_generator_as_it_was(self, data, source):
        torch = sys.modules.get("torch")

        def seed():
            keras.utils.clear_session()  # Keras 3.12 goes on with its generator otherwise
            keras.utils.set_random_seed(4)
            if torch:  # Keras seeds it on its own backend alone
                torch.manual_seed(4)

        def draws():
            numbers = [random.random(), np.random.random(), float(numpy(keras.random.uniform(())))]
            return [*numbers, float(torch.rand(())) if torch else 0.0]

        augment, model = SOURCES[source](), linear(layers.Dropout(0.5), layers.Softmax())
        held = [cell.cell_contents for cell in getattr(augment, "__closure__", None) or ()]
        held += [*getattr(augment, "layers", ()), getattr(augment, "func", None)]
        owners = [owner for owner in (model, augment, *held) if isinstance(owner, layers.Layer)]
        before = [numpy(v).copy() for owner in owners for v in owner.variables]
        seed()
        expected = draws()
        seed()
        measure(model, data, augment)
        assert draws() == expected
        after = [numpy(v) for owner in owners for v in owner.variables]
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)

    @pytest.mark.parametrize("seed", [2**32, 2**70 + 1, 10**50])
    def test_a_seed_may_be_of_any_size(self, data, seed):
        first, again, small = (measure(linear(), data, seed=n) for n in (seed, seed, 1))
        assert first == again != small

    def test_state_is_put_back_after_an_error(self, data):
        def fail(batch):
            np.random.random()
            raise RuntimeError("broken")

        np.random.seed(8)
        expected = np.random.random()
        np.random.seed(8)
        with pytest.raises(RuntimeError, match="broken"):
            measure(linear(), data, fail)
        assert np.random.random() == expected

    def test_an_augmentation_may_work_in_place(self, data):
        def in_place(batch):
            batch += np.random.normal(size=batch.shape).astype("float32")
            return batch

        kept = data[0].copy()
        assert measure(linear(), data, in_place) == pytest.approx(measure(linear(), data), rel=1e-6)
        np.testing.assert_array_equal(data[0], kept)

    @pytest.mark.parametrize("needs", [TypeError, AttributeError])
    def test_an_augmentation_may_need_tensors(self, data, needs):
        def augment(batch):
            if not keras.ops.is_tensor(batch):
                raise needs("only tensors")
            return batch + keras.random.normal(batch.shape)

        value = measure(linear(), data, augment)
        assert 0 < value < 3
        assert value == measure(linear(), data, augment)
        with pytest.raises(needs, match="never"):
            measure(linear(), data, lambda batch: (_ for _ in ()).throw(needs("never")))

    def test_image_layers(self, rng):
        x, y = rng.uniform(size=(60, 8, 8, 1)).astype("float32"), np.tile([0, 1], 30)
        model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2)])
        augment = keras.Sequential([layers.RandomFlip(), layers.RandomTranslation(0.2, 0.2)])
        value = logit_mutual_information(model, x, y, (0, 1), augment, examples_per_class=30)
        assert 0 < value < 3
        assert value == logit_mutual_information(model, x, y, (0, 1), augment, examples_per_class=30)


class TestWarns:
    def test_of_fewer_examples_than_asked_for(self, data):
        x, y = data
        fewer = (x[:100], y[:100])  # 34, 33, 33
        with pytest.warns(UserWarning, match=r"3[34] examples, fewer than examples_per_class=40"):
            value = measure(linear(), fewer)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert measure(linear(), fewer, examples_per_class=33) != value

    @pytest.mark.parametrize("augment", [lambda batch: batch, lambda batch: layers.GaussianNoise(1.0)(batch)])
    def test_of_an_augmentation_that_does_nothing(self, data, augment):
        with pytest.warns(UserWarning, match="changed no logit"):
            assert measure(linear(), data, augment) == pytest.approx(math.log(80))


class TestRefuses:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"classes": (0,)}, "`classes` must be two different class ids"),
            ({"classes": (0, 1, 2)}, "`classes` must be two different"),
            ({"classes": (1, 1)}, "`classes` must be two different"),
            ({"classes": (0, -1)}, "`classes` must be two different"),
            ({"classes": (0, 1.5)}, "`classes` must be two different"),
            ({"classes": ("a", "b")}, "`classes` must be two different"),
            ({"classes": 1}, "`classes` must be two different"),
            ({"classes": (0, 3)}, r"`classes` must be in \[0, 3\). Received: \[0, 3\]"),
            ({"num_samples": 1}, "`num_samples` must be at least 2"),
            ({"num_samples": 2.5}, "`num_samples` must be an integer"),
            ({"examples_per_class": 0}, "`examples_per_class` must be at least 1"),
            ({"batch_size": 0}, "`batch_size` must be at least 1"),
            ({"batch_size": 2**70}, "`batch_size` must be at most 2147483647"),
            ({"batch_size": "32"}, "`batch_size` must be an integer"),
            ({"classes": [[0], [1, 2]]}, "`classes` must be two different"),
            ({"classes": np.arange(1000)}, "`classes` must be two different"),
            ({"num_samples": np.arange(1000)}, "`num_samples` must be an integer"),
            ({"seed": -1}, "`seed` must be at least 0"),
            ({"seed": 0.5}, "`seed` must be an integer"),
            ({"augment": None}, "`augment` must be a function or a layer"),
            ({"augment": np.eye(100)}, "`augment` must be a function or a layer"),
            ({"augment": lambda batch: batch[:-1]}, "`augment` must return a batch of as many examples.* 80"),
            ({"augment": lambda batch: None}, "`augment` must return a batch"),
        ],
    )
    def test_options(self, data, options, message):
        with pytest.raises(ValueError, match=message) as caught:
            measure(linear(), data, **options)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x, y: (x, y[:-1]), "same length"),
            (lambda x, y: (x[:0], y[:0]), "must hold examples"),
            (lambda x, y: (x, None), "`y` must be given"),
            (lambda x, y: (range(len(y)), y), "`x` must be an array"),
            (lambda x, y: ("text", y), "`x` must be an array"),
            (lambda x, y: (x, [str(k) for k in y]), "`y` must be an array of real numbers"),
            (lambda x, y: (x, y + 1), r"`y` must hold integers in \[0, 3\). Received: \[3.0\]"),
            (lambda x, y: (x, y - 0.5), "`y` must hold integers"),
            (lambda x, y: (x, np.eye(4)[y]), "`y` must hold one class id"),
            (lambda x, y: (x, np.where(y == 2, 1, y)), "examples of each of the classes.* none of class 2"),
        ],
    )
    def test_data(self, data, change, message):
        with pytest.raises(ValueError, match=message):
            measure(linear(), change(*data))

    def test_an_augmentation_to_a_shape_that_the_model_does_not_take(self, data):
        with pytest.raises(ValueError, match=r"`augment\(x\)` must be of a shape that the model takes, \(None, 2\)"):
            measure(linear(), data, augment=lambda batch: np.repeat(batch, 2, axis=1))

    def test_models_of_other_outputs(self, data):
        inputs = keras.Input((2,))
        two = keras.Model(inputs, [layers.Dense(3)(inputs), layers.Dense(3)(inputs)])
        with pytest.raises(ValueError, match="one output"):
            measure(two, data)
        with pytest.raises(ValueError, match="sigmoid"):
            measure(linear(activation="sigmoid"), data)
        preprocessing = linear()
        preprocessing.preprocessor = lambda x: x / 255
        with pytest.raises(ValueError, match="must not preprocess its inputs"):
            measure(preprocessing, data)
        steps = keras.Sequential([keras.Input((2, 1)), layers.Dense(3)])
        with pytest.raises(ValueError, match="one row of logits per example"):
            measure(steps, (data[0][..., None], data[1]))
