"""Fashion-MNIST, with its own test images held out."""

from demos.image.data.common.images import DataSet, read

# In the order of their ids; Keras's file does not hold them.
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

DATA_SET = DataSet(
    load=lambda data_dir, image_size: read("fashion_mnist", data_dir, CLASSES),
    triples=(("T-shirt/top", "Trouser", "Bag"), ("Sandal", "Sneaker", "Ankle boot")),
)
