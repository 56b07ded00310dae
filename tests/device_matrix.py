"""Every part of the library on one device or several: `python device_matrix.py FOLDER COUNT` prints numbers as JSON.

The devices are virtual ones of the CPU; for JAX the environment must ask for them. There are 30 and 31 held-out
examples, which four devices do not divide.
"""

import contextlib
import json
import pathlib
import sys
import warnings

import keras
import numpy as np
from keras import layers, ops

import keras_ls

SIZES = (30, 31)
K, D, WIDTH = 3, 4, 6
VOCABULARY = "vocabulary"
PARTS = {}
ONCE = set()


def part(function):
    """Enters a function in the table: it is given a `Case` and returns numbers."""
    PARTS[function.__name__] = function
    return function


def once(function):
    """Enters one whose use of held-out examples other parts show with both numbers of them."""
    ONCE.add(function.__name__)
    return part(function)


def scope_of(count):
    """What gives the scope in which models are made for so many devices."""
    if count == 1:
        return contextlib.nullcontext
    if keras.backend.backend() == "jax":
        return keras.distribution.DataParallel(devices=keras.distribution.list_devices("cpu")).scope
    import tensorflow as tf

    # Replicas wait for each other in threads, of which there must be more than a small machine has cores.
    tf.config.threading.set_inter_op_parallelism_threads(4 * count)
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)]).scope


def vocabulary_scope():
    """What gives JAX's scope in which two devices each hold half of the columns of the output layer."""
    devices = keras.distribution.list_devices("cpu")
    mesh = keras.distribution.DeviceMesh((len(devices) // 2, 2), ("batch", "model"), devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[f".*{VOCABULARY}/kernel"] = (None, "model")
    layouts[f".*{VOCABULARY}/bias"] = ("model",)
    return keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch").scope


class Case:
    """One model on so many devices, and its data: the same numbers whatever the devices."""

    def __init__(self, scope, size, folder):
        rng = np.random.default_rng(0)
        self.scope, self.folder = scope, folder
        self.x_train, self.y_train = rng.normal(size=(32, D)).astype("float32"), rng.integers(0, K, 32)
        self.x, self.y = rng.normal(size=(size, D)).astype("float32"), np.arange(size) % K

    def network(self, seed=1, width=WIDTH, activation=None, inside=True):
        rng = np.random.default_rng(seed)
        with self.scope() if inside else contextlib.nullcontext():
            model = keras.Sequential(
                [keras.Input((D,)), layers.Dense(width, "relu"), layers.Dropout(0.5), layers.Dense(K, activation)]
            )
            model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
        return model

    def compiled(self, loss=None, metrics=(), rate=0.1, **settings):
        loss = loss or keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True)
        with self.scope():
            model = keras.Sequential(
                [layer for layer in self.network(**settings).layers if "dropout" not in layer.name]
            )
            model.compile(keras.optimizers.SGD(rate), loss, weighted_metrics=list(metrics))
        return model

    def trained(self, model, x=None, y=None, **settings):
        """The losses and the weights of an epoch, in the order of the data."""
        x, y = (self.x_train if x is None else x), (self.y_train if y is None else y)
        with self.scope():
            history = model.fit(x, y, batch_size=16, shuffle=False, verbose=0, **settings).history
        return [*history.values(), *model.get_weights()]


class Batches(keras.utils.PyDataset):
    """Batches of eight, the last one of what is left."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return -(-len(self.x) // 8)

    def __getitem__(self, index):
        rows = slice(8 * index, 8 * index + 8)
        return self.x[rows], self.y[rows]


def events(folder):
    """The scalars of a folder of TensorBoard."""
    from tensorboard.backend.event_processing import event_accumulator

    read = event_accumulator.EventAccumulator(str(folder)).Reload()
    return [[event.value for event in read.Scalars(tag)] for tag in sorted(read.Tags()["scalars"])]


@once
def losses(case):
    targets = keras_ls.neighbourhood_smoothed_targets(case.y_train.reshape(8, 4), K, [0.1, 0.1])
    targets = ops.convert_to_numpy(targets).reshape(32, K)
    prior = keras_ls.label_frequencies(case.y_train, K)
    one_hot = keras_ls.SmoothedCategoricalCrossentropy(0.2, prior, from_logits=True)
    sparse = keras_ls.SmoothedSparseCategoricalCrossentropy(0.2)
    found = case.trained(case.compiled(one_hot), y=targets)
    return found + case.trained(case.compiled(sparse, activation="softmax"))


@once
def linear_loss(case):
    model = case.compiled()
    features = ops.relu(model.layers[0](case.x))
    head = model.layers[-1]
    return [
        ops.convert_to_numpy(keras_ls.linear_smoothed_crossentropy(features, head.kernel, head.bias, case.y)),
        ops.convert_to_numpy(
            keras_ls.smoothed_sparse_categorical_crossentropy(case.y, model(case.x), from_logits=True)
        ),
    ]


@once
def metrics(case):
    kinds = (
        keras_ls.ExpectedCalibrationError,
        keras_ls.ClasswiseCalibrationError,
        keras_ls.NegativeLogLikelihood,
        keras_ls.BrierScore,
        keras_ls.AreaUnderRiskCoverage,
    )
    with case.scope():
        model = case.compiled(metrics=[kind(from_logits=True) for kind in kinds])
    # Keras's own `evaluate` needs batches that the devices divide: rows of no weight fill the last one.
    filled = np.minimum(np.arange(32), len(case.y) - 1)
    weight = (np.arange(32) < len(case.y)).astype("float32")
    found = model.evaluate(case.x[filled], case.y[filled], 16, sample_weight=weight, return_dict=True, verbose=0)
    intervals = [metric.interval(0.9) for metric in model.metrics[-1].metrics if hasattr(metric, "interval")]
    return [found[name] for name in sorted(found) if name != "loss"] + intervals


@part
def callbacks(case):
    noise, folder = layers.GaussianNoise(0.1), case.folder
    all_of_them = [
        keras_ls.Calibration(case.x, case.y, from_logits=None, log_dir=folder / "calibration"),
        keras_ls.Calibration(Batches(case.x, case.y), from_logits=True, prefix="batches_"),
        keras_ls.PenultimateProjection(case.x, case.y, (0, 1, 2), folder / "projection"),
        keras_ls.EmbeddingProjector(case.x, folder / "embedding", labels=case.y),
        keras_ls.MutualInformation(case.x, case.y, (0, 1), noise, folder / "information"),
    ]
    found = case.trained(case.compiled(), callbacks=all_of_them)
    projector = folder / "embedding" / "projector"
    table = (projector / "epoch_0001_metadata.tsv").read_text().splitlines()[1:]
    found += [[float(cell) for cell in line.split("\t")] for line in table]
    found += [np.frombuffer((projector / "epoch_0001_tensors.bytes").read_bytes(), "<f4")]
    return found + [events(folder / name) for name in ("calibration", "projection", "information")]


@once
def distiller(case):
    teacher, student = case.network(2, width=5, activation="softmax"), case.compiled()
    with case.scope():
        model = keras_ls.Distiller(teacher, student, temperature=2.0, beta=0.5)
        model.compile(keras.optimizers.SGD(0.1), keras_ls.SmoothedSparseCategoricalCrossentropy(from_logits=True))
    calibration = keras_ls.Calibration(case.x, case.y, from_logits=None)
    return case.trained(model, callbacks=[calibration]) + student.get_weights()


@once
def cached_distiller(case):
    logits = keras_ls.teacher_logits(case.network(2, width=5), case.x_train, path=case.folder / "zt.npy")
    student = case.compiled()
    with case.scope():
        model = keras_ls.Distiller(None, student, temperature=2.0, matching="squared_logits")
        model.compile(keras.optimizers.SGD(0.1))
    return case.trained(model, y={"labels": case.y_train, "teacher_logits": np.array(logits)}) + student.get_weights()


@part
def teacher_logits(case):
    teacher, path = case.network(activation="softmax"), case.folder / "zt.npy"
    found = [keras_ls.teacher_logits(teacher, case.x, batch_size=size) for size in (8, 256)]
    found += [keras_ls.teacher_logits(teacher, case.x, batch_size=8, path=path) for _ in range(2)]
    return [*found, np.load(path), keras_ls.teacher_logits(teacher, Batches(case.x, case.y), path=path)]


@part
def calibrate(case):
    model = case.network(activation="softmax")
    found = []
    for data in ((case.x, case.y), (Batches(case.x, case.y),)):
        calibrated = keras_ls.calibrate(model, *data)
        found += [ops.convert_to_numpy(calibrated.layers[-1].temperature)]
        found += [ops.convert_to_numpy(calibrated(case.x))]
    return found


@part
def activations(case):
    model = case.network()
    inputs = (case.x, Batches(case.x, case.y))
    found = [keras_ls.penultimate_activations(model, x, batch_size=8) for x in inputs]
    projection = keras_ls.project_classes(model, case.x, case.y, (0, 1, 2))
    return [*found, projection.points, projection.templates_2d, keras_ls.class_templates(model)]


@part
def logit_mutual_information(case):
    noise = layers.GaussianNoise(0.1, seed=0)
    return [keras_ls.logit_mutual_information(case.network(), case.x, case.y, (0, 1), noise, batch_size=8)]


@part
def beam_search(case):
    model = case.network()
    embedding = np.random.default_rng(5).normal(size=(K, D)).astype("float32")

    def search(batch):
        def step(tokens, state):
            return model(ops.take(embedding, tokens, axis=0) + state, training=False), state * 0.9

        return keras_ls.beam_search(step, batch, len(batch), 0, 1, max_length=4, beam_width=3, num_results=2)

    found = search(ops.convert_to_tensor(case.x[:5]))
    return [ops.convert_to_numpy(each) for each in (found.tokens, found.scores)]


@once
def fused_output(case):
    with case.scope():
        model = keras_ls.FusedOutput(case.compiled(), label_smoothing=0.1, chunk_size=2)
        model.compile(keras.optimizers.SGD(0.1), metrics=[keras_ls.BrierScore(from_logits=True)])
    found = case.trained(model, callbacks=[keras_ls.Calibration(case.x, case.y, from_logits=True)])
    return [*found, *model.evaluate(case.x_train, case.y_train, batch_size=16, verbose=0, return_dict=True).values()]


@once
def sharded_vocabulary(case):
    scope = vocabulary_scope() if keras.distribution.distribution() else case.scope
    rng = np.random.default_rng(3)
    with scope():
        model = keras.Sequential([keras.Input((D,)), layers.Dense(WIDTH, "relu"), layers.Dense(4, name=VOCABULARY)])
        model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
        fused = keras_ls.FusedOutput(model, label_smoothing=0.1, chunk_size=2)
        fused.compile(keras.optimizers.SGD(0.1))
        history = fused.fit(case.x_train, case.y_train, batch_size=16, shuffle=False, verbose=0).history
        found = [keras_ls.teacher_logits(model, case.x), keras_ls.penultimate_activations(model, case.x)]
        return [*found, *history.values(), *model.get_weights(), keras_ls.class_templates(model)]


@part
def diagnose(case):
    model = case.network(activation="softmax")
    diagnosis = keras_ls.diagnose(model, case.x, case.y, case.x_train, case.y_train, num_resamples=50)
    return [[each.value, each.low, each.high] for _, each in sorted(diagnosis.estimates.items())]


@part
def model_made_outside(case):
    model = case.network(inside=False)
    return [keras_ls.penultimate_activations(model, case.x), keras_ls.teacher_logits(model, case.x)]


def flat(values):
    """Nested numbers as one list."""
    if isinstance(values, (list, tuple)):
        return [number for value in values for number in flat(value)]
    return np.asarray(values, "float64").reshape(-1).tolist()


def main(folder, count, *names):
    warnings.simplefilter("ignore")
    found, scope = {}, scope_of(int(count))
    for size in SIZES:
        # Functions are called within the scope as well as after it.
        within = scope if size == SIZES[0] else contextlib.nullcontext
        for name in names or sorted(PARTS if size == SIZES[0] else PARTS.keys() - ONCE):
            place = pathlib.Path(folder, f"{name}-{size}")
            place.mkdir()
            try:
                with within():
                    values = flat(PARTS[name](Case(scope, size, place)))
            except Exception as error:
                if names:
                    raise
                values = f"{type(error).__name__}: {str(error)[:300]}"
            found[f"{name} of {size} examples"] = values
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
