"""Labelled data as arrays or as a dataset, and a model's predictions for it, example by example."""

from collections.abc import Generator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._arrays import counted_labels, prediction_rows, spread_weights, taken, to_numpy
from keras_ls._backend import ONE_AT_A_TIME
from keras_ls._models.devices import BatchRunner, on_devices_of
from keras_ls._models.inputs import check_dataset, check_fits, input_arrays, number_of_examples, one_pass
from keras_ls._models.logits import check_model, logits_model
from keras_ls._models.outputs import check_output, mask_of_positions, of_output, single
from keras_ls._models.random_state import kept_random_state
from keras_ls._models.tracing import count_tracings_apart
from keras_ls._rows import LARGEST_PROBABILITY, LabelledRows, check_counts, joined, labelled_rows

_Batch = tuple[Any, np.ndarray, np.ndarray | None]  # inputs, labels and weights


class Predictor:
    """Predicts one output of a model in inference mode, with the mask that `evaluate` would see. Compiled once.

    Args:
        model: a Keras model.
        output: the name of its output, or None if there is only one.

    Raises:
        ValueError: If the model has no such output, or several and none is named.
    """

    def __init__(self, model: keras.Model, output: str | None):
        self.model = model
        self.names = check_output(model, output)
        # A preprocessor runs only in the model's own `predict`, which passes no mask on.
        self._network = model
        if getattr(model, "preprocessor", None) is None:
            with on_devices_of(model):
                self._network = _WithMask(model, output, self.names)
        self._runner = BatchRunner(self._network)
        self._output = output

    def predict(self, x: Any, batch_size: int = 32) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns predictions (N, …, K) for arrays, in the model's output dtype, and their mask or None."""
        self._check_inputs(x)
        with ONE_AT_A_TIME:
            found = self._runner.arrays(x, batch_size)
        return self._checked(found, x)

    def predict_batch(self, inputs: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the same for one batch."""
        self._check_inputs(inputs)
        with ONE_AT_A_TIME:
            found = self._runner.batch(inputs)
        return self._checked(found, inputs)

    def _check_inputs(self, x: Any) -> None:
        if isinstance(self._network, _WithMask):  # what a preprocessor takes is not known
            check_fits("x", x, self._network.model)

    def _checked(self, found: Any, x: Any) -> tuple[np.ndarray, np.ndarray | None]:
        mask = None
        if isinstance(self._network, _WithMask):
            found, mask = found["outputs"], found.get("mask")
        else:
            found = single(of_output(found, self._output, self.names))
        return check_row_count(prediction_rows("predictions", found), x), mask


class LabelledData:
    """Inputs with their labels and weights: arrays, or a dataset of batches that can be read repeatedly.

    Args:
        x: an array or a list or dict of arrays, as `model.predict` takes them, or a dataset of (inputs, labels) or
            (inputs, labels, weights): `tf.data.Dataset`, `keras.utils.PyDataset`, `torch.utils.data.DataLoader`, or
            another iterable that starts over each time.
        y: labels, one per example, or None if `x` is a dataset.
        sample_weight: weights shaped as the labels or as their leading dimensions, or None.
        ignore_class: a label that does not count, or None.
        output: the name of the output that the labels belong to, or None if there is only one; labels and weights may
            then be dicts by output names.

    Raises:
        ValueError: If `x` and `y` are neither arrays nor a dataset, are empty or differ in length, or if a dataset is
            endless.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        ignore_class: int | None = None,
        output: str | None = None,
    ):
        self.x, self.ignore_class, self.output = x, ignore_class, output
        self.y, self.weight, self.is_masked = None, None, False  # masked as far as `check` has seen
        if y is None:
            check_dataset(x)
            if sample_weight is not None:
                raise ValueError(
                    "`sample_weight` must come with the batches of a dataset. Received: sample_weight beside it."
                )
            return
        self.x = input_arrays("x", x)
        self.y = to_numpy("y", of_output(y, output, None))
        if self.y.ndim == 0 or len(self.y) != number_of_examples(self.x):
            raise ValueError(
                "`x` and `y` must be of the same length. "
                f"Received: {number_of_examples(self.x)} examples and y of shape {self.y.shape}."
            )
        if (given := of_output(sample_weight, output, None)) is not None:
            weight = to_numpy("sample_weight", given)
            self.weight = np.broadcast_to(weight, self.y.shape[:1]) if weight.ndim == 0 else weight
            is_column = self.y.ndim > 1 and self.weight.shape == (*self.y.shape[:-1], 1)  # beside one-hot rows
            shape = self.y.shape[:-1] if is_column else self.y.shape
            spread_weights("sample_weight", self.weight, shape)

    def first_inputs(self, names: list[str] | None, batch_size: int = 32) -> Any:
        """The inputs of the first batch; `names` are those of the model's outputs."""
        with kept_random_state():
            return next(self._batches(names, batch_size))[0]

    def check(self, predictor: Predictor) -> LabelledRows:
        """Predicts one batch and reads all labels, so that errors are found before training or prediction starts.

        Masked positions may have any label, so a model with a mask predicts all batches here. Returns the first batch,
        as if the model gave probabilities.

        Raises:
            ValueError: If data are empty, no prediction counts, or labels that count do not match the predictions or
                lie outside [0, K).
        """
        with kept_random_state(predictor.model):
            batches = self._batches(predictor.names, 32)
            inputs, labels, weight = next(batches)
            outputs, mask = predictor.predict_batch(inputs)
            first = self._rows(labels, outputs, weight, False, mask)
            self.is_masked = mask is not None
            if self.is_masked:
                batches.close()  # a dataset may allow one reader at a time, as tf.data's cache in a file does
                self.predict(predictor, False)
                return first
            columns = outputs.shape[1:] or (1,)  # (N,) are those of one unit
            if self.y is not None:
                check_counts(self._any_counts(self.y, self.weight, (len(self.y), *columns)), "x")
                return first
            classes = () if labels.shape == outputs.shape and columns[-1] > 1 else columns[-1:]
            each = [self._any_counts(others, weight, (*others.shape, *classes)) for _, others, weight in batches]
            check_counts(any(each) or bool(first.weight.any()), "x")
        return first

    def predict(
        self, predictor: Predictor, from_logits: bool, batch_size: int = 32, names: list[str] | None = None
    ) -> LabelledRows:
        """Predictions in inference mode with their labels and weights, leading dimensions flattened.

        A dataset is read once, batch by batch, so that inputs and labels stay together even if it shuffles.

        Args:
            predictor: what predicts.
            from_logits: whether it gives logits.
            batch_size: of arrays.
            names: of the outputs that labels may be given for; None stands for those of the predictor.

        Raises:
            ValueError: As for `check`, and if no prediction counts.
        """
        with kept_random_state(predictor.model):
            if self.y is not None:
                outputs, mask = predictor.predict(self.x, batch_size)
                return self._rows(self.y, outputs, self.weight, from_logits, mask).check_any("x")
            parts = []
            for inputs, labels, weight in self._batches(names or predictor.names, batch_size):
                outputs, mask = predictor.predict_batch(inputs)
                parts.append(self._rows(labels, outputs, weight, from_logits, mask))
        return joined(parts).check_any("x")

    def label(self, outputs: np.ndarray, from_logits: bool) -> LabelledRows:
        """What `predict` gives, from outputs (N, K) for all inputs that are known already.

        Raises:
            ValueError: If no prediction counts.
        """
        return self._rows(self.y, outputs, self.weight, from_logits, None).check_any("x")

    @property
    def _name(self) -> str:
        return "labels" if self.y is None else "y"

    def _rows(self, labels, outputs, weight, from_logits, mask) -> LabelledRows:
        return labelled_rows(labels, outputs, weight, self.ignore_class, from_logits, mask, (self._name, "predictions"))

    def _any_counts(self, labels: np.ndarray, weight: np.ndarray | None, shape: tuple[int, ...]) -> bool:
        """Whether any of the labels, which are checked, counts."""
        counts = spread_weights("sample_weight", weight, shape[:-1]) > 0
        return bool(counted_labels(self._name, labels, shape, self.ignore_class, counts)[1].any())

    def _batches(self, names: list[str] | None, batch_size: int) -> Generator[_Batch, None, None]:
        """Yields inputs, labels and weights of each batch; `names` are those of the model's outputs."""
        if self.y is not None:
            for start in range(0, len(self.y), batch_size):
                part = slice(start, start + batch_size)
                yield taken(self.x, part), self.y[part], None if self.weight is None else self.weight[part]
            return
        empty = True
        for batch in one_pass(self.x):
            inputs, labels, weight = keras.utils.unpack_x_y_sample_weight(batch)
            if labels is None:
                raise ValueError("`x` must be a dataset of (inputs, labels) or (inputs, labels, weights).")
            empty = False
            # Another framework's tensors go through NumPy.
            inputs = tree.map_structure(lambda leaf: leaf if ops.is_tensor(leaf) else np.asarray(leaf), inputs)
            labels, weight = (of_output(part, self.output, names) for part in (labels, weight))
            yield inputs, to_numpy("labels", labels), None if weight is None else to_numpy("weights", weight)
        if empty:
            raise ValueError("`x` must hold examples. Received a dataset without batches.")


def check_row_count(rows: np.ndarray, inputs: Any) -> np.ndarray:
    """Returns predictions unchanged, after checking that there is one per input.

    Raises:
        ValueError: If there are more or fewer.
    """
    sizes = {leaf.shape[0] for leaf in tree.flatten(inputs) if getattr(leaf, "shape", ())}
    if sizes and len(rows) not in sizes:
        raise ValueError(
            f"`model` must give one row per example. Received: {len(rows)} rows for {sorted(sizes)[0]} examples."
        )
    return rows


def predicted_logits(
    model: keras.Model, data: LabelledData, from_logits: bool | None, batch_size: int
) -> tuple[keras.Model, LabelledRows]:
    """The model of a classifier's logits, as `logits_model` makes it, and what it predicts for labelled data.

    Raises:
        ValueError: As for `logits_model` and `LabelledData.predict`, and if `from_logits` is False where predictions
            are no probabilities.
    """
    check_model(model)
    names = check_output(model, data.output)
    inputs = data.first_inputs(names, batch_size)
    source = logits_model(model, data.output, from_logits, inputs)
    rows = data.predict(Predictor(source, None), True, batch_size, names)
    if from_logits is False and (np.isnan(rows.rows).any(axis=-1) & (rows.weight > 0)).any():
        _check_probabilities(Predictor(model, data.output).predict_batch(inputs)[0], model)
    return source, rows


def _check_probabilities(outputs: np.ndarray, model: keras.Model) -> None:
    low, high = float(outputs.min()), float(outputs.max())
    if low < 0 or high > LARGEST_PROBABILITY:
        raise ValueError(
            "`from_logits` must be True for a model that gives logits. "
            f"Received: from_logits=False and {model.name!r}, whose predictions lie between {low:.4g} and {high:.4g}."
        )


class _WithMask(keras.Model):
    """Returns an output of another model and its mask, so that `predict` compiles both."""

    def __init__(self, model: keras.Model, output: str | None, names: list[str] | None):
        super().__init__(name=f"{model.name}_predictor", dtype=model.dtype_policy, autocast=False)
        self.model, self._output, self._names = model, output, names
        self.run_eagerly, self.jit_compile = model.run_eagerly, model.jit_compile
        count_tracings_apart(self)

    def call(self, inputs):
        """Runs the other model in inference mode."""
        outputs = single(of_output(self.model(inputs, training=False), self._output, self._names))
        mask = mask_of_positions(outputs)
        return {"outputs": outputs} if mask is None else {"outputs": outputs, "mask": mask}
