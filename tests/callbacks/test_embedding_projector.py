"""What TensorBoard's projector is given: the files as its server reads them, the sprite sheet as its shader does."""

import io
import json
import math
import types

import keras
import numpy as np
import pytest
import reference
from harness import EAGER
from keras import layers, ops
from PIL import Image

from keras_ls.callbacks import EmbeddingProjector, _class_probabilities, embedding_projector
from keras_ls.callbacks._projector import ProjectorFolder, tensor_bytes
from keras_ls.callbacks._sprite import check_images, sprite_sheet, to_pixels

COLUMNS = {"label": ["a", "b", "ç"], "confidence": ["0.5", "1", "0.25"]}
HEADER = ["label", "prediction", "confidence", "correct"]


class Server:
    """The projector's server, without the rest of TensorBoard, on a folder of runs."""

    def __init__(self, logdir):
        from tensorboard.plugins.base_plugin import TBContext
        from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin

        folders = sorted({path.parent.relative_to(logdir) for path in logdir.rglob("*tfevents*")})
        runs = [types.SimpleNamespace(run_name=str(folder)) for folder in folders]
        provider = types.SimpleNamespace(list_runs=lambda context, experiment_id: runs)
        self.routes = ProjectorPlugin(TBContext(logdir=str(logdir), data_provider=provider)).get_plugin_apps()

    def get(self, route, **query):
        from werkzeug.test import Client

        response = Client(self.routes[route]).get(query_string=query)
        assert response.status_code == 200, response.get_data()
        return response.get_data()

    def runs(self):
        return json.loads(self.get("/runs"))

    def embeddings(self, run="."):
        return {each["tensorName"]: each for each in json.loads(self.get("/info", run=run))["embeddings"]}

    def points(self, name, run="."):
        shape = self.embeddings(run)[name]["tensorShape"]
        return np.frombuffer(self.get("/tensor", run=run, name=name), "float32").reshape(shape)

    def table(self, name, run="."):
        lines = self.get("/metadata", run=run, name=name).decode().splitlines()
        return [line.split("\t") for line in lines]

    def columns(self, name, run="."):
        header, *rows = self.table(name, run)
        assert header == HEADER
        return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))

    def thumbnails(self, name, count, run="."):
        size = self.embeddings(run)[name]["sprite"]["singleImageDim"]
        return thumbnails(self.get("/sprite_image", run=run, name=name), size, count)


def thumbnails(png, size, count):
    """The sprites of the points as the projector's vertex shader finds them, (N, H, W) or (N, H, W, 3)."""
    width, height = size
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    assert max(sheet.shape[:2]) <= 8192
    per_row, per_column = sheet.shape[1] / width, sheet.shape[0] / height
    places = [(int(i // per_column) * height, int(i % per_row) * width) for i in range(count)]
    return np.stack([sheet[y : y + height, x : x + width] for y, x in places])


class TestFolder:
    @pytest.mark.parametrize(
        "points",
        [
            np.zeros((3, 2)),  # as text, this is 24 characters
            np.full((3, 2), np.frombuffer(b"1\t2\n", "<f4")[0]),  # a table of numbers
            np.frombuffer(b"ab\n\xff" * 6, "<f4").reshape(3, 2),  # a line of text before the first byte that is none
            -np.arange(6.0).reshape(3, 2) * 1e30,
            np.random.default_rng(0).normal(size=(3, 200)),
        ],
    )
    def test_numbers_are_read_as_they_were(self, tmp_path, points):
        ProjectorFolder(str(tmp_path)).add("one", points, COLUMNS)
        read = Server(tmp_path).points("one")
        np.testing.assert_allclose(read, points, rtol=2.0**-16, atol=1e-42)
        np.testing.assert_array_equal(read.reshape(-1)[1:], points.astype("float32").reshape(-1)[1:])

    def test_files_are_no_text_and_numbers_stay_as_they_are(self):
        for low in range(256):
            number = np.frombuffer(bytes([low, 0x20, 0x20, 0x40]), "<f4")
            content = tensor_bytes(number[:, None])
            with pytest.raises(UnicodeDecodeError):
                content.partition(b"\n")[0].decode()
            np.testing.assert_allclose(np.frombuffer(content, "<f4"), number, rtol=2.0**-16)
        points = np.random.default_rng(0).normal(size=(9, 4)).astype("<f4")
        points[0, 0] = 0.0
        assert tensor_bytes(points) == points.tobytes()

    def test_the_table_has_a_header(self, tmp_path):
        ProjectorFolder(str(tmp_path)).add("one", np.ones((3, 2)), COLUMNS)
        table = Server(tmp_path).table("one")
        assert table == [["label", "confidence"], ["a", "0.5"], ["b", "1"], ["ç", "0.25"]]

    def test_embeddings_stand_side_by_side_in_order(self, tmp_path):
        for name in ("epoch_0010", "epoch_0002"):
            ProjectorFolder(str(tmp_path)).add(name, np.ones((3, 2)), COLUMNS)
        ProjectorFolder(str(tmp_path)).add("epoch_0010", np.ones((3, 5)), COLUMNS)
        server = Server(tmp_path)
        assert [(name, each["tensorShape"]) for name, each in server.embeddings().items()] == [
            ("epoch_0002", [3, 2]),
            ("epoch_0010", [3, 5]),
        ]

    def test_keeps_what_others_listed(self, tmp_path):
        (tmp_path / "projector_config.pbtxt").write_text('model_checkpoint_path: "a"\nembeddings { tensor_name: "z" }')
        ProjectorFolder(str(tmp_path)).add("one", np.ones((3, 2)), COLUMNS)
        text = (tmp_path / "projector_config.pbtxt").read_text()
        assert 'model_checkpoint_path: "a"' in text
        assert text.index('"one"') < text.index('"z"')

    def test_refuses_a_config_that_cannot_be_read(self, tmp_path):
        (tmp_path / "projector_config.pbtxt").write_text("{")
        with pytest.raises(ValueError, match=r"`log_dir` holds a projector_config\.pbtxt that cannot be read"):
            ProjectorFolder(str(tmp_path))

    def test_adds_an_event_file_where_there_is_none(self, tmp_path):
        ProjectorFolder(str(tmp_path)).add("one", np.ones((3, 2)), COLUMNS)
        (first,) = tmp_path.glob("*tfevents*")
        ProjectorFolder(str(tmp_path)).add("two", np.ones((3, 2)), COLUMNS)
        assert list(tmp_path.glob("*tfevents*")) == [first]

    def test_leaves_whole_files_only(self, tmp_path, monkeypatch):
        folder = ProjectorFolder(str(tmp_path))
        folder.add("one", np.ones((3, 2)), COLUMNS)
        monkeypatch.setattr("os.replace", lambda old, new: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(OSError, match="no space"):
            folder.add("one", np.zeros((3, 2)), COLUMNS)
        np.testing.assert_array_equal(Server(tmp_path).points("one").reshape(-1)[1:], np.ones(5))


def classifier(*last, size=6, run_eagerly=EAGER):
    hidden = layers.Dense(16, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((size,)), hidden, *(last or [layers.Dense(3)])])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=run_eagerly)
    return model


def fit(model, callback, epochs=1, x=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 6)).astype("float32") if x is None else x
    y = rng.integers(0, 3, (len(x), *model.output_shape[1:-1]))
    model.fit(x, y, epochs=epochs, batch_size=8, verbose=0, callbacks=[callback])


class Subclassed(keras.Model):
    def __init__(self, hidden, head):
        super().__init__()
        self.hidden, self.head = hidden, head

    def call(self, x):
        return self.head(self.hidden(x))


@pytest.fixture
def data(rng):
    return rng.normal(size=(30, 6)).astype("float32"), rng.integers(0, 3, 30)


def expected(model, x, labels):
    """The columns, and the activations, from the model cut by hand."""
    hidden = np.maximum(x.astype("float64") @ weights(model, "hidden", 0) + weights(model, "hidden", 1), 0)
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)][-1]
    probs = reference.softmax(hidden @ ops.convert_to_numpy(dense.kernel) + ops.convert_to_numpy(dense.bias))
    return hidden, {"label": labels, "prediction": probs.argmax(1), "confidence": probs.max(1)}


def weights(model, layer, place):
    return ops.convert_to_numpy(model.get_layer(layer).weights[place])


def assert_shows(server, name, model, x, labels):
    hidden, columns = expected(model, x, labels)
    np.testing.assert_allclose(server.points(name), hidden, rtol=1e-4, atol=1e-5)
    read = server.columns(name)
    assert read["label"] == [str(label) for label in columns["label"]]
    assert read["prediction"] == [str(k) for k in columns["prediction"]]
    np.testing.assert_allclose([float(text) for text in read["confidence"]], columns["confidence"], atol=2e-5)
    assert read["correct"] == [str(int(hit)) for hit in columns["label"] == columns["prediction"]]


def is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


class TestEmbeddings:
    def test_of_many_outputs_are_told_block_by_block(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr(_class_probabilities, "BLOCK", 8)
        model = classifier(layers.Dense(3, activation="softmax"))
        fit(model, EmbeddingProjector(data[0], tmp_path, labels=data[1]))
        assert_shows(Server(tmp_path), "epoch_0001", model, *data)

    def test_are_of_the_weights_that_early_stopping_restores(self, data, tmp_path):
        class Score(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                logs["score"] = float(epoch)  # the first epoch is the best

        x, y = data
        model = classifier()
        stop = keras.callbacks.EarlyStopping(monitor="score", mode="min", patience=2, restore_best_weights=True)
        callbacks = [Score(), stop, EmbeddingProjector(x, tmp_path, labels=y)]
        model.fit(x, y, epochs=9, batch_size=10, verbose=0, callbacks=callbacks)
        server = Server(tmp_path)
        assert list(server.embeddings()) == ["epoch_0003"]
        assert_shows(server, "epoch_0003", model, x, y)

    def test_are_written_once_when_training_ends(self, data, tmp_path):
        x, y = data
        model = classifier(run_eagerly=False)
        fit(model, EmbeddingProjector(x, tmp_path, labels=y), epochs=3)
        server = Server(tmp_path)
        assert server.runs() == ["."]
        assert list(server.embeddings()) == ["epoch_0003"]
        assert_shows(server, "epoch_0003", model, x, y)

    def test_are_written_every_few_epochs(self, data, tmp_path):
        x, y = data
        model = classifier()
        fit(model, EmbeddingProjector(x, tmp_path / "run", labels=y, freq=2), epochs=5)
        server = Server(tmp_path)
        assert server.runs() == ["run"]
        assert list(server.embeddings("run")) == ["epoch_0002", "epoch_0004"]
        assert not np.allclose(server.points("epoch_0002", "run"), server.points("epoch_0004", "run"))

    def test_of_several_runs_stand_side_by_side(self, data, tmp_path):
        models = {run: classifier() for run in ("hard", "smoothed")}
        for run, model in models.items():
            fit(model, EmbeddingProjector(data[0], tmp_path / run, labels=data[1]))
        server = Server(tmp_path)
        assert sorted(server.runs()) == sorted(models)
        for run, model in models.items():
            hidden, _ = expected(model, *data)
            np.testing.assert_allclose(server.points("epoch_0001", run), hidden, rtol=1e-4, atol=1e-5)

    def test_of_a_second_fit_are_added(self, data, tmp_path):
        callback, model = EmbeddingProjector(data[0], tmp_path, labels=data[1]), classifier()
        fit(model, callback)
        model.fit(*data, epochs=3, initial_epoch=1, verbose=0, callbacks=[callback])
        model.fit(*data, epochs=3, initial_epoch=3, verbose=0, callbacks=[callback])  # trains no more
        assert list(Server(tmp_path).embeddings()) == ["epoch_0001", "epoch_0003"]

    def test_of_a_softmax_whose_weights_start_at_zero(self, data, tmp_path):
        model = classifier(layers.Dense(3, activation="softmax", kernel_initializer="zeros"))
        fit(model, EmbeddingProjector(data[0], tmp_path, labels=data[1]))
        assert_shows(Server(tmp_path), "epoch_0001", model, *data)

    def test_goes_on_where_rounding_hides_what_the_model_gives(self, data, tmp_path, monkeypatch):
        model = classifier(layers.Dense(3, activation="softmax"))
        told, tell = [], embedding_projector.outputs_are_logits

        def once(*given):
            told.append(given)
            if len(told) > 1:
                raise ValueError("neither")
            return tell(*given)

        monkeypatch.setattr(embedding_projector, "outputs_are_logits", once)
        fit(model, EmbeddingProjector(data[0], tmp_path, labels=data[1]))
        assert len(told) == 2
        assert_shows(Server(tmp_path), "epoch_0001", model, *data)

    @pytest.mark.parametrize(
        "last",
        [
            [layers.Dense(3, activation="softmax")],
            [layers.Dense(3), layers.Softmax()],
            [layers.Dense(3, activation="log_softmax")],
        ],
        ids=["softmax", "softmax layer", "log-softmax"],
    )
    def test_of_models_that_give_probabilities(self, data, tmp_path, last):
        model = classifier(*[type(layer).from_config(layer.get_config()) for layer in last])
        fit(model, EmbeddingProjector(data[0], tmp_path, labels=data[1]))
        assert_shows(Server(tmp_path), "epoch_0001", model, *data)

    def test_in_half_precision(self, data, tmp_path):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = classifier(run_eagerly=False)
            fit(model, EmbeddingProjector(data[0], tmp_path, labels=data[1]))
        finally:
            keras.config.set_dtype_policy("float32")
        hidden, columns = expected(model, *data)
        server = Server(tmp_path)
        np.testing.assert_allclose(server.points("epoch_0001"), hidden, rtol=5e-2, atol=5e-2)
        confidence = [float(text) for text in server.columns("epoch_0001")["confidence"]]
        np.testing.assert_allclose(confidence, columns["confidence"], atol=3e-2)

    def test_show_labels_of_every_form(self, data, tmp_path):
        x, y = data
        forms = [y[:, None], np.eye(3)[y], y.astype("float32"), ops.convert_to_tensor(y), y.tolist()]
        model = classifier()
        for place, form in enumerate(forms):
            fit(model, EmbeddingProjector(x, tmp_path / str(place), labels=form))
            assert Server(tmp_path).columns("epoch_0001", str(place))["label"] == [str(k) for k in y]

    @pytest.mark.parametrize("form", [list, np.array, lambda texts: np.array([t.encode() for t in texts], object)])
    def test_show_strings_as_they_are(self, data, tmp_path, form):
        texts = [f"dog {k} é" for k in data[1]]
        fit(classifier(), EmbeddingProjector(data[0], tmp_path, labels=form(texts)))
        columns = Server(tmp_path).columns("epoch_0001")
        assert columns["label"] == texts
        assert set(columns["correct"]) == {"unknown"}
        assert set(columns["prediction"]) <= {"0", "1", "2"}

    def test_show_a_question_mark_for_what_utf_8_cannot_hold(self, data, tmp_path):
        fit(classifier(), EmbeddingProjector(data[0], tmp_path, labels=["caf\udce9"] * len(data[0])))
        assert set(Server(tmp_path).columns("epoch_0001")["label"]) == {"caf?"}

    def test_need_no_labels(self, data, tmp_path):
        fit(classifier(), EmbeddingProjector(data[0], tmp_path))
        columns = Server(tmp_path).columns("epoch_0001")
        assert set(columns["label"]) == set(columns["correct"]) == {"unknown"}

    @pytest.mark.parametrize("labels", ["ids", "texts", "none"])
    def test_are_labelled_by_their_label_to_begin_with(self, data, tmp_path, labels):
        x, y = data
        labels = {"ids": y, "texts": [f"dog {k}" for k in y], "none": None}[labels]
        fit(classifier(), EmbeddingProjector(x, tmp_path, labels=labels))
        columns = Server(tmp_path).columns("epoch_0001")
        # The projector's rule: by the first column that is not all numbers, else by the first one.
        words = [name for name, texts in columns.items() if not all(map(is_number, texts))]
        assert [*words, *columns][0] == "label"

    def test_of_many_examples_are_of_the_same_few(self, rng, tmp_path):
        x, y = rng.normal(size=(500, 6)).astype("float32"), np.arange(500) // 200
        images = np.arange(500, dtype="uint16").repeat(4).reshape(500, 2, 2)
        for run in ("a", "b"):
            model = classifier()
            fit(model, EmbeddingProjector(x, tmp_path / run, labels=y, images=images, max_examples=40))
        server = Server(tmp_path)
        hidden, _ = expected(model, x, y)
        shown = server.points("epoch_0001", "b")
        chosen = np.abs(hidden[:, None] - shown).sum(-1).argmin(0)
        assert len(set(chosen.tolist())) == 40
        assert (np.diff(chosen) > 0).all()
        np.testing.assert_allclose(shown, hidden[chosen], rtol=1e-4, atol=1e-5)
        labels = server.columns("epoch_0001", "b")["label"]
        assert labels == [str(k) for k in y[chosen]]
        assert set(labels) == {"0", "1", "2"}  # not the first 40, which are all of class 0
        assert server.columns("epoch_0001", "a")["label"] == labels
        levels = server.thumbnails("epoch_0001", 40, "b")[:, 0, 0].astype(float)
        low, high = chosen.min(), chosen.max()
        np.testing.assert_allclose(levels, 255 * (chosen - low) / (high - low), atol=0.51)

    def test_of_several_inputs(self, data, tmp_path):
        x, y = data
        inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((4,), name="b")}
        hidden = layers.Dense(5, name="hidden")(layers.Concatenate()([inputs["a"], inputs["b"]]))
        model = keras.Model(inputs, layers.Dense(3)(hidden))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        arrays = {"a": x[:, :2], "b": ops.convert_to_tensor(x[:, 2:])}
        model.fit(arrays, y, verbose=0, callbacks=[EmbeddingProjector(arrays, tmp_path, labels=y, max_examples=20)])
        assert Server(tmp_path).points("epoch_0001").shape == (20, 5)

    @pytest.mark.parametrize("lazy", [lambda *body: keras.Sequential(body), Subclassed])
    def test_of_a_model_that_its_first_step_builds(self, data, tmp_path, lazy):
        trained = []
        for callbacks in ([], [EmbeddingProjector(data[0], tmp_path, labels=data[1])]):
            keras.utils.set_random_seed(3)
            model = lazy(layers.Dense(16, activation="relu", name="hidden"), layers.Dense(3))
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            model.fit(*data, verbose=0, callbacks=callbacks)
            trained.append(model.get_weights())
        for plain, watched in zip(*trained, strict=True):
            np.testing.assert_array_equal(plain, watched)
        assert_shows(Server(tmp_path), "epoch_0001", model, *data)

    def test_training_is_the_same_with_and_without(self, data, tmp_path):
        trained = []
        for callback in (keras.callbacks.Callback(), EmbeddingProjector(data[0], tmp_path, labels=data[1], freq=1)):
            keras.utils.set_random_seed(3)
            model = classifier(layers.Dropout(0.5), layers.Dense(3))
            fit(model, callback, epochs=3)
            trained.append(model.get_weights())
        for plain, watched in zip(*trained, strict=True):
            np.testing.assert_array_equal(plain, watched)

    def test_of_infinities_are_left_out_with_a_warning(self, data, tmp_path):
        class Break(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.get_layer("hidden").bias.assign([np.inf] * 16)

        callback, model = EmbeddingProjector(data[0], tmp_path, labels=data[1]), classifier()
        with pytest.warns(UserWarning, match="No embedding of epoch 1"):
            model.fit(*data, verbose=0, callbacks=[Break(), callback])
        assert not (tmp_path / "projector_config.pbtxt").exists()
        model.fit(*data, verbose=0, callbacks=[callback])  # a model that is broken from the start is no error

    def test_predictions_of_nan_are_nan(self, data, tmp_path):
        class Break(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.layers[-1].bias.assign([np.nan] * 3)

        x, y = data
        classifier().fit(x, y, verbose=0, callbacks=[Break(), EmbeddingProjector(x, tmp_path, labels=0 * y)])
        columns = Server(tmp_path).columns("epoch_0001")
        assert set(columns["prediction"]) == set(columns["confidence"]) == {"nan"}
        assert set(columns["correct"]) == {"0"}


class TestBinaryModels:
    def fit(self, model, callback):
        x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=EAGER)
        model.fit(x, np.arange(16) % 2, verbose=0, callbacks=[callback])

    @pytest.mark.parametrize(
        ("last", "form"),
        [
            *((last, lambda y: y) for last in ("logit", "sigmoid", "sigmoid layer", "temperature")),
            ("logit", lambda y: y[:, None]),
            ("sigmoid", lambda y: y.astype("float32")),
        ],
    )
    def test_have_one_probability_or_logit_of_class_1(self, data, tmp_path, last, form):
        x, y = data[0], data[1] % 2
        dense = layers.Dense(1, activation="sigmoid" if last == "sigmoid" else None)
        after = {
            "sigmoid layer": [layers.Activation("sigmoid")],
            "temperature": [layers.Rescaling(0.5), layers.Activation("sigmoid")],
        }
        model = classifier(dense, *after.get(last, []))
        self.fit(model, EmbeddingProjector(x, tmp_path, labels=form(y)))
        hidden = np.maximum(x @ weights(model, "hidden", 0) + weights(model, "hidden", 1), 0)
        logit = hidden @ ops.convert_to_numpy(dense.kernel)[:, 0] + ops.convert_to_numpy(dense.bias)
        p = 1 / (1 + np.exp(-logit * (0.5 if last == "temperature" else 1)))
        columns = Server(tmp_path).columns("epoch_0001")
        assert columns["label"] == [str(k) for k in y]
        assert columns["prediction"] == [str(int(each > 0.5)) for each in p]
        assert {"0", "1"} == set(columns["prediction"])
        np.testing.assert_allclose([float(c) for c in columns["confidence"]], np.maximum(p, 1 - p), atol=2e-5)
        assert columns["correct"] == [str(int(hit)) for hit in (p > 0.5) == y]

    @pytest.mark.parametrize("labels", [np.arange(30), np.eye(2)[np.arange(30) % 2]])
    def test_have_labels_0_and_1(self, data, tmp_path, labels):
        with pytest.raises(ValueError, match=r"`labels` must hold (integers in \[0, 2\)|one label per prediction)"):
            self.fit(classifier(layers.Dense(1)), EmbeddingProjector(data[0], tmp_path, labels=labels))


class TestOneOfSeveralOutputs:
    def make(self):
        inputs = keras.Input((6,))
        hidden = layers.Dense(16, activation="relu", name="hidden")(inputs)
        outputs = {"b": layers.Dense(2, name="b")(layers.Dense(4)(hidden)), "a": layers.Dense(3, name="a")(hidden)}
        model = keras.Model(inputs, outputs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", {"a": loss, "b": loss}, run_eagerly=EAGER)
        return model

    @pytest.mark.parametrize("form", ["own", "dict"])
    def test_is_shown_by_its_name(self, data, tmp_path, form):
        x, y = data
        model, labels = self.make(), {"a": y, "b": y % 2}
        callback = EmbeddingProjector(x, tmp_path, labels=labels if form == "dict" else y, output="a")
        model.fit(x, labels, verbose=0, callbacks=[callback])
        hidden = np.maximum(x @ weights(model, "hidden", 0) + weights(model, "hidden", 1), 0)
        probs = reference.softmax(hidden @ weights(model, "a", 0) + weights(model, "a", 1))
        server = Server(tmp_path)
        np.testing.assert_allclose(server.points("epoch_0001"), hidden, rtol=1e-4, atol=1e-5)
        columns = server.columns("epoch_0001")
        assert columns["label"] == [str(k) for k in y]
        assert columns["prediction"] == [str(k) for k in probs.argmax(1)]

    @pytest.mark.parametrize("output", [None, "c"])
    def test_must_be_named(self, data, tmp_path, output):
        x, y = data
        with pytest.raises(ValueError, match="`output` must name one"):
            self.make().fit(x, {"a": y, "b": y % 2}, callbacks=[EmbeddingProjector(x, tmp_path, output=output)])


def test_a_model_that_preprocesses_is_refused(data, tmp_path):
    model = classifier()
    model.preprocessor = lambda x: x
    with pytest.raises(ValueError, match="must not preprocess its inputs"):
        fit(model, EmbeddingProjector(data[0], tmp_path))


class TestTimeSteps:
    def tokens(self, rng):
        ids = rng.integers(1, 9, (12, 5))
        ids[::2, 3:] = 0
        model = keras.Sequential(
            [keras.Input((5,), dtype="int32"), layers.Embedding(9, 4, mask_zero=True), layers.Dense(3)]
        )
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=EAGER)
        return ids, model

    def test_that_are_all_masked_are_refused_before_training(self, rng, tmp_path):
        ids, model = self.tokens(rng)
        with pytest.raises(ValueError, match="`x` must hold at least one time step that counts"):
            fit(model, EmbeddingProjector(np.zeros_like(ids), tmp_path), x=ids)

    def test_that_are_masked_are_no_points(self, rng, tmp_path):
        ids, model = self.tokens(rng)
        labels = np.where(ids > 0, ids % 3, -1)  # no class where there is padding
        fit(model, EmbeddingProjector(ids, tmp_path, labels=labels), x=ids)
        server = Server(tmp_path)
        table = ops.convert_to_numpy(model.layers[0].embeddings)
        np.testing.assert_allclose(server.points("epoch_0001"), table[ids[ids > 0]], rtol=1e-4)
        assert server.columns("epoch_0001")["label"] == [str(k % 3) for k in ids[ids > 0]]

    def test_are_bounded_in_number(self, rng, tmp_path):
        ids, model = self.tokens(rng)
        words = np.array([f"w{k}" for k in range(9)])[ids]
        fit(model, EmbeddingProjector(ids, tmp_path, labels=words, max_examples=7), x=ids)
        server = Server(tmp_path)
        labels = server.columns("epoch_0001")["label"]
        assert len(labels) == 7
        assert "w0" not in labels
        table = ops.convert_to_numpy(model.layers[0].embeddings)
        np.testing.assert_allclose(server.points("epoch_0001"), table[[int(w[1:]) for w in labels]], rtol=1e-4)

    def test_have_no_images(self, rng, tmp_path):
        ids, model = self.tokens(rng)
        with pytest.raises(ValueError, match="`images` must be None"):
            fit(model, EmbeddingProjector(ids, tmp_path, images=np.zeros((12, 2, 2))), x=ids)


class TestSprites:
    def shown(self, images):
        return thumbnails(*sprite_sheet(to_pixels(check_images(images, len(images)))), len(images))

    @pytest.mark.parametrize("count", [1, 2, 7, 16, 17, 90])
    def test_are_those_of_their_points(self, rng, count):
        images = rng.integers(0, 256, (count, 40, 48, 3)).astype("uint8")
        np.testing.assert_array_equal(self.shown(images), images)

    def test_reach_the_projector(self, data, rng, tmp_path):
        images = rng.integers(0, 256, (30, 40, 48, 3)).astype("uint8")
        fit(classifier(), EmbeddingProjector(data[0], tmp_path, images=images / 255))
        np.testing.assert_array_equal(Server(tmp_path).thumbnails("epoch_0001", 30), images)

    @pytest.mark.parametrize(
        ("images", "levels"),
        [
            (np.array([0, 200, 7], "uint8"), [0, 200, 7]),
            (np.array([0.0, 0.2, 0.5]), [0, 51, 128]),
            (np.array([0.0, 1.0, 0.5], "float16"), [0, 255, 128]),
            (np.array([False, True, False]), [0, 255, 0]),
            (np.array([0, 16, 4]), [0, 255, 64]),
            (np.array([-1.0, 1.0, 0.0]), [0, 255, 128]),
            (np.array([3.0, 3.0, 3.0]), [0, 0, 0]),
        ],
    )
    def test_have_the_documented_levels(self, images, levels):
        for shape in ((3, 33, 33), (3, 33, 33, 1)):
            shown = self.shown(np.broadcast_to(images.reshape(3, *[1] * (len(shape) - 1)), shape))
            assert shown.shape == (3, 33, 33)
            np.testing.assert_array_equal(shown, np.broadcast_to(np.reshape(levels, (3, 1, 1)), (3, 33, 33)))

    def test_of_small_images_are_enlarged_without_blur(self, rng):
        images = rng.integers(0, 256, (5, 8, 6)).astype("uint8")
        np.testing.assert_array_equal(self.shown(images), images.repeat(4, 1).repeat(4, 2))

    def test_of_large_images_are_reduced(self):
        images = np.zeros((5, 100, 200, 3), "uint8")
        images[:, :, 100:] = [10, 20, 30]
        shown = self.shown(images)
        assert shown.shape == (5, 32, 64, 3)
        np.testing.assert_array_equal(shown, images[:, 1::3][:, :32, 1::3][:, :, [0] * 32 + [-1] * 32])

    def test_of_very_many_images_fit_the_largest_sheet(self):
        png, (width, height) = sprite_sheet(np.zeros((150 * 150, 64, 64, 1), "uint8"))
        assert (width, height) == (54, 54)
        assert Image.open(io.BytesIO(png)).size == (150 * 54, 150 * 54)

    def test_are_written_once_for_all_epochs(self, rng, tmp_path):
        x = rng.normal(size=(9, 6)).astype("float32")
        images = rng.integers(0, 256, (9, 40, 40)).astype("uint8")
        fit(classifier(), EmbeddingProjector(x, tmp_path, images=images, freq=1), epochs=3)
        assert len(list((tmp_path / "projector").glob("*.png"))) == 1
        fit(classifier(), EmbeddingProjector(x[:4], tmp_path, images=images[5:], freq=1))
        server = Server(tmp_path)
        np.testing.assert_array_equal(server.thumbnails("epoch_0001", 4), images[5:])
        np.testing.assert_array_equal(server.thumbnails("epoch_0003", 9), images)  # of the earlier training


class TestRefuses:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"freq": 0}, "`freq` must be at least 1"),
            ({"max_examples": 0}, "`max_examples` must be at least 1"),
            ({"x": np.zeros((0, 6))}, "`x` must hold examples"),
            ({"x": {"a": np.zeros((3, 6)), "b": np.zeros((4, 6))}}, "of the same length"),
            ({"x": iter([1])}, "`x` must be an array"),
            ({"labels": [0, 1]}, r"one label per example of `x` \(30\). Received: .* of shape \(2,\)"),
            ({"labels": 3}, "one label per example"),
            ({"labels": ["a\tb"] * 30}, "without tabs and line breaks. Received: 'a\\\\tb'"),
            ({"labels": [*["a"] * 29, "a\nb"]}, "without tabs and line breaks"),
            ({"labels": ["a\rb"] * 30}, "without tabs and line breaks"),
            ({"labels": [None] * 30}, "`labels` must be numbers, or strings"),
            ({"images": np.zeros((29, 4, 4))}, r"one image an example of `x` \(30\). Received: 29"),
            ({"images": np.zeros((30, 16))}, r"`images` must be of shape .* Received shape: \(30, 16\)"),
            ({"images": np.zeros((30, 4, 4, 2))}, "`images` must be of shape"),
            ({"images": np.zeros((30, 4, 0))}, "`images` must be of shape"),
            ({"images": np.full((30, 4, 4), np.nan)}, "`images` must be finite"),
            ({"images": np.full((30, 4, 4), -np.inf)}, "`images` must be finite"),
            ({"images": ["cat.png"] * 30}, "`images` must be an array of real numbers"),
            ({"log_dir": __file__}, "`log_dir` must be a folder that can be written"),
            ({"log_dir": b"runs"}, "`log_dir` must be a path"),
            ({"log_dir": 3}, "`log_dir` must be a path"),
            ({"log_dir": None}, "`log_dir` must be a path"),
            ({"x": "images"}, "`x` must be an array"),
            ({"x": range(3)}, "`x` must be an array"),
            ({"x": None}, "`x` must be an array"),
            ({"labels": [[1], [1, 2]] * 15}, "one label per example"),
            ({"labels": "abc"}, "one label per example"),
            ({"labels": [b"\xff\n"] * 30}, "without tabs and line breaks"),
            ({"labels": [["a"]] * 29 + [[None]]}, "`labels` must be numbers, or strings"),
            ({"images": [[1], [1, 2]]}, "`images` must be an array of real numbers"),
            ({"freq": "1"}, "`freq` must be an integer"),
            ({"max_examples": 2**70}, "`max_examples` must be at most"),
            ({"output": 3}, "`output` must be a string"),
            ({"output": "b", "labels": {"a": [0] * 30}}, "A dict by outputs must hold `output`, 'b'"),
        ],
    )
    def test_when_it_is_made(self, data, tmp_path, change, message):
        arguments = {"x": data[0], "log_dir": tmp_path / "run", "labels": data[1], **change}
        with pytest.raises(ValueError, match=message) as raised:
            EmbeddingProjector(**arguments)
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.arange(30), r"`labels` must hold integers in \[0, 3\)"),
            (np.full(30, 0.5), "integers in"),
            (np.zeros((30, 4)), r"one label per prediction. Received: shape \(30, 4\)"),
            (np.full((30, 3), "a"), "one label per prediction"),
            (np.zeros((30, 3)), "must be finite and mark one class"),
        ],
    )
    def test_before_it_trains(self, data, tmp_path, labels, message):
        model = classifier()
        before = model.get_weights()
        with pytest.raises(ValueError, match=message):
            fit(model, EmbeddingProjector(data[0], tmp_path, labels=labels))
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        assert not list(tmp_path.iterdir())

    def test_pooling_after_the_last_dense(self, rng, tmp_path):
        model = keras.Sequential([keras.Input((6, 5)), layers.Dense(3), layers.GlobalAveragePooling1D()])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x = rng.standard_normal((20, 6, 5)).astype("float32")
        with pytest.raises(ValueError, match="`model` must give one prediction per row"):
            model.fit(x, np.arange(20) % 3, verbose=0, callbacks=[EmbeddingProjector(x, tmp_path)])

    @pytest.mark.parametrize(
        ("last", "message"),
        [
            ([layers.Dense(3, activation="sigmoid")], "sigmoid of each of 3 units, as a multi-label"),
            ([layers.Dense(2, activation="sigmoid", kernel_initializer="zeros")], "as a multi-label"),
            ([layers.Dense(3), layers.Activation("sigmoid")], "sigmoid of each of 3 units, as a multi-label"),
            ([layers.Dense(3, activation="tanh")], "neither"),
            ([layers.Dense(1, activation="tanh")], "neither"),
            ([layers.Dense(1), layers.ReLU()], "neither"),
            ([layers.Dense(3), layers.BatchNormalization()], "must be a Dense"),
        ],
        ids=["sigmoids", "sigmoids of 0", "sigmoid layer", "tanh", "one tanh", "one ReLU", "not last"],
    )
    def test_models_of_another_kind(self, data, tmp_path, last, message):
        model = classifier(*[type(layer).from_config(layer.get_config()) for layer in last])
        with pytest.raises(ValueError, match=message):
            fit(model, EmbeddingProjector(data[0], tmp_path))
