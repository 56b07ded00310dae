"""How translators are made and trained: options, and the defaults that depend on the corpus."""

import dataclasses
from typing import Any

from demos.kit.options import Chosen, option
from demos.kit.values import count, fraction, not_negative, positive

# Defaults that differ from the fields'
TOY: dict[str, Any] = {"size": "tiny", "steps": 1_500, "batch_tokens": 1_500, "dropout": 0.1, "vocabulary_size": 150}
FILES: dict[str, Any] = {"vocabulary_size": 8_000}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A translator and how it is trained.

    Attributes:
        steps_per_epoch: Updates of the weights between two checkpoints, a divisor of `steps`.
    """

    smoothing_kind: str = option(
        "uniform",
        "where the mass α goes: to all tokens alike, or by how often they occur",
        choices=("uniform", "unigram"),
    )
    size: str = option("small", "width and depth", choices=("tiny", "small", "base"), shown="toy tiny, else small")
    dropout: float = option(0.3, "share of activations dropped in training", fraction, shown="toy 0.1, else 0.3")
    steps: int = option(6_000, "updates of the weights", count, shown="toy 1500, else 6000")
    batch_tokens: int = option(
        3_000, "tokens of a batch on its longer side, padding included", count, shown="toy 1500, else 3000"
    )
    learning_rate: float = option(
        1e-3, "of Adam at the end of warm-up; it falls with the square root of the steps", positive
    )
    warmup_steps: int = option(400, "in which the rate rises from 0", count)
    clipnorm: float = option(1.0, "bound on the gradient's norm; 0 has none", not_negative)
    steps_per_epoch: int = 1

    @property
    def model(self) -> str:
        """The name of the network: its size."""
        return self.size

    @property
    def epochs(self) -> int:
        """The number of epochs."""
        return self.steps // self.steps_per_epoch


def settle(options: Chosen) -> None:
    """Fills in the defaults of the corpus where nothing was given."""
    for name, value in (TOY if options.corpus == "toy" else FILES).items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)


def choose(options: Chosen) -> Recipe:
    """The defaults, with what was given or settled in their place."""
    names = [field.name for field in dataclasses.fields(Recipe)]
    return Recipe(**{name: value for name in names if (value := getattr(options, name, None)) is not None})
