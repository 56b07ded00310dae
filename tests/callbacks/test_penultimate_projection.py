"""The PenultimateProjection callback: its pictures and numbers in TensorBoard, and what it refuses."""

import dataclasses
import io
import warnings

import keras
import numpy as np
import pytest
from harness import EAGER, numpy
from keras import layers
from tensorboard.backend.event_processing import event_accumulator

from keras_ls.callbacks import PenultimateProjection
from keras_ls.projection import NeuralCollapse, cluster_statistics, neural_collapse

STATISTICS = ["within", "between", "ratio", "template_distance", "template_distance_cv"]
COLLAPSE = [field.name for field in dataclasses.fields(NeuralCollapse)]
NAMES = ["ant", "bee", "cat", "dog"]


@pytest.fixture
def data(rng):
    y = np.arange(80) % 4
    return (rng.normal(size=(80, 5)) + 2 * np.eye(5)[y]).astype("float32"), y


def classifier(*body, run_eagerly=EAGER):
    model = keras.Sequential([keras.Input((5,)), *body, layers.Dense(4, activation="softmax", name="head")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=run_eagerly)
    return model


def fit(model, data, *callbacks, epochs=1, **options):
    return model.fit(*data, epochs=epochs, batch_size=16, verbose=0, callbacks=list(callbacks), **options)


def read(log_dir):
    return event_accumulator.EventAccumulator(str(log_dir), size_guidance={"images": 0}).Reload()


def test_writes_pictures_and_numbers(data, tmp_path):
    from PIL import Image

    callback = PenultimateProjection(*data, [3, 0, 2], tmp_path, freq=2, examples_per_class=5)
    fit(classifier(layers.Dense(6)), data, callback, epochs=5)
    events = read(tmp_path)
    tags = [*(f"projection/{name}" for name in STATISTICS), *(f"collapse/{name}" for name in COLLAPSE)]
    assert sorted(events.Tags()["scalars"]) == sorted(tags)
    for tag in tags:
        assert [point.step for point in events.Scalars(tag)] == [1, 3]
    pictures = events.Images("projection/plane")
    assert [picture.step for picture in pictures] == [1, 3]
    for picture in pictures:
        opened = Image.open(io.BytesIO(picture.encoded_image_string)).convert("RGB")
        colors = {tuple(color) for color in np.asarray(opened).reshape(-1, 3).tolist()}
        assert {(255, 127, 14), (44, 160, 44), (31, 119, 180)} <= colors  # three classes of matplotlib's colours


def in_plane(rows, templates):
    """Coordinates of rows (N, D + 1) in the plane of three templates, by least squares on an own basis."""
    sides = (templates[1:] - templates[0]).T.astype("float64")
    basis, _ = np.linalg.qr(sides)
    return rows @ basis


def statistics_of_all(model, x, y, classes):
    """The expected numbers, of every example of the classes, for a model that is its Dense layer alone."""
    kernel, bias = (numpy(weight).astype("float64") for weight in model.layers[-1].weights)
    templates = np.concatenate([kernel.T, bias[:, None]], axis=1)[classes]
    shown = np.isin(y, classes)
    points = in_plane(np.concatenate([x, np.ones((len(x), 1))], axis=1)[shown], templates)
    corners = in_plane(templates, templates)
    centres = {k: points[y[shown] == k].mean(0) for k in classes}
    within = np.mean([np.sum((p - centres[k]) ** 2) for p, k in zip(points, y[shown], strict=True)])
    between = np.mean([np.sum((centres[k] - points.mean(0)) ** 2) for k in y[shown]])
    sides = [np.linalg.norm(corners[i] - corners[i - 1]) for i in range(3)]
    return [within, between, within / between, np.mean(sides), np.std(sides) / np.mean(sides)]


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y,
        lambda y: y[:, None],
        lambda y: y.astype("float32"),
        lambda y: np.eye(4)[y],
        keras.ops.convert_to_tensor,
    ],
    ids=["ids", "column", "floats", "one-hot", "tensor"],
)
def test_numbers_are_those_of_the_definitions(data, tmp_path, form):
    x, y = data
    classes = [1, 3, 0]
    model = classifier()
    fit(model, data, PenultimateProjection(x, form(y), classes, tmp_path, examples_per_class=20))
    events = read(tmp_path)
    values = [events.Scalars(f"projection/{name}")[0].value for name in STATISTICS]
    np.testing.assert_allclose(values, statistics_of_all(model, x, y, classes), rtol=1e-4)
    kernel, bias = (numpy(weight) for weight in model.layers[-1].weights)
    templates, chosen = np.concatenate([kernel.T, bias[:, None]], axis=1), np.isin(y, classes)
    collapse = dataclasses.asdict(neural_collapse(x[chosen], y[chosen], templates))
    values = {name: events.Scalars(f"collapse/{name}")[0].value for name in COLLAPSE}
    assert values == pytest.approx(collapse, rel=1e-4)


def drawn_by(callback, monkeypatch):
    """The projections that a callback hands to the picture."""
    import keras_ls.plots

    seen, draw = [], keras_ls.plots.class_projection
    monkeypatch.setattr(keras_ls.plots, "class_projection", lambda p, ax=None: (seen.append(p), draw(p, ax))[1])
    return seen


def test_the_same_examples_are_shown_each_time_under_their_names(data, tmp_path, monkeypatch):
    callback = PenultimateProjection(
        *data, ["dog", 0, "cat"], tmp_path, examples_per_class=5, class_names=NAMES, freq=1
    )
    seen = drawn_by(callback, monkeypatch)
    model = classifier()
    model.optimizer.learning_rate = 0.0
    fit(model, data, callback, epochs=2)
    assert seen[0].class_names == ("dog", "ant", "cat")
    assert seen[0].classes == (3, 0, 2)
    assert np.bincount(seen[0].labels).tolist() == [5, 0, 5, 5]
    np.testing.assert_array_equal(seen[0].points, seen[1].points)


def test_all_examples_are_used_where_there_are_fewer_and_it_says_so(data, tmp_path, monkeypatch):
    with pytest.warns(UserWarning, match="Class 3 has 20 examples, fewer than examples_per_class=50"):
        callback = PenultimateProjection(*data, [0, 1, 3], tmp_path, examples_per_class=50)
    seen = drawn_by(callback, monkeypatch)
    fit(classifier(), data, callback)
    assert np.bincount(seen[0].labels).tolist() == [20, 20, 0, 20]


def test_time_steps_that_are_masked_are_not_shown(rng, tmp_path, monkeypatch):
    ids = rng.integers(1, 9, (30, 5))
    ids[::2, 2:] = 0
    labels = np.where(ids > 0, ids % 3, 0)
    model = keras.Sequential(
        [keras.Input((5,), dtype="int32"), layers.Embedding(9, 6, mask_zero=True), layers.Dense(3)]
    )
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = PenultimateProjection(ids, labels, [0, 1, 2], tmp_path, examples_per_class=9)
    seen = drawn_by(callback, monkeypatch)
    fit(model, (ids, labels), callback)
    assert np.bincount(seen[0].labels).tolist() == [9, 9, 9]
    kernel, bias = (numpy(weight) for weight in model.layers[-1].weights)
    templates = np.concatenate([kernel.T, bias[:, None]], axis=1)
    rows = np.concatenate([numpy(model.layers[0].embeddings), np.ones((9, 1))], axis=1) - templates.mean(0)
    sizes = np.linalg.norm(in_plane(rows, templates), axis=1)  # does not depend on the basis
    for point, label in zip(seen[0].points, seen[0].labels, strict=True):
        possible = [sizes[token] for token in range(1, 9) if token % 3 == label]
        assert np.abs(np.array(possible) - np.linalg.norm(point)).min() < 1e-4


def test_a_plane_that_is_none_is_left_out_with_a_warning(data, tmp_path):
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.model.layers[-1].bias.assign([np.nan] * 4)

    callback = PenultimateProjection(*data, [0, 1, 2], tmp_path, examples_per_class=5)
    with pytest.warns(UserWarning, match="no picture of epoch 2"):
        fit(classifier(), data, Break(), callback, epochs=2)
    events = read(tmp_path)
    assert [picture.step for picture in events.Images("projection/plane")] == [0]
    assert [np.isnan(point.value) for point in events.Scalars("projection/ratio")] == [False, True]


def test_a_head_of_zeros_may_train(data, tmp_path):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(model, data, PenultimateProjection(*data, [0, 1, 2], tmp_path, examples_per_class=5))
    assert len(read(tmp_path).Images("projection/plane")) == 1


def test_a_model_that_its_first_step_builds_is_watched(data, tmp_path):
    model = keras.Sequential([layers.Dense(6), layers.Dense(4, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    fit(model, data, PenultimateProjection(*data, [0, 1, 2], tmp_path, examples_per_class=5))
    assert len(read(tmp_path).Images("projection/plane")) == 1


def test_training_is_the_same_with_and_without(data, tmp_path):
    trained = []
    for callback in (keras.callbacks.Callback(), PenultimateProjection(*data, [0, 1, 2], tmp_path, 1, 5)):
        keras.utils.set_random_seed(3)
        model = classifier(layers.Dense(8), layers.Dropout(0.5), run_eagerly=False)
        fit(model, data, callback, epochs=2)
        trained.append(model.get_weights())
    for plain, watched in zip(*trained, strict=True):
        np.testing.assert_array_equal(plain, watched)


def test_a_second_fit_goes_on(data, tmp_path):
    callback, model = PenultimateProjection(*data, [0, 1, 2], tmp_path, examples_per_class=5), classifier()
    fit(model, data, callback)
    fit(model, data, callback, epochs=2, initial_epoch=1)
    assert [point.step for point in read(tmp_path).Scalars("projection/ratio")] == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": [0, 1]}, "`classes` must be three different class ids"),
        ({"classes": [0, 1, 1]}, "`classes` must be three different class ids"),
        ({"classes": ["ant", 0, "bee"], "class_names": NAMES}, "`classes` must be three different class ids"),
        ({"classes": [0, 1, 2.0]}, "`classes` must be three different class ids"),
        ({"classes": "ant"}, "`classes` must be three different classes"),
        ({"classes": 3}, "`classes` must be three different classes"),
        ({"classes": ["ant", "bee", "cow"], "class_names": NAMES}, "known names: ant, bee, cat, dog. Received: 'cow'"),
        ({"classes": ["ant", "bee", "cat"]}, "`classes` must be ids if `class_names` is not given"),
        ({"classes": [0, 1, 7]}, "Received: none of class 7"),
        ({"class_names": ["a", "a", "b", "c"]}, "`class_names` must be different names"),
        ({"class_names": "abcd"}, "`class_names` must be different names"),
        ({"y": np.zeros(79)}, "`y` must hold one class id per example"),
        ({"freq": 0}, "`freq` must be at least 1"),
        ({"examples_per_class": 0}, "`examples_per_class` must be at least 1"),
        ({"log_dir": __file__}, "`log_dir` must be a folder that can be written"),
        ({"log_dir": None}, "`log_dir` must be a path"),
        ({"log_dir": b"runs"}, "`log_dir` must be a path"),
        ({"log_dir": 3}, "`log_dir` must be a path"),
        ({"x": range(80)}, "`x` must be an array"),
        ({"x": "images"}, "`x` must be an array"),
        ({"y": "labels"}, "`y` must be an array of real numbers"),
        ({"classes": [0, 1, np.nan]}, "`classes` must be three different class ids"),
        ({"classes": [0, [1], [2, 3]]}, "`classes` must be three different class ids"),
        ({"classes": None}, "`classes` must be three different classes"),
        ({"classes": b"abc"}, "`classes` must be three different classes"),
        ({"classes": ["x", 0, 1], "class_names": [f"name\n{k}" for k in range(999)]}, "known names: name 0, name 1"),
        ({"class_names": 3}, "`class_names` must be different names"),
        ({"class_names": ["a\nb"] * 999}, "`class_names` must be different names"),
        ({"freq": "1"}, "`freq` must be an integer"),
        ({"examples_per_class": 2**70}, "`examples_per_class` must be at most"),
        ({"output": 3}, "`output` must be a string"),
        ({"output": "b", "y": {"a": np.arange(80)}}, "A dict by outputs must hold `output`, 'b'"),
    ],
)
def test_refuses_when_it_is_made(data, tmp_path, change, message):
    arguments = {"x": data[0], "y": data[1], "classes": [0, 1, 2], "log_dir": tmp_path / "run", "examples_per_class": 5}
    with pytest.raises(ValueError, match=message) as raised:
        PenultimateProjection(**{**arguments, **change})
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": NAMES[:3]}, "`class_names` must name all 4 classes. Received: 3 names"),
        ({"y": np.arange(80) % 5, "classes": [0, 1, 4]}, r"`classes` must be in \[0, 4\). Received: \[0, 1, 4\]"),
        ({"y": np.zeros((80, 3), int)}, "`y` must hold one class id for each input of the model's last Dense"),
        ({"output": "other"}, r"`output` must name one output of `model` \('head'\)"),
    ],
)
def test_refuses_before_it_trains(data, tmp_path, change, message):
    arguments = {"x": data[0], "y": data[1], "classes": [0, 1, 2], "log_dir": tmp_path, "examples_per_class": 5}
    model = classifier()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        fit(model, data, PenultimateProjection(**{**arguments, **change}))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("labels", ["own", "dict"])
def test_shows_one_of_several_outputs(data, tmp_path, monkeypatch, labels):
    x, y = data
    inputs = keras.Input((5,))
    outputs = {"a": layers.Dense(4, name="a")(inputs), "b": layers.Dense(3, name="b")(layers.Dense(6)(inputs))}
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), {"a": loss, "b": loss})
    given = {"a": y, "b": y % 3}
    callback = PenultimateProjection(
        x, given if labels == "dict" else y, [3, 0, 2], tmp_path, examples_per_class=20, output="a"
    )
    seen = drawn_by(callback, monkeypatch)
    fit(model, (x, given), callback)
    kernel, bias = (numpy(weight) for weight in model.get_layer("a").weights)
    templates = np.concatenate([kernel.T, bias[:, None]], axis=1)[[3, 0, 2]]
    rows = np.concatenate([x, np.ones((80, 1))], axis=1)[np.isin(y, [3, 0, 2])] - templates.mean(0)
    sizes = np.linalg.norm(in_plane(rows, templates), axis=1)
    np.testing.assert_allclose(np.linalg.norm(seen[0].points, axis=1), sizes, rtol=1e-4)
    with pytest.raises(ValueError, match="`output` must name one"):
        fit(model, (x, given), PenultimateProjection(x, y, [3, 0, 2], tmp_path, examples_per_class=20))


def test_a_binary_model_has_no_plane(data, tmp_path):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    with pytest.raises(ValueError, match=r"at least three classes.*a binary classifier"):
        fit(model, (data[0], data[1] % 2), PenultimateProjection(*data, [0, 1, 2], tmp_path))


def test_a_model_that_preprocesses_is_refused(data, tmp_path):
    model = classifier()
    model.preprocessor = lambda x: x
    with pytest.raises(ValueError, match="must not preprocess its inputs"):
        fit(model, data, PenultimateProjection(*data, [0, 1, 2], tmp_path))


def test_says_nothing_of_fewer_examples_than_the_default(data, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(classifier(), data, PenultimateProjection(*data, [0, 1, 2], tmp_path), epochs=2)


def test_names_every_statistic():
    statistics = cluster_statistics([[0.0], [1.0]], [0, 1])
    assert [field.name for field in dataclasses.fields(statistics)] == STATISTICS
