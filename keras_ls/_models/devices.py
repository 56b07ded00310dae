"""Predictions on one device or several: batches that the devices divide, each example once, in its order."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ls._arrays import taken
from keras_ls._models.inputs import number_of_examples, one_pass
from keras_ls._models.kept_values import values_kept_on_error

_WITHOUT_BATCHES = "`x` must hold examples. Received: a dataset without batches."


class BatchRunner:
    """Runs a network in inference mode over batches, on all devices over which Keras spreads them.

    On one device these are Keras's own `predict` and `predict_on_batch`. Of several, each needs an equal share of a
    batch, which Keras's `predict_on_batch` does not see to: so rows are repeated at the end of a batch, and their
    predictions cut off.

    Args:
        network: a Keras model.
    """

    def __init__(self, network: keras.Model):
        self.network = network
        self._gathering: _Gathering | None = None  # for several processes, once there are

    def batch(self, inputs: Any) -> Any:
        """Returns the outputs for one batch, NumPy arrays."""
        if _is_alone(self.network):
            return self._of_batch(inputs)
        arrays = tree.map_structure(lambda leaf: ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else leaf, inputs)
        return self.in_equal_batches(arrays, number_of_examples(arrays))

    def arrays(self, x: Any, batch_size: int) -> Any:
        """Returns the outputs for arrays."""
        if _is_alone(self.network):
            with self._values_kept(), inference_mode(self.network):
                return self.network.predict(_as_keras_slices(x), batch_size=batch_size, verbose=0)
        return self.in_equal_batches(x, batch_size)

    def dataset(self, x: Any) -> Any:
        """Returns the outputs for a dataset, whose batches may have targets."""
        if _is_alone(self.network):
            try:
                with self._values_kept(), inference_mode(self.network):
                    return self.network.predict(x, verbose=0)
            except (UnboundLocalError, StopIteration) as error:  # as Keras ends without a batch
                if isinstance(error, UnboundLocalError) and "batch_outputs" not in str(error):
                    raise
                raise ValueError(_WITHOUT_BATCHES) from error
        batches = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in one_pass(x))
        outputs = [self.batch(inputs) for inputs in batches]
        if not outputs:
            raise ValueError(_WITHOUT_BATCHES)
        return _joined(outputs)

    def in_equal_batches(self, x: Any, batch_size: int) -> Any:
        """Returns the outputs for arrays. The last batch is filled up, since each new size would be compiled, too."""
        count = number_of_examples(x)
        size = _multiple(min(batch_size, count), number_of_shares(self.network))
        whole = count - count % size
        parts = []
        if whole:
            parts.append(self._outputs(taken(x, slice(whole)), whole, whole, size))
        if whole < count:
            index = np.minimum(np.arange(whole, whole + size), count - 1)
            parts.append(self._outputs(taken(x, index), count - whole, size, size))
        return _joined(parts)

    def _outputs(self, x: Any, count: int, given: int, size: int) -> Any:
        """Returns the outputs for the first `count` of the `given` examples in `x`."""
        strategy = _strategy(self.network)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            found = _joined([self._of_batch(batch) for batch in _dealt_out(x, given, size, strategy)])
        elif keras.backend.backend() == "torch":
            # Each process has the whole network, and what it predicts stays with it: so each predicts everything.
            batches = (taken(x, slice(start, start + size)) for start in range(0, given, size))
            found = _joined([self._of_batch(batch) for batch in batches])
        elif number_of_processes() > 1:
            found = self._gathered(x, given, size)
        else:
            with self._values_kept():
                found = self.network.predict(_as_keras_slices(x), batch_size=size, verbose=0)
        lengths = [len(rows) for rows in tree.flatten(found)]
        if any(length % given for length in lengths):
            raise ValueError(f"`model` must give one row per example. Received: {lengths} rows for {given} examples.")
        # There may be several rows per example, where the model folds time into the batch.
        return tree.map_structure(lambda rows: rows[: len(rows) // given * count], found)

    def _of_batch(self, inputs: Any) -> Any:
        with inference_mode(self.network):
            return self.network.predict_on_batch(inputs)

    def _values_kept(self) -> contextlib.AbstractContextManager[Any]:
        return values_kept_on_error(lambda: self.network.variables, self.network)

    def _gathered(self, x: Any, given: int, size: int) -> Any:
        """Returns the outputs that several processes compute together, in each of them."""
        if self._gathering is None:
            self._gathering = _Gathering(self.network)
        distribution = keras.distribution.distribution()
        parts = min(number_of_processes(), distribution.num_model_replicas)
        # Each process gives Keras its own rows of every batch, which Keras must not divide again.
        index = np.arange(given).reshape(-1, parts, size // parts)[:, distribution.data_shard_id].reshape(-1)
        divides, distribution.auto_shard_dataset = distribution.auto_shard_dataset, False
        try:
            with values_kept_on_error(lambda: self.network.variables, self._gathering):
                return self._gathering.predict(taken(x, index), batch_size=size // parts, verbose=0)
        finally:
            distribution.auto_shard_dataset = divides


class _Gathering(keras.Model):
    """A network whose outputs every process gets whole."""

    def __init__(self, network: keras.Model):
        super().__init__(name=f"{network.name}_gathering", dtype=network.dtype_policy, autocast=False)
        self.network = network
        self.run_eagerly, self.jit_compile = network.run_eagerly, network.jit_compile

    def call(self, inputs, training=False):
        """Runs the network in inference mode."""
        mesh = keras.distribution.distribution().device_mesh

        def whole(rows):
            layout = keras.distribution.TensorLayout([None] * len(rows.shape), mesh)
            return keras.distribution.distribute_tensor(rows, layout)

        return tree.map_structure(whole, self.network(inputs))


@contextlib.contextmanager
def inference_mode(network: keras.Model) -> Iterator[None]:
    """On PyTorch, lets layers that read `training` of their module know, as `predict` does, while the context lasts."""
    modules: list[Any] = []
    if keras.backend.backend() == "torch":
        modules = [each for layer in network._flatten_layers() for each in layer.modules() if each.training]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True


def _is_alone(network: keras.Model) -> bool:
    """Says whether one device of one process runs a network."""
    return number_of_shares(network) == 1 and number_of_processes() == 1


def number_of_processes() -> int:
    """Returns how many processes take part in each prediction."""
    return getattr(keras.distribution.distribution(), "num_processes", 1)


def number_of_shares(network: keras.Model) -> int:
    """Returns into how many parts Keras divides a batch, one for each device or group of devices."""
    strategy = _strategy(network)
    if strategy is not None:
        return strategy.num_replicas_in_sync
    distribution = keras.distribution.distribution()
    axis = getattr(distribution, "batch_dim_name", None)
    if axis is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(axis)]


def on_devices_of(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which variables and models are made for the devices of `model`.

    TensorFlow's strategies have both belong to them; elsewhere the distribution in effect is that of all models.
    """
    strategy = _strategy(model)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _strategy(network: keras.Model) -> Any:
    """Returns TensorFlow's strategy of a network, which may be one for a single device; None on other backends."""
    return getattr(network, "distribute_strategy", None)


def _dealt_out(x: Any, count: int, size: int, strategy: Any) -> Iterator[Any]:
    """Yields batches of arrays, each with one part for each replica, in their order.

    Keras's `predict` would do the same by a dataset, which takes longer to set up than a batch to predict.
    """
    share = size // strategy.num_replicas_in_sync

    def dealt_out(leaf, start):
        def part(context):
            first = start + share * context.replica_id_in_sync_group
            return ops.convert_to_tensor(leaf[first : first + share])

        return strategy.experimental_distribute_values_from_function(part)

    for start in range(0, count, size):
        yield tree.map_structure(lambda leaf, start=start: dealt_out(leaf, start), x)


def _as_keras_slices(x: Any) -> Any:
    """Arrays as `predict` takes them: of text, Keras slices those of one dimension alone, and tensors of any."""
    if keras.backend.backend() != "tensorflow":
        return x

    def sliced(leaf):
        if getattr(leaf, "dtype", None) != np.dtype(object):
            return leaf
        import tensorflow as tf

        return tf.convert_to_tensor(leaf)

    return tree.map_structure(sliced, x)


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return tree.map_structure(lambda *rows: np.concatenate(rows), *parts)


def _multiple(size: int, of: int) -> int:
    """Rounds `size` up to a multiple."""
    return -(-size // of) * of
