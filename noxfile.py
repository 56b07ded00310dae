"""Checks, and tests in environments other than the README's: `nox -s lint`, `nox -s nightly -- -k losses`.

What follows `--` goes to pytest.
"""

import re
from pathlib import Path

import nox

ROOT = Path(__file__).parent
NIGHTLY = "keras-nightly==3.16.0.dev2026102704"
# What tests of the library need besides a backend; those of the demos are skipped where the demos' packages are absent.
TOOLS = ["pytest>=8", "pytest-xdist>=3.5", "scipy>=1.10", "scikit-learn>=1.3"]
nox.options.envdir = ".venv-nox"


@nox.session(python="3.11")
def lint(session):
    """Checks format, style and types."""
    session.install("-e", ".[tests,lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(python="3.11")
def oldest(session):
    """Runs the tests on the lower bound of every requirement in setup.py."""
    bounds = re.findall(r'"([\w-]+)>=([\d.]+)', (ROOT / "setup.py").read_text(encoding="utf-8"))
    constraints = Path(session.create_tmp(), "constraints.txt")
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in bounds), encoding="utf-8")
    session.install("-e", ".[tests]", "-c", str(constraints))
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("backend", ["jax", "torch"])
def without_tensorflow(session, backend):
    """Runs the tests on JAX and on PyTorch where TensorFlow is not installed."""
    session.install("-e", f".[{backend}]", *TOOLS)
    session.run("python", "-m", "pytest", *session.posargs, env={"KERAS_BACKEND": backend})


@nox.session(python="3.11")
def nightly(session):
    """Runs the tests on a nightly build of the next Keras and lists what fails, without failing itself."""
    session.install("-e", ".[tests]")
    # It has the modules of the release, which therefore goes first.
    session.run("python", "-m", "pip", "uninstall", "-q", "-y", "keras", "keras-nightly")
    session.install("--no-deps", NIGHTLY)
    session.run("python", "-m", "pytest", "--tb=line", "-rfE", *session.posargs, success_codes=[0, 1, 2])
