"""The sparse smoothed loss with its gradient, beside Keras's, PyTorch's and Optax's cross-entropy."""

import numpy as np

from benchmarks import backends
from benchmarks.harness import Bound, Case, Prepared, Subject

ALPHA = 0.1
OURS, ONE_HOT, SPARSE, FORMULA = "keras_ls", "Keras, one-hot targets", "Keras 3.16's formula", "plain formula"


def losses(name):
    """The loss (labels, logits) -> (N,) or its mean, of a case's name without its compiler."""
    import keras
    from keras import ops

    import keras_ls

    def smoothed(labels, logits):
        return keras_ls.smoothed_sparse_categorical_crossentropy(labels, logits, ALPHA, from_logits=True)

    def one_hot(labels, logits):
        targets = ops.one_hot(labels, logits.shape[-1], dtype="float32")
        return keras.losses.categorical_crossentropy(targets, logits, from_logits=True, label_smoothing=ALPHA)

    def sparse(labels, logits):
        hard = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        uniform = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
        return (1.0 - ALPHA) * hard + ALPHA * uniform

    def formula(labels, logits):
        on_label = ops.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
        return ops.logsumexp(logits, axis=-1) - (1.0 - ALPHA) * on_label - ALPHA * ops.mean(logits, axis=-1)

    def torch(labels, logits):
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, labels, label_smoothing=ALPHA, reduction="none")

    def optax(labels, logits):
        import optax

        targets = optax.smooth_labels(ops.one_hot(labels, logits.shape[-1], dtype="float32"), ALPHA)
        return optax.softmax_cross_entropy(logits, targets)

    by_name = {OURS: smoothed, ONE_HOT: one_hot, SPARSE: sparse, FORMULA: formula, "PyTorch": torch, "Optax": optax}
    return by_name[name]


def prepare(case, rows, classes):
    """The mean loss and its gradient by the logits, in one compiled call (on PyTorch operation by operation)."""
    from keras import ops

    rng = np.random.default_rng(0)
    logits = ops.convert_to_tensor(3.0 * rng.standard_normal((rows, classes), dtype="float32"))
    labels = ops.convert_to_tensor(rng.integers(0, classes, rows))
    loss = losses(case.options["loss"])
    step = backends.value_and_gradient(lambda y, z: ops.mean(loss(y, z)), case.options.get("jit", True))
    unit = 4 * rows * classes
    return Prepared(lambda: backends.ready(step(labels, logits)), unit, lambda found: {"loss": float(found[0])})


def cases():
    """Every loss under every compiler."""
    found = []
    for ending, backend, jit, peers in (
        (", tf.function", "tensorflow", False, (ONE_HOT, SPARSE)),
        (", TensorFlow with XLA", "tensorflow", True, (ONE_HOT, SPARSE)),
        (", JAX", "jax", True, (ONE_HOT, SPARSE, FORMULA, "Optax")),
        (", PyTorch backend", "torch", False, (ONE_HOT, SPARSE, "PyTorch")),
    ):
        for loss in (OURS, *peers):
            found.append(Case(loss + ending, backend, {"loss": loss, "jit": jit}, growth=loss == OURS))
    return tuple(found)


SUBJECT = Subject(
    title="Sparse smoothed loss",
    about="Mean loss of integer labels, label smoothing 0.1, and its gradient by the logits, in one compiled call (on "
    "PyTorch operation by operation).",
    prepare=prepare,
    size={"rows": 2048, "classes": 32_000},
    quick={"rows": 64, "classes": 500},
    cases=cases(),
    bounds=(
        Bound(OURS + ", tf.function", 0.40, ONE_HOT + ", tf.function"),
        Bound(OURS + ", tf.function", 0.60, SPARSE + ", tf.function"),
        Bound(OURS + ", tf.function", 1.2, measure="memory"),
        Bound(OURS + ", TensorFlow with XLA", 0.55, ONE_HOT + ", TensorFlow with XLA"),
        Bound(OURS + ", TensorFlow with XLA", 0.70, SPARSE + ", TensorFlow with XLA"),
        Bound(OURS + ", TensorFlow with XLA", 1.1, measure="memory"),
        Bound(OURS + ", JAX", 1.05, FORMULA + ", JAX"),
        Bound(OURS + ", JAX", 0.60, SPARSE + ", JAX"),
        Bound(OURS + ", JAX", 1.1, measure="memory"),
        Bound(OURS + ", PyTorch backend", 1.05, "PyTorch, PyTorch backend"),
        Bound(OURS + ", PyTorch backend", 0.60, SPARSE + ", PyTorch backend"),
        Bound(OURS + ", PyTorch backend", 2.0, measure="memory"),
    ),
    growth={"rows": (512, 1024, 2048, 4096), "classes": (8_000, 16_000, 32_000, 64_000)},
    unit="the logits' size",
    notes="Under XLA the memory is that of the gradient, 1.00, at the smaller sizes of the last table.",
)
