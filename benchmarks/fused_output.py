"""The loss of a large output layer without its logits, beside Dense and a loss of the logits, Keras's or ours."""

import numpy as np

from benchmarks import backends
from benchmarks.harness import Bound, Case, Prepared, Subject

ALPHA = 0.1
OURS, ONE_HOT, SPARSE = "keras_ls", "Dense and Keras", "Dense and our loss"
LIGER = "Liger-Kernel"  # where there is a GPU, after `pip install liger-kernel`
FEW = ", 10 classes"
ENDINGS = {
    ", tf.function": ("tensorflow", False),
    ", TensorFlow with XLA": ("tensorflow", True),
    ", JAX": ("jax", True),
    ", PyTorch backend": ("torch", False),
}


def losses(name):
    """The mean loss of features (N, D), kernel (D, K), bias (K,) and labels (N,)."""
    import keras
    from keras import ops

    import keras_ls.losses

    def fused(features, kernel, bias, labels):
        return ops.mean(keras_ls.losses.linear_smoothed_crossentropy(features, kernel, bias, labels, ALPHA))

    def one_hot(features, kernel, bias, labels):
        logits = ops.matmul(features, kernel) + bias
        targets = ops.one_hot(labels, logits.shape[-1], dtype="float32")
        losses = keras.losses.categorical_crossentropy(targets, logits, from_logits=True, label_smoothing=ALPHA)
        return ops.mean(losses)

    def sparse(features, kernel, bias, labels):
        logits = ops.matmul(features, kernel) + bias
        return ops.mean(
            keras_ls.losses.smoothed_sparse_categorical_crossentropy(labels, logits, ALPHA, from_logits=True)
        )

    def liger(features, kernel, bias, labels):
        from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

        return LigerFusedLinearCrossEntropyLoss(label_smoothing=ALPHA)(ops.transpose(kernel), features, labels, bias)

    return {OURS: fused, ONE_HOT: one_hot, SPARSE: sparse, LIGER: liger}[name]


def prepare(case, examples, features, classes):
    """The mean loss and its gradients by features, kernel and bias, in one compiled call or several."""
    from keras import ops

    if case.options["loss"] == LIGER:
        backends.require_gpu(case.backend, LIGER)
    classes, repeats = case.options.get("classes", classes), case.options.get("repeats", 1)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype="float32") for shape in ((examples, features), (features, classes))]
    arrays[1] *= features**-0.5
    x, kernel, bias = map(ops.convert_to_tensor, (*arrays, np.zeros(classes, "float32")))
    labels = ops.convert_to_tensor(rng.integers(0, classes, examples))
    del arrays
    step = backends.value_and_gradient(losses(case.options["loss"]), case.options["jit"])

    def call():
        for _ in range(repeats):
            found = backends.ready(step(x, kernel, bias, labels))
        return found

    return Prepared(
        call,
        4 * features * (examples + classes),
        lambda found: {"loss": float(found[0])},
    )


SUBJECT = Subject(
    title="Output layer and smoothed loss in one",
    about="Mean loss of softmax(features · kernel + bias), label smoothing 0.1, and the gradients of all three, beside "
    "Keras's loss of the logits and one-hot targets, and beside ours of the logits and class ids. Times of 10 classes "
    "are of 50 such steps, their memory that of two.",
    prepare=prepare,
    size={"examples": 4096, "features": 512, "classes": 128_000},
    quick={"examples": 32, "features": 8, "classes": 300},
    cases=tuple(
        Case(
            loss + few + ending,
            backend,
            {"loss": loss, "jit": jit, **({"classes": 10, "repeats": 50} if few else {})},
            growth=loss == OURS and backend == "jax" and not few,
            group=(few + ending).removeprefix(", "),  # what takes turns has to fit into memory together
        )
        for few in ("", FEW)
        for ending, (backend, jit) in ENDINGS.items()
        for loss in (OURS, ONE_HOT, *([] if few else [SPARSE]), *([LIGER] if backend == "torch" and not few else []))
    ),
    bounds=tuple(
        bound
        for ending in ENDINGS
        for bound in (
            Bound(OURS + ending, 1.1, ONE_HOT + ending),
            Bound(OURS + ending, 1.2, SPARSE + ending),
            Bound(OURS + ending, 0.1, ONE_HOT + ending, "beyond"),
            Bound(OURS + FEW + ending, 1.3, ONE_HOT + FEW + ending),
        )
    ),
    growth={"examples": (1024, 2048), "classes": (32_000, 64_000)},
    unit="the gradients' size",
)
