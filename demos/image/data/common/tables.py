"""Tables of scikit-learn as pictures of one line: small, always here, and learned by the MLP as images are."""

import numpy as np

from demos.image.data.common.images import DataSet, ImageData, split
from demos.kit.cli import optional

# Networks that memorise the training half in seconds.
RECIPE = {"steps": 1_000, "batch_size": 50, "hidden": (200, 200)}


def table(name: str) -> DataSet:
    """The data set of `sklearn.datasets.load_NAME`, half of whose rows are held out.

    Each feature is a pixel: 0 at its smallest value in the whole table, held-out rows included, 255 at its largest.
    """

    def load(data_dir: str | None = None, image_size: int = 32) -> ImageData:
        bunch = getattr(optional("sklearn.datasets", f"The data set {name}"), f"load_{name}")()
        low, high = bunch.data.min(0), bunch.data.max(0)
        pixels = np.round((bunch.data - low) * (255 / (high - low))).astype("uint8")[:, None, :, None]
        labels = bunch.target.astype("int32")
        return split(name, pixels, labels, len(labels) // 2, tuple(map(str, bunch.target_names)))

    return DataSet(load, recipe=RECIPE, reads_files=False)
