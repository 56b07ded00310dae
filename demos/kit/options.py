"""Options declared once: the field of a dataclass holds its default, its help and how its text is read.

Flags, the defaults in help texts, and the settings that a resumed run must match are all made from the fields.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from demos.kit.values import count, fraction, seed, whole

# Environment variables that stand for options: directories of data sets, and of what was downloaded and computed.
DATA_VARIABLE, CACHE_VARIABLE = "KERAS_LS_DATA", "KERAS_LS_CACHE"
Fields = TypeVar("Fields", bound=Any)


def option(
    default: Any,
    help: str,
    parse: Callable[[str], Any] | None = None,
    *,
    affects_result: bool = True,
    shown: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    flags: tuple[str, ...] = (),
    unique: bool = False,
    **argument: Any,
) -> Any:
    """Declares a field of a dataclass that is an option of the command line.

    Args:
        default: The value if the option is not given.
        help: What the option is for, without its default, which is added.
        parse: Turns the text into the value.
        affects_result: Whether results depend on it, so that a run cannot go on with another value.
        shown: The default in words, if the value does not tell.
        defaults: Those that depend on another option, by its value; see `Chosen.settle`.
        flags: Names on the command line; by default the field's, with dashes. Without dashes it is positional.
        unique: Whether of equal values only the first counts.
        **argument: Further arguments of `argparse.ArgumentParser.add_argument`. By default a tuple takes one value or
            more, and a bool is a pair of flags.
    """
    if isinstance(default, bool) and "action" not in argument:
        argument["action"] = argparse.BooleanOptionalAction
    if any(isinstance(value, tuple) for value in (default, *(defaults or {}).values())):
        argument.setdefault("nargs", "+")
    if parse is not None:
        argument = {"type": parse, "metavar": "N" if parse in (count, whole, seed) else "X", **argument}
    about = {"help": help, "shown": shown, "defaults": defaults, "flags": flags, "unique": unique, "argument": argument}
    return dataclasses.field(default=default, metadata={**about, "affects_result": affects_result})


@dataclasses.dataclass(frozen=True)
class Group:
    """Options that stand together in the help."""

    title: str  # their heading
    fields: type  # the dataclass whose fields they are
    settled_later: bool = False  # whether their defaults depend on other options, so that they are None unless given
    # Defaults in words that differ from those of the fields
    shown: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def options(self) -> list[dataclasses.Field]:
        """The fields that are options."""
        return [field for field in dataclasses.fields(self.fields) if "help" in field.metadata]

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Adds the flags to a parser, which leaves out what is not given."""
        group = parser.add_argument_group(self.title)
        for field in self.options():
            flags = field.metadata["flags"] or ("--" + field.name.replace("_", "-"),)
            shown = self.shown.get(field.name, field.metadata["shown"])
            if shown is None and field.metadata["defaults"]:
                shown = "; ".join(f"{case}: {_in_words(value)}" for case, value in field.metadata["defaults"].items())
            elif shown is None and field.default is not None and field.default is not False:
                shown = _in_words(field.default)
            help = field.metadata["help"] + (f" (default: {shown})" if shown else "")
            argument = field.metadata["argument"]
            if flags[0].startswith("-"):
                argument = {"dest": field.name, **argument}
            group.add_argument(*flags, default=argparse.SUPPRESS, help=help, **argument)


class Chosen(argparse.Namespace):
    """What a command line says: each option is an attribute, whether given or not."""

    def __init__(self, groups: Iterable[Group], given: Mapping[str, Any]):
        self._groups, self._given = tuple(groups), dict(given)
        for group in self._groups:
            for field in group.options():
                value = given.get(field.name, None if group.settled_later else field.default)
                if isinstance(value, list | tuple):
                    value = list(dict.fromkeys(value) if field.metadata["unique"] else value)
                setattr(self, field.name, value)

    def read(self, fields: type[Fields]) -> Fields:
        """An object of a dataclass, with the options that are its fields."""
        return fields(**{field.name: getattr(self, field.name) for field in Group("", fields).options()})

    def given(self, fields: type | None = None) -> dict[str, Any]:
        """The options that stand on the command line, those of one dataclass if `fields` is it; lists are tuples."""
        names = self._given if fields is None else {field.name for field in dataclasses.fields(fields)}
        values = {name: getattr(self, name) for name in self._given if name in names}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

    def settle(self, name: str) -> None:
        """Fills in the defaults that depend on the option `name`, and refuses options without one for its value."""
        case = getattr(self, name)
        for field in sorted(self._options(), key=lambda field: field.name):
            defaults = field.metadata["defaults"] or {case: None}
            if case not in defaults and field.name in self._given:
                raise ValueError(f"--{field.name.replace('_', '-')} is not an argument of --{name} {case}.")
            if field.name not in self._given and defaults.get(case) is not None:
                value = defaults[case]
                setattr(self, field.name, list(value) if isinstance(value, tuple) else value)

    def settings(self) -> dict[str, Any]:
        """The options that results depend on."""
        return {field.name: getattr(self, field.name) for field in self._options() if field.metadata["affects_result"]}

    def free(self) -> set[str]:
        """The options that may change when a run goes on."""
        return {field.name for field in self._options() if not field.metadata["affects_result"]}

    def _options(self) -> list[dataclasses.Field]:
        return [field for group in self._groups for field in group.options()]

    def defaults(self) -> dict[str, Any]:
        """What the settings of a run are that was started before they were options: the defaults of all fields."""
        fields = [field for group in self._groups for field in dataclasses.fields(group.fields)]
        return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


@dataclasses.dataclass(frozen=True)
class Machine:
    """How a network is computed."""

    precision: str = option("float32", "dtype policy of the network's layers", choices=("float32", "mixed_bfloat16"))
    steps_per_execution: int = option(
        1,
        "training steps per call of the compiled function; more are faster on a GPU, and may change the length of "
        "epochs, which must stay the same with --resume",
        count,
        affects_result=False,
    )
    jit_compile: str = option(
        "auto",
        "whether to compile with XLA",
        affects_result=False,
        shown="Keras decides",
        choices=("auto", "yes", "no"),
    )

    def compilation(self) -> dict[str, Any]:
        """The arguments of `keras.Model.compile` that say how steps are run."""
        jit_compile = {"auto": "auto", "yes": True, "no": False}[self.jit_compile]
        return {"steps_per_execution": self.steps_per_execution, "jit_compile": jit_compile}


@dataclasses.dataclass(frozen=True)
class Output:
    """Where a run leaves its files."""

    out: str | None = option(None, "directory for results, checkpoints and logs", affects_result=False)
    resume: bool = option(
        False,
        "continue the run in --out, each unfinished training from its last checkpoint; without this flag an earlier "
        "run there is moved aside",
        affects_result=False,
        action="store_true",
    )


def label_smoothing(*default: float) -> Any:
    """The option that gives a comparison its α."""
    return option(
        default,
        "α to compare, with --resume those already trained included; 0: hard targets",
        fraction,
        affects_result=False,
        unique=True,
        metavar="α",
    )


def seeds(*default: int) -> Any:
    """The option that gives a comparison its seeds."""
    return option(
        default,
        "one network per seed and α; with --resume name those already trained, too",
        seed,
        affects_result=False,
        unique=True,
    )


def _in_words(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_in_words, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "see below", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
