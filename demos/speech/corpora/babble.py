"""Any corpus with other people's talk in the background."""

import functools
from typing import Any

import numpy as np

from demos.speech.corpora.base import Corpus
from demos.speech.sound import noise
from demos.speech.sound.headers import Unreadable

VOICES = 4
POOL = 48  # recordings that the voices come from


def check(low: float, high: float) -> None:
    """Raises ValueError unless signal-to-noise ratios, in dB, are a range that can be heard."""
    if not -20 <= low <= high <= 60:
        raise ValueError(f"--snr must be LOW HIGH in dB with -20 <= LOW <= HIGH <= 60. Received: {low:g} {high:g}.")


def _recordings(utterance: Any) -> set[str]:
    return {utterance.key, *getattr(utterance, "recordings", ())}


class WithBabble(Corpus):
    """A corpus with the babble of its training recordings under every utterance, never an utterance's own."""

    def __init__(self, corpus: Corpus, low: float, high: float):
        """Stores the corpus and the range of signal-to-noise ratios in dB, uniform from `low` to `high`."""
        check(low, high)
        settings = {**corpus.settings, "babble": (VOICES, POOL), "babble snr": (low, high)}
        if any(hasattr(utterance, "recordings") for utterance in corpus.splits["train"][:1]):
            settings["babble without"] = "recordings of the utterance"
        super().__init__(corpus.name, corpus.splits, settings, corpus.skipped, corpus.times)
        self._corpus, self._range = corpus, (low, high)

    @functools.cached_property
    def _pool(self) -> dict[Any, np.ndarray]:
        """Utterances to waveforms, without utterances that cannot be read: they are named when their own turn comes."""
        train = self._corpus.splits["train"]
        found = {}
        for row in noise.generator("babble").permutation(len(train))[:POOL]:
            try:
                found[train[row]] = self._corpus.waveform(train[row])
            except ValueError as error:
                self.incomplete |= isinstance(error, Unreadable)
        return found

    def waveform(self, utterance: Any) -> np.ndarray:
        """The samples with babble under them."""
        speech = self._corpus.waveform(utterance)
        own = _recordings(utterance)
        others = [waveform for other, waveform in self._pool.items() if own.isdisjoint(_recordings(other))]
        if not others:
            raise ValueError(f"--snr needs other training recordings than {utterance.key} that can be read.")
        rng = noise.generator("babble", utterance.key)
        chosen = [others[i] for i in rng.permutation(len(others))[:VOICES]]
        return noise.mix(speech, noise.babble(rng, len(speech), chosen), rng.uniform(*self._range))
