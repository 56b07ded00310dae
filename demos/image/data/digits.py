"""The 1,797 handwritten digits of scikit-learn, 8×8, of which 897 are held out: always here, and trained in seconds."""

import numpy as np

from demos.image.data.common.images import DataSet, ImageData, split
from demos.kit.cli import optional


def load(data_dir: str | None = None, image_size: int = 32) -> ImageData:
    """Draws 897 of the images to be held out; the arguments are not for this data set."""
    bunch = optional("sklearn.datasets", "The digits data set").load_digits()
    x = np.round(bunch.images * (255 / 16)).astype("uint8")[..., None]
    return split("digits", x, bunch.target.astype("int32"), 897, tuple(map(str, range(10))))


DATA_SET = DataSet(
    load,
    triples=(("0", "1", "2"), ("3", "5", "8")),
    pair=(4, 9),
    noise=0.4,
    reads_files=False,
    recipe={"steps": 1_000, "batch_size": 50, "hidden": (200, 200)},
)
