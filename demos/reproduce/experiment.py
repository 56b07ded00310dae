"""What the files of experiments/ say: how each is run at which scale, and what the paper has to say of its numbers."""

import dataclasses
import importlib
import pkgutil
import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Any

# What --only takes, in the order of the report.
TITLES = {
    "regime": "The networks: are they as over-confident as the paper's?",
    "table2": "Table 2: accuracy with and without smoothing",
    "table3": "Table 3: calibration by smoothing and by temperature",
    "fig1": "Figure 1: the clusters of three classes",
    "fig2": "Figure 2: reliability of image classifiers",
    "fig3": "Figure 3: reliability of next tokens",
    "fig4": "Figure 4: beam search and calibration against temperature",
    "fig5": "Figure 5: what teachers and students know",
    "fig6": "Figure 6: what logits say about the example",
    "fig7": "Figure 7: the clusters of tokens",
    "mnist": "Section 4: teachers and students of MNIST",
    "speech": "Table 1: speech recognition",
    "translation": "Table 1: translation",
    "advice": "Beyond the paper: which networks does smoothing calibrate?",
}
SCALES = {
    "smoke": "small data that come with the packages",
    "cpu": "real data on two cores, in trials planned to take at most an hour",
    "paper": "the settings of the paper's appendix",
}
NEARER_TO_1 = "nearer to 1"
SMOOTHING = re.compile(r" ?--label-smoothing( [\d.]+)+")
# What chooses among networks that are trained alike
NETWORKS = re.compile(r" ?--(seeds|(alone-)?label-smoothing|temperature)( [\d.]+)*")


@dataclasses.dataclass(frozen=True)
class Number:
    """A number that results hold for each seed."""

    label: str  # what it is called in the report, unlike any other of its part
    demo: str  # the demo that measures it
    # Where it stands in a row of the results: names, places in lists, "max" and "min" of lists, "mean5" for the list of
    # the means of 5 entries in a row, "half" for the entry in the middle; "a@b" is the entry of list a where list b
    # beside it is least, "a@-b" greatest; "gap" is by how much a curve's mean confidence exceeds its accuracy
    path: str
    # Which rows, by their values or by those of their run's settings; a text that ends in / is how one begins, a tuple
    # holds several such
    where: Mapping[str, Any]
    paper: str = ""  # what the paper has
    unit: str = ""  # "%" for shares, "error %" for one minus them


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the paper about two numbers, or about a number and a constant."""

    says: str  # the claim, as a sentence
    number: str  # the label of a number
    side: str  # "below", "above" or, for two ratios, `NEARER_TO_1`
    than: str | float  # the label of another number, or a constant
    by: float = 0.0  # what is added to the other side, in the numbers' unit
    case: str = ""  # of an experiment that has several, such as levels of noise

    @property
    def sentence(self) -> str:
        """The claim about its case."""
        return f"{self.says.removesuffix('.')}: {self.case}." if self.case else self.says


@dataclasses.dataclass(frozen=True)
class Part:
    """What an experiment has for a table or figure of the paper."""

    source: str  # the data and the network of the paper's numbers
    numbers: tuple[Number, ...]
    claims: tuple[Claim, ...]
    picture: tuple[str, str] | None = None  # the demo that draws it, and the name that it gives it


@dataclasses.dataclass(frozen=True)
class Setting:
    """How an experiment is run at a scale."""

    commands: str  # line by line; --from is the run of the first, and --resume that of the one before
    minutes: float | None  # what a trial takes, about; None where nobody has run one to its end
    machine: str = "2 cores of an AMD EPYC"  # that it takes them on
    trials: tuple[str, ...] = ("",)  # what each trial adds to the commands; each can run on its own day and machine
    shown: str = ""  # the page and the heading there that show the commands with what they printed
    # Of all networks' weights in a trial, for the estimate of its time; where networks are unlike by how names begin
    updates: int | Mapping[str, int] = 0
    once_trained: float | None = None  # the same where other trials have trained its networks in the same directory
    picks: bool = False  # whether commands with --from take a trial's arguments, too, which pick networks
    short: str = "--seeds 0 --label-smoothing 0 --steps {steps}"  # what makes a short run of the first command


def by_seed(count: int = 3) -> tuple[str, ...]:
    """What the trials of a setting add to its commands where each has a seed of its own."""
    return tuple(f"--seeds {seed}" for seed in range(count))


def by_network(*label_smoothing: float, seeds: Iterable[int] = range(3)) -> tuple[str, ...]:
    """The same where each has a seed and an α of its own."""
    return tuple(f"--seeds {seed} --label-smoothing {alpha:g}" for seed in seeds for alpha in label_smoothing)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A file of experiments/: its name, its docstring, and its constants, in capitals."""

    name: str
    about: str
    paper: str  # where the paper has the result, and what it says
    scales: Mapping[str, Setting]
    parts: Mapping[str, Part]
    # What does not agree, explained, by scale and by part
    why: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    afterwards: bool = False  # whether it was added to explain a claim that others do not meet
    run_on: str = ""  # what its data and networks are called, where the titles of its runs do not say
    hard_targets: str = ""  # the experiment whose networks of hard targets it is compared with, having none of its own

    def chosen(self, only: Collection[str]) -> list[str]:
        """Those of its parts that are named, or all if the experiment is."""
        return [name for name in self.parts if name in only or self.name in only]


@dataclasses.dataclass(frozen=True)
class Trial:
    """What is run at a time, and whose results are kept when it ends."""

    experiment: Experiment
    scale: str
    arguments: str  # of its own

    @property
    def setting(self) -> Setting:
        """How it is run."""
        return self.experiment.scales[self.scale]

    @property
    def name(self) -> str:
        """Its own arguments as a file name."""
        return "-".join(self.arguments.replace("--", "").split()) or "all"

    @property
    def label(self) -> str:
        """What it is called in lines of progress."""
        return f"{self.experiment.name} {self.arguments}".strip()

    @property
    def kind(self) -> str:
        """Its own arguments but those that choose among networks: trials that have it in common train alike."""
        return NETWORKS.sub("", self.arguments).strip()

    @property
    def networks(self) -> str:
        """What trains its networks, whatever their label smoothing: trials that have it in common share them."""
        return SMOOTHING.sub("", self.said()[0])

    def commands(self) -> list[tuple[str, list[str]]]:
        """The module and the arguments of each command; with --from they stay as they are unless they pick networks."""
        found = []
        for line in self.setting.commands.splitlines():
            _python, _m, module, *arguments = shlex.split(line)
            is_told = self.setting.picks or "--from" not in arguments
            own = shlex.split(self.arguments) if is_told else []
            found.append((module, [*arguments, *own]))
        return found

    def said(self) -> list[str]:
        """The commands as the user would write them."""
        return [f"python -m {shlex.join([module, *arguments])}" for module, arguments in self.commands()]


def names() -> list[str]:
    """The names of all experiments."""
    folder = importlib.import_module("demos.reproduce.experiments")
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__))


def experiments() -> dict[str, Experiment]:
    """All experiments by name."""
    return {name: _read(name, importlib.import_module(f"demos.reproduce.experiments.{name}")) for name in names()}


def _read(name: str, file: Any) -> Experiment:
    named = [field.name for field in dataclasses.fields(Experiment) if hasattr(file, field.name.upper())]
    about = (file.__doc__ or "").strip()
    return Experiment(name=name, about=about, **{field: getattr(file, field.upper()) for field in named})


def trials(scale: str, only: Collection[str]) -> list[Trial]:
    """All trials at a scale of the experiments that are named, or that have a part that is.

    First seeds come first, and trials that measure what others train after these.
    """
    found = [each for each in experiments().values() if scale in each.scales and each.chosen(only)]
    cut: list[Trial] = []
    last: dict[str, int] = {}
    for each in found:
        places: dict[str, int] = {}
        for trial in (Trial(each, scale, own) for own in each.scales[scale].trials):
            place = places.setdefault(trial.networks, len(places))
            last[trial.networks] = max(last.get(trial.networks, 0), place)
            cut.append(trial)

    def order(trial: Trial) -> tuple[int, int, bool]:
        return last[trial.networks], len(trial.commands()), trial.experiment.afterwards

    return sorted(cut, key=order)
