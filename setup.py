"""Package metadata of keras_ls; build and tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "keras_ls" / "_version.py").read_text(), re.M)
assert VERSION is not None

# Lower bounds are the oldest versions that the tests have run with; `nox -s oldest` installs those that they need on
# TensorFlow.
BACKENDS = {"tensorflow": ["tensorflow>=2.16.1"], "jax": ["jax>=0.4.38"], "torch": ["torch>=2.3"]}
DEMOS = [*BACKENDS["tensorflow"], "pillow>=10", "scikit-learn>=1.3"]
SPEECH = [
    *BACKENDS["tensorflow"],
    "espeakng-loader>=0.2.4",
    "jiwer>=3",
    "librosa>=0.10.2",
    "sentencepiece>=0.2",
    "soundfile>=0.12.1",
    "soxr>=0.3.2",
    "tensorflow-io>=0.37; python_version<'3.13'",
    "threadpoolctl>=3",
]
TRANSLATION = [*BACKENDS["tensorflow"], "sacrebleu>=2.4", "sentencepiece>=0.2"]
PEERS = [
    *BACKENDS["jax"],
    *BACKENDS["torch"],
    "keras-hub>=0.32",
    "mapie>=1.6",
    "netcal>=1.3",
    "probmetrics>=1.0",
    "torchmetrics>=1.4",
]
LINT = ["mypy>=1.10", "ruff>=0.6"]

setup(
    name="keras-ls",
    version=VERSION.group(1),
    description="Label smoothing, calibration and what they do to a Keras classifier",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="keras_ls contributors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    entry_points={"console_scripts": ["keras-ls = keras_ls.diagnosis.cli:main"]},
    python_requires=">=3.11",
    packages=find_packages(include=["keras_ls", "keras_ls.*"]),
    package_data={"keras_ls": ["py.typed"]},
    install_requires=["keras>=3.12", "matplotlib>=3.7.1", "numpy>=1.24", "pillow>=10", "tensorboard>=2.16.2"],
    extras_require={
        **BACKENDS,
        "demos": DEMOS,
        "speech": SPEECH,
        "translation": TRANSLATION,
        "all": [*BACKENDS["jax"], *BACKENDS["torch"], *DEMOS, *SPEECH, *TRANSLATION],
        "plots": [],  # an earlier version needed it
        "tests": [
            *DEMOS,
            *SPEECH,
            *TRANSLATION,
            "num2words>=0.5.13",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "scipy>=1.10",
            "selenium>=4.15",
        ],
        "peers": PEERS,
        "benchmarks": [*PEERS, "optax>=0.2", "scipy>=1.10"],
        "lint": LINT,
        "dev": [*LINT, "build>=1", "nox>=2024.10.9"],
    },
    keywords=[
        "keras",
        "tensorflow",
        "jax",
        "pytorch",
        "label smoothing",
        "calibration",
        "expected calibration error",
        "ECE",
        "temperature scaling",
        "reliability diagram",
        "knowledge distillation",
        "beam search",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
