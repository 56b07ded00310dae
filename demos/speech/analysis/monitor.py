"""What TensorBoard shows of a recogniser besides what it shows of any model: where it looks."""

from typing import Any

import keras
import numpy as np

from demos.sequence.monitor import Monitor
from demos.sequence.tokenizers import END, START
from demos.speech.analysis.evaluation import Utterances
from demos.speech.analysis.pictures import attention_picture
from demos.speech.networks.recogniser import encoded_lengths

ATTENTION = 2


class SpeechMonitor(Monitor):
    """A `Monitor` with pictures of the attention."""

    split: Utterances

    def figures(self) -> dict[str, Any]:
        """The attention in a few utterances."""
        return {f"attention/{i}": self._attention(i) for i in range(min(ATTENTION, len(self.split.references)))}

    def _attention(self, i: int):
        """The picture of an utterance of the split, given its correct tokens."""
        features, ids = self.split.features, self.split.token_ids[i]
        frames = features[i]
        length = int(encoded_lengths(len(frames)))
        inputs = {
            "features": frames[None],
            "num_frames": np.array([len(frames)], "int32"),
            "tokens": np.array([[START, *ids]], "int32"),
        }
        weights = keras.ops.convert_to_numpy(self.searcher.model.attention(inputs))[0, :, :length]
        names = [self.searcher.tokens.decode([token]) or ("end" if token == END else " ") for token in [*ids, END]]
        return attention_picture(weights, names, features.transcripts[i])
