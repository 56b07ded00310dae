"""Where the logits of a teacher or student come from, and how one pass gives them along with its output."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ls._backend import attach, attached, get_mask, no_gradients, set_mask
from keras_ls._checks import check_optional_flag
from keras_ls._logits import LinearHead, LogProbabilities, logits_model
from keras_ls.distillation._inputs import backend_arrays, num_rows

_LOGITS = "_keras_ls_logits"


@dataclasses.dataclass(frozen=True, eq=False)
class LogitSource:
    """The way to a model's logits; `logit_source` finds it.

    Attributes:
        model: the classifier.
        network: a functional model of its layers that gives the logits, where its output holds probabilities.
        logarithm: what turns its output into logits where nothing else does; None where the logits are exact.
    """

    model: keras.Model
    network: keras.Model | None = None
    logarithm: LogProbabilities | None = None

    @property
    def num_classes(self) -> int | None:
        """K where the model tells it."""
        outputs = getattr(self.model, "outputs", None)
        return outputs[0].shape[-1] if outputs else None

    def outputs(self, inputs, training):
        """The model's output of one pass, which `logits` can be had from without another one."""
        if self.network is None:
            return self.model(inputs, training=training)
        logits = self.network(inputs, training=training)
        # The model may take its softmax in a wider dtype than it has logits in.
        outputs = ops.softmax(ops.cast(logits, self.model.outputs[0].dtype), axis=-1)
        _copy_mask(logits, outputs)
        attach(outputs, _LOGITS, logits)
        return outputs

    def logits(self, outputs, inputs, training):
        """The logits of an output, by a second pass over its inputs only if it is not one that `outputs` gave."""
        if self.network is not None:
            found = attached(outputs, _LOGITS)
            return self.network(inputs, training=training) if found is None else found
        if self.logarithm is None:
            return outputs
        logits = self.logarithm(outputs)
        _copy_mask(outputs, logits)
        return logits

    def frozen_logits(self, inputs):
        """Logits in inference mode, with no gradient and no trace of a loss left in the model."""
        with no_gradients():
            network = self.model if self.network is None else self.network
            logits = network(inputs, training=False)
            if self.logarithm is not None:
                logits = self.logarithm(logits)
            network._clear_losses()  # activity penalties belong to whoever trains the model
        return ops.stop_gradient(logits)

    @property
    def takes_text(self) -> bool:
        """Whether the model's inputs may be strings, as far as can be known."""
        if keras.backend.backend() != "tensorflow":
            return False
        inputs = getattr(self.model, "inputs", None)
        return not inputs or any(keras.backend.standardize_dtype(tensor.dtype) == "string" for tensor in inputs)

    def predict(self, inputs) -> np.ndarray:
        """Logits (n, …, K) of a batch of n arrays, float32, or float64 where the model computes in that."""
        network = self.model if self.network is None else self.network
        logits = network.predict_on_batch(backend_arrays(inputs))
        if not hasattr(logits, "dtype"):
            raise ValueError("`teacher` must have one output. Received a structure of several.")
        if self.logarithm is not None:
            logits = ops.convert_to_numpy(self.logarithm(ops.convert_to_tensor(logits)))
        _check_rows(network, logits.shape, num_rows(inputs))
        return logits if str(logits.dtype) == "float64" else logits.astype("float32")


def logit_source(role: str, model: keras.Model, from_logits: bool | None, argument: str | None = None) -> LogitSource:
    """Finds the logits of a built model.

    Args:
        role: "teacher" or "student", for messages.
        model: the classifier.
        from_logits: True if its output holds logits, False for probabilities; None to read it off its layers.
        argument: what the caller calls `from_logits`; ``{role}_from_logits`` if None.

    Raises:
        ValueError: If the model has several outputs, or does not show what `from_logits` leaves open.
    """
    argument = argument or f"{role}_from_logits"
    check_optional_flag(argument, from_logits)
    if len(getattr(model, "outputs", None) or [model]) != 1:
        raise ValueError(f"`{role}` must have one output. Received: {len(model.outputs)} outputs.")
    if from_logits:
        return LogitSource(model)
    shown = _shown_logits(role, model, argument, required=from_logits is None)
    if shown is not None and shown.outputs[0] is model.outputs[0] and from_logits is None:
        return LogitSource(model)
    if shown is None or shown.outputs[0] is model.outputs[0] or not _stands_for(shown, model):
        return LogitSource(model, logarithm=LogProbabilities(name=f"{role}_log_probabilities"))
    return LogitSource(model, network=shown)


def _shown_logits(role: str, model: keras.Model, argument: str, required: bool) -> keras.Model | None:
    """The model's logits as a functional model, or None where its layers do not show them."""
    # A `call` of the user's own may do anything with the layers.
    own_call = not type(model).call.__module__.startswith("keras.")
    try:
        if own_call:
            raise ValueError(f"`model` must not define its own `call`. Received: {type(model).__name__}.")
        return logits_model(model)
    except ValueError as error:
        if required:
            raise ValueError(
                f"`{argument}` must be True (logits) or False (probabilities) where the layers of `{role}` "
                f"do not tell which it gives: {error}"
            ) from error
        return None


def _stands_for(shown: keras.Model, model: keras.Model) -> bool:
    """Says whether `shown` gives true logits, and computes everything that `model` puts a penalty on."""
    layers = shown._flatten_layers()
    own = {id(layer) for layer in model._flatten_layers()}
    called: set[int] = set()
    for layer in layers:
        if isinstance(layer, LogProbabilities) and id(layer) not in own:
            return False
        called.add(id(layer))
    called -= {id(layer.dense) for layer in shown._flatten_layers() if isinstance(layer, LinearHead)}
    return not any(layer.activity_regularizer and id(layer) not in called for layer in model._flatten_layers())


def _check_rows(network: keras.Model, shape: tuple[int, ...], expected: int) -> None:
    if len(shape) > 1 and shape[0] == expected:
        return
    strategy = getattr(network, "distribute_strategy", None)  # of TensorFlow
    replicas = getattr(strategy, "num_replicas_in_sync", 1)
    reason = (
        f" A TensorFlow distribution strategy runs the whole batch on each of its {replicas} replicas: build or load "
        "the teacher, and compute its logits, outside the strategy's scope."
    )
    raise ValueError(
        f"`teacher` must give one row of logits per input, (N, …, K). Received: shape {shape} for {expected} inputs."
        + (reason if replicas > 1 else "")
    )


def _copy_mask(source: Any, target: Any) -> None:
    mask = get_mask(source)
    if mask is not None and get_mask(target) is None:
        set_mask(target, mask)
