"""Recognisers trained once for each label smoothing and seed: planned, trained, resumed, and found again on disk."""

import argparse
import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from demos.kit import checkpoints, cli, records
from demos.kit.runs import device, open_run, provenance
from demos.sequence import tokenizers
from demos.sequence.search import Searcher
from demos.speech import corpora
from demos.speech.analysis import arguments, evaluation
from demos.speech.analysis.evaluation import Utterances
from demos.speech.corpora import feature_cache
from demos.speech.corpora.batches import too_long, training_batches
from demos.speech.networks import training
from demos.speech.networks.recogniser import Recogniser, encoded_lengths
from demos.speech.sound import features

# What may change when a run is resumed: it says what to run or show, not how a model is trained.
FREE_SETTINGS = {
    "label_smoothing",
    "seeds",
    "out",
    "resume",
    "quick",
    "workers",
    "cache_dir",
    "steps_per_execution",
    "jit_compile",
}
PACKAGES = {
    "jiwer": "Word error rates",
    "librosa": "Making features",
    "soundfile": "Reading audio",
    "soxr": "Resampling audio",
}


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learned and measured on.

    Attributes:
        name: of the corpus.
        splits: "train", "dev" and "test".
        tokens: of the training transcripts.
        fingerprint: of the corpus.
    """

    name: str
    splits: dict[str, Utterances]
    tokens: tokenizers.Tokens
    fingerprint: str

    @property
    def max_tokens(self) -> int:
        """The most that are searched for in an utterance that is measured on."""
        return encoded_lengths(max(self.splits[name].features.num_frames.max() for name in ("dev", "test")))

    @property
    def skipped(self) -> dict[str, list[str]]:
        """A line for each utterance left out as bad, by split."""
        return {name: split.features.skipped for name, split in self.splits.items()}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that was decided before training starts.

    Attributes:
        options: the command line.
        data: what is learned.
        recipe: how.
        out: where results go.
        settings: everything that a result depends on besides α and the seed.
    """

    options: argparse.Namespace
    data: Data
    recipe: training.Recipe
    out: pathlib.Path
    settings: dict[str, Any]

    def describe(self) -> str:
        """The data, the model and the machine in a line."""
        sizes = ", ".join(f"{len(split.features)} {name}" for name, split in self.data.splits.items())
        hours = self.data.splits["train"].features.num_frames.sum() / 360_000
        return (
            f"{self.data.name}: {sizes} utterances, {hours:.2f} h to train on, {self.data.tokens.size} tokens. "
            f"{self.recipe.model}, {self.recipe.steps} steps of {self.recipe.batch_size}, on {device()}."
        )

    def title(self) -> str:
        """The data, the model and the number of seeds."""
        seeds = "1 seed" if len(self.options.seeds) == 1 else f"{len(self.options.seeds)} seeds"
        return f"{self.data.name}, {self.recipe.model}, {seeds}"


Watch = Callable[[Experiment, Searcher, pathlib.Path], keras.callbacks.Callback]


def prepare(options: argparse.Namespace) -> Experiment:
    """Settles how models are trained, makes the features, and opens the output directory.

    Raises:
        ValueError: where arguments, data or an earlier run do not fit.
        demos.kit.errors.MissingExtra: where a package is not installed.
    """
    arguments.settle(options)
    for package, purpose in PACKAGES.items():
        cli.optional(package, purpose, extra="speech")
    if options.augment:
        features.tensorflow_io()
    data = load_data(options)
    for name, lines in data.skipped.items():
        if lines:
            print(f"Skipped {len(lines)} bad utterances of the {name} split, the first: {lines[0]}")
    train = data.splits["train"]
    recipe = arguments.make_recipe(options, len(train.features))
    if recipe.batch_size > len(train.features):
        raise ValueError(
            f"--batch-size must be at most the number of training utterances ({len(train.features)}). "
            f"Received: {recipe.batch_size}."
        )
    settled = training.in_epochs(recipe, len(train.features), options.steps_per_execution)
    if options.steps and settled.steps != recipe.steps:
        print(f"Note: {recipe.steps} steps are rounded up to {settled.steps}, {settled.epochs} epochs.")
    settings = {
        **{name: value for name, value in vars(options).items() if name not in FREE_SETTINGS},
        **dataclasses.asdict(settled),
        "data": data.fingerprint,
        "utterances": {name: len(split.features) for name, split in data.splits.items()},
    }
    out = pathlib.Path(options.out or f"runs/speech/{data.name}-{options.model}")
    open_run(out, settings, options.resume)
    records.write_json(out / "tokens.json", data.tokens.to_json())
    records.write_json(out / "features.json", describe_features(train.features))
    return Experiment(options, data, settled, out, settings)


def load_data(
    options: argparse.Namespace, known: tokenizers.Tokens | None = None, fingerprint: str | None = None
) -> Data:
    """The corpus of the command line: its features, and its transcripts as tokens.

    Args:
        options: the command line.
        known: the tokens; None learns them from the training transcripts.
        fingerprint: of the corpus when models learned from it.

    Raises:
        ValueError: for bad utterances, unless --skip-bad, and where the corpus has changed.
    """
    corpus = corpora.load(options)
    if fingerprint not in (None, corpus.fingerprint()):
        raise ValueError(f"The corpus ({corpus.name}) has changed since the models were trained.")
    directory = pathlib.Path(options.cache_dir) if options.cache_dir else feature_cache.default_directory()
    found = {
        split: feature_cache.open_features(
            corpus, split, directory, options.normalisation, options.skip_bad, options.workers
        )
        for split in corpora.SPLITS
    }
    if known is None:
        known = tokenizers.learn(options.tokens, found["train"].transcripts, options.vocabulary_size)
    splits = {name: make_split(known, split, options.skip_bad) for name, split in found.items()}
    return Data(corpus.name, splits, known, corpus.fingerprint())


def make_split(known: tokenizers.Tokens, found: feature_cache.FeatureSet, skip_bad: bool) -> Utterances:
    """A split without utterances of unknown characters, or with more tokens than their audio allows.

    Raises:
        ValueError: for the first of them, unless `skip_bad`, and where none is left.
    """
    ids: list[np.ndarray] = []
    bad = {}
    for i, transcript in enumerate(found.transcripts):
        try:
            ids.append(known.encode(transcript))
        except tokenizers.UnknownCharacter as error:
            ids.append(np.empty(0, "int32"))
            bad[i] = f"{found.keys[i]}: {error}."
    bad.update(too_long(found, ids))
    kept = [row for i, row in enumerate(ids) if i not in bad]
    return Utterances(found.without(bad, skip_bad), kept)


def directory(out: pathlib.Path, alpha: float, seed: int) -> pathlib.Path:
    """Where one model of a run in `out` lies, with its result and logs."""
    return out / f"alpha-{alpha!r}" / f"seed-{seed}"


def train_and_evaluate(experiment: Experiment, alpha: float, seed: int, watch: Watch) -> dict[str, Any]:
    """One model, or what is left of it to train: its numbers; `model.keras` and `result.json` lie in its directory.

    Args:
        experiment: what is trained.
        alpha: label smoothing.
        seed: of the weights, the order and the masks of the utterances.
        watch: makes the callback that writes logs; not asked where there is nothing left to train.
    """
    folder = directory(experiment.out, alpha, seed)
    path, checkpoint = folder / "result.json", folder / "checkpoint.npz"
    if path.exists():
        return records.read_json(path)
    start = time.monotonic()
    options, data, recipe = experiment.options, experiment.data, experiment.recipe
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    train = data.splits["train"]
    model = training.build(recipe, data.tokens.size, options.precision)
    labels = np.concatenate([np.append(ids, tokenizers.END) for ids in train.token_ids])
    objective = training.make_objective(
        model, recipe, alpha, labels, options.steps_per_execution, options.jit_compile == "yes"
    )
    batches = functools.partial(
        training_batches, train.features, train.token_ids, recipe.batch_size, seed, augment=options.augment
    )
    searcher = Searcher(model, data.tokens, data.max_tokens)
    callbacks = (watch(experiment, searcher, folder),)
    history = checkpoints.fit(
        objective,
        batches,
        recipe.steps_per_epoch,
        recipe.epochs,
        checkpoint,
        callbacks,
        f"α={alpha:g} seed={seed}",
    )
    trained = time.monotonic()
    result = {
        "label_smoothing": alpha,
        "seed": seed,
        **evaluation.evaluate(
            searcher, data.splits["dev"], data.splits["test"], options.beam_width, options.length_penalty
        ),
        "parameters": model.count_params(),
        "training_seconds": trained - start,
        "evaluation_seconds": time.monotonic() - trained,
        **provenance(),
        "history": [{k: v if math.isfinite(v) else None for k, v in epoch.items()} for epoch in history],
    }
    model.save(folder / "model.keras")
    records.write_json(path, result)
    checkpoint.unlink()
    return result


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model of a run.

    Attributes:
        label_smoothing: α.
        seed: its seed.
        folder: where it lies.
        result: its numbers.
    """

    label_smoothing: float
    seed: int
    folder: pathlib.Path
    result: dict[str, Any]

    def load(self) -> Recogniser:
        """The model.

        Raises:
            ValueError: where the file is corrupt.
        """
        path = self.folder / "model.keras"
        try:
            return keras.models.load_model(path, compile=False)
        except Exception as error:  # zipfile, h5py and Keras each have their own
            raise ValueError(f"{path} cannot be read: {error}") from error


def trained_models(out: pathlib.Path) -> list[Trained]:
    """The finished models of a run, by α, then by seed.

    Raises:
        ValueError: where there is none.
    """
    results = [(path.parent, records.read_json(path)) for path in out.glob("alpha-*/seed-*/result.json")]
    models = [Trained(result["label_smoothing"], result["seed"], folder, result) for folder, result in results]
    if not models:
        raise ValueError(
            f"--from must be the directory of a run with a model trained to its end. Received: {str(out)!r}."
        )
    return sorted(models, key=lambda model: (model.label_smoothing, model.seed))


def best_model(models: Sequence[Trained]) -> Trained:
    """The one with the lowest beam WER on the development split; of equals, the lowest NLL there."""
    return min(models, key=lambda model: (model.result["dev_beam_wer"], model.result["dev_nll"]))


def read_settings(out: pathlib.Path) -> argparse.Namespace:
    """The command line that a run was started with, as far as results depend on it; else defaults."""
    parser = argparse.ArgumentParser()
    arguments.add_arguments(parser)
    return argparse.Namespace(**{**vars(parser.parse_args([])), **records.read_json(out / "settings.json")})


def read_tokens(out: pathlib.Path) -> tokenizers.Tokens:
    """The tokens of a run."""
    return tokenizers.from_json(records.read_json(out / "tokens.json"))


def describe_features(train: feature_cache.FeatureSet) -> dict[str, Any]:
    """What must be known of the training features to make others like them, for a JSON file."""
    statistics = train.corpus_statistics
    return {
        "statistics": None if statistics is None else statistics.tolist(),
        "max_frames": int(train.num_frames.max()),
    }


def read_features(out: pathlib.Path) -> tuple[np.ndarray | None, int]:
    """What features are normalised by, None where by each utterance's own; frames of the longest training utterance."""
    described = records.read_json(out / "features.json")
    statistics = described["statistics"]
    return None if statistics is None else np.array(statistics, "float32"), described["max_frames"]
