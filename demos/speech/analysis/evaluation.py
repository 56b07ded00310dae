"""What a trained recogniser is measured by: its next-token predictions, and the words that it finds."""

from typing import Any

import numpy as np

from demos.kit import cli, measures, smoothing
from demos.kit.measures import Column
from demos.sequence.evaluation import Split, evaluate_tokens
from demos.sequence.search import Searcher
from demos.speech.analysis import PACKAGES
from demos.speech.corpora.batches import evaluation_batches
from demos.speech.corpora.feature_cache import FeatureSet

BATCH_SIZE = 32
EXAMPLES = 10
OF_TEXTS = ("greedy_wer", "greedy_cer", "beam_wer", "beam_cer")
MEASURES = ("token_accuracy", *measures.SCALED, *OF_TEXTS, "dev_nll", "dev_ece", "dev_greedy_wer", "dev_beam_wer")
# What `evaluate` gives, as `records.read_json` takes it.
FIELDS = {**dict.fromkeys(MEASURES, float), **dict.fromkeys(smoothing.CURVES, measures.CURVE), "examples": [dict]}


class Utterances(Split):
    """A split that a recogniser is measured on: the features of its utterances and the tokens of their transcripts."""

    def __init__(self, features: FeatureSet, token_ids: list[np.ndarray]):
        self.features, self.token_ids = features, token_ids
        self.references = features.transcripts

    def batches(self) -> Any:
        """One pass of (x, y, indices)."""
        return evaluation_batches(self.features, self.token_ids, BATCH_SIZE)

    def error_rates(self, texts: list[str]) -> dict[str, float]:
        """WER and CER of texts, one per utterance: edits per word, and per character, of all references."""
        jiwer = cli.optional("jiwer", PACKAGES["jiwer"], extra="speech")
        references = list(self.references)
        return {"wer": jiwer.wer(references, texts), "cer": jiwer.cer(references, texts)}


def evaluate(
    searcher: Searcher, dev: Utterances, test: Utterances, beam_width: int, length_penalty: float
) -> dict[str, Any]:
    """Measures a recogniser: the numbers of `FIELDS`, with a few transcripts as "examples"."""
    how = (beam_width, 1.0, length_penalty)
    numbers = evaluate_tokens(searcher, dev, test)
    greedy, beam = test.search(searcher), test.search(searcher, *how)
    return {
        **numbers,
        **{f"greedy_{name}": rate for name, rate in test.error_rates(greedy).items()},
        **{f"beam_{name}": rate for name, rate in test.error_rates(beam).items()},
        "dev_greedy_wer": dev.error_rates(dev.search(searcher))["wer"],
        "dev_beam_wer": dev.error_rates(dev.search(searcher, *how))["wer"],
        "examples": [
            {"reference": reference, "greedy": a, "beam": b}
            for reference, a, b in zip(test.references[:EXAMPLES], greedy, beam, strict=False)
        ],
    }


def columns(beam_width: int) -> tuple[Column, ...]:
    """The columns of the table of a run; rates in percent."""
    return (
        Column("tokens %", "token_accuracy", 2, 100),
        *measures.COLUMNS,
        Column("greedy WER %", "greedy_wer", 2, 100),
        Column("CER %", "greedy_cer", 2, 100),
        Column(f"beam {beam_width} WER %", "beam_wer", 2, 100),
        Column("CER %", "beam_cer", 2, 100),
        Column("dev WER %", "dev_beam_wer", 2, 100),
    )


def best_on_dev(summary: list[dict[str, Any]]) -> float:
    """The label smoothing with the lowest mean beam WER on the development split; of equals, the lowest NLL there."""
    return min(summary, key=lambda row: (row["dev_beam_wer"]["mean"], row["dev_nll"]["mean"]))["label_smoothing"]
