"""The command line of the speech demo's training: what to compare, network, training, how to run."""

import argparse
import dataclasses
from typing import Any

from demos.kit import values
from demos.sequence import tokenizers
from demos.sequence.options import LENGTH_PENALTY, SMOOTHING_KINDS
from demos.speech import corpora
from demos.speech.corpora import feature_cache
from demos.speech.networks.training import Recipe

MODELS = ("lstm", "transformer")
# What --quick stands for, where nothing else was given.
QUICK = {
    "train_sentences": 1000,
    "dev_sentences": 60,
    "test_sentences": 80,
    "steps": 250,
    "learning_rate": 4e-3,
    "warmup_steps": 50,
    "dropout": 0.0,
}
SHORTEST_TRAINING, PASSES = 1000, 8
TRANSFORMER = {"encoder_layers": 4, "learning_rate": 1e-3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all that a training takes."""
    corpora.add_arguments(parser)
    _add_comparison(parser)
    _add_network(parser)
    _add_training(parser)
    _add_running(parser)


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what to compare").add_argument
    add(
        "--label-smoothing",
        type=values.fraction,
        nargs="+",
        default=[0.0, 0.1],
        metavar="α",
        help="one model each; 0 has hard targets (default: 0 0.1)",
    )
    add(
        "--smoothing-kind",
        choices=SMOOTHING_KINDS,
        default="uniform",
        help="where the mass α goes: to all tokens alike, by how often they occur, or to the tokens before and after "
        "in the transcript (default: uniform)",
    )
    add("--seeds", "--seed", type=values.seed, nargs="+", default=[0], metavar="N", help="one model each (default: 0)")
    add("--beam-width", type=values.count, default=8, metavar="W", help="of the search that is not greedy (default: 8)")
    add(
        "--length-penalty",
        type=values.not_negative,
        default=LENGTH_PENALTY,
        metavar="X",
        help="hypotheses of a beam compete by log p / tokens**X; 0 favours short ones, all the more the smoother the "
        f"model (default: {LENGTH_PENALTY:g})",
    )
    add(
        "--quick",
        action="store_true",
        help="show in about 2 minutes that it works: "
        + ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in QUICK.items())
        + ", --no-augment",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("tokens, features and network").add_argument
    add("--tokens", choices=tokenizers.KINDS, default="characters", help="(default: characters)")
    add("--vocabulary-size", type=values.count, default=500, metavar="N", help="the most subword tokens (default: 500)")
    add(
        "--normalisation",
        choices=feature_cache.NORMALISATIONS,
        default="utterance",
        help="of each mel channel: by the utterance's own mean and s.d., or the training data's (default: utterance)",
    )
    add("--model", choices=MODELS, default="lstm", help="(default: lstm)")
    add("--units", type=values.count, metavar="N", help="width of the layers (default: 192)")
    add(
        "--encoder-layers", type=values.count, metavar="N", help="(default: 1 bidirectional LSTM, 4 transformer blocks)"
    )
    add("--decoder-layers", type=values.count, metavar="N", help="transformer blocks (default: 2)")
    add("--heads", type=values.count, metavar="N", help="of the transformer's attention (default: 4)")
    add("--dropout", type=values.fraction, metavar="X", help="share of activations dropped in training (default: 0.1)")


def _add_training(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("training").add_argument
    add(
        "--steps",
        type=values.count,
        metavar="N",
        help=f"updates of the weights (default: {SHORTEST_TRAINING}, or {PASSES} passes where those are more)",
    )
    add("--batch-size", type=values.count, metavar="N", help="utterances an update (default: 32)")
    add(
        "--learning-rate",
        type=values.positive,
        metavar="X",
        help="of Adam after warm-up; it falls to 0 along a cosine (default: 0.002, transformer 0.001)",
    )
    add("--warmup-steps", type=values.whole, metavar="N", help="in which the rate rises from 0 (default: 100)")
    add(
        "--clipnorm",
        type=values.not_negative,
        metavar="X",
        help="bound on the gradient's norm; 0 has none (default: 1)",
    )
    add(
        "--ctc-weight",
        type=values.not_negative,
        metavar="X",
        help="factor on the CTC loss of the encoder, which makes the attention find its way sooner; 0 has none "
        "(default: 0.3)",
    )
    add(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="SpecAugment: mask channels and stretches of time at random (default: yes)",
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("running").add_argument
    add("--precision", choices=("float32", "mixed_bfloat16"), default="float32", help="(default: float32)")
    add(
        "--steps-per-execution",
        type=values.count,
        default=1,
        metavar="N",
        help="steps in one call: faster on a GPU (default: 1)",
    )
    add(
        "--jit-compile",
        choices=("yes", "no"),
        default="no",
        help="XLA, which compiles each of the batches' few shapes once and keeps the LSTMs from cuDNN (default: no)",
    )
    add("--workers", type=values.count, default=2, metavar="N", help="processes that make features (default: 2)")
    add(
        "--cache-dir",
        metavar="DIR",
        help=f"where features are kept (default: ${feature_cache.DIRECTORY_VARIABLE}, else ~/.cache/keras_ls)",
    )
    add("--out", metavar="DIR", help="for results, checkpoints and logs (default: runs/speech/CORPUS-MODEL)")
    add(
        "--resume",
        action="store_true",
        help="go on with what lies in --out, each unfinished model from its last epoch; without it an earlier run "
        "there is moved aside",
    )


def settle(options: argparse.Namespace) -> None:
    """Makes values unique, and fills in what --quick stands for.

    Raises:
        ValueError: where settings of the network do not fit together.
    """
    for name in ("label_smoothing", "seeds"):
        setattr(options, name, list(dict.fromkeys(getattr(options, name))))
    if options.quick:
        for name, value in QUICK.items():
            fits = not name.endswith("_sentences") or options.corpus in corpora.MADE
            if fits and getattr(options, name) is None:
                setattr(options, name, value)
    if options.augment is None:
        options.augment = not options.quick
    recipe = make_recipe(options, 1)
    if options.model == "transformer" and recipe.units % (2 * recipe.heads):
        raise ValueError(
            f"--units must be a multiple of 2 · --heads. Received: --units {recipe.units} --heads {recipe.heads}."
        )
    if options.model == "lstm":
        for name in ("decoder_layers", "heads"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} is for --model transformer alone.")


def make_recipe(options: argparse.Namespace, num_utterances: int) -> Recipe:
    """The defaults of the model, with what was given in their place, for so many training utterances."""
    names = [field.name for field in dataclasses.fields(Recipe)]
    given: dict[str, Any] = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    defaults = TRANSFORMER if options.model == "transformer" else {}
    recipe = Recipe(**{"steps": SHORTEST_TRAINING, **defaults, **given})
    if options.steps is None:
        steps = max(SHORTEST_TRAINING, PASSES * num_utterances // recipe.batch_size)
        recipe = dataclasses.replace(recipe, steps=steps)
    return recipe
