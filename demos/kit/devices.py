"""On which devices a demo trains, in how many processes, and what each of these does.

A batch is that of one device, whatever the number of devices. Each process makes it whole and feeds its own part of the
rows, in the order of the processes; all take part in training and predictions, and process 0 writes the files.
"""

import contextlib
import dataclasses
import importlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from demos.kit.options import Chosen, Group, option
from demos.kit.values import count, number, whole

BACKENDS = {"mirrored": "tensorflow", "data-parallel": "jax"}
# Keras's environment variables
NUM_PROCESSES, PROCESS_ID = "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID"
ADDRESSES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
ALL_DEVICES = "train on all devices: mirrored with TensorFlow, data-parallel with JAX"
TOGETHER = "number of processes that run this command together, all with one --out that each of them sees"
address = number(str, lambda text: bool(re.fullmatch(r".+:\d+", text)), "must be HOST:PORT")
VIRTUAL = "number of virtual devices that the CPU is divided into, to try a strategy without GPUs"


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a demo trains on; its results do not depend on it."""

    strategy: str = option("none", ALL_DEVICES, affects_result=False, choices=("none", *BACKENDS))
    processes: int | None = option(None, TOGETHER, count, affects_result=False, shown=f"1, or ${NUM_PROCESSES}")
    process: int | None = option(
        None, "number of this process, from 0", whole, affects_result=False, shown=f"0, or ${PROCESS_ID}", metavar="I"
    )
    coordinator: str | None = option(
        None,
        "address at which process 0 waits for the others",
        address,
        affects_result=False,
        shown=f"${ADDRESSES}",
        metavar="HOST:PORT",
    )
    virtual_devices: int | None = option(None, VIRTUAL, count, affects_result=False, shown="the devices there are")


GROUP = Group("devices", Devices)


@dataclasses.dataclass(frozen=True)
class Engine:
    """What trains; by default one device of one process."""

    strategy: Any = None  # TensorFlow's, or None
    distribution: Any = None  # Keras's on JAX, or None
    number: int = 1  # of devices, those of all processes together
    processes: int = 1
    process: int = 0  # the place of this one among them


_started: list[Engine] = []
_entered: list[Any] = []


def engine() -> Engine:
    """What trains now."""
    return _started[-1] if _started else Engine()


def start(options: Chosen) -> None:
    """Starts what `Devices` asks for, before the backend has started; a ValueError if that cannot be."""
    chosen = options.read(Devices)
    given = [name for name in ("processes", "process", "coordinator") if getattr(chosen, name) is not None]
    if chosen.strategy != "data-parallel" and given:
        raise ValueError(f"--{given[0]} is for --strategy data-parallel. Received: {chosen.strategy}.")
    if chosen.strategy == "none":
        if chosen.virtual_devices:
            raise ValueError("--virtual-devices needs a --strategy. Received: none.")
        return
    if len(given) in (1, 2):
        raise ValueError(f"--processes, --process and --coordinator go together. Received: --{' and --'.join(given)}.")
    if (chosen.process or 0) >= (chosen.processes or 1):
        raise ValueError(f"--process must be below --processes ({chosen.processes}). Received: {chosen.process}.")
    import keras

    backend, needed = keras.backend.backend(), BACKENDS[chosen.strategy]
    if backend != needed:
        raise ValueError(f"--strategy {chosen.strategy} needs KERAS_BACKEND={needed}. Received: {backend}.")
    _started.append(_mirrored(chosen) if needed == "tensorflow" else _data_parallel(chosen))


def stop() -> None:
    """Goes back to one device."""
    _started.clear()


def _mirrored(chosen: Devices) -> Engine:
    import tensorflow as tf

    names = None
    if chosen.virtual_devices:
        # Replicas wait for each other in threads, of which there must be more than a small machine has cores.
        tf.config.threading.set_inter_op_parallelism_threads(4 * chosen.virtual_devices)
        parts = [tf.config.LogicalDeviceConfiguration()] * chosen.virtual_devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
        names = [f"CPU:{i}" for i in range(chosen.virtual_devices)]
    strategy = tf.distribute.MirroredStrategy(names)
    return Engine(strategy, number=strategy.num_replicas_in_sync)


def _data_parallel(chosen: Devices) -> Engine:
    import jax
    import keras

    if chosen.virtual_devices:
        flag = f"--xla_force_host_platform_device_count={chosen.virtual_devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
        jax.config.update("jax_platforms", "cpu")
    if chosen.processes or NUM_PROCESSES in os.environ:
        print(f"Waiting for all processes at {chosen.coordinator or os.environ.get(ADDRESSES)}.", flush=True)
        keras.distribution.initialize(chosen.coordinator, chosen.processes, chosen.process)
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    found = Engine(None, distribution, distribution.num_model_replicas, jax.process_count(), jax.process_index())
    if found.process:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # process 0 says all
    return found


def check(recipe: Any) -> None:
    """Raises ValueError if batches of `recipe.batch_size`, or the bound on gradients, are not for these devices."""
    if recipe.batch_size % engine().number:
        raise ValueError(
            f"The examples of an update must be a multiple of the number of devices ({engine().number}). "
            f"Received: {recipe.batch_size}."
        )
    if engine().strategy is not None and recipe.clipnorm:
        raise ValueError(
            "The gradient's norm must not be bounded with --strategy mirrored, which bounds that of each device by "
            f"itself (--clipnorm 0). Received: a bound of {recipe.clipnorm:g}."
        )


def is_first_process() -> bool:
    """Whether this process writes files and talks."""
    return engine().process == 0


def in_turn(action: Callable[[], Any]) -> Any:
    """What `action` returns, called in process 0 and then in the others, which find the files that it wrote.

    It is a ValueError in the others if it raised an error in process 0.
    """
    if engine().processes == 1:
        return action()
    done = False
    if is_first_process():
        try:
            value, done = action(), True
        finally:
            _said_by_first_process(done)
        return value
    if not _said_by_first_process(done):
        raise ValueError("Process 0 could not start, and says why.")
    return action()


def wait() -> None:
    """Waits until all processes are here, so that the others see what process 0 wrote."""
    if engine().processes > 1:
        _said_by_first_process(True)


def _said_by_first_process(word: bool) -> bool:
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.int32(word)))


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """The context in which networks belong to all devices and use them; outside, each process has its own."""
    used = engine().strategy or engine().distribution
    if used is None:
        yield
        return
    _entered.append(used)
    try:
        with used.scope():
            yield
    finally:
        _entered.pop()


def new_session() -> None:
    """Frees the memory of networks that are no longer used. It does nothing within `scope`, which it would end."""
    if not _entered:
        importlib.import_module("keras").utils.clear_session()


def part_of(batches: Any) -> Any:
    """What this process feeds of endless batches: its share of the rows of each."""
    import keras
    import numpy as np

    if engine().processes == 1:
        return batches

    def part(leaf: Any) -> Any:
        rows, processes, process = len(leaf), engine().processes, engine().process
        return np.asarray(leaf)[rows * process // processes : rows * (process + 1) // processes]

    def parts() -> Iterator[Any]:
        for batch in batches:
            yield keras.tree.map_structure(part, batch)

    return parts()


def predict(model: Any, x: Any, batch_size: int) -> Any:
    """The logits of a trained network for arrays, in batches that the devices divide."""
    import keras_ls

    if engine().number == 1:
        return model.predict(x, batch_size=batch_size, verbose=0)
    with scope():
        return keras_ls.teacher_logits(model, x, batch_size)


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
