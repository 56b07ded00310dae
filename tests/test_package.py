"""The package as a whole: what importing it loads, what it exports, and that its documents name all of it."""

import importlib.metadata
import os
import re
import subprocess
import sys

import keras
import pytest
from harness import ROOT

import keras_ls

PUBLIC = sorted(name for name in keras_ls.__all__ if not name.startswith("__"))


def run_python(code, **environment):
    """Runs `code` in a fresh interpreter in the checkout and returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_it_loads_keras_and_numpy_only():
    code = (
        "import sys, keras, numpy\nbefore = set(sys.modules)\nimport keras_ls\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    extra = set(run_python(code).split()) - set(sys.stdlib_module_names)
    assert extra <= {"keras_ls", "keras"}


def test_its_command_is_installed():
    from keras_ls.diagnosis import cli

    commands = importlib.metadata.entry_points(group="console_scripts", name="keras-ls")
    assert [command.load() for command in commands] == [cli.main]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_it_imports_where_tensorflow_is_absent(backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    run_python("import sys\nsys.modules['tensorflow'] = None\nimport keras_ls", KERAS_BACKEND=backend)


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_without_a_backend_it_says_in_one_line_what_to_install(backend):
    code = f"import sys\nsys.modules[{backend!r}] = None\nimport keras_ls"
    run = [sys.executable, "-c", code]
    result = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "KERAS_BACKEND": backend})
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert last.startswith("ImportError: keras_ls needs a backend")
    assert last.partition("pip install ")[2].startswith("tensorflow; or jax, or torch, with ")


def test_the_version_is_that_of_the_metadata():
    from importlib.metadata import version

    assert version("keras-ls") == keras_ls.__version__


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.M) == [keras_ls.__version__]
    assert f"## [{keras_ls.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_requirement_says_how_old_it_may_be():
    """As the tests on the oldest versions need it."""
    from importlib.metadata import requires

    assert all(re.match(r"[\w-]+>=\d", requirement) for requirement in requires("keras-ls"))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring_and_stands_in_the_readme(name):
    assert getattr(keras_ls, name).__doc__
    assert f"`{name}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_losses_and_metrics_are_registered_under_the_package():
    for name in PUBLIC:
        value = getattr(keras_ls, name)
        bases = (keras.losses.Loss, keras.metrics.Metric, keras.layers.Layer)
        if isinstance(value, type) and issubclass(value, bases):
            assert keras.saving.get_registered_name(value) == f"keras_ls>{name}"
