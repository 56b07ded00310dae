"""The penultimate layer of any model, the plane of three templates, and cluster statistics."""

import concurrent.futures
import dataclasses
import os
import subprocess
import sys
import threading
import warnings

import keras
import numpy as np
import pytest
from harness import BACKEND, numpy
from keras import layers

import keras_ls
from keras_ls.projection import ClassPlane, Projection, class_templates, cluster_statistics

penultimate = keras_ls.penultimate_activations


def images(rng, n=11):
    return rng.standard_normal((n, 6, 6, 1)).astype("float32")


def tokens(rng, n=11):
    ids = rng.integers(1, 9, (n, 5))
    ids[::2, 3:] = 0
    return ids


class Subclassed(keras.Model):
    """Layers made in another order than they are used in."""

    def __init__(self):
        super().__init__()
        self.head = layers.Dense(4, activation="softmax", name="head")
        self.flatten = layers.Flatten()
        self.dropout = layers.Dropout(0.5)
        self.norm = layers.BatchNormalization()
        self.hidden = layers.Dense(7, activation="tanh", name="hidden")

    def body(self, x):
        return self.dropout(self.norm(self.hidden(self.flatten(x)), training=False), training=False)

    def call(self, x, training=False):
        return self.head(self.dropout(self.norm(self.hidden(self.flatten(x)), training=training), training=training))


def sequential(*last):
    body = [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(7, activation="relu"), layers.Dropout(0.5)]
    return keras.Sequential([*body, *last])


def cut(model, layer):
    """The model up to what the layer (or the one of that name) is given."""
    layer = model.get_layer(layer) if isinstance(layer, str) else layer
    return lambda x: numpy(keras.Model(model.inputs, layer.input)(x, training=False))


def from_sequential(*last):
    model = sequential(*last)
    return model, cut(model, next(layer for layer in last if isinstance(layer, layers.Dense))), images


def convolutional():
    inputs = keras.Input((6, 6, 1))
    x = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same", activation="relu")(inputs))
    logits = layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Activation("softmax")(logits))
    return model, cut(model, "head"), images


def nested_body():
    body = sequential()
    inputs = keras.Input((6, 6, 1))
    model = keras.Model(inputs, layers.Dense(4)(body(inputs)))
    return model, lambda x: numpy(body(x)), images


def nested_head():
    features = keras.Input((7,))
    head = keras.Model(features, layers.Dense(4, activation="softmax")(layers.ReLU()(features)))
    model = sequential(head)
    return model, lambda x: np.maximum(numpy(keras.Model(model.inputs, model.layers[-2].output)(x)), 0), images


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 6, 6, 1), "float32"))
    return model, lambda x: numpy(model.body(x)), images


def many_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Dense(4, name="head")(layers.Concatenate()([a, b])))

    def make(rng, n=11):
        return {"b": rng.standard_normal((n, 2)), "a": rng.standard_normal((n, 3))}

    return model, lambda x: np.concatenate([x["a"], x["b"]], axis=1), make


def mixed():
    body = [keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(7, activation="relu", dtype="mixed_bfloat16")]
    head = layers.Dense(4, dtype="mixed_bfloat16")
    model = keras.Sequential([*body, head, layers.Softmax(dtype="float32")])
    return model, cut(model, head), images


def recurrent(head):
    inputs = keras.Input((None,), dtype="int32")
    states = layers.LSTM(6, return_sequences=True)(layers.Embedding(9, 5, mask_zero=True)(inputs))
    model = keras.Model(inputs, head(states))
    return model, lambda x: numpy(keras.Model(model.inputs, states)(x)), tokens


def calibrated():
    model, by_hand, make = from_sequential(layers.Dense(4, activation="softmax"))
    rng = np.random.default_rng(0)
    return keras_ls.calibrate(model, images(rng, 30), rng.integers(0, 4, 30)), by_hand, make


def shared():
    inputs, dense = keras.Input((4,)), layers.Dense(4, activation="relu")
    model = keras.Model(inputs, dense(dense(inputs)))
    return model, lambda x: numpy(dense(x)), lambda rng, n=11: rng.standard_normal((n, 4)).astype("float32")


def _spectral(head):
    model = sequential(layers.SpectralNormalization(head))
    return model, lambda x: numpy(keras.Model(model.inputs, model.layers[-2].output)(x)), images


MODELS = {
    "logits": lambda: from_sequential(layers.Dense(4)),
    "softmax inside": lambda: from_sequential(layers.Dense(4, activation="softmax")),
    "softmax layer": lambda: from_sequential(layers.Dense(4), layers.Softmax()),
    "without bias": lambda: from_sequential(layers.Dense(4, use_bias=False)),
    "convolutional": convolutional,
    "nested body": nested_body,
    "nested head": nested_head,
    "subclassed": subclassed,
    "many inputs": many_inputs,
    "mixed precision": mixed,
    "recurrent": lambda: recurrent(layers.Dense(4)),
    "time-distributed": lambda: recurrent(layers.TimeDistributed(layers.Dense(4))),
    "calibrated": calibrated,
    "shared": shared,
    "spectral normalisation": lambda: _spectral(layers.Dense(4)),
}


@pytest.fixture(params=MODELS)
def case(request):
    keras.utils.set_random_seed(0)
    return MODELS[request.param]()


class TestPenultimateActivations:
    def test_are_those_of_the_model_cut_by_hand(self, case, rng):
        model, by_hand, make = case
        x = make(rng)
        found = penultimate(model, x, batch_size=4)  # the last batch is smaller
        expected = by_hand(x)
        assert found.dtype in ("float32", "float64")
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    def test_with_the_templates_give_the_logits(self, case, rng):
        model, _, make = case
        x = make(rng)
        activations, templates = penultimate(model, x), class_templates(model)
        logits = activations @ templates[:, :-1].T + templates[:, -1]
        outputs = numpy(model.predict(x, verbose=0)).astype("float64")
        probabilities = np.exp(logits - logits.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        scaled = [layer for layer in model.layers if isinstance(layer, keras_ls.TemperatureScaling)]
        if scaled:
            assert (probabilities.argmax(-1) == outputs.argmax(-1)).all()
        else:
            expected = [logits, np.maximum(logits, 0), probabilities]
            assert any(np.allclose(outputs, e, rtol=1e-2, atol=1e-2) for e in expected)

    def test_leave_the_model_as_it_was(self, rng):
        model = Subclassed()
        x = images(rng)
        model(x)
        model.hidden.trainable = False
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(x, rng.integers(0, 4, len(x)), verbose=0)
        weights = [numpy(w) for w in model.weights]
        state = [numpy(v) for v in model.optimizer.variables]
        names = [set(vars(layer)) for layer in model._flatten_layers()]
        before = model.predict(x, verbose=0)
        penultimate(model, x)
        for now, then in zip([*model.weights, *model.optimizer.variables], [*weights, *state], strict=True):
            np.testing.assert_array_equal(numpy(now), then)
        assert not model.hidden.trainable
        assert model.head.trainable
        assert [set(vars(layer)) for layer in model._flatten_layers()][1:] == names[1:]
        np.testing.assert_array_equal(model.predict(x, verbose=0), before)
        model.fit(x, rng.integers(0, 4, len(x)), verbose=0)

    def test_call_nothing_in_training_mode_and_once(self, rng):
        calls = []

        class Spy(layers.Layer):
            def call(self, x, training=None):
                calls.append(training)
                return x

        model = sequential(Spy(), layers.Dense(4))
        calls.clear()
        probe = keras_ls._models.head.Probe(model)
        x = images(rng, 8)
        probe.forward(x, 8)
        assert not any(calls)
        calls.clear()
        probe.forward(x, 8)
        assert len(calls) <= 1  # none where the first pass was compiled

    def test_disturb_no_random_state(self, rng):
        model = sequential(layers.Dense(4))
        np.random.seed(3)
        expected = np.random.random()
        np.random.seed(3)
        penultimate(model, images(rng))
        assert np.random.random() == expected

    def test_of_datasets(self, rng):
        model, _, _ = MODELS["logits"]()
        x = images(rng)

        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return 2

            def __getitem__(self, index):
                return x[index * 6 : index * 6 + 6], np.zeros(len(x[index * 6 : index * 6 + 6]))

        np.testing.assert_allclose(penultimate(model, Batches()), penultimate(model, x), rtol=1e-6)

    def test_a_broken_forward_pass_leaves_the_layers_whole(self, rng):
        model = sequential(layers.Dense(4))
        with pytest.raises(Exception, match=r"."):
            penultimate(model, np.zeros((3, 5, 5, 1), "float32"))
        assert all("call" not in vars(layer) for layer in model._flatten_layers())


class TestOtherEndings:
    @pytest.mark.parametrize(
        ("last", "named"),
        [
            ([layers.Reshape((7, 1, 1)), layers.Conv2D(4, 1), layers.GlobalAveragePooling2D()], "Conv2D"),
            ([layers.Dense(4), layers.BatchNormalization()], "BatchNormalization"),
            ([layers.EinsumDense("bd,dk->bk", output_shape=4)], "EinsumDense"),
        ],
    )
    def test_are_refused_by_name(self, last, named, rng):
        model = sequential(*last)
        with pytest.raises(ValueError, match=rf"must be a Dense.*{named}"):
            penultimate(model, images(rng))
        with pytest.raises(ValueError, match=rf"must be a Dense.*{named}"):
            class_templates(model)

    def test_no_weights_after_them_at_all_is_refused(self, rng):
        model = keras.Sequential([keras.Input((6, 6, 1)), layers.Embedding(3, 2), layers.Flatten()])
        with pytest.raises(ValueError, match=r"must be a Dense.*Embedding"):
            penultimate(model, np.zeros((2, 6, 6, 1)))

    def test_a_dense_inside_a_time_distributed_block_is_refused(self, rng):
        block = keras.Sequential([keras.Input((6,)), layers.ReLU(), layers.Dense(4)])
        model, _, make = recurrent(layers.TimeDistributed(block))
        with pytest.raises(ValueError, match=r"must be a Dense.*TimeDistributed"):
            penultimate(model, make(rng))

    def test_two_outputs_are_refused(self, rng):
        inputs = keras.Input((3,))
        model = keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(3)(inputs)])
        with pytest.raises(ValueError, match="`output` must name one"):
            penultimate(model, np.zeros((2, 3)))
        with pytest.raises(ValueError, match=r"one output.*2 outputs. Give the last Dense.*get_layer\(name\)"):
            class_templates(model)

    def test_a_quantized_head_is_refused_and_not_passed_over(self, rng):
        model = sequential(layers.Dense(4))
        model.layers[-1].quantize("int8")
        for find in (lambda: penultimate(model, images(rng)), lambda: class_templates(model)):
            with pytest.raises(ValueError, match="must not be quantized"):
                find()
        with pytest.raises(ValueError, match="must not be quantized"):
            class_templates(model.layers[-1])

    def test_a_quantized_body_is_none_of_their_business(self, rng):
        model = sequential(layers.Dense(4))
        model.layers[1].quantize("int8")
        x = images(rng)
        expected = numpy(keras.Model(model.inputs, model.layers[-2].output)(x))
        np.testing.assert_allclose(penultimate(model, x), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("model", [keras.Sequential([layers.Dense(3)]), Subclassed(), "model", None])
    def test_models_that_are_none_or_not_built_are_refused(self, model):
        with pytest.raises(ValueError, match="must be a built"):
            penultimate(model, np.zeros((2, 3)))
        with pytest.raises(ValueError, match="must be a built"):
            class_templates(model)


def two_heads(form):
    """A model of two outputs, the first of which ends at another depth than the second."""
    inputs = keras.Input((5,))
    body = layers.Dense(6, activation="relu", name="body")(inputs)
    animal = layers.Dense(4, activation="softmax", name="animal")(layers.Dense(3, name="deep")(body))
    plant = layers.Softmax(name="plant")(layers.Dense(3, name="plant_logits")(body))
    outputs = {"dict": {"plant": plant, "animal": animal}, "list": [plant, animal]}[form]
    return keras.Model(inputs, outputs)


class TestOneOfSeveralOutputs:
    @pytest.mark.parametrize("form", ["dict", "list"])
    def test_has_the_activations_of_its_own_last_dense(self, rng, form):
        model, x = two_heads(form), rng.standard_normal((7, 5)).astype("float32")
        for output, dense in (("animal", "animal"), ("plant", "plant_logits")):
            found = penultimate(model, x, batch_size=3, output=output)
            np.testing.assert_allclose(found, cut(model, dense)(x), rtol=1e-5, atol=1e-6)

    def test_is_projected_by_labels_as_fit_takes_them(self, rng):
        model, x, y = two_heads("dict"), rng.standard_normal((30, 5)).astype("float32"), np.arange(30) % 3
        labels = {"animal": 3 - y, "plant": y}
        for output, head in (("animal", "animal"), ("plant", "plant_logits")):
            projections = [
                keras_ls.project_classes(model, x, given, (1, 2, 3 * (output == "animal")), output=output)
                for given in (labels, labels[output])
            ]
            plane = ClassPlane(class_templates(model.get_layer(head))[list(projections[0].classes)])
            expected = plane.project(cut(model, head)(x))
            for projection in projections:
                np.testing.assert_allclose(projection.points, expected, rtol=1e-4, atol=1e-5)

    def test_must_be_known(self, rng):
        model, x, y = two_heads("dict"), np.zeros((3, 5), "float32"), np.arange(3)
        for output in ("fungus", 3, ["animal"]):
            with pytest.raises(ValueError, match=r"`output` must name one output of `model` \('animal', 'plant'\)"):
                penultimate(model, x, output=output)
        with pytest.raises(ValueError, match="`output` must name one"):
            keras_ls.project_classes(model, x, y, (0, 1, 2))
        with pytest.raises(ValueError, match="must hold `output`, 'plant'"):
            keras_ls.project_classes(model, x, {"animal": y}, (0, 1, 2), output="plant")


class TestBinaryModels:
    @pytest.mark.parametrize("activation", [None, "sigmoid"])
    def test_have_activations_but_no_plane(self, rng, activation):
        model, x = sequential(layers.Dense(1, activation=activation)), images(rng)
        expected = cut(model, model.layers[-1])(x)
        np.testing.assert_allclose(penultimate(model, x), expected, rtol=1e-5, atol=1e-6)
        assert class_templates(model).shape == (1, 8)
        with pytest.raises(ValueError, match=r"at least three classes.*1 unit, a binary classifier"):
            keras_ls.project_classes(model, x, np.arange(11) % 3, (0, 1, 2))


class TestThreads:
    @pytest.mark.parametrize("kind", ["logits", "recurrent"])
    def test_may_ask_the_same_model(self, rng, kind):
        model, by_hand, make = MODELS[kind]()
        batches = [make(rng, 9) for _ in range(4)]
        expected = [by_hand(x) for x in batches]
        start = threading.Barrier(4)

        def ask(x):
            start.wait()
            return [penultimate(model, x, batch_size=4) for _ in range(3)]

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for found, wanted in zip(pool.map(ask, batches), expected, strict=True):
                for each in found:
                    np.testing.assert_allclose(each, wanted, rtol=1e-5, atol=1e-6)
        assert all("call" not in vars(layer) for layer in model._flatten_layers())

    def test_may_calibrate_and_distil_the_same_model_meanwhile(self, rng):
        model = keras.Sequential([keras.Input((5,)), layers.Dense(6), layers.Dense(3, activation="softmax")])
        x, y = rng.normal(size=(40, 5)).astype("float32"), np.arange(40) % 3
        asked = [
            lambda: numpy(keras_ls.calibrate(model, x, y).layers[-1].temperature),
            lambda: keras_ls.teacher_logits(model, x, 8),
            lambda: penultimate(model, x, batch_size=8),
        ]
        expected = [ask() for ask in asked]
        start = threading.Barrier(6)

        def work(ask):
            start.wait()
            return [ask() for _ in range(3)]

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for found, wanted in zip(pool.map(work, 2 * asked), 2 * expected, strict=True):
                for each in found:
                    np.testing.assert_allclose(each, wanted, rtol=1e-4, atol=1e-5)

    def test_that_only_predict_are_not_recorded(self, rng):
        model = sequential(layers.Dense(4))
        record, x = keras_ls._models.head._Record(), images(rng, 2)
        with keras_ls._models.head._watched(model, record):
            thread = threading.Thread(target=lambda: model(x))
            thread.start()
            thread.join()
        assert record.layer is None


class TestPasses:
    def test_are_compiled_for_one_size_of_batch(self, rng):
        sizes = []

        class Spy(layers.Layer):
            def call(self, x):
                sizes.append(x.shape[0])
                return x

        model = sequential(Spy(), layers.Dense(4))
        sizes.clear()
        x = images(rng, 11)
        assert len(penultimate(model, x, batch_size=4)) == 11
        assert set(sizes) <= {4, None}

    def test_keep_several_rows_per_example_apart(self, rng):
        inputs = keras.Input((3, 5))
        flat = layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 5)), output_shape=(5,))(inputs)
        logits = layers.Dense(4)(flat)
        model = keras.Model(
            inputs, layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 3, 4)), output_shape=(3, 4))(logits)
        )
        x = rng.standard_normal((7, 3, 5)).astype("float32")
        np.testing.assert_allclose(penultimate(model, x, batch_size=4), x.reshape(21, 5), rtol=1e-6)

    def test_that_give_other_rows_than_examples_are_refused(self):
        model = keras.Sequential(
            [keras.Input((5,)), layers.Dense(4), layers.Lambda(lambda x: keras.ops.concatenate([x, x], axis=0))]
        )
        with pytest.raises(ValueError, match=r"one row per example\. Received: 6 rows for 3 examples"):
            penultimate(model, np.zeros((3, 5), "float32"))

    def test_of_preprocessing_models_are_refused(self, rng):
        model = sequential(layers.Dense(4))
        model.preprocessor = lambda x: x / 255
        with pytest.raises(ValueError, match=r"`model` must not preprocess.*model\.preprocessor = None"):
            penultimate(model, images(rng))
        model.preprocessor = None
        assert penultimate(model, images(rng)).shape == (11, 7)

    def test_that_fail_leave_the_weights(self, rng):
        model = sequential(layers.Dense(4), layers.BatchNormalization())
        before = [numpy(weight) for weight in model.weights]
        with pytest.raises(ValueError, match="must be a Dense"):
            penultimate(model, images(rng))
        for now, then in zip(model.weights, before, strict=True):
            np.testing.assert_array_equal(numpy(now), then)

    def test_run_as_the_model_is_compiled(self, rng):
        calls = []

        class Spy(layers.Layer):
            def call(self, x):
                calls.append(1)
                return x

        model = sequential(Spy(), layers.Dense(4))
        model.compile("sgd", "mse", run_eagerly=True)
        calls.clear()
        penultimate(model, images(rng, 8), batch_size=4)
        assert len(calls) >= 2

    @pytest.mark.parametrize("dtype", [">f4", ">f8", "float64", "uint16", "uint32", "uint64", ">i4", "int8", "bool"])
    def test_take_arrays_of_every_kind_of_number(self, dtype):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        x = np.arange(6).reshape(2, 3).astype(dtype)
        np.testing.assert_allclose(penultimate(model, x), x.astype("float32"))

    @pytest.mark.parametrize(
        "x",
        [
            *[
                "x",
                b"x",
                None,
                3,
                2.5,
                range(3),
                [1.0, 2.0],
                [[1.0, 2.0]],
                [],
                {},
                {1, 2},
                np.float32(3),
                np.array(3.0),
            ],
            *[iter([1]), keras.Input((3,))],
        ],
        ids=lambda x: type(x).__name__,
    )
    def test_need_arrays_or_a_dataset(self, x):
        with pytest.raises(ValueError, match=r"^`x` must be an array, or a list or dict of arrays"):
            penultimate(sequential(layers.Dense(4)), x)

    @pytest.mark.parametrize("shape", [(3,), (3, 6), (3, 5, 2), (3, 5, 1, 1)])
    def test_need_arrays_that_fit_the_model(self, shape):
        model = keras.Sequential([keras.Input((5,)), layers.Dense(4)])
        with pytest.raises(ValueError, match=r"^`x` must be of a shape that the model takes, \(None, 5\)") as raised:
            penultimate(model, np.zeros(shape, "float32"))
        assert "\n" not in str(raised.value)

    def test_take_inputs_by_their_names_alone(self, rng):
        x, y = rng.normal(size=(6, 5)).astype("float32"), np.arange(6) % 4
        inputs = keras.Input((5,), name="rows")
        outputs = layers.Dense(4)(inputs)
        for name, model in (
            ("rows", keras.Sequential([inputs, layers.Dense(4)])),
            ("rows", keras.Model(inputs, outputs)),
            ("given", keras.Model({"given": inputs}, outputs)),
        ):
            np.testing.assert_array_equal(penultimate(model, {name: x}), x)
            with pytest.raises(ValueError, match=rf"^`x` must hold the inputs of '.*' by their names, \['{name}'\]"):
                penultimate(model, {"other": x})
            with pytest.raises(ValueError, match=r"^`x` must hold the inputs .* Received: \['other'\]") as raised:
                keras_ls.calibrate(model, {"other": x}, y)
            assert "\n" not in str(raised.value)

    def test_take_what_keras_reshapes(self):
        model = keras.Sequential([keras.Input((1,)), layers.Dense(4)])
        assert penultimate(model, np.zeros(3, "float32")).shape == (3, 1)
        model = keras.Sequential([keras.Input((5,)), layers.Dense(4)])
        assert penultimate(model, np.zeros((3, 5, 1), "float32")).shape == (3, 5)

    @pytest.mark.parametrize("dtype", ["complex64", "datetime64[D]", object])
    def test_need_real_numbers(self, dtype):
        with pytest.raises(ValueError, match=r"^`x` must hold real numbers or strings. Received: dtype"):
            penultimate(sequential(layers.Dense(4)), np.zeros((2, 6, 6, 1), dtype))

    @pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow's layers take strings")
    @pytest.mark.parametrize("kind", ["U", "S", "O"])
    def test_of_strings(self, kind):
        vectorize = layers.TextVectorization(output_mode="count", vocabulary=["a", "b"])
        model = keras.Sequential([keras.Input((), dtype="string"), vectorize, layers.Dense(3)])
        assert penultimate(model, np.array(["a b a", "b", "a"]).astype(kind)).tolist() == [
            [0, 2, 1],
            [0, 0, 1],
            [0, 1, 0],
        ]

    def test_need_numbers_where_the_model_does(self):
        with pytest.raises(ValueError, match=r"^`x` must hold numbers for 'sequential.*'. Received: strings"):
            penultimate(sequential(layers.Dense(4)), np.full((2, 6, 6, 1), "a"))

    def test_need_examples_and_a_batch_size(self, rng):
        model = sequential(layers.Dense(4))
        with pytest.raises(ValueError, match="`x` must hold examples"):
            penultimate(model, images(rng, 0))
        with pytest.raises(ValueError, match="must be of the same length"):
            penultimate(model, [images(rng, 2), images(rng, 3)])
        for size in (0, 2**70, "32", 2.0, True):
            with pytest.raises(ValueError, match="`batch_size` must be"):
                penultimate(model, images(rng), batch_size=size)


class TestClassTemplates:
    def test_are_the_kernel_columns_with_the_bias(self):
        model = sequential(layers.Dense(4, bias_initializer="normal"))
        kernel, bias = model.layers[-1].get_weights()
        expected = np.concatenate([kernel, bias[None]]).T
        np.testing.assert_array_equal(class_templates(model), expected)
        np.testing.assert_array_equal(class_templates(model.layers[-1]), expected)
        timed = layers.TimeDistributed(model.layers[-1])
        np.testing.assert_array_equal(class_templates(timed), expected)

    def test_have_a_zero_where_there_is_no_bias(self):
        model = sequential(layers.Dense(4, use_bias=False))
        assert (class_templates(model)[:, -1] == 0).all()
        assert class_templates(model).shape == (4, 8)

    def test_of_a_subclassed_model_that_hides_its_input_shape_ask_for_the_layer(self, rng):
        class Hidden(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = [layers.Dense(3), layers.Dense(4)]

            def call(self, inputs):
                return self.dense[1](self.dense[0](inputs["x"]))

        model = Hidden()
        model({"x": np.zeros((2, 5), "float32")})
        with pytest.raises(ValueError, match="give the layer"):
            class_templates(model)
        assert class_templates(model.dense[1]).shape == (4, 4)
        assert penultimate(model, {"x": np.zeros((2, 5), "float32")}).shape == (2, 3)

    def test_of_a_layer_that_is_not_built_are_refused(self):
        with pytest.raises(ValueError, match="not built"):
            class_templates(layers.Dense(3))
        with pytest.raises(ValueError, match="Conv2D"):
            class_templates(layers.Conv2D(3, 1))


class TestClassPlane:
    @pytest.mark.parametrize("width", [2, 3, 50, 2049])
    @pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
    def test_holds_the_templates_and_keeps_distances(self, rng, width, scale):
        templates = (scale * rng.standard_normal((3, width)) + scale).astype("float32")
        plane = ClassPlane(templates)
        assert plane.basis.shape == (2, width)
        np.testing.assert_allclose(plane.basis @ plane.basis.T, np.eye(2), atol=1e-12)
        np.testing.assert_allclose(plane.origin, templates.astype("float64").mean(0), rtol=1e-12)
        lifted = plane.origin + plane.templates_2d @ plane.basis
        np.testing.assert_allclose(lifted, templates, atol=1e-5 * np.ptp(templates))
        between = np.linalg.norm(templates[:, None].astype("float64") - templates, axis=-1)
        flat = np.linalg.norm(plane.templates_2d[:, None] - plane.templates_2d, axis=-1)
        np.testing.assert_allclose(flat, between, rtol=1e-5)
        inside = plane.origin + rng.standard_normal((5, 2)) @ plane.basis
        points = plane.project(inside)
        np.testing.assert_allclose(
            np.linalg.norm(points[1:] - points[0], axis=1), np.linalg.norm(inside[1:] - inside[0], axis=1), rtol=1e-6
        )

    def test_projects_as_the_definition_says_with_and_without_the_one(self, rng):
        templates, x = rng.standard_normal((3, 8)), rng.standard_normal((20, 7))
        plane = ClassPlane(templates)
        extended = np.concatenate([x, np.ones((20, 1))], axis=1)
        expected = (extended - templates.mean(0)) @ plane.basis.T
        np.testing.assert_allclose(plane.project(x), expected, rtol=1e-12)
        np.testing.assert_allclose(plane.project(extended), expected, rtol=1e-12)

    def test_turns_only_by_rotation_or_reflection_with_the_order(self, rng):
        templates, x = rng.standard_normal((3, 6)), rng.standard_normal((9, 5))
        one, other = ClassPlane(templates), ClassPlane(templates[[2, 0, 1]])
        turn = one.basis @ other.basis.T
        np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-12)
        np.testing.assert_allclose(one.project(x), other.project(x) @ turn.T, atol=1e-12)

    @pytest.mark.parametrize(
        "templates",
        [
            [[1.0, 2, 3], [1, 2, 3], [4, 5, 6]],
            [[0.0, 0, 0], [1, 1, 1], [3, 3, 3]],
            [[1.0, 1, 1]] * 3,
            np.zeros((3, 4)),
        ],
    )
    def test_refuses_templates_on_a_line(self, templates):
        with pytest.raises(ValueError, match="span a plane"):
            ClassPlane(templates)
        with pytest.raises(ValueError, match="span a plane"):
            ClassPlane(np.float32(templates) * np.float32(0.1) + np.float32(0.7))

    @pytest.mark.parametrize("shape", [(2, 5), (4, 5), (3,), (3, 1)])
    def test_refuses_other_shapes(self, shape, rng):
        with pytest.raises(ValueError, match="templates"):
            ClassPlane(rng.standard_normal(shape))
        with pytest.raises(ValueError, match="activations"):
            ClassPlane(rng.standard_normal((3, 5))).project(rng.standard_normal((4, 6)))
        with pytest.raises(ValueError, match="finite"):
            ClassPlane(np.full((3, 5), np.nan))


class TestProjectClasses:
    def make(self, rng, **options):
        model, x = MODELS["softmax inside"]()[0], images(rng, 60)
        y = np.arange(60) % 4
        arguments = {"classes": (3, 0, 2), "examples_per_class": 5, **options}
        return model, x, y, keras_ls.project_classes(model, x, y, **arguments)

    def test_projects_what_the_pieces_give(self, rng):
        model, x, y, projection = self.make(rng, examples_per_class=15)
        plane = ClassPlane(class_templates(model)[[3, 0, 2]])
        chosen = np.isin(y, (3, 0, 2))
        np.testing.assert_allclose(
            projection.points, plane.project(penultimate(model, x)[chosen]), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_array_equal(projection.labels, y[chosen])
        np.testing.assert_array_equal(projection.templates_2d, plane.templates_2d)
        assert projection.class_names == ("3", "0", "2")
        assert projection.classes == (3, 0, 2)

    def test_draws_as_many_examples_as_asked_by_the_seed(self, rng):
        model, x, y, projection = self.make(rng)
        assert projection.points.shape == (15, 2)
        assert {k: (projection.labels == k).sum() for k in (0, 2, 3)} == {0: 5, 2: 5, 3: 5}
        again = keras_ls.project_classes(model, x, y, (3, 0, 2), 5)
        np.testing.assert_array_equal(again.points, projection.points)
        other = keras_ls.project_classes(model, x, y, (3, 0, 2), 5, seed=1)
        assert not np.array_equal(other.points, projection.points)

    def test_draws_the_same_examples_for_any_order_of_the_classes(self, rng):
        model, x, y, one = self.make(rng)
        other = keras_ls.project_classes(model, x, y, (0, 2, 3), 5)
        np.testing.assert_array_equal(one.labels, other.labels)

        def distances(points):
            return np.linalg.norm(points[:, None] - points, axis=-1)

        np.testing.assert_allclose(distances(one.points), distances(other.points), atol=1e-6)

    def test_takes_labels_of_every_form(self, rng):
        model, x, y, projection = self.make(rng)
        for form in (y.astype("float32"), y[:, None], np.eye(4)[y], list(y)):
            found = keras_ls.project_classes(model, x, form, (3, 0, 2), 5)
            np.testing.assert_allclose(found.points, projection.points, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(found.labels, projection.labels)

    def test_takes_tensors(self, rng):
        model, x, y, projection = self.make(rng)
        found = keras_ls.project_classes(model, *map(keras.ops.convert_to_tensor, (x, y)), (3, 0, 2), 5)
        np.testing.assert_array_equal(found.points, projection.points)

    def test_says_where_there_are_fewer_examples(self, rng):
        with pytest.warns(UserWarning, match=r"Class 2 has 15 examples"):
            projection = self.make(rng, examples_per_class=16)[-1]
        assert len(projection.points) == 45

    def test_says_nothing_of_a_number_that_nobody_chose(self, rng):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            self.make(rng, examples_per_class=100)

    def test_of_sequences_leaves_out_what_is_masked(self, rng):
        model, by_hand, make = MODELS["time-distributed"]()
        x = make(rng)
        y = np.tile(np.arange(5) % 3, (len(x), 1))
        projection = keras_ls.project_classes(model, x, y, (0, 1, 2))
        kept = x != 0
        plane = ClassPlane(class_templates(model)[:3])
        np.testing.assert_allclose(projection.points, plane.project(by_hand(x)[kept]), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(projection.labels, y[kept])

    @pytest.mark.parametrize(
        "classes",
        [
            *[(0, 1), (0, 1, 1), (0, 1, 2, 3), (0, 1, -1), ("a", "b", "c"), (0.5, 1, 2), 3, "abc", b"abc", None],
            *[(0, [1, 2], 3), (True, False, 2**70), (0, 1, np.nan), np.arange(1000), np.eye(3), {0: 1}],
        ],
        ids=repr,
    )
    def test_needs_three_different_classes(self, rng, classes):
        with pytest.raises(ValueError, match="three different") as raised:
            self.make(rng, classes=classes)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 300

    @pytest.mark.parametrize("form", [np.array, keras.ops.convert_to_tensor, list, np.uint8])
    def test_takes_classes_of_every_form(self, rng, form):
        assert self.make(rng, classes=form([3, 0, 2]))[-1].classes == (3, 0, 2)

    def test_refuses_what_does_not_fit(self, rng):
        model, x, y, _ = self.make(rng)
        with pytest.raises(ValueError, match=r"\[0, 4\)"):
            keras_ls.project_classes(model, x, np.where(y == 0, 7, y), (7, 1, 2))
        with pytest.raises(ValueError, match="none of class 5"):
            keras_ls.project_classes(model, x, y, (5, 1, 2))
        with pytest.raises(ValueError, match=r"`y` must hold one class id per example"):
            keras_ls.project_classes(model, x, y[:-1], (0, 1, 2))
        with pytest.raises(ValueError, match=r"each input of the model's last Dense"):
            keras_ls.project_classes(model, x, np.stack([y, y, y], 1), (0, 1, 2))
        with pytest.raises(ValueError, match="examples_per_class"):
            keras_ls.project_classes(model, x, y, (0, 1, 2), examples_per_class=0)
        for x_given, y_given in (("x", y), (range(60), y), (x, "y"), (x, None), (x, 3), (x, [[1], [2, 3]])):
            with pytest.raises(ValueError, match=r"^`[xy]` must be|^`y` must hold"):
                keras_ls.project_classes(model, x_given, y_given, (0, 1, 2))

    def test_is_shown_on_one_short_line(self, rng):
        projection = self.make(rng)[-1]
        assert repr(projection) == str(projection) == "Projection(15 points, classes 3, 0, 2)"
        names = ("cat\nand mouse", "dog" * 100, "fox")
        shown = repr(dataclasses.replace(projection, class_names=names))
        assert "\n" not in shown
        assert len(shown) < 130
        assert repr(ClassPlane(np.eye(3))) == "ClassPlane(3 templates of width 3)"

    def test_a_projection_made_by_hand_finds_its_classes(self):
        projection = Projection(np.zeros((4, 2)), np.array([7, 3, 3, 5]), np.eye(3)[:, :2], ("a", "b", "c"))
        assert projection.classes == (3, 5, 7)


def statistics_by_definition(rows, labels):
    mean = rows.mean(0)
    within = between = 0.0
    for row, label in zip(rows, labels, strict=True):
        centre = rows[labels == label].mean(0)
        within += ((row - centre) ** 2).sum() / len(rows)
        between += ((centre - mean) ** 2).sum() / len(rows)
    return within, between


class TestClusterStatistics:
    def test_are_those_of_the_definition(self, rng):
        rows, labels = rng.standard_normal((50, 6)) + 100, rng.integers(-2, 3, 50)
        found = cluster_statistics(rows, labels)
        within, between = statistics_by_definition(rows, labels)
        assert found.within == pytest.approx(within, rel=1e-9)
        assert found.between == pytest.approx(between, rel=1e-9)
        assert found.ratio == pytest.approx(within / between, rel=1e-9)
        assert np.isnan([found.template_distance, found.template_distance_cv]).all()

    @pytest.mark.parametrize("num_classes", [2, 3, 5, 12])
    def test_with_templates_are_those_in_the_span_of_their_differences(self, rng, num_classes):
        rows, labels = rng.standard_normal((40, 8)), rng.integers(0, num_classes, 40)
        templates = rng.standard_normal((num_classes, 9))
        differences = (templates[1:] - templates[0]).T
        projector = differences @ np.linalg.pinv(differences)
        extended = np.concatenate([rows, np.ones((40, 1))], axis=1)
        within, between = statistics_by_definition(extended @ projector.T, labels)
        pairs = [np.linalg.norm(a - b) for i, a in enumerate(templates) for b in templates[:i]]
        for given in (rows, extended):
            found = cluster_statistics(given, labels, templates)
            assert found.within == pytest.approx(within, rel=1e-9)
            assert found.between == pytest.approx(between, rel=1e-9)
            assert found.template_distance == pytest.approx(np.mean(pairs), rel=1e-12)
            assert found.template_distance_cv == pytest.approx(np.std(pairs) / np.mean(pairs), abs=1e-12)

    def test_a_regular_simplex_is_equally_distant(self):
        found = cluster_statistics(np.eye(4), np.arange(4), np.eye(4))
        assert found.template_distance == pytest.approx(np.sqrt(2))
        assert found.template_distance_cv == pytest.approx(0, abs=1e-12)
        assert found.within == found.ratio == 0

    def test_edges(self):
        assert cluster_statistics(np.ones((3, 2)), [0, 0, 0]).between == 0
        assert np.isnan(cluster_statistics(np.ones((3, 2)), [0, 0, 0]).ratio)
        assert cluster_statistics([[0.0], [1.0], [0.0], [1.0]], [0, 0, 1, 1]).ratio == np.inf
        same = cluster_statistics([[0.0], [1.0]], [0, 1], np.ones((2, 2)))
        assert same.template_distance == same.within == same.between == 0
        assert np.isnan(same.template_distance_cv)

    def test_one_class_has_no_ratio(self, rng):
        rows = rng.standard_normal((50, 7)) + 0.1
        for templates in (None, rng.standard_normal((3, 8))):
            found = cluster_statistics(rows, np.zeros(50, int), templates)
            assert found.between == 0
            assert np.isnan(found.ratio)
        assert cluster_statistics(rows, [0] * 50).within == pytest.approx(rows.var(axis=0).sum())

    @pytest.mark.parametrize("values", ["rows", None, [[1], [1, 2]], 3.0, [["a"]]])
    def test_refuse_what_is_no_array(self, values, rng):
        with pytest.raises(ValueError, match="`activations` must be"):
            cluster_statistics(values, [0])
        with pytest.raises(ValueError, match="`labels` must be"):
            cluster_statistics(rng.standard_normal((3, 2)), values)
        with pytest.raises(ValueError, match="`templates` must be"):
            cluster_statistics(rng.standard_normal((3, 2)), [0, 1, 2], "rows" if values is None else values)

    @pytest.mark.filterwarnings("ignore:invalid value")
    def test_broken_numbers_give_nan(self):
        rows = np.array([[0.0, 1.0], [np.nan, 2.0], [3.0, 4.0]])
        found = cluster_statistics(rows, [0, 1, 1])
        assert np.isnan([found.within, found.between, found.ratio]).all()
        assert np.isnan(cluster_statistics(np.where(np.isnan(rows), np.inf, rows), [0, 1, 1]).ratio)
        found = cluster_statistics(np.eye(3), [0, 1, 1], np.full((3, 4), np.nan))
        assert np.isnan([found.within, found.template_distance, found.template_distance_cv]).all()

    def test_refuses_shapes_that_do_not_match(self, rng):
        rows = rng.standard_normal((5, 4))
        for bad in ((rows[0], [0] * 4), (rows[:0], []), (rows, [0] * 4), (rows, np.zeros((5, 2)))):
            with pytest.raises(ValueError, match=r"activations|labels"):
                cluster_statistics(*bad)
        for shape in ((1, 5), (3, 6), (3,), (3, 3)):
            with pytest.raises(ValueError, match="templates"):
                cluster_statistics(rows, [0, 1, 0, 1, 2], np.ones(shape))


def test_within_fit_the_model_trains_on(rng):
    """Weights are read where the backend keeps them elsewhere during training."""
    seen = []
    model, x = sequential(layers.Dense(4)), images(rng, 40)

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((penultimate(self.model, x), class_templates(self.model)))

    model.compile("sgd", keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True))
    model.fit(x, rng.integers(0, 4, 40), epochs=3, verbose=0, callbacks=[Watch()])
    assert not np.array_equal(seen[0][0], seen[1][0])
    np.testing.assert_array_equal(seen[-1][0], penultimate(model, x))
    np.testing.assert_array_equal(seen[-1][1], class_templates(model))


DEVICES = """
import numpy as np, keras, keras_ls, sys
{prepare}
rng = np.random.default_rng(0)
x, y = rng.normal(size=(331, 5)).astype("float32"), np.arange(331) % 3
with scope():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
kernel, bias = model.layers[0].get_weights()
expected = np.maximum(x @ kernel + bias, 0)
for within in (contextlib.nullcontext, scope):
    for n in (1, 3, 331):
        with within():
            found = keras_ls.penultimate_activations(model, x[:n])
        np.testing.assert_allclose(found, expected[:n], rtol=1e-5, atol=1e-6)
callbacks = [
    keras_ls.PenultimateProjection(x, y, (0, 1, 2), sys.argv[1]),
    keras_ls.EmbeddingProjector(x, sys.argv[1], labels=y, freq=1),
]
model.fit(x[:320], y[:320], epochs=1, verbose=0, callbacks=callbacks)
"""
PREPARE = {
    "tensorflow": """
import contextlib, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
""",
    "jax": """
import contextlib
scope = contextlib.nullcontext
keras.distribution.set_distribution(keras.distribution.DataParallel())
""",
}


@pytest.mark.skipif(BACKEND not in PREPARE, reason="Keras spreads batches over devices on TensorFlow and JAX")
def test_several_devices_give_what_one_gives(tmp_path):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-c", DEVICES.format(prepare=PREPARE[BACKEND]), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
