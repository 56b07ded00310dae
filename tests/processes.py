"""Callbacks and predictions in one of several processes: `python processes.py FOLDER INDEX COUNT PORT`, as JSON."""

import json
import pathlib
import sys

import keras
import numpy as np
from keras import layers

import keras_ls

K, D = 3, 4


def network(seed, width=6):
    rng = np.random.default_rng(seed)
    model = keras.Sequential([keras.Input((D,)), layers.Dense(width, "relu"), layers.Dense(K)])
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def main(folder, index, count, port):
    index, count, folder = int(index), int(count), pathlib.Path(folder)
    if count > 1:
        keras.distribution.initialize(f"127.0.0.1:{port}", count, index)
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    rng = np.random.default_rng(0)
    x_train, y_train = rng.normal(size=(64, D)).astype("float32"), rng.integers(0, K, 64)
    x, y = rng.normal(size=(31, D)).astype("float32"), np.arange(31) % K
    own = np.arange(64).reshape(-1, count, 16 // count)[:, index].reshape(-1)  # of each batch of 16
    log_dir = folder / f"logs-{index}"
    callbacks = [
        keras_ls.Calibration(x, y, from_logits=None, log_dir=log_dir),
        keras_ls.PenultimateProjection(x, y, (0, 1, 2), log_dir),
        keras_ls.EmbeddingProjector(x, log_dir, labels=y),
        keras_ls.MutualInformation(x, y, (0, 1), layers.GaussianNoise(0.1), log_dir),
    ]
    model = network(1)
    loss = keras_ls.SmoothedSparseCategoricalCrossentropy(0.1, from_logits=True)
    ece = keras_ls.ExpectedCalibrationError(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, weighted_metrics=[ece])
    history = model.fit(
        x_train[own], y_train[own], 16 // count, 2, shuffle=False, callbacks=callbacks, verbose=0
    ).history
    teacher, path = network(2), folder / "zt.npy"
    found = {
        **history,
        "weights": model.get_weights(),
        "logits": keras_ls.teacher_logits(teacher, x),
        "stored": [keras_ls.teacher_logits(teacher, x, batch_size=8, path=path) for _ in range(2)],
        "activations": keras_ls.penultimate_activations(model, x, batch_size=8),
        "temperature": keras_ls.calibrate(model, x, y).layers[-1].temperature.numpy(),
        "diagnosed": keras_ls.diagnose(model, x, y, num_resamples=10).estimates["ece"].value,
    }
    leaves = {name: [np.asarray(leaf, "float64") for leaf in keras.tree.flatten(found[name])] for name in found}
    print(json.dumps({name: np.concatenate([leaf.reshape(-1) for leaf in leaves[name]]).tolist() for name in found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
