"""What may know what: imports point downwards only, private names stay in their package, files stay small."""

import ast

import pytest
from harness import ROOT, TESTS

# A module imports from its own package and from what stands before it.
ORDER = [
    "_version",
    "_keras",
    "_checks",
    "_intervals",
    "_backend",
    "_processes",
    "_gradients",
    "_arrays",
    "_labels",
    "_rows",
    "_models",
    "losses",
    "metrics",
    "fused_output",
    "decoding",
    "calibration",
    "projection",
    "information",
    "distillation",
    "plots",
    "diagnosis",
    "callbacks",
]
MODULES = sorted((ROOT / "keras_ls").rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 300, 50
LONGEST_TRANSLATION = 900  # all of demos/translation


def imports(path):
    """The modules and names that a file imports anywhere in it, as (module, name)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)


def package(module):
    """losses of keras_ls.losses.smoothed."""
    return module.split(".")[1] if "." in module else ""


def name(path):
    return str(path.relative_to(ROOT))


def test_every_module_has_its_place():
    found = {path.name.removesuffix(".py") for path in (ROOT / "keras_ls").iterdir()} - {
        "__init__",
        "__pycache__",
        "py.typed",
    }
    assert found == set(ORDER)


def test_tests_lie_where_the_code_does():
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.glob("*/**/test_*.py")}
    packages = {path.name.lstrip("_") for folder in (ROOT, ROOT / "keras_ls") for path in folder.iterdir()}
    assert folders
    assert folders <= packages, folders - packages


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_downwards(path):
    own = path.relative_to(ROOT / "keras_ls").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module, _ in imports(path):
        if module and module.split(".")[0] == "keras_ls":
            assert package(module) == own or ORDER.index(package(module)) < ORDER.index(own), module
        assert module.split(".")[0] not in ("demos", "tests", "benchmarks")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_private_name_is_used_across_packages(path):
    own = path.relative_to(ROOT / "keras_ls").parts[0].removesuffix(".py")
    for module, imported in imports(path):
        if module.split(".")[0] != "keras_ls":
            continue
        private = [part for part in module.split(".")[2:] if part.startswith("_")]
        assert not private or package(module) == own, module
        assert not (imported or "").startswith("_") or imported in ("__version__", "_keras"), (module, imported)


@pytest.mark.parametrize("path", sorted((ROOT / "demos").rglob("*.py")), ids=name)
def test_demos_use_the_public_api_alone(path):
    for module, imported in imports(path):
        if module.split(".")[0] == "keras_ls":
            assert not any(part.startswith("_") for part in [*module.split("."), imported or ""]), (module, imported)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno < LONGEST_FUNCTION, node.name


def test_translation_stays_small_since_the_shelf_has_what_sequences_share():
    files = list((ROOT / "demos" / "translation").rglob("*.py"))
    assert 0 < sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= LONGEST_TRANSLATION


def test_public_names_are_those_of_their_modules():
    import keras_ls

    of_metrics_alone = {"bin_statistics", "calibration_error_of_bins"}
    exported = set()
    for module in ORDER:
        if module.startswith("_"):
            continue
        for name in getattr(keras_ls, module).__all__:
            value = getattr(getattr(keras_ls, module), name)
            assert value.__module__.startswith(f"keras_ls.{module}"), name
            if name not in of_metrics_alone:
                assert getattr(keras_ls, name) is value, name
                exported.add(name)
    assert exported == set(keras_ls.__all__) - {"__version__"}
