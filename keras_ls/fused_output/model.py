"""Training of a classifier with many classes, without its logits in memory: `FusedOutput`."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_ls._arrays import to_numpy, wide_dtype
from keras_ls._backend import get_mask, set_mask
from keras_ls._checks import check_count, check_fraction, check_ignore_class, check_prior_length, shown
from keras_ls._labels import spread_over
from keras_ls._models.around_model import AroundModel, warn_of_own_training
from keras_ls._models.inputs import check_no_preprocessor
from keras_ls._models.logits import check_model
from keras_ls._models.output_layer import OutputLayer, check_dense, find_output_layer, left_out
from keras_ls._models.outputs import of_output, output_names, symbolic_inputs
from keras_ls.fused_output._found import Found
from keras_ls.fused_output._reduction import BinnedError, ReducedLosses
from keras_ls.losses.functional import checked_prior
from keras_ls.losses.linear import linear_loss_and_statistics
from keras_ls.losses.smoothed import SmoothedSparseCategoricalCrossentropy

# The model in whose step this thread is, and whether that step trains.
_STEP: contextvars.ContextVar[tuple[Any, bool]] = contextvars.ContextVar("keras_ls_fused_step", default=(None, False))


@keras.saving.register_keras_serializable(package="keras_ls")
class FusedOutput(AroundModel):
    """Trains a classifier whose output layer is fused with its loss, so that the logits are never whole in memory.

    The model is an ordinary one, functional, Sequential or subclassed, for single labels or for sequences, that ends in
    a `Dense`, with or without a softmax after it. Training and evaluation compute
    `SmoothedSparseCategoricalCrossentropy` of its logits by `linear_smoothed_crossentropy`, a block of logits at a
    time; masks, sample weights, class weights, regularisers, constraints and dtype policies count as ever. Everything
    else is the model's own: calls and `predict` give what it gives, logits or probabilities, and `save` saves it alone.

    **Metrics.** The same pass over the logits gives `loss`, `accuracy`, `nll` (of the hard label, in nats) and `ece`
    (15 bins), weighted by sample weights and masks, in `fit` and in `evaluate`. Metrics that are given to `compile`
    need whole predictions: they are measured in `evaluate` and in validation, and not in training.

    Args:
        model: a Keras model of one output; it need not be built.
        label_smoothing: α, in [0, 1).
        prior: K non-negative numbers, normalised here; None is the uniform prior.
        ignore_class: a label whose positions cost nothing and do not count, such as padding; None counts all.
        chunk_size: as for `linear_smoothed_crossentropy`.
        **kwargs: `name` and `trainable` of every Keras model; the dtype policy is the model's.

    Raises:
        ValueError: If an argument is not allowed, or the model has several outputs, one unit, a last layer other than
            a `Dense` (a subclass or a quantized one included), an activation other than softmax, anything but one
            softmax after that `Dense`, a `Softmax` layer called with a mask, an `activity_regularizer` or `add_loss`
            there, or calls that `Dense` twice. Here or, if the model is not built or cannot be traced before, at the
            first batch.

    Example:
        >>> import numpy as np, keras, keras_ls
        >>> x, y = np.array([[2.0, 0.0], [0.0, 2.0]], "float32"), np.array([0, 1])
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, kernel_initializer="zeros")])
        >>> fused = keras_ls.FusedOutput(model, label_smoothing=0.1)
        >>> fused.compile("sgd")
        >>> print(round(fused.fit(x, y, verbose=0).history["loss"][0], 4))
        1.0986
        >>> fused.predict(x, verbose=0).shape
        (2, 3)

    Reference:
        Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models".
    """

    def __init__(
        self,
        model: keras.Model,
        label_smoothing: float = 0.1,
        prior: Any = None,
        ignore_class: int | None = None,
        chunk_size: int | None = None,
        **kwargs,
    ):
        check_model(model)
        check_no_preprocessor(model)
        warn_of_own_training(model, "FusedOutput")
        # Inputs reach the model as they come, and its loss is scaled as its own policy would have it.
        super().__init__(autocast=False, **{"dtype": model.dtype_policy, **kwargs})
        self.label_smoothing = check_fraction("label_smoothing", label_smoothing)
        self._prior = checked_prior(prior)
        self.prior = None if prior is None else to_numpy("prior", prior).astype("float64").tolist()
        self.ignore_class = check_ignore_class(ignore_class)
        self.chunk_size = None if chunk_size is None else check_count("chunk_size", chunk_size)
        self.model = model
        self._found, self._reduced = Found(), ReducedLosses()
        dtype = wide_dtype(keras.config.floatx())
        self._accuracy, self._nll = (keras.metrics.Mean(name, dtype) for name in ("accuracy", "nll"))
        self._ece = BinnedError("ece")
        if model.built and getattr(model, "inputs", None):
            self._look_for_output_layer(symbolic_inputs(model))
        # Else Keras calls it once before it trains, when all weights are in their places: on JAX they are not, later.
        self.built = self._found.output_layer is not None

    @property
    def _inner(self) -> keras.Model:
        return self.model

    def call(self, inputs, training=None):
        """The model's output; within a step of `fit` or `evaluate`, what its output layer is given."""
        if _STEP.get()[0] is not self:
            outputs = self.model(inputs, training=training)
            self._look_for_output_layer(inputs)
            return outputs
        output = self._output_layer(inputs)
        with left_out(output) as found:
            outputs = self.model(inputs, training=training)
        features, mask = found[0], get_mask(outputs)
        if mask is not None:
            set_mask(features, mask)
        if _STEP.get()[1] or self._compile_metrics is None:
            return features
        # Here, since on JAX the weights are out of reach where metrics are updated.
        return {"features": features, "predictions": self._predictions(features, output)}

    def compile(self, optimizer="rmsprop", loss=None, loss_weights=None, metrics=None, weighted_metrics=None, **kwargs):
        """Compiles as `keras.Model.compile` does; `loss` and `loss_weights` must be None, since the loss is given."""
        if loss is not None or loss_weights is not None:
            raise ValueError(
                "`loss` and `loss_weights` must be None: the loss is the smoothed cross-entropy that `FusedOutput` was "
                f"given. Received: loss={shown(loss)}, loss_weights={shown(loss_weights)}."
            )
        super().compile(optimizer=optimizer, metrics=metrics, weighted_metrics=weighted_metrics, **kwargs)

    def compile_from_config(self, config):
        """Compiles as the saved one was, its optimizer's state included."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of a batch, penalties included; within a step, `y_pred` is what the output layer is given."""
        y, sample_weight = self._of_output(y), self._of_output(sample_weight)
        if _STEP.get()[0] is self:
            features = y_pred["features"] if isinstance(y_pred, dict) else y_pred
            loss = self._fused_loss(y, features, sample_weight, self._output_layer(x).dense)
        else:
            loss = self._plain_loss(self._output_layer(x).from_logits)(y, y_pred, sample_weight)
        # Of the dtype of their layers; TensorFlow adds numbers of one dtype only.
        penalties = [ops.cast(self._aggregate_additional_loss(each), loss.dtype) for each in self.losses]
        return sum(penalties, loss)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Metrics of a batch; those given to `compile` are updated outside of training alone."""
        y, sample_weight = self._of_output(y), self._of_output(sample_weight)
        model, is_training = _STEP.get()
        if model is self and is_training:
            return self._own_results()
        if model is self and self._compile_metrics is not None:
            y_pred = y_pred["predictions"]
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self):
        """The value of each metric, as far as it has seen predictions."""
        # Several replicas build metrics before they have seen any, and would average the results of each.
        has_seen = self._compile_metrics is not None and self._compile_metrics.built and not self._found.trains
        return {**self._own_results(), **(self._compile_metrics.result() if has_seen else {})}

    def _flatten_metrics_in_order(self, logs):
        """Each value once, where Keras would repeat that of a metric which has the name of one of ours."""
        names = [each.name for metric in self.metrics for each in getattr(metric, "metrics", [metric])]
        values = [logs[name] for name in dict.fromkeys([*names, *sorted(logs)]) if name in logs]
        return values[0] if len(values) == 1 else values

    def fit(self, *args, **kwargs):
        """Trains as `keras.Model.fit` does."""
        with self._found.training(True):
            return super().fit(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        """Evaluates as `keras.Model.evaluate` does."""
        with self._found.training(False):
            return super().evaluate(*args, **kwargs)

    def train_step(self, *args):
        """One step of training."""
        with self._in_step(is_training=True):
            return super().train_step(*args)

    def test_step(self, *args):
        """One step of evaluation."""
        with self._in_step(is_training=False):
            return super().test_step(*args)

    def save(self, filepath, *args, **kwargs):
        """Saves the model alone as `keras.Model.save` does, compiled with the same loss and optimizer."""
        self._compile_model()
        return self.model.save(filepath, *args, **kwargs)

    def save_weights(self, *args, **kwargs):
        """Saves the weights of the model, and of its optimizer, as the model alone would save them."""
        self._compile_model()
        return self.model.save_weights(*args, **kwargs)

    def load_weights(self, *args, **kwargs):
        """Loads weights of the model, and of its optimizer where the file has them."""
        self._compile_model()
        return self.model.load_weights(*args, **kwargs)

    def get_config(self):
        """Every constructor argument; the model whole."""
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "label_smoothing": self.label_smoothing,
            "prior": self.prior,
            "ignore_class": self.ignore_class,
            "chunk_size": self.chunk_size,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the model and what trains it."""
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects=custom_objects)
        return cls(**{**config, "model": model})

    def _compile_model(self) -> None:
        """Gives the model the optimizer and the loss that train it, with which it is saved."""
        if self.compiled and self._found.output_layer is not None:
            given = self.get_compile_config()
            how = {name: given[name] for name in ("run_eagerly", "jit_compile", "steps_per_execution") if name in given}
            loss = self._plain_loss(self._found.output_layer.from_logits)
            self.model.compile(optimizer=self.optimizer, loss=loss, **how)

    def _of_output(self, values: Any) -> Any:
        """Labels or weights, which may be given by the name of the model's output."""
        return of_output(values, None, output_names(self.model))

    def _own_results(self) -> dict[str, Any]:
        return {metric.name: metric.result() for metric in self.metrics if metric is not self._compile_metrics}

    @contextlib.contextmanager
    def _in_step(self, is_training: bool) -> Iterator[None]:
        token = _STEP.set((self, is_training))
        try:
            yield
        finally:
            _STEP.reset(token)

    def _output_layer(self, inputs: Any) -> OutputLayer:
        """The output layer of the built model."""
        self._look_for_output_layer(inputs)
        found = self._found.output_layer
        if found is None:
            raise ValueError(f"`model` must be one that can be traced. Received: {self.model.name!r}.")
        check_dense(self.model, found.layer, found.dense)  # which may have been quantized since
        return found

    def _look_for_output_layer(self, inputs: Any) -> None:
        if self._found.output_layer is None:
            self._found.output_layer = find_output_layer(self.model, inputs)
            if self._found.output_layer is not None:
                check_prior_length(self._prior, self._found.output_layer.dense.units)

    def _plain_loss(self, from_logits: bool) -> SmoothedSparseCategoricalCrossentropy:
        """The loss that this model trains with, of the model's predictions."""
        return SmoothedSparseCategoricalCrossentropy(self.label_smoothing, self._prior, from_logits, self.ignore_class)

    def _predictions(self, features: Any, output: OutputLayer) -> Any:
        """What the model gives, from what its output layer is given."""
        mask, predictions = get_mask(features), output.layer(features)
        if output.softmax is not None:
            predictions = output.softmax(predictions)
        if mask is not None:
            set_mask(predictions, mask)
        return predictions

    def _fused_loss(self, y: Any, features: Any, sample_weight: Any, dense: keras.layers.Dense) -> Any:
        """The reduced loss; updates the metrics, too."""
        mask = get_mask(features)
        if "float" not in keras.backend.standardize_dtype(features.dtype):
            features = ops.cast(features, dense.compute_dtype)
        kernel, bias = (each if each is None else ops.cast(each, features.dtype) for each in (dense.kernel, dense.bias))
        how = self.label_smoothing, self._prior, self.ignore_class, self.chunk_size
        losses, statistics = linear_loss_and_statistics(features, kernel, bias, y, *how, mask=mask)
        weight = ops.ones_like(statistics["nll"])
        if sample_weight is not None:
            sample_weight = ops.copy(spread_over("sample_weight", sample_weight, weight))
            weight = ops.cast(sample_weight, weight.dtype)
        if get_mask(losses) is not None:
            weight = ops.where(get_mask(losses), weight, 0.0)
        counting = {name: ops.where(weight != 0, values, 0.0) for name, values in statistics.items()}
        self._accuracy.update_state(counting["hit"], weight)
        self._nll.update_state(counting["nll"], weight)
        self._ece.update_state(counting["confidence"], counting["hit"], weight)
        return self._reduced(losses, losses, sample_weight)
