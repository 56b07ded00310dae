"""The `MutualInformation` callback: what two classes' logits say about the training example, epoch by epoch."""

from collections.abc import Callable, Sequence
from typing import Any

from keras_ls.callbacks._base import Measurement, MeasuringCallback
from keras_ls.callbacks._probe import build
from keras_ls.information import LogitDifference, mutual_information

NAME = "mutual_information"


class MutualInformation(MeasuringCallback):
    """Estimates, while a model trains, how much its logits say about which training example was the input.

    After every `freq`-th epoch `logit_mutual_information` of the model enters the epoch's `logs` as
    `mutual_information`, in nats: it rises while the network learns to tell examples apart, and falls towards log 2
    if all that is left of them is their class. Up to 300 examples of each class are drawn once; each measurement
    augments them anew, with the same random numbers, so that only the model changes from one to the next.

    `History` records the value, and callbacks that stand after this one see it. The epochs between two measurements
    repeat the last one. Before the first there is none, except when training goes on (`initial_epoch` above 0): it is
    then measured after its first epoch, too. One such callback per training: the name is fixed. A model that gives NaN
    or infinities has NaN here. Random generators are left as they were, as far as `logit_mutual_information` says:
    training is the same with the callback and without it.

    Args:
        x: training inputs: an array, or a list or dict of arrays.
        y: class ids (N,) or (N, 1), or rows (N, K) whose largest entry is the class.
        classes: ids (a, b) of two different classes, in [0, K).
        augment: the random augmentation, a Keras layer (called with `training=True`) or a function, batch to batch.
        log_dir: folder for TensorBoard, which gets the scalar `mutual_information`, or None.
        freq: number of epochs from one measurement to the next, at least 1.
        num_samples: how often each example is augmented, at least 2.
        output: the name of the output, if the model has several; `y` may then be the dict that `fit` takes.

    Raises:
        ValueError: Here, if arguments do not fit together or `log_dir` cannot be written; when training begins, if
            labels or classes lie outside [0, K), a class has no examples, the augmentation changes the size of a batch,
            or the model preprocesses its inputs in `predict` or does not show whether it gives logits or probabilities.

    Example:
        >>> import numpy as np, keras, keras_ls
        >>> x, y = np.eye(2, dtype="float32").repeat(300, axis=0), np.arange(2).repeat(300)
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
        >>> model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> callback = keras_ls.MutualInformation(x, y, classes=(0, 1), augment=keras.layers.GaussianNoise(0.01))
        >>> history = model.fit(x, y, callbacks=[callback], verbose=0).history
        >>> print(np.log(2) <= history["mutual_information"][0] < np.log(2) + 0.3)
        True

    Reference:
        Müller, Kornblith and Hinton 2019, section 4 and Figure 6.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        classes: Sequence[int],
        augment: Callable[[Any], Any],
        log_dir: Any = None,
        freq: int = 1,
        num_samples: int = 5,
        output: str | None = None,
    ):
        self._source = LogitDifference(x, y, classes, augment, num_samples, output=output)
        super().__init__(freq, log_dir)

    def _prepare(self) -> None:
        """Draws the examples and tries a batch of them."""
        build(self.model, self._source.x)
        self._source.attach(self.model)
        self._source.try_augmentation(self.model)

    def _measure(self, epoch: int) -> Measurement:
        return Measurement({NAME: mutual_information(self._source.samples(self.model))})
