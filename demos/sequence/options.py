"""Options that demos with sequences share; nothing heavy is imported for them."""

import dataclasses
from typing import Any

from demos.kit import values
from demos.kit.options import Machine, option

SWEEP_RULE = (
    "All is of the {split} split. Temperatures are swept over, not fitted, but for the second reliability curve of "
    "next tokens, whose temperature the training fitted on dev. What is best of anything was chosen on the split "
    "itself, which no interval or p is corrected for."
)

SMOOTHING_KINDS = ("uniform", "unigram", "neighbourhood")
# Beams compare the mean log p per token. Sums favour short texts, and smoothed models, whose best text loses α of every
# token, end at once.
LENGTH_PENALTY = 1.0
CHOICE = "the model with the best texts on the development split"


def beam_width(help: str, default: int = 8) -> Any:
    """The option that says how many hypotheses a search keeps."""
    return option(default, help, values.count, metavar="W")


def seeds() -> Any:
    """The option that says which seeds networks are trained with."""
    flags = ("--seeds", "--seed")
    return option(
        (0,), "seeds; one network for each and each α", values.seed, affects_result=False, unique=True, flags=flags
    )


def length_penalty(help: str) -> Any:
    """The option that says how hypotheses of different lengths compare."""
    return option(LENGTH_PENALTY, help, values.not_negative)


@dataclasses.dataclass(frozen=True)
class Finding:
    """Which network of a run finds texts, and how."""

    label_smoothing: float | None = option(
        None, "label smoothing of the model to use", values.fraction, shown=CHOICE, metavar="α"
    )
    seed: int | None = option(None, "seed of the model to use", values.seed, shown="as for --label-smoothing")
    beam_width: int = beam_width("width of the beam; 1 is greedy")
    temperature: float = option(1.0, "temperature that logits are divided by", values.temperature, metavar="T")
    length_penalty: float = length_penalty("scores are log p / tokens**X")
    n_best: int = option(1, "number of texts per input, each on a line with its score", values.count)


def run(command: str) -> Any:
    """The option that names the directory of a run; `command` wrote it."""
    about = f"directory that {command} wrote"
    return option("", about, affects_result=False, flags=("--from",), required=True, metavar="RUN")


@dataclasses.dataclass(frozen=True)
class Computing(Machine):
    """How a network that writes tokens is computed."""

    fused_output: bool = option(
        False,
        "compute the loss of the next tokens without their logits in memory, for large vocabularies",
        affects_result=False,
        action="store_true",
    )

    def compilation(self) -> dict[str, Any]:
        """The arguments that say how a network is compiled for training."""
        return {**super().compilation(), "fused_output": self.fused_output}
