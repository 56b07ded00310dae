"""What the library gives on several devices is what it gives on one: see device_matrix.py and processes.py."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from harness import BACKEND, ROOT, TESTS


def start(script, *arguments, devices):
    """Starts a script in a process with so many virtual devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": BACKEND, "XLA_FLAGS": flags}
    command = [sys.executable, str(TESTS / script), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def numbers(process):
    """What a script prints, by name."""
    try:
        output, errors = process.communicate(timeout=600)
    except BaseException:
        process.kill()
        raise
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])  # JAX prints of its connections, too


def differs(found, expected):
    """Says whether numbers are unlike those of one device, or an error took their place."""
    if isinstance(found, str) or isinstance(expected, str) or len(found) != len(expected):
        return True
    return not np.allclose(found, expected, rtol=2e-4, atol=2e-4, equal_nan=True)


def matrix(tmp_path_factory, devices):
    """The numbers of device_matrix.py."""
    folder = tmp_path_factory.mktemp(f"devices_{devices}")
    return numbers(start("device_matrix.py", folder, devices, devices=devices))


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """The matrix on one device."""
    found = matrix(tmp_path_factory, 1)
    assert not [value for value in found.values() if isinstance(value, str)]
    return found


@pytest.mark.slow
@pytest.mark.skipif(
    BACKEND == "torch", reason="on PyTorch each device has a process of its own, and the CPU no virtual devices"
)
@pytest.mark.parametrize("devices", [2, 4])
def test_every_part_gives_on_several_devices_what_it_gives_on_one(tmp_path_factory, one_device, devices):
    found = matrix(tmp_path_factory, devices)
    assert not {name: found[name] for name in one_device if differs(found[name], one_device[name])}


KERAS = tuple(map(int, keras.__version__.split(".")[:2]))


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "tensorflow", reason="Keras runs several processes on JAX and PyTorch alone")
@pytest.mark.skipif(BACKEND == "torch" and KERAS < (3, 16), reason="Keras runs processes on PyTorch from 3.16 on")
def test_two_processes_measure_what_one_does_and_the_first_writes(tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    expected = numbers(start("processes.py", alone, 0, 1, 0, devices=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [start("processes.py", together, index, 2, port, devices=2) for index in range(2)]
    try:
        found = [numbers(process) for process in both]
    finally:
        for process in both:
            process.kill()
    for each in found:
        assert not {name: each[name] for name in expected if differs(each[name], expected[name])}
    assert sorted(os.listdir(together)) == sorted(os.listdir(alone)) == ["logs-0", "zt.npy"]
    assert (together / "zt.npy").read_bytes()[:128] == (alone / "zt.npy").read_bytes()[:128]
