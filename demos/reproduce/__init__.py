"""Published results, a file of experiments/ each: how they were made, what the paper has, and where they stand."""

import dataclasses
import importlib
import pkgutil
import shlex


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A result that a page shows: the constants of its file, in capitals."""

    commands: str  # what is run, line by line, as the page shows it
    time: str  # how long it takes, and on what machine
    paper: str  # where the paper has it, and its numbers
    shown: str  # the page, and the heading there under which the commands stand with their table or picture

    def arguments(self) -> list[tuple[str, list[str]]]:
        """The module and the arguments of each command."""
        words = [shlex.split(line) for line in self.commands.splitlines()]
        return [(module, arguments) for _python, _m, module, *arguments in words]


def experiments() -> dict[str, Experiment]:
    """All experiments by name."""
    folder = importlib.import_module(f"{__name__}.experiments")
    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    files = {name: vars(importlib.import_module(f"{folder.__name__}.{name}")) for name in names}
    fields = [field.name.upper() for field in dataclasses.fields(Experiment)]
    return {name: Experiment(*(said[field] for field in fields)) for name, said in files.items()}
