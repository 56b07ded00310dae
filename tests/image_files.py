"""Small image data sets on disk, as the demo's users have them."""

import numpy as np


def cifar_like(directory, name="cifar10", images=50, classes=10, **replace):
    """Writes NAME.npz in Keras's form; each image is filled with its own index."""
    x = np.broadcast_to(np.arange(images, dtype="uint8")[:, None, None, None], (images, 32, 32, 3))
    y = (np.arange(images) % classes).astype("uint8")[:, None]
    arrays = {"x_train": x, "y_train": y, "x_test": x[:10], "y_test": y[:10], **replace}
    np.savez(directory / f"{name}.npz", **{k: v for k, v in arrays.items() if v is not None})
    return directory


def image_folders(root, mode="RGB", classes=("cat", "dog"), count=3):
    """Writes train/CLASS/*.png and test/CLASS/*.png; class k has pixels in [100·k, 100·k + 50)."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(100 * label, 100 * label + 50, (20, 30, 3)).astype("uint8")
                Image.fromarray(pixels).convert(mode).save(root / part / name / f"{i}.png")
    return root
