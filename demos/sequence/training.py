"""Networks that write tokens, trained once for each label smoothing and seed: what their demos have alike."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from demos.kit import records, smoothing
from demos.kit.errors import DamagedFile
from demos.kit.options import Chosen
from demos.kit.runs import device
from demos.kit.smoothing import Comparison
from demos.kit.trials import History, Trial, run_trials
from demos.sequence import evaluation
from demos.sequence.evaluation import Split
from demos.sequence.monitor import Monitor
from demos.sequence.options import Computing
from demos.sequence.search import Searcher
from demos.sequence.tokenizers import END

LOOKS = 5  # of TensorBoard's monitor during a training
TEXTS = "texts.txt"


@dataclasses.dataclass(frozen=True)
class Data:
    """A corpus as a network sees it."""

    name: str
    splits: Mapping[str, Any]  # "train", "dev" and "test", a `Split` each
    tokens: Any  # of demos.sequence.tokenizers, learned from the training texts
    fingerprint: str  # that of the corpus
    max_tokens: int  # the most tokens that are searched for in an example of dev and test
    skipped: Mapping[str, list[str]]  # a line for each example of a split that was left out


def say_skipped(found: Data, examples: str) -> None:
    """Prints how many examples of each split, "pairs" say, were left out."""
    for split, lines in found.skipped.items():
        if lines:
            print(f"Left out {len(lines)} {examples} of the {split} split, the first: {lines[0]}")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is particular to the networks of a demo.

    Attributes:
        build: A recipe, the size of a vocabulary and a precision to a network with fresh weights.
        make_objective: A network, a recipe, α, all labels of the training and how steps are run to the compiled model.
        batches: The training split, a recipe, a seed and a first step to endless batches.
        first: The development split to the few examples of it that TensorBoard shows.
        score: The score of their texts that TensorBoard shows with them.
        scores: The names of all scores of texts in a result.
        computing: The options that say how networks are compiled.
    """

    build: Callable[[Any, int, str], keras.Model]
    make_objective: Callable[..., keras.Model]
    batches: Callable[[Any, Any, int, int], Any]
    first: Callable[[Any], Split]
    score: str
    scores: Sequence[str]
    computing: type[Computing] = Computing


def check(options: Chosen) -> None:
    """Raises ValueError for a strategy that would change what is trained."""
    if options.strategy == "mirrored":
        raise ValueError(
            "--strategy must be data-parallel, with KERAS_BACKEND=jax: mirrored takes the mean over the tokens of each "
            "device by itself, which is another loss. Received: mirrored."
        )


def train(experiment: Comparison, kind: Kind, units: str) -> list[dict[str, Any]]:
    """The results of all networks of a comparison; `units` is what its batches consist of."""
    found, how = experiment.data, experiment.recipe
    sizes = ", ".join(f"{len(split.references)} {name}" for name, split in found.splits.items())
    print(
        f"{found.name}: {sizes}, {found.tokens.size} tokens. {how.model}, {how.steps} steps of {units}, "
        f"{keras.backend.backend()} on {device()}.",
        flush=True,
    )

    @functools.lru_cache(maxsize=1)  # what a search compiles serves the monitor and the evaluation
    def find(network: keras.Model) -> Searcher:
        return Searcher(network, found.tokens, found.max_tokens)

    return run_trials([_trial(experiment, kind, *each, find) for each in experiment.networks], experiment.run)


def texts(experiment: Comparison, alpha: float, seed: int) -> list[str]:
    """What the beam of a trained network found for each example of the test split; else a DamagedFile."""
    path = experiment.run.out / smoothing.directory(alpha, seed) / TEXTS
    records.check_file(path)
    found = path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]
    if len(found) != len(experiment.data.splits["test"].references):
        raise DamagedFile(f"{path} is damaged: it does not have a line for each example of the test split.")
    return found


def _trial(
    experiment: Comparison, kind: Kind, alpha: float, seed: int, find: Callable[[keras.Model], Searcher]
) -> Trial:
    options, found, how = experiment.options, experiment.data, experiment.recipe
    train, folder = found.splits["train"], experiment.run.out / smoothing.directory(alpha, seed)

    def build() -> tuple[keras.Model, keras.Model]:
        network = kind.build(how, found.tokens.size, options.precision)
        labels = np.concatenate([np.append(ids, END) for ids in train.token_ids])
        how_computed = options.read(kind.computing).compilation()
        return kind.make_objective(network, how, alpha, labels, **how_computed), network

    def evaluate(network: keras.Model, history: History) -> dict[str, Any]:
        splits = found.splits["dev"], found.splits["test"]
        print(f"α={alpha:g} seed={seed} is trained: evaluating next tokens, then searches.", flush=True)
        numbers, texts = evaluation.evaluate(find(network), *splits, options.beam_width, options.length_penalty)
        lines = "".join(f"{text}\n" for text in texts).encode()
        records.write(folder / TEXTS, lambda file: file.write(lines))
        return {**numbers, "parameters": network.count_params()}

    def callbacks(network: keras.Model, folder: pathlib.Path) -> Sequence[keras.callbacks.Callback]:
        every = max(1, how.epochs // LOOKS)
        return [Monitor(find(network), kind.first(found.splits["dev"]), folder, how.epochs, every, kind.score)]

    return experiment.trial(
        alpha,
        seed,
        build=build,
        batches=functools.partial(kind.batches, train, how, seed),
        evaluate=evaluate,
        fields=evaluation.fields(kind.scores),
        callbacks=callbacks,
    )
