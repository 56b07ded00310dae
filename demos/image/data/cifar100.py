"""CIFAR-100, split as CIFAR-10."""

from demos.image.data.cifar10 import RECIPE, validation_split
from demos.image.data.common.images import DataSet, read

# In the order of their ids; Keras's file does not hold them.
CLASSES = (
    "apple, aquarium_fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus, "
    "butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, "
    "crab, crocodile, cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, "
    "keyboard, lamp, lawn_mower, leopard, lion, lizard, lobster, man, maple_tree, motorcycle, mountain, mouse, "
    "mushroom, oak_tree, orange, orchid, otter, palm_tree, pear, pickup_truck, pine_tree, plain, plate, poppy, "
    "porcupine, possum, rabbit, raccoon, ray, road, rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, "
    "snail, snake, spider, squirrel, streetcar, sunflower, sweet_pepper, table, tank, telephone, television, "
    "tiger, tractor, train, trout, tulip, turtle, wardrobe, whale, willow_tree, wolf, woman, worm"
)

DATA_SET = DataSet(
    load=lambda data_dir, image_size: validation_split(read("cifar100", data_dir, tuple(CLASSES.split(", ")))),
    triples=(("beaver", "dolphin", "otter"),),
    recipe=RECIPE,
    crops=True,
)
