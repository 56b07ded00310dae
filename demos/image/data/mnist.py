"""MNIST, with its own test images held out."""

from demos.image.data.common.images import DataSet, read

DATA_SET = DataSet(
    load=lambda data_dir, image_size: read("mnist", data_dir), triples=(("0", "1", "2"), ("3", "5", "8")), pair=(4, 9)
)
