"""The last `Dense` of any model, and what it is given: every form of model, several outputs, threads, devices."""

import collections
import concurrent.futures
import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from classifiers import MODELS, Subclassed, cut, images, recurrent, sequential
from harness import BACKEND, numpy, slow
from keras import layers

import keras_ls
from keras_ls._models.devices import BatchRunner
from keras_ls._models.head import Probe
from keras_ls.projection import ClassPlane, class_templates

penultimate = keras_ls.penultimate_activations


@pytest.fixture(params=MODELS)
def case(request):
    keras.utils.set_random_seed(0)
    return MODELS[request.param]()


class TestPenultimateActivations:
    def test_are_those_cut_by_hand_and_with_the_templates_give_the_logits(self, case, rng):
        model, by_hand, make = case
        x = make(rng)
        activations = penultimate(model, x, batch_size=4)  # the last batch is smaller
        expected = by_hand(x)
        assert activations.dtype in ("float32", "float64")
        assert activations.shape == expected.shape
        np.testing.assert_allclose(activations, expected, rtol=1e-5, atol=1e-6)
        templates = class_templates(model)
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

    def test_of_datasets(self, rng):
        model, _, _ = MODELS["logits"]()
        x = images(rng)

        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return 2

            def __getitem__(self, index):
                return x[index * 6 : index * 6 + 6], np.zeros(len(x[index * 6 : index * 6 + 6]))

        np.testing.assert_allclose(penultimate(model, Batches()), penultimate(model, x), rtol=1e-6)

    def test_leave_the_layers_whole_where_one_fails(self, rng):
        class Fragile(layers.Layer):
            is_broken = False

            def call(self, x):
                if self.is_broken:
                    raise RuntimeError("broken")
                return x

        fragile = Fragile()
        model = sequential(fragile, layers.Dense(4))
        fragile.is_broken = True
        with pytest.raises(RuntimeError, match="broken"):
            penultimate(model, images(rng))
        assert all("call" not in vars(layer) for layer in model._flatten_layers())

    def test_leave_a_layer_the_call_that_its_user_gave_it(self, rng):
        model = sequential(layers.Dense(4))
        dense = model.layers[-1]
        given = dense.call
        dense.call = doubled = lambda inputs, training=None: 2.0 * given(inputs)
        penultimate(model, images(rng))
        assert dense.call is doubled

    def test_need_a_dataset_that_ends(self):
        class Endless(keras.utils.PyDataset):
            num_batches = None

            def __getitem__(self, index):
                return np.zeros((2, 5))

        with pytest.raises(ValueError, match="`x` must be a dataset that ends"):
            penultimate(sequential(layers.Dense(4)), Endless())


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

    @pytest.mark.parametrize("order", [("plant", "animal"), ("animal", "plant")])
    @pytest.mark.parametrize("after", [True, False])
    def test_is_found_within_a_nested_model_that_runs_them_all(self, rng, order, after):
        inner, x = two_heads("dict"), rng.standard_normal((7, 5)).astype("float32")
        inner = keras.Model(inner.input, {name: inner.output[name] for name in order})
        inputs = keras.Input((5,))
        found = inner(inputs)
        outer = keras.Model(inputs, found)
        for output, dense in (("animal", "animal"), ("plant", "plant_logits")):
            head, expected = inner.get_layer(dense), cut(inner, dense)(x)
            ends = layers.Activation("linear")(found[output]) if after else found[output]
            one = keras.Model(inputs, ends)
            np.testing.assert_allclose(penultimate(one, x), expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(class_templates(one), class_templates(head))
            np.testing.assert_allclose(penultimate(outer, x, output=output), expected, rtol=1e-5, atol=1e-6)

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

    def test_of_a_model_with_a_call_of_its_own_are_not_those_of_its_graph(self):
        class Halved(keras.Model):
            def call(self, inputs, training=None, mask=None):
                return super().call(inputs / 2.0, training, mask)

        plain, x = two_heads("dict"), np.zeros((3, 5), "float32")
        with pytest.raises(ValueError, match="several outputs must not have a `call` of its own"):
            penultimate(Halved(plain.input, plain.output), x, output="plant")

    def test_must_be_known(self, rng):
        model, x, y = two_heads("dict"), np.zeros((3, 5), "float32"), np.arange(3)
        for output in ("fungus", 3, ["animal"]):
            with pytest.raises(ValueError, match=r"`output` must name one output of `model` \('animal', 'plant'\)"):
                penultimate(model, x, output=output)
        with pytest.raises(ValueError, match="`output` must name one"):
            keras_ls.project_classes(model, x, y, (0, 1, 2))
        with pytest.raises(ValueError, match="must hold `output`, 'plant'"):
            keras_ls.project_classes(model, x, {"animal": y}, (0, 1, 2), output="plant")


class Named(keras.Model):
    """A model of a dict of inputs, which cannot be traced without data."""

    def __init__(self, first, last):
        super().__init__()
        self.first, self.last = first, last

    def call(self, inputs):
        return self.last(self.first(inputs["x"]))


def test_the_only_dense_of_a_model_that_shows_no_order_must_be_its_last_layer(rng):
    x = {"x": rng.standard_normal((3, 5)).astype("float32")}
    hidden = Named(layers.Dense(4), layers.EinsumDense("bd,dk->bk", output_shape=3))
    last = Named(layers.EinsumDense("bd,dk->bk", output_shape=4), layers.Dense(3))
    block = Named(layers.Identity(), keras.Sequential([last.first, last.last]))
    for model in (hidden, last, block):
        model(x)
    with pytest.raises(ValueError, match="with 1 Dense layers, and a EinsumDense that was made last; give the layer"):
        class_templates(hidden)
    for model in (last, block):
        np.testing.assert_array_equal(class_templates(model), class_templates(last.last))


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
    @pytest.mark.parametrize("kind", [slow("logits"), "recurrent"])
    def test_may_ask_the_same_model(self, rng, kind):
        model, by_hand, make = MODELS[kind]()
        batches = [make(rng, 9) for _ in range(4)]
        expected = [by_hand(x) for x in batches]
        start = threading.Barrier(4)

        def ask(x):
            start.wait()
            return [penultimate(model, x, batch_size=4) for _ in range(2)]

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
            return [ask() for _ in range(2)]

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for found, wanted in zip(pool.map(work, 2 * asked), 2 * expected, strict=True):
                for each in found:
                    np.testing.assert_allclose(each, wanted, rtol=1e-4, atol=1e-5)

    def test_that_only_predict_are_not_recorded(self, rng):
        model = sequential(layers.Dense(4))
        record, x, given = keras_ls._models.head._Record(), images(rng, 2), []
        with keras_ls._models.head._watched(model, record):
            thread = threading.Thread(target=lambda: given.append(model(x)))
            thread.start()
            thread.join()
            assert len(given) == 1  # an error in a thread is printed, not raised
            assert record.layer is None
            model(x)  # and what this thread does is recorded
            assert record.layer is model.layers[-1]


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
        assert sizes
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

    def test_of_models_that_give_one_number_per_example(self, rng):
        model = keras.Sequential([keras.Input((4,)), layers.Dense(1), layers.Reshape(())])
        x = rng.standard_normal((5, 4)).astype("float32")
        np.testing.assert_array_equal(penultimate(model, x, batch_size=2), x)

    def test_that_give_other_rows_than_examples_are_refused(self):
        model = keras.Sequential(
            [keras.Input((5,)), layers.Dense(4), layers.Lambda(lambda x: keras.ops.concatenate([x, x], axis=0))]
        )
        with pytest.raises(ValueError, match=r"one row per example\. Received: 6 rows for 3 examples"):
            penultimate(model, np.zeros((3, 5), "float32"))

    def test_leave_the_outputs_of_many_classes_behind(self, rng):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(100)])
        x = rng.normal(size=(7, 3)).astype("float32")
        assert Probe(model).forward(x).outputs.shape == (7, 100)
        found = Probe(model, with_outputs=False).forward(x)
        assert found.outputs.shape == (7, 1)
        np.testing.assert_allclose(found.activations, x)

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

    def test_whose_data_fail_leave_the_weights(self, rng):
        def batches():
            yield (images(rng, 4),)
            yield (images(rng, 4),)
            raise OSError("The disk is gone.")

        model = sequential(layers.Dense(4))
        probe, runner = Probe(model), BatchRunner(model)
        runner.batch(images(rng, 4))  # which leaves its state behind
        model.set_weights([weight + 1 for weight in model.get_weights()])
        before = [numpy(weight) for weight in model.weights]
        good = images(rng, 4)
        for predict in (probe.forward, runner.dataset):
            with pytest.raises(Exception, match="disk"):  # TensorFlow makes it one of its own
                predict(batches())
            runner.batch(good)  # so that what follows fails for its shape alone
            with pytest.raises(Exception, match=r"."):  # each backend says it in other words
                runner.batch(np.zeros((4, 3, 5, 7, 2), "float32"))
            np.testing.assert_allclose(numpy(runner.batch(good)), model.predict(good, verbose=0), rtol=1e-5, atol=1e-6)
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

    def test_need_integers_that_fit_in_64_bits_with_a_sign(self):
        model = keras.Sequential([keras.Input((1,)), layers.Dense(2)])
        with pytest.raises(ValueError, match=r"`x` must hold integers below 2\^63. Received: 9223372036854775808"):
            penultimate(model, np.array([[2**63]], "uint64"))

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


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow cannot predict with such a model in a graph")
@pytest.mark.skipif(BACKEND == "jax", reason="Keras cannot call such models on JAX")
def test_a_head_made_to_be_computed_anew(rng):
    with keras.RematScope(mode="full"):
        model = sequential(layers.Dense(4))
    x = images(rng)
    np.testing.assert_allclose(penultimate(model, x), cut(model, model.layers[-1])(x), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="layers that read `training` of PyTorch's modules")
def test_layers_of_pytorch_predict_in_inference_mode(rng):
    import torch

    class Dropping(keras.Model):
        def __init__(self):
            super().__init__()
            self.body, self.head = layers.Dense(20), layers.Dense(3)

        def call(self, x):
            return self.head(torch.nn.functional.dropout(self.body(x), 0.5, self.training))

    x = rng.normal(size=(6, 4)).astype("float32")
    model = Dropping()
    model(x)
    assert model.training
    np.testing.assert_allclose(penultimate(model, x), numpy(model.body(x)), rtol=1e-5)
    assert model.training

    class Drop(layers.Layer):
        def call(self, x):
            return torch.nn.functional.dropout(x, 0.5, self.training)

    drop, body = Drop(), layers.Dense(20)
    listed = keras.Sequential([keras.Input((4,)), body, drop, layers.Dense(3)])
    assert drop.training
    np.testing.assert_allclose(penultimate(listed, x), numpy(body(x)), rtol=1e-5)
    assert drop.training


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
assert len(keras.distribution.list_devices()) == 4
keras.distribution.set_distribution(keras.distribution.DataParallel())
""",
}


@pytest.mark.slow
@pytest.mark.skipif(BACKEND not in PREPARE, reason="Keras spreads batches over devices on TensorFlow and JAX")
def test_several_devices_give_what_one_gives(tmp_path):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-c", DEVICES.format(prepare=PREPARE[BACKEND]), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("kind", ["dataset", "PyDataset"])
def test_a_dataset_without_batches_is_named(kind):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])

    class Nothing(keras.utils.PyDataset):
        def __len__(self):
            return 0

        def __getitem__(self, index):
            raise IndexError

    x = Nothing()
    if kind == "dataset":
        tf = pytest.importorskip("tensorflow")
        x = tf.data.Dataset.from_tensor_slices(np.zeros((4, 2), "float32")).batch(2).take(0)
    with pytest.raises(ValueError, match=r"must hold examples|PyDataset has length 0"):
        penultimate(model, x)


def test_outputs_in_an_ordered_dict(rng):
    x = rng.normal(size=(6, 3)).astype("float32")
    inputs = keras.Input((3,))
    heads = {name: layers.Dense(size, name=name)(inputs) for name, size in (("later", 3), ("early", 4))}
    model = keras.Model(inputs, collections.OrderedDict(heads))
    y = np.arange(6) % 3
    for name, size in (("early", 4), ("later", 3)):
        assert keras_ls.calibrate(model, x, y, output=name).output_shape == (None, size)
        np.testing.assert_allclose(penultimate(model, x, output=name), x, rtol=1e-6)


def test_labels_by_the_name_of_the_only_output(rng):
    x, y = rng.normal(size=(20, 3)).astype("float32"), np.arange(20) % 3
    inputs = keras.Input((3,))
    model = keras.Model(inputs, {"kind": layers.Dense(3, name="kind")(inputs)})
    found, plain = (keras_ls.diagnose(model, x, labels, num_resamples=2) for labels in ({"kind": y}, y))
    assert found.estimates["nll"] == plain.estimates["nll"]


class Drawing(keras.utils.PyDataset):
    """Draws from the process's generator for each batch, as datasets do that augment."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, index):
        np.random.random()
        rows = slice(4 * index, 4 * index + 4)
        return self.x[rows], self.y[rows]


@pytest.mark.parametrize("ask", [penultimate, keras_ls.teacher_logits, keras_ls.calibrate])
def test_a_generator_that_a_dataset_draws_from_is_left_as_it_was(ask, rng):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    batches = Drawing(rng.normal(size=(12, 3)).astype("float32"), np.arange(12) % 3)
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    ask(model, batches)
    assert np.random.random() == expected
