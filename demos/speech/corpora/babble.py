"""Any corpus with other people's talk in the background."""

from collections.abc import Callable
from typing import Any

import numpy as np

from demos.speech.corpora.base import Corpus
from demos.speech.sound import noise

VOICES = 4
POOL = 48  # recordings that the voices come from


class WithBabble(Corpus):
    """A corpus with the babble of its training recordings under every utterance, never an utterance's own."""

    def __init__(self, corpus: Corpus, low: float, high: float):
        """Stores the corpus and the range of signal-to-noise ratios in dB, uniform from `low` to `high`."""
        if not -20 <= low <= high <= 60:
            raise ValueError(f"--snr must be LOW HIGH in dB with -20 <= LOW <= HIGH <= 60. Received: {low:g} {high:g}.")
        settings = {**corpus.settings, "babble": (VOICES, POOL), "babble snr": (low, high)}
        super().__init__(corpus.name, corpus.splits, settings, corpus.skipped, corpus.times)
        self._corpus, self._range = corpus, (low, high)
        train = corpus.splits["train"]
        rows = noise.generator("babble").permutation(len(train))[:POOL]
        self._pool = [train[i] for i in rows]
        self._waveforms: dict[str, np.ndarray] | None = None

    def waveform(self, utterance: Any) -> np.ndarray:
        """The samples with babble under them."""
        if self._waveforms is None:
            self._waveforms = _readable(self._pool, self._corpus.waveform)
        speech = self._corpus.waveform(utterance)
        others = [waveform for key, waveform in self._waveforms.items() if key != utterance.key]
        if not others:
            raise ValueError(f"--snr needs other training recordings than {utterance.key} that can be read.")
        rng = noise.generator("babble", utterance.key)
        chosen = [others[i] for i in rng.permutation(len(others))[:VOICES]]
        return noise.mix(speech, noise.babble(rng, len(speech), chosen), rng.uniform(*self._range))


def _readable(utterances: list[Any], waveform: Callable[[Any], np.ndarray]) -> dict[str, np.ndarray]:
    """Keys to waveforms, without the utterances that cannot be read: they are named where their own turn comes."""
    found = {}
    for utterance in utterances:
        try:
            found[utterance.key] = waveform(utterance)
        except ValueError:
            continue
    return found
