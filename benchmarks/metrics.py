"""Expected calibration error of a million predictions, batch by batch, beside torchmetrics and netcal."""

import numpy as np

from benchmarks import backends
from benchmarks.harness import Bound, Case, Prepared, Subject

TORCHMETRICS, NETCAL = "torchmetrics MulticlassCalibrationError", "netcal ECE"
FLOORS = ("top_k", "softmax", "reduce_max")  # operations of TensorFlow that take part of the time, or as little as any


def predictions(examples, classes, batch_size, logits):
    """Batches of labels (B,) and predictions (B, K), whose labels are drawn from what is predicted."""
    rng = np.random.default_rng(0)
    for _ in range(examples // batch_size):
        rows = 2.0 * rng.standard_normal((batch_size, classes), dtype="float32")
        labels = (rows + rng.gumbel(size=rows.shape)).argmax(-1)
        if not logits:
            rows = np.exp(rows)
            rows /= rows.sum(-1, keepdims=True)
        yield labels, rows


def prepare(case, examples, classes, batch_size):
    """A pass over all batches, from an empty metric to its result."""
    logits = case.options.get("logits", False)
    batches = predictions(examples, classes, batch_size, logits)
    call = {"ours": ours, TORCHMETRICS: torchmetrics, NETCAL: netcal, "floor": floor}[case.options["kind"]](
        case, batches, classes
    )
    return Prepared(call, facts=lambda error: {} if error is None else {"error": float(error)})


def ours(case, batches, classes):
    """A metric of keras_ls whose update is compiled."""
    import keras
    from keras import ops

    import keras_ls

    metric = getattr(keras_ls, case.options["metric"])(from_logits=case.options.get("logits", False))
    batches = [tuple(map(ops.convert_to_tensor, batch)) for batch in batches]
    if keras.backend.backend() == "jax":
        update = backends.compiled(metric.stateless_update_state)
        start = metric.stateless_reset_state()

        def measure():
            state = start
            for labels, rows in batches:
                state = update(state, labels, rows)
            return backends.ready(metric.stateless_result(state))

        return measure
    update = backends.compiled(metric.update_state, jit=False)

    def measure():
        metric.reset_state()
        for labels, rows in batches:
            update(labels, rows)
        return metric.result()

    return measure


def torchmetrics(case, batches, classes):
    """The peer, from torch tensors."""
    import torch
    from torchmetrics.classification import MulticlassCalibrationError

    batches = [tuple(map(torch.from_numpy, batch)) for batch in batches]

    def measure():
        metric = MulticlassCalibrationError(classes, n_bins=15, norm="l1")
        for labels, rows in batches:
            metric.update(rows, labels)
        return metric.compute()

    return measure


def netcal(case, batches, classes):
    """The peer, from arrays in one piece."""
    from netcal.metrics import ECE

    labels, rows = map(np.concatenate, zip(*batches, strict=True))
    return lambda: ECE(15).measure(rows, labels)


def floor(case, batches, classes):
    """One operation of TensorFlow alone."""
    import tensorflow as tf

    operation = {
        "top_k": lambda rows: tf.math.top_k(rows, 1),
        "softmax": tf.nn.softmax,
        "reduce_max": lambda rows: tf.reduce_max(rows, axis=-1),
    }[case.options["operation"]]
    compute = backends.compiled(operation, jit=False)
    batches = [tf.constant(rows) for _, rows in batches]

    def measure():
        for rows in batches:
            compute(rows)

    return measure


def cases():
    """Both kinds of predictions, each backend, the peers."""
    found = []
    for ending, logits in ((", probabilities", False), (", logits", True)):
        for backend, name in (("tensorflow", "TensorFlow"), ("jax", "JAX"), ("torch", "PyTorch")):
            options = {"kind": "ours", "metric": "ExpectedCalibrationError", "logits": logits}
            found.append(Case(f"keras_ls ECE, {name}{ending}", backend, options))
        found.append(Case(TORCHMETRICS + ending, "torch", {"kind": TORCHMETRICS, "logits": logits}))
    found.append(Case(NETCAL + ", probabilities", "torch", {"kind": NETCAL}))
    options = {"kind": "ours", "metric": "ClasswiseCalibrationError"}
    for backend, name in (("tensorflow", "TensorFlow"), ("jax", "JAX"), ("torch", "PyTorch")):
        found.append(Case(f"keras_ls class-wise ECE, {name}, probabilities", backend, options))
    for operation in FLOORS:
        found.append(Case(f"TensorFlow's {operation} alone", "tensorflow", {"kind": "floor", "operation": operation}))
    return tuple(found)


SUBJECT = Subject(
    title="Calibration metrics",
    about="Expected calibration error, 15 bins, of predictions in batches, from an empty metric to the result.",
    prepare=prepare,
    size={"examples": 1_000_000, "classes": 100, "batch_size": 10_000},
    quick={"examples": 2_000, "classes": 10, "batch_size": 500},
    cases=cases(),
    bounds=tuple(
        Bound(f"keras_ls ECE, {backend}{ending}", 0.6, TORCHMETRICS + ending)
        for ending in (", probabilities", ", logits")
        for backend in ("TensorFlow", "JAX")
    ),
    together=True,
    notes="TensorFlow's CPU runs operation by operation: `top_k` is the one pass over probabilities, and logits need "
    "`softmax`, its maximum, and a sum that finds what is not finite.",
)
