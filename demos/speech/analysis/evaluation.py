"""What a trained recogniser is measured by: its next-token predictions, and the words that it finds."""

from typing import Any

import numpy as np

from demos.kit import cli, measures
from demos.kit.measures import Column
from demos.sequence.evaluation import Split, evaluate_tokens
from demos.sequence.search import Searcher
from demos.speech.analysis import PACKAGES
from demos.speech.corpora.batches import evaluation_batches
from demos.speech.corpora.feature_cache import FeatureSet

BATCH_SIZE = 32
EXAMPLES = 10
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
CURVES = ("curve", "curve_scaled")
# What `evaluate` gives, as `records.read_json` takes it.
FIELDS = {**dict.fromkeys(MEASURES, float), **dict.fromkeys(CURVES, measures.CURVE), "examples": [dict]}


class Utterances(Split):
    """A split that a recogniser is measured on.

    Args:
        features: Those of its utterances.
        token_ids: The tokens of their transcripts.
    """

    def __init__(self, features: FeatureSet, token_ids: list[np.ndarray]):
        self.features, self.token_ids = features, token_ids
        self.references = features.transcripts

    def batches(self) -> Any:
        """One pass of (x, y, indices)."""
        return evaluation_batches(self.features, self.token_ids, BATCH_SIZE)

    def error_rates(self, texts: list[str]) -> dict[str, float]:
        """WER and CER of texts, one per utterance: edits by reference words, and characters, over all utterances."""
        jiwer = cli.optional("jiwer", PACKAGES["jiwer"], extra="speech")
        references = list(self.references)
        return {"wer": jiwer.wer(references, texts), "cer": jiwer.cer(references, texts)}


def evaluate(
    searcher: Searcher, dev: Utterances, test: Utterances, beam_width: int, length_penalty: float
) -> dict[str, Any]:
    """Measures a recogniser.

    Returns:
        The numbers of `MEASURES`; the reliability curves "curve" and "curve_scaled", as dicts that
        `demos.kit.measures.curve_from_json` turns back; "examples", a few transcripts.

    Raises:
        demos.kit.errors.Diverged: If the last step of the training did.
    """
    numbers = evaluate_tokens(searcher, dev, test)
    greedy, beam = test.search(searcher), test.search(searcher, beam_width, 1.0, length_penalty)
    dev_greedy, dev_beam = dev.search(searcher), dev.search(searcher, beam_width, 1.0, length_penalty)
    return {
        **numbers,
        **{f"greedy_{name}": rate for name, rate in test.error_rates(greedy).items()},
        **{f"beam_{name}": rate for name, rate in test.error_rates(beam).items()},
        "dev_greedy_wer": dev.error_rates(dev_greedy)["wer"],
        "dev_beam_wer": dev.error_rates(dev_beam)["wer"],
        "examples": [
            {"reference": reference, "greedy": a, "beam": b}
            for reference, a, b in zip(test.references[:EXAMPLES], greedy, beam, strict=False)
        ],
    }


def columns(beam_width: int) -> tuple[Column, ...]:
    """The columns of the table of a run; rates in percent."""
    return (
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


def best_on_dev(summary: list[dict[str, Any]]) -> float:
    """The label smoothing with the lowest mean beam WER on the development split; of equals, the lowest NLL there."""
    best = min(summary, key=lambda row: (row["dev_beam_wer"]["mean"], row["dev_nll"]["mean"]))
    return best["label_smoothing"]
