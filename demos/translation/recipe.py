"""How translators are made and trained: options, some of whose defaults depend on the corpus."""

import dataclasses
from typing import Any

from demos.kit.options import option
from demos.kit.values import count, fraction, not_negative, positive


def _by_corpus(toy: Any, real: Any) -> dict[str, Any]:
    return {"toy": toy, "multi30k": real, "tsv": real}


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
    size: str = option(
        "small", "width and depth", choices=("tiny", "small", "base"), defaults=_by_corpus("tiny", "small")
    )
    vocabulary_size: int = option(
        8_000, "the most subword tokens, shared by both languages", count, defaults=_by_corpus(150, 8_000)
    )
    dropout: float = option(0.1, "share of activations dropped in training", fraction)
    steps: int = option(3_000, "updates of the weights", count, defaults=_by_corpus(600, 3_000))
    batch_tokens: int = option(
        3_000, "tokens of a batch on its longer side, padding included", count, defaults=_by_corpus(1_500, 3_000)
    )
    learning_rate: float = option(
        1e-3, "Adam's learning rate after warm-up; then it decays as the inverse square root of the step", positive
    )
    warmup_steps: int = option(400, "steps in which the learning rate rises from 0, at most all of them", count)
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
