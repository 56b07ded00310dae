"""The paper's three image networks: they take uint8 images and give float32 logits."""

NAMES = ("mlp", "alexnet", "resnet")
