"""Lists the demos: `python -m demos`."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent


def demos() -> dict[str, str]:
    """The first line of what each demo says of itself, by the module that runs it."""
    found = {}
    for path in sorted(ROOT.glob("*/[!_]*.py")):
        text = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in text:
            name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
            found[name] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return found


if __name__ == "__main__":
    for name, line in demos().items():
        print(f"python -m {name}\n    {line}")
    print(
        "python -m demos.reproduce\n    Reproduces the paper's tables and figures, and compares ours with its claims."
    )
    print("python -m demos.redraw RESULTS\n    Draws the pictures of a results.json again, and prints its table.")
    print("python -m demos.advice RESULTS...\n    Counts how often a diagnosis predicts what smoothing does.")
    print("\nEach has --help.")
