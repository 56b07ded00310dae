"""What a trained recogniser is measured by: its next-token predictions, and the words that it finds."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_ls
from demos.kit import cli, measures
from demos.kit.errors import Diverged
from demos.kit.measures import Column, calibration
from demos.speech.batches import IGNORED, evaluation_batches
from demos.speech.feature_cache import FeatureSet
from demos.speech.search import Searcher

BATCH_SIZE = 32
EXAMPLES = 10
# The rule that --help and results.json state.
RULE = (
    "Token accuracy, NLL (nats) and ECE (15 bins) are of the next token given the correct ones before it, the end "
    "token included. The temperature is fitted on the development split. WER and CER are of whole texts, found by beam "
    "search at temperature 1: greedily (width 1), and with --beam-width and --length-penalty. All are of the test "
    "split, except those called dev."
)
MEASURES = (
    "token_accuracy",
    "nll",
    "ece",
    "temperature",
    "nll_scaled",
    "ece_scaled",
    "greedy_wer",
    "greedy_cer",
    "beam_wer",
    "beam_cer",
    "dev_nll",
    "dev_ece",
    "dev_greedy_wer",
    "dev_beam_wer",
)


class Split:
    """A split that a recogniser is measured on.

    Args:
        features: of its utterances.
        token_ids: of their transcripts.
    """

    def __init__(self, features: FeatureSet, token_ids: list[np.ndarray]):
        self.features, self.token_ids = features, token_ids

    def batches(self) -> tf.data.Dataset:
        """One pass of (x, y, indices)."""
        return evaluation_batches(self.features, self.token_ids, BATCH_SIZE)

    def transcribe(
        self, searcher: Searcher, beam_width: int = 1, temperature: float = 1.0, length_penalty: float = 0.0
    ) -> list[str]:
        """The best text of each utterance, in their order."""
        return searcher.transcripts(self.batches(), len(self.features), beam_width, temperature, length_penalty)

    def error_rates(self, texts: list[str]) -> tuple[float, float]:
        """WER and CER of texts, one an utterance: edits by reference words, and characters, over all utterances."""
        jiwer = cli.optional("jiwer", "Word error rates", extra="speech")
        references = list(self.features.transcripts)
        return jiwer.wer(references, texts), jiwer.cer(references, texts)


def next_tokens(searcher: Searcher, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, V) of all next tokens of a split given the correct ones before them, and what came (N,)."""
    logits, labels = [], []
    for x, y, _ in split.batches():
        is_label = y.numpy() != IGNORED
        logits.append(searcher.logits(x)[is_label])
        labels.append(y.numpy()[is_label])
    return np.concatenate(logits), np.concatenate(labels)


def evaluate(searcher: Searcher, dev: Split, test: Split, beam_width: int, length_penalty: float) -> dict[str, Any]:
    """Measures a recogniser.

    Raises:
        demos.kit.errors.Diverged: where the last step of the training did.

    Returns:
        The numbers of `MEASURES`; the reliability curves "curve" and "curve_scaled", as dicts that
        `demos.kit.measures.curve_from_json` turns back; "examples", a few transcripts.
    """
    dev_logits, dev_labels = next_tokens(searcher, dev)
    if not np.isfinite(dev_logits).all():
        raise Diverged("The trained model's logits are not finite: lower --learning-rate or set --clipnorm.")
    scaling = keras_ls.TemperatureScaling().fit(dev_logits, dev_labels)
    temperature = float(keras.ops.convert_to_numpy(scaling.temperature))
    logits, labels = next_tokens(searcher, test)
    before, after = (calibration(logits / t, labels) for t in (1.0, temperature))
    of_dev = calibration(dev_logits, dev_labels)
    greedy, beam = test.transcribe(searcher), test.transcribe(searcher, beam_width, 1.0, length_penalty)
    greedy_wer, greedy_cer = test.error_rates(greedy)
    beam_wer, beam_cer = test.error_rates(beam)
    return {
        "token_accuracy": float(np.mean(logits.argmax(-1) == labels)),
        "nll": before["nll"],
        "ece": before["ece"],
        "temperature": temperature,
        "nll_scaled": after["nll"],
        "ece_scaled": after["ece"],
        "greedy_wer": greedy_wer,
        "greedy_cer": greedy_cer,
        "beam_wer": beam_wer,
        "beam_cer": beam_cer,
        "dev_nll": of_dev["nll"],
        "dev_ece": of_dev["ece"],
        "dev_greedy_wer": dev.error_rates(dev.transcribe(searcher))[0],
        "dev_beam_wer": dev.error_rates(dev.transcribe(searcher, beam_width, 1.0, length_penalty))[0],
        "curve": before["curve"],
        "curve_scaled": after["curve"],
        "examples": [
            {"reference": reference, "greedy": a, "beam": b}
            for reference, a, b in zip(test.features.transcripts[:EXAMPLES], greedy, beam, strict=False)
        ],
    }


def summarize(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation (None for one) over the seeds, for each label smoothing."""
    return measures.summarize(results, MEASURES)


def table(summary: list[dict[str, Any]], beam_width: int) -> str:
    """The summary as a table of text, one row for each label smoothing; rates in percent."""
    columns = (
        Column("tokens %", "token_accuracy", 2, 100),
        Column("NLL", "nll", 4),
        Column("ECE", "ece", 4),
        Column("temperature", "temperature", 3),
        Column("ECE scaled", "ece_scaled", 4),
        Column("greedy WER %", "greedy_wer", 2, 100),
        Column("CER %", "greedy_cer", 2, 100),
        Column(f"beam {beam_width} WER %", "beam_wer", 2, 100),
        Column("CER %", "beam_cer", 2, 100),
        Column("dev WER %", "dev_beam_wer", 2, 100),
    )
    return measures.table(summary, columns)


def best_on_dev(summary: list[dict[str, Any]]) -> float:
    """The label smoothing with the lowest mean beam WER on the development split; of equals, the lowest NLL there."""
    best = min(summary, key=lambda row: (row["dev_beam_wer"]["mean"], row["dev_nll"]["mean"]))
    return best["label_smoothing"]
