"""Tables of scikit-learn as pictures of one line: small, always here, and learned by the MLP as images are."""

import dataclasses

import numpy as np

from demos.image.data.common.images import DataSet, ImageData, split
from demos.kit.cli import optional

# Networks that memorise the training half in seconds.
RECIPE = {"steps": 1_000, "batch_size": 50, "hidden": (200, 200)}


def table(name: str) -> DataSet:
    """The data set of `sklearn.datasets.load_NAME`, half of whose rows are held out.

    Each feature is a pixel: 0 at its smallest value in the training half and below, 255 at its largest and above.
    """

    def load(data_dir: str | None = None, image_size: int = 32) -> ImageData:
        bunch = getattr(optional("sklearn.datasets", f"The data set {name}"), f"load_{name}")()
        labels = bunch.target.astype("int32")
        rows = split(name, bunch.data, labels, len(labels) // 2, tuple(map(str, bunch.target_names)))
        low, high = rows.x_train.min(0), rows.x_train.max(0)

        def pixels(features: np.ndarray) -> np.ndarray:
            scaled = np.clip((features - low) * (255 / (high - low)), 0, 255)
            return np.round(scaled).astype("uint8")[:, None, :, None]

        return dataclasses.replace(rows, x_train=pixels(rows.x_train), x_test=pixels(rows.x_test))

    return DataSet(load, recipe=RECIPE, reads_files=False)
