"""What may know what: imports of the demos point downwards, and files and functions stay small."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# What a part of the demos may import besides itself.
AREAS = {
    **{"kit": (), "reproduce": ("kit",), "sequence": ("kit",), "image": ("kit",)},
    **{"speech": ("kit", "sequence"), "translation": ("kit", "sequence")},
}
FILES = [path for part in AREAS for path in sorted((ROOT / "demos" / part).rglob("*.py"))]
# From the ground up: a package or module imports those on its own line or before it.
FLOORS = (
    "demos.kit",
    "demos.sequence",
    *(f"demos.image.{name}" for name in ("data", "recipes", "networks", "analysis")),
    *(f"demos.speech.{name}" for name in ("sound", "corpora", "networks", "analysis")),
    *(f"demos.translation.{name}" for name in ("corpora", "recipe", "objective", "analysis")),
)
COMMANDS = {
    f"demos.{part}.{path.stem}"
    for part in ("image", "speech", "translation")
    for path in (ROOT / "demos" / part).glob("[!_]*.py")
} - {"demos.image.recipes", "demos.translation.recipe", "demos.translation.objective"}


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path):
    """Modules that a file imports, names of modules in `from ... import` included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = (ROOT / name.replace(".", "/")).with_suffix(".py").exists() or (
                    ROOT / name.replace(".", "/")
                ).is_dir()
                yield name if is_module and node.module.startswith("demos") else node.module


def floor(module):
    return next((i for i, name in enumerate(FLOORS) if f"{module}.".startswith(f"{name}.")), len(FLOORS))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_downwards(path):
    module = module_of(path)
    for name in imported(path):
        assert not name.startswith("keras_ls."), f"{module} imports {name}, which is not public"
        if name.startswith("demos"):
            part, theirs = module.split(".")[1], name.split(".")[1]
            assert theirs in (part, *AREAS[part]), f"{module} imports {name}"
            assert name not in COMMANDS, f"{module} imports the command {name}"
            # Names of networks are known on the ground floor; what builds them is not.
            assert floor(name) <= floor(module) or name == "demos.image.networks", f"{module} imports {name}"
        is_private = any(part.startswith("_") for part in name.split("."))
        assert not is_private or name == "_ctypes", f"{module} imports {name}"  # which alone unloads a library


def test_no_cycle():
    graph = {module_of(path): set(imported(path)) for path in FILES}
    done = set()
    while len(done) < len(graph):
        free = {
            module
            for module, names in graph.items()
            if module not in done and not names & graph.keys() - done - {module}
        }
        assert free, sorted(graph.keys() - done)
        done |= free


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_and_functions_are_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            text = ast.get_docstring(node, clean=False) or ""
            assert node.end_lineno - node.lineno + 1 - len(text.splitlines()) <= 50, node.name
