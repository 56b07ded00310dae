"""What metrics and callbacks of keras_ls add to `fit`, and `Calibration` beside `predict` of the same data."""

import numpy as np

from benchmarks.harness import Bound, Case, Prepared, Subject

PLAIN, ACCURACY, METRICS = "fit", "fit, Keras's accuracy", "fit, ECE and NLL"
PREDICT, CALIBRATION = "predict", "Calibration of an epoch"
NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def prepare(case, units, batch_size, steps, examples, classes):
    """Some steps of training, or a look at the held-out data, of a network of two hidden layers."""
    import keras

    import keras_ls

    kind = case.options["kind"]
    rng = np.random.default_rng(0)
    layers = [keras.layers.Dense(units, activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(classes)])
    metrics = {
        ACCURACY: ["accuracy"],
        METRICS: [
            keras_ls.ExpectedCalibrationError(from_logits=True),
            keras_ls.NegativeLogLikelihood(from_logits=True),
        ],
    }
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=metrics.get(kind, []))
    rows = steps * batch_size if "fit" in kind else examples
    x, y = rng.standard_normal((rows, 784), dtype="float32"), rng.integers(0, classes, rows)
    if "fit" in kind:
        return Prepared(lambda: model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0))
    if kind == PREDICT:
        return Prepared(lambda: model.predict(x, verbose=0))
    callback = keras_ls.Calibration(x, y, from_logits=True)
    callback.set_model(model)
    callback.on_train_begin({})
    return Prepared(lambda: callback.on_epoch_end(0, {}))


def name(kind, backend):
    """A case's name."""
    return f"{kind}, {NAMES[backend]}"


SUBJECT = Subject(
    title="Metrics and callbacks in `fit`",
    about="Steps of a classifier with two hidden layers, and its calibration on held-out data without pictures.",
    prepare=prepare,
    size={"units": 1200, "batch_size": 128, "steps": 50, "examples": 10_000, "classes": 100},
    quick={"units": 16, "batch_size": 16, "steps": 2, "examples": 64, "classes": 10},
    cases=tuple(
        Case(name(kind, backend), backend, {"kind": kind})
        for backend in NAMES
        for kind in (PLAIN, ACCURACY, METRICS, PREDICT, CALIBRATION)
    ),
    bounds=tuple(
        Bound(name(case, backend), at_most, name(peer, backend))
        for backend in NAMES
        for case, at_most, peer in ((METRICS, 1.10, PLAIN), (CALIBRATION, 1.30, PREDICT))
    ),
    notes="On PyTorch Keras trains without a compiler, so that the metrics' operations are called one by one.",
)
