"""How much the logits still say about which training example they belong to: mutual information, estimated."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._arrays import hard_labels, to_numpy
from keras_ls._checks import check_count, shown
from keras_ls._models.data import LabelledData, check_row_count
from keras_ls._models.devices import BatchRunner
from keras_ls._models.inputs import check_fits, check_no_preprocessor
from keras_ls._models.logits import logits_model
from keras_ls._models.random_state import seeded
from keras_ls._models.tracing import count_tracings_apart
from keras_ls.projection.plane import drawn

__all__ = ["logit_mutual_information", "mutual_information"]

EXAMPLES_PER_CLASS = 300
# Terms of the mixture that are in memory at once: 1 MB, which stays in a core's cache.
CHUNK = 2**17
# Differences of values below it are finite.
_LARGEST = 2.0**1023


def mutual_information(samples: Any) -> float:
    """Estimates the mutual information of an example's index X and a real value Y that is random for each example.

    Y given X = x is taken as Gaussian with the mean μ_x of the example's samples and one variance for all examples:

        σ² = mean over l and x of (f_lx − μ_x)²
        Î = mean over l and x of −(f_lx − μ_x)²/(2σ²) − log( (1/N) Σ_x' exp(−(f_lx − μ_x')²/(2σ²)) )

    The mixture in the logarithm runs over the means of all N examples for one sample. Î is 0 if the value says nothing
    about the example, log 2 if it says only which half of the examples it belongs to, and log N if it tells all
    examples apart. Shifting or scaling the samples does not change it.

    If no example's samples differ (σ = 0, which includes a single sample each), Î is the limit for σ → 0: the entropy
    of the distinct values, log N if all N differ. With few samples per example, μ_x follows its own samples, so that
    examples which are alike seem to differ: for many examples of one and the same distribution Î is about 1/(2L).

    Args:
        samples: An (L, N) array of real numbers: L independent samples of the value for each of N examples.

    Returns:
        Î in nats, in [0, log N], computed in float64; NaN if a sample is NaN or infinite. The time grows with
        L·N², the memory stays constant.

    Raises:
        ValueError: If `samples` is not an (L, N) array with at least one entry.

    Example:
        >>> import keras_ls
        >>> print(round(keras_ls.mutual_information([[0.0, 0.1, 5.0, 5.1], [0.1, 0.0, 5.1, 5.0]]), 4))
        0.6931

    Reference:
        Müller, Kornblith and Hinton 2019, section 4.
    """
    values = to_numpy("samples", samples).astype("float64")
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"`samples` must be of shape (L, N), not empty. Received shape: {values.shape}.")
    if not np.isfinite(values).all():
        return math.nan
    if np.abs(values).max() >= _LARGEST:
        values = values / 2
    values = values - values.min()
    values /= values.max() or 1.0  # squares of what is left neither overflow nor, where they matter, underflow
    # The first sample is taken off before the mean, so that equal samples deviate by exactly 0.
    deviations = values - values[0]
    deviations -= deviations.mean(axis=0)
    means = values[0] - deviations[0]
    sigma = math.sqrt(np.square(deviations).mean())
    estimate = _mean_log_ratio(values, means, sigma) if sigma > 0 else _entropy_of_distinct(means)
    return float(np.clip(estimate, 0.0, math.log(len(means)))) + 0.0  # not −0


def logit_mutual_information(
    model: keras.Model,
    x: Any,
    y: Any,
    classes: Sequence[int],
    augment: Callable[[Any], Any],
    num_samples: int = 5,
    examples_per_class: int = EXAMPLES_PER_CLASS,
    batch_size: int = 256,
    seed: int = 0,
    output: str | None = None,
) -> float:
    """Estimates how much the logits of two classes say about which of their examples was the input.

    Y = z_a − z_b is the difference of the logits of the two classes for a randomly augmented example of one of them;
    the estimate is `mutual_information` of its samples. It is log N if the network tells all N examples apart in spite
    of the augmentation, and log 2 if it keeps only their class (for unequal numbers of examples a little less: the
    entropy of the classes), plus ½·log(L/(L − 1)) of L samples, 0.11 for 5: their variance is that about their own
    mean. For a binary classifier with one output z, the logits of its classes 0 and 1 are 0 and z.

    `seed` determines which examples are drawn, and the augmentation as far as it uses seed generators of Keras layers
    (in a function, of those that it refers to), `keras.random` without a seed, `random`, `numpy.random`, or PyTorch's
    generator for the CPU. All of these are left as they were. An augmentation with a generator of its own uses that
    one, and TensorFlow's `tf.random` outside of Keras is neither seeded nor restored.

    Args:
        model: A built functional or Sequential classifier with one output: logits or softmax probabilities of shape
            (N, K) or, for two classes, one logit or sigmoid unit of shape (N, 1). Which of them it is follows from its
            last layers. It runs in inference mode. A subclassed model does not show what it returns, so wrap it:
            `keras.Sequential([keras.Input(shape), model, keras.layers.Softmax()])` if it returns logits, and with
            `keras.layers.Lambda(keras.ops.log)` before the softmax if it returns probabilities.
        x: The training inputs: an array, or a list or dict of arrays.
        y: Class ids of shape (N,) or (N, 1), or rows (N, K) whose largest entry is the class. Examples of other classes
            are ignored.
        classes: The ids (a, b) of two different classes in [0, K).
        augment: A random augmentation that maps a batch to a batch of the same size: a Keras layer (called with
            `training=True`) or a function of the batch alone. The function gets NumPy arrays, which it may change, or
            tensors if it raises a `TypeError` or `AttributeError` for arrays. It must draw anew for each example. Use
            the augmentation that the model is trained with.
        num_samples: How often each example is augmented, L; at least 2.
        examples_per_class: How many examples of each class are drawn, without replacement; all of them if a class has
            fewer.
        batch_size: The number of examples per batch.
        seed: An integer of at least 0, of any size, that determines everything drawn at random.
        output: The name of the output, if the model has several; `y` may then be a dict by outputs.

    Returns:
        The estimate in nats, in [0, log N]; NaN if the model returns NaN or infinities.

    Raises:
        ValueError: If arguments do not fit together, a class has no examples, the last layers of `model` do not show
            whether it returns logits or probabilities, or the model preprocesses its inputs in `predict` or does not
            return one row per example.

    Example:
        >>> import keras, keras_ls, numpy as np
        >>> x, y = np.eye(2, dtype="float32").repeat(8, axis=0), np.arange(2).repeat(8)
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> blur = keras.layers.GaussianNoise(0.01)
        >>> estimate = keras_ls.logit_mutual_information(model, x, y, (0, 1), blur, examples_per_class=8)
        >>> print(np.log(2) <= estimate < np.log(2) + 0.3)
        True

    Reference:
        Müller, Kornblith and Hinton 2019, section 4 and Figure 6: 300 examples of each class, 5 samples.
    """
    source = LogitDifference(x, y, classes, augment, num_samples, examples_per_class, batch_size, seed, output)
    source.attach(model)
    return mutual_information(source.samples(model))


class LogitDifference:
    """Samples of the difference of two classes' logits, for the same augmented examples each time.

    The arguments are those of `logit_mutual_information`. All that can be checked without a model is checked here.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        classes: Sequence[int],
        augment: Callable[[Any], Any],
        num_samples: int = 5,
        examples_per_class: int = EXAMPLES_PER_CLASS,
        batch_size: int = 256,
        seed: int = 0,
        output: str | None = None,
    ):
        if y is None:
            raise ValueError("`y` must be given: one class id per example of `x`. Received: y=None.")
        data = LabelledData(x, y, output=output)
        self.x, self._output = data.x, output
        self._labels: Any = data.y
        self._classes = _pair(classes)
        if not callable(augment):
            raise ValueError(f"`augment` must be a function or a layer. Received: augment={shown(augment)}.")
        self._augment = augment
        self._num_samples = check_count("num_samples", num_samples, minimum=2)
        self._examples_per_class = check_count("examples_per_class", examples_per_class)
        self._batch_size = check_count("batch_size", batch_size)
        self._seed = check_count("seed", seed, minimum=0, maximum=None)
        self._convert: Callable[[Any], Any] | None = None
        self._network: Any = None
        self._runner: Any = None
        self._rows = np.empty(0, int)

    def attach(self, model: keras.Model) -> None:
        """Finds the logits of `model` and draws the examples.

        Raises:
            ValueError: If model, classes and labels do not fit together.
        """
        with seeded(self._seed, [model, self._augment]):
            check_no_preprocessor(model)
            self._network = logits_model(model, self._output)
            self._runner = BatchRunner(self._network)
            count_tracings_apart(self._network)
            shape = self._network.output_shape
            if len(shape) != 2:
                raise ValueError(f"`model` must give one row of logits per example, (N, K). Received shape: {shape}.")
            num_classes = max(2, shape[-1])  # a single logit separates two classes
            if max(self._classes) >= num_classes:
                raise ValueError(f"`classes` must be in [0, {num_classes}). Received: {list(self._classes)}.")
            labels = hard_labels("y", self._labels, (len(self._labels), shape[-1]))
            (self._rows,) = drawn(
                labels, self._classes, self._examples_per_class, self._seed, default=EXAMPLES_PER_CLASS
            )

    def try_augmentation(self, model: keras.Model) -> None:
        """Augments and predicts one batch, for an error before training rather than after an epoch.

        Raises:
            ValueError: If the augmentation returns what `model`, the one attached, does not take.
        """
        with seeded(self._seed, [model, self._augment]):
            self._batch(self._rows[: self._batch_size])

    def samples(self, model: keras.Model) -> np.ndarray:
        """(L, N) float64 samples for the present weights of `model`, the one attached."""
        with seeded(self._seed, [model, self._augment]):
            cuts = range(self._batch_size, len(self._rows), self._batch_size)
            batches = np.split(self._rows, cuts)
            samples = np.stack(
                [np.concatenate([self._batch(rows) for rows in batches]) for _ in range(self._num_samples)]
            )
        if np.array_equal(samples, np.broadcast_to(samples[0], samples.shape)) and np.ptp(samples) > 0:
            warnings.warn(
                "`augment` changed no logit: all samples of an example are equal, and the estimate is only the "
                "logarithm of the number of distinct values. A layer called in a function needs training=True.",
                stacklevel=3,
            )
        return samples

    def _batch(self, rows: np.ndarray) -> np.ndarray:
        """z_a − z_b of the examples `rows`, augmented."""
        augmented = self._augmented(rows)
        augmented = tree.map_structure(lambda leaf: leaf if ops.is_tensor(leaf) else np.asarray(leaf), augmented)
        sizes = [tuple(leaf.shape)[:1] for leaf in tree.flatten(augmented)]
        if set(sizes) != {(len(rows),)}:
            raise ValueError(
                f"`augment` must return a batch of as many examples as it is given, {len(rows)}. "
                f"Received: leading dimensions {shown([size[0] if size else None for size in sizes])}."
            )
        check_fits("augment(x)", augmented, self._network)
        logits = to_numpy("predictions", self._runner.batch(augmented)).astype("float64")
        check_row_count(logits, augmented)
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return logits[:, self._classes[0]] - logits[:, self._classes[1]]

    def _augmented(self, rows: np.ndarray) -> Any:
        """The examples `rows` as `augment` returns them; the first call learns whether it takes arrays or tensors."""
        if self._convert is None:
            self._convert = np.asarray
            try:
                return self._augmented(rows)
            except (TypeError, AttributeError):
                self._convert = ops.convert_to_tensor
        # A new copy each time, since the augmentation may work in place.
        convert = self._convert
        batch = tree.map_structure(lambda leaf: convert(leaf[rows]), self.x)
        training = {"training": True} if isinstance(self._augment, keras.layers.Layer) else {}
        return self._augment(batch, **training)


def _mean_log_ratio(values: np.ndarray, means: np.ndarray, sigma: float) -> float:
    """Mean of log p(y|x) − log p(y) over (L, N) values, for Gaussians around the means (N,)."""
    unit = math.sqrt(2) * sigma
    means, points = means / unit, (values / unit).reshape(-1)
    own = np.square(points.reshape(values.shape) - means).reshape(-1)
    total, rows = 0.0, max(1, CHUNK // len(means))
    with np.errstate(over="ignore"):  # an exponent of infinity is a density of 0
        for start in range(0, len(points), rows):
            part = slice(start, start + rows)
            exponents = np.square(points[part, None] - means)
            nearest = exponents.min(axis=1)  # taken out, so that the sum is at least 1
            density = np.exp(nearest[:, None] - exponents).mean(axis=1)
            total += float(np.sum(nearest - own[part] - np.log(density)))
    return total / len(points)


def _entropy_of_distinct(values: np.ndarray) -> float:
    _, counts = np.unique(values, return_counts=True)
    shares = counts / len(values)
    return float(-np.sum(shares * np.log(shares)))


def _pair(classes: Any) -> tuple[int, int]:
    try:
        array = np.asarray(classes)
    except (TypeError, ValueError):  # ragged lists
        array = np.empty(0)
    if array.shape != (2,) or array.dtype.kind not in "iu" or array[0] == array[1] or array.min() < 0:
        raise ValueError(f"`classes` must be two different class ids. Received: classes={shown(classes)}.")
    return int(array[0]), int(array[1])
