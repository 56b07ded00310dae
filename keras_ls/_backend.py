"""The few questions that each Keras backend, or each version of Keras, answers in its own way."""

import contextlib
import importlib
import threading
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

# Held while a model predicts or is traced: a pass may replace the methods of layers (that models may share) while it is
# traced, and on JAX takes the weights out meanwhile.
ONE_AT_A_TIME = threading.RLock()

# Keras's own modules, the newest place first. They are named nowhere else in the package.
_MASKING = ("keras.src.backend.common.masking", "keras.src.backend")
_TENSOR_ATTRIBUTES = "keras.src.backend.common.tensor_attributes"
_SYMBOLIC_SCOPE = "keras.src.backend.common.symbolic_scope"
_GLOBAL_STATE = "keras.src.backend.common.global_state"
_GLOBAL_SEED_GENERATOR = "global_seed_generator"
_FOUND: dict[str, Any] = {}


def is_concrete(x) -> bool:
    """Says whether the values of the tensor `x` can be read now (eagerly) rather than only traced."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return hasattr(x, "numpy")  # symbolic tensors have none
    if backend == "jax":
        import jax

        return not isinstance(x, jax.core.Tracer)
    if backend == "torch":
        import torch

        # Keras traces with tensors of ones where an operation has no shape function.
        in_trace = _keras_internal("in_symbolic_scope", _SYMBOLIC_SCOPE)()
        return not (torch.compiler.is_compiling() or x.device.type == "meta" or in_trace)
    return True


def get_mask(x):
    """The mask that Keras hands along with the tensor `x`, or None."""
    return _keras_internal("get_keras_mask", *_MASKING)(x)


def set_mask(x, mask) -> None:
    """Marks positions of `x` as counting (True) or not, as Keras's own losses mark ignored classes."""
    _keras_internal("set_keras_mask", *_MASKING)(x, mask=mask)


def attach(x, name: str, value) -> None:
    """Hands `value` along with the tensor `x`, for as long as that lives, as Keras does with masks."""
    _keras_internal("set_tensor_attr", _TENSOR_ATTRIBUTES)(x, name, value)


def attached(x, name: str):
    """What was attached to the tensor `x` under `name`, or None."""
    return _keras_internal("get_tensor_attr", _TENSOR_ATTRIBUTES)(x, name)


def global_generator() -> keras.random.SeedGenerator | None:
    """What the functions of `keras.random` that are given no seed draw from; None if there is none yet."""
    return _keras_internal("get_global_attribute", _GLOBAL_STATE)(_GLOBAL_SEED_GENERATOR)


def set_global_generator(generator: keras.random.SeedGenerator | None) -> None:
    """Has the functions of `keras.random` that are given no seed draw from `generator`."""
    _keras_internal("set_global_attribute", _GLOBAL_STATE)(_GLOBAL_SEED_GENERATOR, generator)


def concrete_zeros(shape, dtype=None):
    """Zeros that are known also where JAX traces, so that a variable which is made there holds no tracer."""
    if keras.backend.backend() != "jax":
        return ops.zeros(shape, dtype)
    import jax

    with jax.ensure_compile_time_eval():
        return ops.zeros(shape, dtype)


def output_spec(function: Callable[..., Any], *inputs: Any) -> Any:
    """Symbols for what `function` gives for the symbolic `inputs`, traced without computing anything."""
    return _Traced(function).compute_output_spec(*inputs)


class _Traced(keras.Operation):
    """A function as an operation, the public way to trace it."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__(name="keras_ls_traced")  # a name of its own, so that Keras's count of names stays as it is
        self._function = function

    def call(self, *inputs):
        """Calls the function."""
        return self._function(*inputs)


def _keras_internal(name: str, *places: str) -> Any:
    """Returns what Keras calls `name` in the first of the modules `places` that has it; none of them is public.

    Raises:
        ImportError: If none of the modules has it.
    """
    if name in _FOUND:
        return _FOUND[name]
    for place in places:
        try:
            return getattr(importlib.import_module(place), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(
        f"keras_ls uses `{name}` of Keras, which Keras {keras.__version__} does not have in {' or '.join(places)}. "
        "Another version of Keras or of keras_ls is needed."
    )


def _find_those_of_losses() -> None:
    """Looks for them once and for all, since PyTorch's compiler cannot trace an import."""
    masking = dict.fromkeys(("get_keras_mask", "set_keras_mask"), _MASKING)
    attributes = dict.fromkeys(("get_tensor_attr", "set_tensor_attr"), (_TENSOR_ATTRIBUTES,))
    for name, places in {**masking, **attributes, "in_symbolic_scope": (_SYMBOLIC_SCOPE,)}.items():
        with contextlib.suppress(ImportError):  # which says more where it is needed
            _FOUND[name] = _keras_internal(name, *places)


_find_those_of_losses()


def no_gradients() -> contextlib.AbstractContextManager[Any]:
    """Where PyTorch keeps nothing for a backward pass; elsewhere `ops.stop_gradient` is all that it takes."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.no_grad()
    return contextlib.nullcontext()


def no_inference_mode() -> contextlib.AbstractContextManager[Any]:
    """Where tensors that PyTorch makes may change later, too."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.inference_mode(False)
    return contextlib.nullcontext()


def row_maximum(rows):
    """(N, K) to (N, 1), also of no rows, where `ops.max` raises an error."""
    if keras.backend.backend() == "torch":
        return rows.amax(dim=-1, keepdim=True)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.reduce_max(rows, axis=-1, keepdims=True)
    return ops.max(rows, axis=-1, keepdims=True)


def first_maximum(rows, maximum):
    """(N, K) to int32 (N,): the first class of each row's `maximum` (N,); any number where that is NaN."""
    if keras.backend.backend() != "jax":
        return ops.cast(ops.argmax(rows, axis=-1), "int32")
    # XLA's own looks at entries one by one on a CPU, which takes as long as a product of matrices.
    classes = ops.arange(rows.shape[-1], dtype="int32")
    return ops.min(ops.where(ops.equal(rows, ops.expand_dims(maximum, -1)), classes, rows.shape[-1]), axis=-1)


def row_range(rows):
    """The smallest and largest entry of each row, (N, K) to two (N, 1), NaN where a row holds NaN; also of no rows."""
    if keras.backend.backend() == "torch":
        return rows.amin(dim=-1, keepdim=True), rows.amax(dim=-1, keepdim=True)
    if keras.backend.backend() != "tensorflow":
        return ops.min(rows, axis=-1, keepdims=True), row_maximum(rows)
    low, high = -row_maximum(-rows), row_maximum(rows)
    holds_numbers = ops.all(rows == rows, axis=-1, keepdims=True)  # its reductions may pass NaN over
    return tuple(ops.where(holds_numbers, bound, float("nan")) for bound in (low, high))


def row_argmax(rows):
    """(N, K) to (N,) int32: the first place of each row's maximum, on TensorFlow and PyTorch with 0 and −0 alike."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.math.top_k(rows, 1).indices[:, 0]  # quicker on a CPU than argmax; that of Keras has −0 below 0
    return ops.cast(ops.argmax(rows, axis=-1), "int32")


def in_place(name: str, x, *others):
    """``ops.<name>(x, *others)`` (or PyTorch's own) of an `x` that is needed no more: on PyTorch in its memory.

    Compilers and TensorFlow's executor see by themselves that nothing else reads `x`.
    """
    if keras.backend.backend() == "torch":
        import torch

        # What is to be differentiated must stay.
        return getattr(x, name if torch.is_grad_enabled() else f"{name}_")(*others)
    return getattr(ops, name)(x, *others)


def computed_after(x, dependency):
    """`x`, for use once `dependency` has been computed: an order that TensorFlow's executor keeps and others need not.

    The last reader of a tensor may reuse its memory, but only if it does run last.
    """
    if keras.backend.backend() != "tensorflow":
        return x
    import tensorflow as tf

    with tf.control_dependencies([dependency]):
        return tf.identity(x)


def added_at(rows, ids, values):
    """(N, K) `rows`, which are needed no more, with `values` (N,) added at the columns `ids` (N,)."""
    if keras.backend.backend() == "torch":
        columns = ops.expand_dims(ops.cast(ids, "int64"), -1)
        return in_place("scatter_add", rows, 1, columns, ops.expand_dims(values, -1))
    positions = ops.stack([ops.arange(ops.shape(ids)[0], dtype="int32"), ids], axis=-1)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # TensorScatterAdd always copies the rows on a CPU; the other op reuses their memory, but XLA does not have it.
        return on_cpu_kernels(
            rows,
            lambda: tf.raw_ops.ScatterNdNonAliasingAdd(input=rows, indices=positions, updates=values),
            lambda: tf.tensor_scatter_nd_add(rows, positions, values),
        )
    return ops.scatter_update(rows, positions, ops.take_along_axis(rows, positions[:, 1:], axis=1)[:, 0] + values)


def on_cpu_kernels(x, fast, general):
    """What `fast()` gives where `x` is on a CPU and no compiler fuses what is computed, else what `general()` gives.

    TensorFlow without XLA and PyTorch run operation by operation, where another way may be the quickest than for a
    compiler. Both functions return tensors of the same structure and dtypes.
    """
    if keras.backend.backend() == "torch":
        return fast() if x.device.type == "cpu" and is_concrete(x) else general()
    if keras.backend.backend() != "tensorflow":
        return general()
    import tensorflow as tf

    # The index is 0 on a CPU, and 1 on other devices and where XLA compiles.
    return tf.switch_case(tf.raw_ops.DeviceIndex(device_names=["CPU"]), [fast, general])


def segment_sums(columns, index, num_segments: int):
    """What each of the C `columns` (M,) sums to in each segment, (C, num_segments); `index` (M,) is in range."""

    def of_rows():
        return ops.transpose(ops.segment_sum(ops.stack(columns, axis=-1), index, num_segments=num_segments))

    if keras.backend.backend() == "torch":
        import torch

        # Keras's would repeat the index for each column and sum in float32.
        places = index.long()
        sums = [column.new_zeros(num_segments).scatter_add_(0, places, column) for column in columns]
        return torch.stack(sums)
    if keras.backend.backend() == "tensorflow":
        return on_cpu_kernels(index, lambda: _counted(columns, index, num_segments), of_rows)
    return of_rows()


def _counted(columns, index, num_segments):
    """`segment_sums` by the op that counts, which is several times quicker than unsorted_segment_sum on a CPU."""
    import tensorflow as tf

    @tf.custom_gradient
    def count(column):
        sums = tf.raw_ops.DenseBincount(input=index, size=num_segments, weights=column)
        return sums, lambda slope: tf.gather(slope, index)

    return tf.stack([count(column) for column in columns])
