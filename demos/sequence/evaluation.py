"""What a model that writes tokens is measured by: its predictions of next tokens, and the texts that it finds."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.kit.errors import Diverged
from demos.kit.measures import calibration
from demos.sequence.search import Searcher
from demos.sequence.tokenizers import IGNORED


class Split:
    """Examples that a model is measured on."""

    references: Sequence[str]  # the correct text of each

    def batches(self) -> Any:
        """One pass of (x, y, places in the order of `references`)."""
        raise NotImplementedError

    def error_rates(self, texts: list[str]) -> dict[str, float]:
        """Names of measures to how far texts, one per example, are from the references."""
        raise NotImplementedError

    def quality(self, text: str, place: int) -> float:
        """How good a text is for the example at a place: the higher, the better."""
        raise NotImplementedError

    def search(self, searcher: Searcher, *how: Any) -> list[str]:
        """The best text of each example, in their order; `how` is that of `Searcher.texts`."""
        return searcher.texts(self.batches(), len(self.references), *how)


def next_tokens(searcher: Searcher, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, V) of all next tokens of a split given the correct ones before them, and what came (N,)."""
    logits, labels = [], []
    for x, y, _ in split.batches():
        is_label = np.asarray(y) != IGNORED
        logits.append(searcher.logits(x)[is_label])
        labels.append(np.asarray(y)[is_label])
    return np.concatenate(logits), np.concatenate(labels)


def evaluate_tokens(searcher: Searcher, dev: Split, test: Split) -> dict[str, Any]:
    """Measures next tokens of the test split, with a temperature fitted on the development split.

    Returns:
        "token_accuracy"; "nll" and "ece", before and after ("nll_scaled", "ece_scaled") division by "temperature";
        "dev_nll" and "dev_ece"; the reliability curves "curve" and "curve_scaled", for JSON.

    Raises:
        demos.kit.errors.Diverged: If the last step of the training did.
    """
    dev_logits, dev_labels = next_tokens(searcher, dev)
    if not np.isfinite(dev_logits).all():
        raise Diverged("The trained model's logits are not finite: lower --learning-rate or set --clipnorm.")
    scaling = keras_ls.TemperatureScaling().fit(dev_logits, dev_labels)
    temperature = float(keras.ops.convert_to_numpy(scaling.temperature))
    logits, labels = next_tokens(searcher, test)
    before, after = (calibration(logits / t, labels) for t in (1.0, temperature))
    return {
        "token_accuracy": float(np.mean(logits.argmax(-1) == labels)),
        **before,
        "temperature": temperature,
        **{f"{name}_scaled": value for name, value in after.items()},
        **{f"dev_{name}": value for name, value in calibration(dev_logits, dev_labels).items() if name != "curve"},
    }
