"""Options are declared once: flags, help, values and settings come from the fields of dataclasses."""

import argparse
import dataclasses

import pytest

from demos.kit import options
from demos.kit.options import Chosen, Group, Machine, option
from demos.kit.values import count, fraction


@dataclasses.dataclass(frozen=True)
class Baking:
    loaves: int = option(2, "how many", count, metavar="N")
    salt: tuple[float, ...] = option((0.1, 0.25), "shares of salt", fraction, unique=True, nargs="+")
    oven: str | None = option(None, "which oven", shown="the nearest", affects_result=False)
    hours: int = 3


@dataclasses.dataclass(frozen=True)
class Dough:
    flour: str = option("rye", "of what", choices=("rye", "wheat"))


GROUPS = (Group("baking", Baking), Group("dough", Dough, settled_later=True, shown={"flour": "as the recipe says"}))


def choose(*argv):
    parser = argparse.ArgumentParser()
    for group in GROUPS:
        group.add_to(parser)
    return Chosen(GROUPS, vars(parser.parse_args(argv)))


def test_values_defaults_and_what_was_given():
    chosen = choose("--salt", "0.5", "0.5", "0.2")
    assert (chosen.loaves, chosen.salt, chosen.oven, chosen.flour) == (2, [0.5, 0.2], None, None)
    assert chosen.given() == {"salt": (0.5, 0.2)}
    assert chosen.given(Dough) == {}
    assert choose("--flour", "wheat").given(Dough) == {"flour": "wheat"}
    assert choose().salt == [0.1, 0.25]


def test_settings_are_what_results_depend_on_and_defaults_those_of_all_fields():
    assert choose("--oven", "left").settings() == {"loaves": 2, "salt": [0.1, 0.25], "flour": None}
    assert choose().defaults() == {"loaves": 2, "salt": (0.1, 0.25), "oven": None, "hours": 3, "flour": "rye"}


def test_an_object_is_read_from_the_options():
    parser = argparse.ArgumentParser()
    Group("running", Machine).add_to(parser)
    machine = Chosen((Group("running", Machine),), vars(parser.parse_args(["--jit-compile", "no"]))).read(Machine)
    assert machine == Machine(jit_compile="no")
    assert machine.compilation() == {"steps_per_execution": 1, "jit_compile": False}


def test_help_has_every_default_in_words(capsys):
    with pytest.raises(SystemExit):
        choose("--help")
    help = " ".join(capsys.readouterr().out.split())
    for words in ("how many (default: 2)", "salt (default: 0.1 0.25)", "oven (default: the nearest)"):
        assert words in help
    assert "of what (default: as the recipe says)" in help


def test_bad_values_name_the_flag(capsys):
    with pytest.raises(SystemExit):
        choose("--loaves", "0")
    assert "--loaves: must be an integer of at least 1. Received: '0'" in capsys.readouterr().err


def test_seeds_and_label_smoothing_may_change_when_a_run_goes_on():
    for field in (options.seeds(0, 1), options.label_smoothing(0.0)):
        assert not field.metadata["affects_result"]


def test_defaults_that_depend_on_another_option(capsys):
    @dataclasses.dataclass(frozen=True)
    class Sizes:
        what: str = option("small", "the size", choices=("small", "large"))
        widths: tuple[int, ...] | None = option(None, "of layers", count, defaults={"small": (), "large": (3, 3)})
        depth: int | None = option(None, "of trees", count, defaults={"large": None})

    def settled(**given):
        chosen = Chosen([Group("sizes", Sizes)], given)
        chosen.settle("what")
        return chosen.what, chosen.widths, chosen.depth

    assert settled() == ("small", [], None)
    assert settled(what="large") == ("large", [3, 3], None)
    assert settled(what="large", widths=[7], depth=2) == ("large", [7], 2)
    with pytest.raises(ValueError, match=r"^--depth is not an argument of --what small\.$"):
        settled(depth=2)
    parser = argparse.ArgumentParser()
    Group("sizes", Sizes).add_to(parser)
    text = " ".join(parser.format_help().split())
    assert "of layers (default: small: none; large: 3 3)" in text
    assert "of trees (default: large: see below)" in text
