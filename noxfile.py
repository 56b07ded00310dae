"""Checks, and tests in environments other than the README's: `nox -s lint`, `nox -s nightly -- -k losses`.

What follows `--` goes to pytest, or to the benchmarks. With `--no-venv --no-install`, a session runs in the environment
that is active.
"""

import re
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
# What tests of the library need besides a backend; those of the demos are skipped where the demos' packages are absent.
TOOLS = ["pytest>=8", "pytest-xdist>=3.5", "scipy>=1.10", "scikit-learn>=1.3"]
OF_DEVICES = ("tests/models/test_devices.py", "tests/demos/kit/test_demo_devices.py")
# Every module, since one that the wheel lacks would come from the checkout.
IMPORT_FROM = """
import importlib, pkgutil, sys, keras_ls
for module in pkgutil.walk_packages(keras_ls.__path__, "keras_ls."):
    importlib.import_module(module.name)
where = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "keras_ls"}
assert all(path.startswith(sys.argv[1]) for path in where.values()), where
assert len(where) == int(sys.argv[2]), f"{len(where)} modules, where the checkout has {sys.argv[2]}"
"""
nox.options.envdir = ".venv-nox"


@nox.session
def tests(session):
    """Runs all tests on TensorFlow, as the README does."""
    session.install("-e", ".[tests]")
    session.run("python", "-m", "pytest", "-n", "2", *session.posargs)


@nox.session(python="3.11")
def lint(session):
    """Checks format, style and types."""
    session.install("-e", ".[tests,lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session):
    """Runs the examples of all docstrings and the code of the README and the guides, and looks for missing names."""
    session.install("-e", ".[tests,peers]")
    pages = ("keras_ls", "tests/test_guides.py", "tests/test_package.py")
    session.run("python", "-m", "pytest", "--slow", *pages, *session.posargs)


@nox.session
def package(session):
    """Builds the wheel, and imports it outside the checkout."""
    session.install("-e", ".", "tensorflow>=2.16.1", "build>=1")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "-o", f"{folder}/dist", ".", silent=True)
        wheels = map(str, Path(folder, "dist").glob("*.whl"))
        session.run("python", "-m", "pip", "install", "-q", "--no-deps", "--target", f"{folder}/site", *wheels)
        with session.chdir(folder):
            count = str(len(list(ROOT.glob("keras_ls/**/*.py"))))
            session.run("python", "-c", IMPORT_FROM, f"{folder}/site", count, env={"PYTHONPATH": f"{folder}/site"})


@nox.session
def slow(session):
    """Runs the tests that take long, on TensorFlow; those of several devices have a session of their own."""
    session.install("-e", ".[tests]")
    elsewhere = [f"--ignore={path}" for path in OF_DEVICES]
    session.run("python", "-m", "pytest", "-n", "2", "--slow", "-m", "slow", *elsewhere, *session.posargs)


@nox.session
def reproduce(session):
    """Reproduces the paper on small data, as the README says; --jobs and the like may follow."""
    session.install("-e", ".[demos,speech,translation]")
    session.run("python", "-m", "demos.reproduce", "--out", session.create_tmp(), *session.posargs)


@nox.session
@nox.parametrize("backend", ["tensorflow", "jax"])
def devices(session, backend):
    """Compares two and four devices, and on JAX two processes, with one: the library's parts, and whole demos."""
    session.install("-e", f".[{backend},tests]")
    page = "tests/test_guides.py::test_the_page_of_devices_gets_the_numbers_of_one_device"
    session.run("python", "-m", "pytest", "--slow", *OF_DEVICES, page, *session.posargs, env={"KERAS_BACKEND": backend})


@nox.session
def peers(session):
    """Compares with other libraries."""
    session.install("-e", ".[tests,peers]")
    session.install("--no-deps", "torch-uncertainty>=0.13")  # for its metrics, which need no trainer
    session.run("python", "-m", "pytest", "-m", "peer", *session.posargs, env={"KERAS_LS_PEERS": "1"})


@nox.session
def benchmarks(session):
    """Runs every benchmark on small inputs, to see that it runs."""
    session.install("-e", ".[tests,benchmarks]")
    session.run("python", "-m", "benchmarks", "--quick", *session.posargs)


@nox.session(python="3.11")
def oldest(session):
    """Runs the tests on TensorFlow, on the lower bound of every requirement that they have."""
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
def translation_on_jax(session):
    """Runs the tests of the translation demo, and of what it has in common with speech, on JAX beside TensorFlow."""
    session.install("-e", ".[jax,tests]")
    demos = (f"tests/demos/{name}" for name in ("sequence", "translation"))
    session.run("python", "-m", "pytest", "-n", "2", *demos, *session.posargs, env={"KERAS_BACKEND": "jax"})


@nox.session(python="3.11")
def nightly(session):
    """Runs the tests on the latest nightly build of the next Keras and lists what fails, without failing itself."""
    session.install("-e", ".[tests]")
    # It has the modules of the release, which therefore goes first.
    session.run("python", "-m", "pip", "uninstall", "-q", "-y", "keras", "keras-nightly")
    session.install("--no-deps", "--pre", "keras-nightly")
    session.run("python", "-m", "pytest", "--tb=line", "-rfE", *session.posargs, success_codes=[0, 1])
