"""What recognisers are measured on, and by: the words that they find."""

from typing import Any

import numpy as np

from demos.kit import cli
from demos.sequence import evaluation
from demos.sequence.evaluation import Split
from demos.speech.analysis import PACKAGES
from demos.speech.corpora.batches import evaluation_batches
from demos.speech.corpora.feature_cache import FeatureSet
from demos.speech.networks.recognisers import encoded_lengths
from demos.speech.sound.features import REDUCTION

BATCH_SIZE = 32
SECONDS_PER_OUTPUT = REDUCTION / 100
SCORES = ("greedy_wer", "greedy_cer", "beam_wer", "beam_cer", "dev_greedy_wer", "dev_beam_wer")
MEASURES = (*evaluation.OF_TOKENS, *SCORES)


class Utterances(Split):
    """A split that a recogniser is measured on: the features of its utterances and the tokens of their transcripts."""

    def __init__(self, features: FeatureSet, token_ids: list[np.ndarray]):
        self.features, self.token_ids = features, token_ids
        self.references = features.transcripts

    def batches(self) -> Any:
        """One pass of (x, y, indices)."""
        return evaluation_batches(self.features, self.token_ids, BATCH_SIZE)

    def text_scores(self, texts: list[str]) -> dict[str, float]:
        """WER and CER of texts, one per utterance: edits per word, and per character, of all references."""
        jiwer = cli.optional("jiwer", PACKAGES["jiwer"], extra="speech")
        references = list(self.references)
        return {"wer": jiwer.wer(references, texts), "cer": jiwer.cer(references, texts)}

    def inputs(self, place: int) -> np.ndarray:
        """When each of the encoder's outputs begins."""
        return np.arange(encoded_lengths(int(self.features.num_frames[place]))) * SECONDS_PER_OUTPUT

    def first(self, count: int) -> "Utterances":
        """The first utterances."""
        beyond = {i: "" for i in range(count, len(self.features))}
        return Utterances(self.features.without(beyond, skip_bad=True), self.token_ids[:count])


def best_on_dev(summary: list[dict[str, Any]]) -> float:
    """The label smoothing with the lowest mean beam WER on the development split; of equals, the lowest NLL there."""
    return min(summary, key=lambda row: (row["dev_beam_wer"]["mean"], row["dev_nll"]["mean"]))["label_smoothing"]
