"""What TensorBoard shows of a recogniser besides what it shows of any model: where it looks."""

from typing import Any

import keras
import numpy as np

from demos.sequence.monitor import Monitor
from demos.sequence.tokenizers import END, START
from demos.speech.analysis.evaluation import Utterances
from demos.speech.networks.recognisers import encoded_lengths
from demos.speech.sound.features import REDUCTION

ATTENTION = 2
SECONDS_PER_OUTPUT = REDUCTION / 100


class SpeechMonitor(Monitor):
    """A `Monitor` with pictures of the attention."""

    split: Utterances

    def figures(self) -> dict[str, Any]:
        """The attention in a few utterances, given their correct tokens."""
        return {f"attention/{i}": self._attention(i) for i in range(min(ATTENTION, len(self.split.references)))}

    def _attention(self, i: int) -> Any:
        frames, ids = self.split.features[i], self.split.token_ids[i]
        inputs = {
            "features": frames[None],
            "num_frames": np.array([len(frames)], "int32"),
            "tokens": np.array([[START, *ids]], "int32"),
        }
        weights = keras.ops.convert_to_numpy(self.searcher.model.attention(inputs))[0]
        names = [self.searcher.tokens.decode([token]) or ("end" if token == END else " ") for token in [*ids, END]]
        return attention_picture(weights[:, : encoded_lengths(len(frames))], names, self.split.references[i])


def attention_picture(weights: np.ndarray, labels: list[str], title: str = "") -> Any:
    """A matplotlib `Figure` of where in the audio the decoder looks, (U, S), for each of the U next tokens."""
    from matplotlib.figure import Figure

    size = (min(12.0, 3.0 + 0.05 * weights.shape[1]), min(16.0, 1.2 + 0.14 * len(labels)))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    ax = figure.add_subplot()
    extent = (0, weights.shape[1] * SECONDS_PER_OUTPUT, len(labels) - 0.5, -0.5)
    image = ax.imshow(weights, aspect="auto", interpolation="nearest", cmap="Greys", vmin=0, vmax=1, extent=extent)
    ax.set_yticks(range(len(labels)), [label.replace(" ", "␣").replace("$", r"\$") for label in labels], fontsize=7)
    ax.set(xlabel="Time (seconds)", ylabel="Next token")
    figure.colorbar(image, label="Attention weight", aspect=40)
    ax.set_title(title.replace("$", r"\$"), fontsize=9)
    return figure
