"""Pictures of a recogniser: where it looks, for files and for TensorBoard."""

from typing import Any

import numpy as np

from demos.speech.batches import REDUCTION

SECONDS_AN_OUTPUT = REDUCTION / 100


def attention_picture(weights: np.ndarray, labels: list[str], title: str = "") -> Any:
    """Draws where in the audio the decoder looks for each token, one row a token.

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
    extent = (0, weights.shape[1] * SECONDS_AN_OUTPUT, len(labels) - 0.5, -0.5)
    image = ax.imshow(weights, aspect="auto", interpolation="nearest", cmap="Greys", vmin=0, vmax=1, extent=extent)
    ax.set_yticks(range(len(labels)), [label.replace(" ", "␣").replace("$", r"\$") for label in labels], fontsize=7)
    ax.set(xlabel="Time (seconds)", ylabel="Next token")
    figure.colorbar(image, label="Attention weight", aspect=40)
    ax.set_title(title.replace("$", r"\$"), fontsize=9)
    return figure


def model_name(alpha: float) -> str:
    """What a model is called in pictures and tables."""
    return "hard targets" if alpha == 0 else f"α = {alpha:g}"


def pixels(figure: Any) -> np.ndarray:
    """A figure as uint8 (1, height, width, 4), what `tf.summary.image` takes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None]
