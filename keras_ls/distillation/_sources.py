"""Where the logits of a teacher or student come from, and how one pass gives both them and its output."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._backend import ONE_AT_A_TIME, attach, attached, get_mask, no_gradients, set_mask
from keras_ls._checks import check_optional_flag, shown
from keras_ls._models.devices import BatchRunner, inference_mode
from keras_ls._models.inputs import check_fits
from keras_ls._models.layers import LinearHead, LogOdds, LogProbabilities
from keras_ls._models.logits import gives_logits, logits_model
from keras_ls._models.outputs import single
from keras_ls._models.tracing import count_tracings_apart
from keras_ls.distillation._inputs import backend_arrays, num_rows

_LOGITS = "_keras_ls_logits"


@dataclasses.dataclass(frozen=True, eq=False)
class LogitSource:
    """How to compute a model's logits, as `logit_source` found it.

    Attributes:
        model: the classifier.
        network: a functional model of its layers that gives the logits, if its output holds probabilities.
        logarithm: the function that turns its output into logits, log p or log(p/(1 − p)) for one unit, if they cannot
            be found otherwise; None if they are exact.
    """

    model: keras.Model
    network: keras.Model | None = None
    logarithm: Callable[[Any], Any] | None = None

    @property
    def num_outputs(self) -> int | None:
        """Number of logits per prediction, one per class or 1 for two classes; None if the model does not show it."""
        outputs = getattr(self.model, "outputs", None)
        return outputs[0].shape[-1] if outputs else None

    @property
    def way(self) -> str:
        """How the logits are obtained, as recorded with stored logits."""
        if self.logarithm is None:
            return "exact" if self.network is None else "before the activation"
        return "log-odds" if self.num_outputs == 1 else "log"

    def outputs(self, inputs, training):
        """Returns the model's output of one pass, from which `logits` gets its result without another pass."""
        if self.network is None:
            return self.model(inputs, training=training)
        logits = self.network(inputs, training=training)
        # The model may compute probabilities in a wider dtype than its logits have.
        wide = ops.cast(logits, self.model.outputs[0].dtype)
        outputs = ops.sigmoid(wide) if wide.shape[-1] == 1 else ops.softmax(wide, axis=-1)
        _copy_mask(logits, outputs)
        attach(outputs, _LOGITS, logits)
        structure = None if isinstance(self.model, keras.Sequential) else self.model.output
        return tree.pack_sequence_as(structure, [outputs]) if isinstance(structure, dict) else outputs

    def logits(self, outputs, inputs, training):
        """Returns the logits of an output, by a second pass over its inputs only if `outputs` did not return it."""
        if self.network is not None:
            found = attached(outputs, _LOGITS)
            return self.network(inputs, training=training) if found is None else found
        if self.logarithm is None:
            return outputs
        logits = self.logarithm(outputs)
        _copy_mask(outputs, logits)
        return logits

    def frozen_logits(self, inputs):
        """Returns logits in inference mode, without a gradient, and leaves no losses in the model."""
        network = self.model if self.network is None else self.network
        with no_gradients(), inference_mode(network):
            logits = network(inputs, training=False)
            logits = single(logits, name="teacher")
            if self.logarithm is not None:
                logits = self.logarithm(logits)
            network._clear_losses()  # activity penalties matter only when the teacher itself is trained
        return ops.stop_gradient(logits)

    @property
    def takes_text(self) -> bool:
        """Whether the model's inputs may be strings, as far as can be known."""
        if keras.backend.backend() != "tensorflow":
            return False
        inputs = getattr(self.model, "inputs", None)
        return not inputs or any(keras.backend.standardize_dtype(tensor.dtype) == "string" for tensor in inputs)

    @functools.cached_property
    def _runner(self) -> BatchRunner:
        return BatchRunner(self.model if self.network is None else self.network)

    def predict(self, inputs) -> np.ndarray:
        """Returns logits (n, …, K) of a batch of n examples, float32, or float64 if the model computes in that."""
        check_fits("x", inputs, self.model)
        with ONE_AT_A_TIME:
            logits = self._runner.batch(backend_arrays(inputs))
        logits = single(logits, name="teacher")
        if self.logarithm is not None:
            logits = ops.convert_to_numpy(self.logarithm(ops.convert_to_tensor(logits)))
        _check_rows(logits.shape, num_rows(inputs))
        return logits if str(logits.dtype) == "float64" else logits.astype("float32")


def logit_source(role: str, model: keras.Model, from_logits: bool | None, argument: str | None = None) -> LogitSource:
    """Finds the logits of a built model.

    Args:
        role: "teacher" or "student", for messages.
        model: the classifier.
        from_logits: True if its output holds logits, False for probabilities; None to tell from its layers.
        argument: the name of the argument `from_logits`, for messages; ``{role}_from_logits`` if None.

    Raises:
        ValueError: If the model has several outputs, or `from_logits` is None and its layers do not tell.
    """
    argument = argument or f"{role}_from_logits"
    from_logits = check_optional_flag(argument, from_logits)
    single(getattr(model, "outputs", None) or [None], name=role)
    if from_logits:
        return LogitSource(model)
    seen = _shows_logits(role, model)
    if from_logits is None and seen is None:
        raise ValueError(
            f"`{argument}` must be True (logits) or False (probabilities): the last layers of `{role}` "
            f"({shown(model.name)}) do not show which it gives. Received: {argument}=None."
        )
    if from_logits is None and seen:
        return LogitSource(model)
    if seen is False:
        network = logits_model(model)
        if _stands_for(network, model):
            count_tracings_apart(network)
            return LogitSource(model, network=network)
    return LogitSource(model, logarithm=_logarithm(role))


def source_to_match(role: str, model: keras.Model, from_logits: bool | None, matching: str) -> LogitSource:
    """Returns the `logit_source` of a distiller's model, whose logits must be exact for squared differences."""
    source = logit_source(role, model, from_logits)
    if matching == "squared_logits" and source.logarithm is not None:
        raise ValueError(
            f"`matching='squared_logits'` needs the logits of `{role}`, which gives probabilities and shows no logits "
            f"to take before them. Give a model that ends in logits (and {role}_from_logits=True), or use "
            "matching='cross_entropy'."
        )
    return source


class Frozen:
    """Holds what Keras must not track as part of the distiller: the teacher, views of the student, settings."""

    def __init__(self, teacher: keras.Model | None):
        self.teacher = teacher
        self.teacher_source: LogitSource | None = None
        self.student_source: LogitSource | None = None
        self.class_weight: dict[int, float] | None = None

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Hides the teacher from Keras, which saves and loads the weights of all that a model's attributes give."""
        teacher, self.teacher = self.teacher, None
        try:
            yield
        finally:
            self.teacher = teacher


def _shows_logits(role: str, model: keras.Model) -> bool | None:
    try:
        return gives_logits(model)
    except ValueError as error:
        raise ValueError(str(error).replace("`model`", f"`{role}`")) from error


def _logarithm(role: str) -> Callable[[Any], Any]:
    """Returns a function of outputs: log p of several, or log(p/(1 − p)) of one."""
    several = LogProbabilities(name=f"{role}_log_probabilities")
    one = LogOdds(name=f"{role}_log_odds")
    return lambda outputs: (one if outputs.shape[-1] == 1 else several)(outputs)


def _stands_for(network: keras.Model, model: keras.Model) -> bool:
    """Returns whether `network` gives exact logits, and computes everything that `model` penalises."""
    own = {id(layer) for layer in model._flatten_layers()}
    called: set[int] = set()
    for layer in network._flatten_layers():
        if isinstance(layer, (LogOdds, LogProbabilities)) and id(layer) not in own:
            return False
        called.add(id(layer))
    called -= {id(layer.dense) for layer in network._flatten_layers() if isinstance(layer, LinearHead)}
    return not any(layer.activity_regularizer and id(layer) not in called for layer in model._flatten_layers())


def check_row_shape(rows: np.ndarray, expected: tuple[int, ...]) -> None:
    """Raises `ValueError` if rows of logits differ in shape from those before."""
    if rows.shape[1:] != expected:
        raise ValueError(
            "`teacher` must give logits of one shape for all examples (do sequences differ in length?). "
            f"Received: rows of shape {rows.shape[1:]} after {expected}."
        )


def _check_rows(shape: tuple[int, ...], expected: int) -> None:
    if len(shape) < 2 or shape[0] != expected:
        raise ValueError(
            f"`teacher` must give one row of logits per input, (N, …, K). Received: shape {shape} for {expected} "
            "inputs."
        )


def _copy_mask(source: Any, target: Any) -> None:
    mask = get_mask(source)
    if mask is not None and get_mask(target) is None:
        set_mask(target, mask)
