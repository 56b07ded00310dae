"""How the recognisers are made and trained: options, and the defaults that depend on the network."""

import dataclasses

from demos.kit.options import Chosen, option
from demos.kit.values import count, fraction, not_negative, positive, whole
from demos.sequence import options as sequence_options
from demos.sequence.options import SMOOTHING_KINDS
from demos.speech import corpora

MODELS = ("lstm", "transformer")
SHORTEST_TRAINING, PASSES = 1000, 8
TRANSFORMER = {"encoder_layers": 4, "learning_rate": 1e-3}
# What --quick stands for, unless it was given.
QUICK = {
    "train_sentences": 1000,
    "dev_sentences": 60,
    "test_sentences": 80,
    "steps": 250,
    "learning_rate": 4e-3,
    "warmup_steps": 50,
    "dropout": 0.0,
    "augment": False,
}
KINDS = (
    "where the mass α goes: to all tokens alike, by how often they occur, or to the tokens before and after in the "
    "transcript"
)
STEPS = f"{SHORTEST_TRAINING}, or {PASSES} passes if those are more"
XLA = "XLA, which compiles each of the batches' few shapes once and keeps the LSTMs from cuDNN; always with JAX"
CTC = "factor on the CTC loss of the encoder, which makes the attention find its way sooner; 0 has none"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recogniser and how it is trained."""

    smoothing_kind: str = option("uniform", KINDS, choices=SMOOTHING_KINDS)
    model: str = option("lstm", "the network", choices=MODELS)
    units: int = option(192, "width of the layers", count)
    encoder_layers: int = option(1, "layers of the encoder", count, shown="1 bidirectional LSTM, 4 Transformer blocks")
    decoder_layers: int = option(2, "Transformer blocks of the decoder", count)
    heads: int = option(4, "heads of the Transformer's attention", count)
    dropout: float = option(0.1, "share of activations dropped in training", fraction)
    steps: int = option(SHORTEST_TRAINING, "updates of the weights", count, shown=STEPS)
    batch_size: int = option(32, "utterances per update", count)
    learning_rate: float = option(
        2e-3, "rate of Adam after warm-up; it falls to 0 along a cosine", positive, shown="0.002, Transformer 0.001"
    )
    warmup_steps: int = option(100, "steps in which the rate rises from 0, at most all but one", whole)
    clipnorm: float = option(1.0, "bound on the gradient's norm; 0 has none", not_negative)
    ctc_weight: float = option(0.3, CTC, not_negative)
    augment: bool = option(True, "SpecAugment: mask channels and stretches of time at random", shown="yes")
    steps_per_epoch: int = 1  # updates of the weights between two checkpoints, a divisor of `steps`

    @property
    def epochs(self) -> int:
        """The number of epochs."""
        return self.steps // self.steps_per_epoch


@dataclasses.dataclass(frozen=True)
class Computing(sequence_options.Computing):
    """How the networks are computed."""

    jit_compile: str = option("no", XLA, affects_result=False, choices=("yes", "no"))


def settle(options: Chosen) -> None:
    """Fills in what --quick stands for, and refuses settings of the network that do not fit together."""
    given = options.given()
    for name, value in QUICK.items() if options.quick else ():
        fits = not name.endswith("_sentences") or options.corpus in corpora.MADE
        if fits and name not in given:
            setattr(options, name, value)
    recipe = choose(options, 1)
    if recipe.model == "transformer" and recipe.units % (2 * recipe.heads):
        raise ValueError(
            f"--units must be a multiple of 2 · --heads. Received: --units {recipe.units} --heads {recipe.heads}."
        )
    if options.tokens == "characters" and "vocabulary_size" in given:
        raise ValueError("--vocabulary-size is for --tokens subword. Received: --tokens characters.")
    for name in ("decoder_layers", "heads"):
        if recipe.model == "lstm" and name in given:
            raise ValueError(f"--{name.replace('_', '-')} is for --model transformer alone.")


def choose(options: Chosen, num_utterances: int) -> Recipe:
    """The recipe of the command line, with the network's defaults for what was not given."""
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    recipe = Recipe(**{**(TRANSFORMER if options.model == "transformer" else {}), **given})
    if "steps" in given:
        return recipe
    steps = max(SHORTEST_TRAINING, PASSES * num_utterances // recipe.batch_size)
    return dataclasses.replace(recipe, steps=steps)
