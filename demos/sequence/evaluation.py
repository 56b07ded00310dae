"""What a model that writes tokens is measured by: its predictions of next tokens, and the texts that it finds."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.kit import measures, seeds, smoothing
from demos.kit.errors import Diverged
from demos.kit.measures import Column, calibration
from demos.sequence.search import Searcher
from demos.sequence.tokenizers import IGNORED

EXAMPLES = 10
MEASURED_LOGITS = 500_000_000  # 2 GB, of which measuring makes some copies
DIAGNOSED_LOGITS = 500_000_000  # of padded examples
OF_TOKENS = ("token_accuracy", *measures.SCALED, "dev_nll", "dev_ece")
TOKEN_COLUMNS = (Column("tokens %", "token_accuracy", 2, 100), *measures.COLUMNS)


class Split:
    """Examples that a model is measured on."""

    references: Sequence[str]  # the correct text of each
    token_ids: list[np.ndarray]  # its tokens, without start and end

    def batches(self) -> Any:
        """One pass of (x, y, places in the order of `references`)."""
        raise NotImplementedError

    def text_scores(self, texts: list[str]) -> dict[str, float]:
        """Measures of texts, one per example, against the references, by name; of some the lowest is the best."""
        raise NotImplementedError

    def quality(self, text: str, place: int) -> float:
        """How good a text is for the example at a place: the higher, the better."""
        raise NotImplementedError

    def inputs(self, place: int) -> Sequence[str] | np.ndarray:
        """What the decoder looks at in an example: the names of its inputs, or their times in seconds."""
        raise NotImplementedError

    def about(self, place: int) -> dict[str, str]:
        """What a list of examples shows of one besides the texts that are found."""
        return {"reference": self.references[place]}

    def search(self, searcher: Searcher, *how: Any) -> list[str]:
        """The best text of each example, in their order; `how` is that of `Searcher.texts`."""
        return searcher.texts(self.batches(), len(self.references), *how)


Tokens = tuple[np.ndarray, np.ndarray]


def measured(split: Split, vocabulary_size: int) -> set[int]:
    """The places of the examples whose next tokens are measured.

    These are all, or of a split with more than `MEASURED_LOGITS` a random part, always the same.
    """
    order = seeds.of_data().permutation(len(split.token_ids))
    logits = np.cumsum([(len(split.token_ids[place]) + 1) * vocabulary_size for place in order])  # the end is one, too
    return set(order[: max(1, np.searchsorted(logits, MEASURED_LOGITS, side="right"))])


def tokens_by_example(searcher: Searcher, split: Split) -> list[Tokens]:
    """For each measured example the logits (T, V) of its tokens given the correct ones before, and the tokens (T,)."""
    found, places_measured = [], measured(split, searcher.tokens.size)
    for x, y, places in split.batches():
        if places_measured.isdisjoint(np.asarray(places)):
            continue
        for logits, labels, place in zip(searcher.logits(x), np.asarray(y), np.asarray(places), strict=True):
            is_label = labels != IGNORED
            if place in places_measured:
                found.append((logits[is_label], labels[is_label]))
    return found


def next_tokens(searcher: Searcher, split: Split) -> Tokens:
    """Logits (N, V) of the next tokens of measured examples given the correct ones before, and the tokens (N,)."""
    return _joined(tokens_by_example(searcher, split))


def _joined(examples: Sequence[Tokens]) -> Tokens:
    logits, labels = zip(*examples, strict=True)
    return np.concatenate(logits), np.concatenate(labels)


def _diagnosis(examples: Sequence[Tokens]) -> dict[str, Any]:
    """What `measures.diagnosis` says of tokens, nothing if there are too many; it resamples examples, not tokens."""
    shape = len(examples), max(len(labels) for _, labels in examples), examples[0][0].shape[-1]
    if math.prod(shape) > DIAGNOSED_LOGITS:
        return {}
    logits, labels = np.zeros(shape, "float32"), np.full(shape[:2], IGNORED)
    for i, (of_example, came) in enumerate(examples):
        logits[i, : len(came)], labels[i, : len(came)] = of_example, came
    return measures.diagnosis(logits, labels, IGNORED)


def evaluate_tokens(searcher: Searcher, dev: Split, test: Split) -> dict[str, Any]:
    """Measures next tokens of the test split, with a temperature fitted on the development split.

    Returns:
        "measured_examples" and "dev_measured_examples", their numbers; "token_accuracy"; "nll" and "ece", before and
        after ("nll_scaled", "ece_scaled") division by "temperature"; "dev_nll" and "dev_ece"; the reliability curves
        "curve" and "curve_scaled", for JSON; and, if there are not too many logits, what `measures.diagnosis` gives.

    Raises:
        demos.kit.errors.Diverged: If the last step of the training did.
    """
    dev_logits, dev_labels = next_tokens(searcher, dev)
    if not np.isfinite(dev_logits).all():
        raise Diverged("The trained model's logits are not finite: lower --learning-rate or set --clipnorm.")
    scaling = keras_ls.TemperatureScaling().fit(dev_logits, dev_labels)
    temperature = float(keras.ops.convert_to_numpy(scaling.temperature))
    of_dev = calibration(dev_logits, dev_labels)
    del dev_logits  # logits of large vocabularies fill the memory
    examples = tokens_by_example(searcher, test)
    logits, labels = _joined(examples)
    ends = np.cumsum([len(came) for _, came in examples])[:-1]
    examples = list(zip(np.split(logits, ends), np.split(labels, ends), strict=True))  # views
    return {
        "measured_examples": len(examples),
        "dev_measured_examples": len(measured(dev, searcher.tokens.size)),
        "token_accuracy": float(np.mean(logits.argmax(-1) == labels)),
        **calibration(logits, labels),
        "temperature": temperature,
        **{f"{name}_scaled": value for name, value in calibration(logits / temperature, labels).items()},
        **{f"dev_{name}": value for name, value in of_dev.items() if name != "curve"},
        **_diagnosis(examples),
    }


def evaluate(
    searcher: Searcher, dev: Split, test: Split, beam_width: int, length_penalty: float
) -> tuple[dict[str, Any], list[str]]:
    """Measures a model: what `evaluate_tokens` gives, and the texts that it finds greedily and with a beam.

    Returns:
        The numbers, with the scores of the texts of both splits as "greedy_…", "beam_…", "dev_greedy_…" and
        "dev_beam_…" and a few texts as "examples"; and all texts of the test split that the beam found.
    """
    numbers = evaluate_tokens(searcher, dev, test)
    searches: dict[str, tuple[Any, ...]] = {"greedy": (), "beam": (beam_width, 1.0, length_penalty)}
    found = {name: test.search(searcher, *how) for name, how in searches.items()}
    for name, how in searches.items():
        numbers |= {f"{name}_{score}": value for score, value in test.text_scores(found[name]).items()}
        of_dev = dev.text_scores(dev.search(searcher, *how))
        numbers |= {f"dev_{name}_{score}": value for score, value in of_dev.items()}
    rows = range(min(EXAMPLES, len(test.references)))
    examples = [{**test.about(i), **{name: texts[i] for name, texts in found.items()}} for i in rows]
    return {**numbers, "examples": examples}, found["beam"]


def fields(names: Sequence[str]) -> dict[str, Any]:
    """The fields of a result with the measures `names`, as `records.read_json` takes them."""
    curves = dict.fromkeys(smoothing.CURVES, measures.CURVE)
    return {**dict.fromkeys((*OF_TOKENS, *names), float), **curves, "examples": [dict], "parameters": int}
