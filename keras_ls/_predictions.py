"""Labelled data as arrays or as a dataset, and a model's predictions for it, example by example."""

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._arrays import hard_labels, prediction_rows, to_numpy


class LabelledData:
    """Inputs with their labels: arrays, or a dataset of batches of both that can be read again and again.

    Args:
        x: an array or a list or dict of arrays, as `model.predict` takes them, or a dataset of (inputs, labels):
            `tf.data.Dataset`, `keras.utils.PyDataset`, `torch.utils.data.DataLoader`, or another iterable that starts
            anew each time.
        y: labels, one an example, or None where `x` is a dataset.

    Raises:
        ValueError: where `x` and `y` are neither, are empty or of different length, or where a dataset has no end.
    """

    def __init__(self, x: Any, y: Any = None):
        self.x = x
        self.y = None if y is None else to_numpy("y", y)
        if self.y is None:
            _check_dataset(x)
        else:
            _check_arrays(x, self.y)

    def check(self, model: keras.Model, batch_size: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Predicts one batch and reads all labels, to find what does not fit before it costs anything.

        Returns:
            Predictions (n, K) and class ids (n,) of the first batch, leading dimensions flattened.

        Raises:
            ValueError: for empty data, and labels that do not match the predictions in shape or lie outside [0, K).
        """
        with kept_random_state():
            if self.y is not None:
                first = _predict_batch(model, tree.map_structure(lambda array: array[:batch_size], self.x))
                hard_labels("y", self.y, (len(self.y), *first.shape[1:]))
                return _flat(first, "y", self.y[:batch_size])
            batches = self._batches()
            inputs, labels = next(batches)
            first = _predict_batch(model, inputs)
            checked = _flat(first, "labels", labels)
            for _, others in batches:
                rows = labels.shape == first.shape
                hard_labels("labels", others, others.shape if rows else (*others.shape, first.shape[-1]))
        return checked

    def predict(self, model: keras.Model, batch_size: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Predictions of `model` in inference mode with their labels, leading dimensions flattened.

        A dataset is read once, batch by batch, so that inputs and labels stay together whatever its order.

        Returns:
            Predictions (N, K) in the model's output dtype, and class ids (N,), int64.
        """
        with kept_random_state():
            if self.y is not None:
                outputs = model.predict(self.x, batch_size=batch_size, verbose=0)
                return _flat(_single(outputs), "y", self.y)
            parts = [_flat(_predict_batch(model, x), "labels", y) for x, y in self._batches()]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _batches(self) -> Iterator[tuple[Any, np.ndarray]]:
        empty = True
        for batch in _one_pass(self.x):
            inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
            if labels is None or weights is not None:
                raise ValueError("`x` must be a dataset of (inputs, labels), without sample weights.")
            empty = False
            # Another framework's tensors go through NumPy.
            inputs = tree.map_structure(lambda leaf: leaf if ops.is_tensor(leaf) else np.asarray(leaf), inputs)
            yield inputs, to_numpy("labels", labels)
        if empty:
            raise ValueError("`x` must hold examples. Received a dataset without batches.")


def _one_pass(dataset: Any) -> Iterator[Any]:
    if not isinstance(dataset, keras.utils.PyDataset):
        yield from dataset
        return
    dataset.on_epoch_begin()
    for index in range(dataset.num_batches):
        yield dataset[index]
    dataset.on_epoch_end()


def _predict_batch(model: keras.Model, inputs: Any) -> np.ndarray:
    return _single(model.predict_on_batch(inputs))


def _single(outputs: Any) -> np.ndarray:
    arrays = tree.flatten(outputs)
    if len(arrays) != 1:
        raise ValueError(f"The model must have one output. Received: {len(arrays)} outputs.")
    return prediction_rows("predictions", arrays[0])


def _flat(predictions: np.ndarray, name: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return predictions.reshape(-1, predictions.shape[-1]), hard_labels(name, labels, predictions.shape)


def _check_arrays(x: Any, y: np.ndarray) -> None:
    lengths = [leaf.shape[0] if getattr(leaf, "shape", ()) else None for leaf in tree.flatten(x)]
    if not lengths or None in lengths:
        raise ValueError(
            "`x` must be an array, or a list or dict of arrays, where `y` is given, and a dataset of (inputs, labels) "
            f"where it is not. Received: x of type {type(x).__name__} and y."
        )
    if y.ndim == 0 or set(lengths) != {len(y)}:
        raise ValueError(f"`x` and `y` must be of the same length. Received: {lengths} and y of shape {y.shape}.")
    if len(y) == 0:
        raise ValueError("`x` and `y` must hold examples. Received: arrays of length 0.")


def _check_dataset(x: Any) -> None:
    if x is None or isinstance(x, (list, tuple, dict, str)) or hasattr(x, "shape"):
        raise ValueError(f"`y` must be given where `x` is not a dataset. Received: x of type {type(x).__name__}.")
    batches: Any = True
    if isinstance(x, keras.utils.PyDataset):
        batches = x.num_batches
    elif hasattr(x, "cardinality"):  # tf.data
        batches = {-1: None, 0: 0}.get(int(x.cardinality()), True)
    elif hasattr(x, "__next__") or not hasattr(x, "__iter__"):
        raise ValueError(
            "`x` must be an array or a dataset that can be read again and again. "
            f"Received: {type(x).__name__} (a generator can be read once)."
        )
    if batches is None:
        raise ValueError("`x` must be a dataset that ends. Received: an endless one.")
    if batches == 0:
        raise ValueError("`x` must hold examples. Received a dataset without batches.")


@contextlib.contextmanager
def kept_random_state() -> Iterator[None]:
    """Leaves the global random generators as they were, so that predicting during training changes no training.

    PyTorch draws from its own for each pass over a data loader; datasets may draw from any.
    """
    python, array = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    state = torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        if torch:
            torch.set_rng_state(state)
