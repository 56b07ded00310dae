"""What the library gives on several devices is what it gives on one: see device_matrix.py for the parts."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from harness import BACKEND, ROOT, TESTS


def run(script, *arguments, devices=1, timeout=600):
    """What a script prints, in a process with so many virtual devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": BACKEND, "XLA_FLAGS": flags}
    command = [sys.executable, str(TESTS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(devices, tmp_path):
    """The numbers of every part on so many devices."""
    folder = tmp_path / str(devices)
    folder.mkdir()
    return json.loads(run("device_matrix.py", folder, devices, devices=devices))


def differs(found, expected):
    """Says whether numbers are unlike those of one device, or an error took their place."""
    if isinstance(found, str) or isinstance(expected, str) or len(found) != len(expected):
        return True
    return not np.allclose(found, expected, rtol=2e-4, atol=2e-4, equal_nan=True)


@pytest.mark.skipif(
    BACKEND not in ("tensorflow", "jax"), reason="Keras 3.15 spreads batches over devices on TensorFlow and JAX alone"
)
def test_every_part_gives_on_several_devices_what_it_gives_on_one(tmp_path):
    expected = numbers(1, tmp_path)
    assert not [value for value in expected.values() if isinstance(value, str)]
    for devices in (2, 4):
        found = numbers(devices, tmp_path)
        wrong = {name: found[name] for name in expected if differs(found[name], expected[name])}
        assert not wrong, f"on {devices} devices"
