"""Pictures of a recogniser: where it looks, for files and for TensorBoard."""

from typing import Any

import numpy as np

from demos.speech.sound.features import REDUCTION

SECONDS_PER_OUTPUT = REDUCTION / 100


def attention_picture(weights: np.ndarray, labels: list[str], title: str = "") -> Any:
    """Draws where in the audio the decoder looks for each token, one row per token.

    Args:
        weights: (U, S), rows with sum 1.
        labels: the U tokens that come next.
        title: above the picture.

    Returns:
        The matplotlib `Figure`.
    """
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
