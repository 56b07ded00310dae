"""A model that trains another one, whose inputs and outputs it shows, and whose weights outlive an error."""

import contextlib
import contextvars
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_ls._models.kept_values import own_arrays, values_kept_on_error
from keras_ls._models.outputs import symbolic_inputs


class _Training:
    """What the training that runs in this thread has to restore if it ends with an error, and what notes it anew."""

    def __init__(self, model: keras.Model, stack: contextlib.ExitStack):
        self.model, self.stack = model, stack
        self.note: Callable[[], None] = lambda: None


_TRAINING: contextvars.ContextVar[_Training | None] = contextvars.ContextVar("keras_ls_training", default=None)


def warn_of_own_training(model: keras.Model, trainer: str) -> None:
    """Warns that the model named `trainer` will not call what a user's `model` does in its own training."""
    own = [
        name
        for name in ("train_step", "test_step", "compute_loss")
        if not (getattr(type(model), name).__module__ or "").startswith(("keras.", "keras_ls.", "keras_hub."))
    ]
    if own:
        warnings.warn(
            f"{trainer} trains {model.name!r} in its own way: it does not call the {' and '.join(own)} of "
            f"{type(model).__name__}.",
            stacklevel=3,
        )


class AroundModel(keras.Model):
    """A `keras.Model` around the user's own, which it trains.

    An error would otherwise leave that without weights, too: a step on JAX takes them out of their variables, to save
    memory.
    """

    @property
    def _inner(self) -> keras.Model:
        """The user's model."""
        raise NotImplementedError

    @property
    def inputs(self) -> list[Any] | None:
        """The inner model's symbolic inputs, by which callbacks and `calibrate` find its logits; None without any."""
        return getattr(self._inner, "inputs", None)

    @property
    def input(self) -> Any:
        """The inner model's symbolic input, or structure of inputs."""
        return symbolic_inputs(self._inner)

    @property
    def outputs(self) -> list[Any] | None:
        """The inner model's symbolic outputs; None where it has none."""
        return getattr(self._inner, "outputs", None)

    @property
    def output_names(self) -> list[str] | None:
        """The names of the inner model's outputs, by which losses and metrics may be given."""
        return getattr(self._inner, "output_names", None)

    def compute_mask(self, inputs, previous_mask):
        """None: the output carries its own mask, and the inputs' is not it."""
        return None

    def make_train_function(self, force=False):
        """Compiles the training step, once all variables that it changes exist."""
        function, training = super().make_train_function(force), _TRAINING.get()
        if training is not None:
            kept = values_kept_on_error(lambda: [*self._state(), *self.optimizer.variables], self)
            training.note = training.stack.enter_context(kept)
        return function

    def _get_jax_state(self, *args, **kwargs):
        """Called by JAX's trainer, which here takes the values out of the variables."""
        own_arrays(self._state())  # of a student that began with its teacher's
        training = _TRAINING.get()
        if training is not None and training.model is self:  # which may train while another one predicts
            training.note()
        return super()._get_jax_state(*args, **kwargs)

    def fit(self, *args, **kwargs):
        """Trains as `keras.Model.fit` does."""
        return self._trained(super().fit, args, kwargs)

    def train_on_batch(self, *args, **kwargs):
        """Runs one step as `keras.Model.train_on_batch` does."""
        return self._trained(super().train_on_batch, args, kwargs)

    def evaluate(self, *args, **kwargs):
        """Evaluates as `keras.Model.evaluate` does."""
        with values_kept_on_error(self._state, self):
            return super().evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs):
        """Predicts as `keras.Model.predict` does."""
        with values_kept_on_error(self._state, self):
            return super().predict(*args, **kwargs)

    def export(self, *args, **kwargs):
        """Exports the inner model alone."""
        return self._inner.export(*args, **kwargs)

    def _trained(self, method: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        with contextlib.ExitStack() as stack:
            stack.callback(_TRAINING.reset, _TRAINING.set(_Training(self, stack)))
            try:
                return method(*args, **kwargs)
            except BaseException:
                self.train_function = None  # TensorFlow cannot trace a function anew whose first trace broke off
                raise

    def _state(self) -> list[Any]:
        return [*self.trainable_variables, *self.non_trainable_variables, *self.metrics_variables]
