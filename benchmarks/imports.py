"""What `import keras_ls` adds to `import keras`, in new interpreters."""

import os
import subprocess
import sys

from benchmarks.harness import Bound, Case, Prepared, Subject

NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def prepare(case):
    """A new interpreter that imports one of the two packages and ends without tidying up."""
    code = f"import os, {case.options['package']}; os._exit(0)"
    environment = {**os.environ, "KERAS_BACKEND": case.backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if case.options["package"] == "keras_ls":
        code = code.replace("os, ", "os, keras, ")
    return Prepared(
        lambda: subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    )


SUBJECT = Subject(
    title="Import",
    about="Starting an interpreter and importing the package.",
    prepare=prepare,
    size={},
    quick={},
    cases=tuple(
        Case(f"import {package}, {name}", backend, {"package": package})
        for backend, name in NAMES.items()
        for package in ("keras", "keras_ls")
    ),
    bounds=tuple(
        Bound(f"import keras_ls, {name}", 0.15, f"import keras, {name}", "seconds") for name in NAMES.values()
    ),
)
