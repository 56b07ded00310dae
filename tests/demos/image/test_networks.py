"""The image demo's networks and its settings: sizes, formulas, schedules, checkpoints."""

import dataclasses

import keras
import numpy as np
import pytest
from harness import numpy, slow
from keras import ops

from demos.image import recipes
from demos.image.data.common.augment import crop_and_flip, shift
from demos.image.data.common.images import ImageData
from demos.image.networks import NAMES, bodies, building
from demos.image.recipes import Recipe
from demos.kit import checkpoints, epochs
from demos.kit.errors import DamagedFile, Diverged
from demos.kit.runs import Run
from demos.kit.trials import Trial, fit


def pixels(rng, shape=(6, 32, 32, 3)):
    return rng.integers(0, 256, shape).astype("uint8")


def build(name, images, classes, **fields):
    return building.build(images, classes, Recipe(name, **fields))


def make_model(name, data, recipe, label_smoothing):
    model = building.build(data.x_train, data.num_classes, dataclasses.replace(recipe, model=name))
    building.compile_model(model, recipe, label_smoothing)
    return model


def train(model, data, recipe, seed, path):
    def batches(first):
        return building.batches_of(data.x_train, data.y_train, recipe, seed, first)

    trial = Trial("", seed, {}, None, batches, recipe.steps_per_epoch, recipe.epochs, None, {})
    return fit(trial, Run(path, {}), model, model)


@pytest.mark.parametrize(
    ("name", "classes", "trainable"),
    [
        # By hand from the layers' sizes; He et al. (2016) print 0.27 M and 0.85 M for the two ResNets.
        ("mlp", 10, (3072 * 1200 + 1200) + (1200 * 1200 + 1200) + (1200 * 10 + 10)),
        (
            "alexnet",
            10,
            (75 * 64 + 64) + (1600 * 64 + 64) + (4096 * 384 + 384) + (384 * 192 + 192) + (192 * 10 + 10),
        ),
        ("resnet20", 10, 269_722),
        ("resnet56", 100, 858_868),
    ],
)
def test_parameter_counts(rng, name, classes, trainable):
    depth = int(name[6:] or 0) if name.startswith("resnet") else 56
    model = build(name.rstrip("0123456789"), pixels(rng), classes, depth=depth)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == trainable


def test_lrn_is_the_formula(rng):
    x = rng.normal(size=(2, 3, 3, 11)).astype("float32") * 5
    radius, bias, alpha, beta = 2, 1.5, 0.1, 0.75
    expected = np.empty(x.shape)
    for c in range(11):
        neighbours = x[..., max(0, c - radius) : c + radius + 1].astype("float64")
        expected[..., c] = x[..., c] / (bias + alpha * (neighbours**2).sum(-1)) ** beta
    layer = bodies.LocalResponseNormalization(radius, bias, alpha, beta)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5)


def test_lrn_of_bfloat16_rounds_only_its_result(rng):
    x = ops.cast(rng.normal(size=(4, 2, 2, 64)).astype("float32") * 30, "bfloat16")
    out = bodies.LocalResponseNormalization(dtype="bfloat16")(x)
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
    exact = bodies.LocalResponseNormalization(dtype="float32")(ops.cast(x, "float32"))
    np.testing.assert_array_equal(numpy(out), numpy(ops.cast(exact, "bfloat16")))


def test_padded_shortcut(rng):
    x = rng.normal(size=(2, 5, 4, 3)).astype("float32")
    layer = bodies.PaddedShortcut(6)
    out = numpy(layer(x))
    assert out.shape == (2, 3, 2, 6)
    assert layer(keras.Input(x.shape[1:])).shape == (None, 3, 2, 6)
    np.testing.assert_array_equal(out[..., 1:4], x[:, ::2, ::2])
    assert not out[..., [0, 4, 5]].any()


@pytest.mark.parametrize("name", NAMES)
def test_saved_in_bfloat16_gives_the_same_float32_logits(rng, name, tmp_path):
    x = pixels(rng)
    model = building.build(x, 10, Recipe(name, depth=8, hidden=(20,)), "mixed_bfloat16")
    assert "bfloat16" in {layer.compute_dtype for layer in model.layers}
    logits = model(x)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(keras.models.load_model(tmp_path / "model.keras")(x)), numpy(logits))


def test_pixels_are_normalised_by_the_training_images(rng):
    x = pixels(rng, (50, 8, 8, 3)) // np.array([1, 2, 4], "uint8")
    model = build("mlp", x, 10, hidden=(4,))
    normalised = numpy(model.get_layer("normalise")(x)).astype("float64")
    np.testing.assert_allclose(normalised.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std((0, 1, 2)), 1, rtol=1e-5)


def test_constant_channels_stay_finite():
    model = build("mlp", np.full((4, 8, 8, 1), 7, "uint8"), 10, hidden=(4,))
    assert np.isfinite(numpy(model(np.full((4, 8, 8, 1), 9, "uint8")))).all()


@pytest.mark.parametrize(
    ("name", "decayed"), [("mlp", 3), ("alexnet", 2), ("resnet", 8)]
)  # resnet of depth 8: 7 convolutions and the last layer
def test_weight_decay(rng, name, decayed):
    model = build(name, pixels(rng), 10, depth=8, hidden=(20, 20), weight_decay=0.3)
    kernels = [v for v in model.trainable_variables if v.regularizer is not None]
    assert len(kernels) == decayed
    expected = 0.5 * 0.3 * sum(float(np.square(numpy(v).astype("float64")).sum()) for v in kernels)
    model(pixels(rng))
    assert sum(float(loss) for loss in model.losses) == pytest.approx(expected, rel=1e-4)


def test_refused_networks(rng):
    with pytest.raises(ValueError, match=r"6·n \+ 2"):
        build("resnet", pixels(rng), 10, depth=57)
    with pytest.raises(ValueError, match="mlp, alexnet, resnet"):
        build("vgg", pixels(rng), 10)


class TestRecipe:
    @pytest.mark.parametrize(
        ("model", "step", "rate"),
        [
            ("resnet", 31_999, 0.1),
            ("resnet", 32_001, 0.01),
            ("resnet", 48_001, 0.001),
            ("alexnet", 6_666, 0.1),
            ("alexnet", 6_668, 0.01),
            ("alexnet", 13_334, 0.001),
            ("mlp", 0, 0.1),
            ("mlp", 5_000, 0.05),
            ("mlp", 10_000, 0.0),
        ],
    )
    def test_schedules(self, model, step, rate):
        optimizer = building.make_optimizer(recipes.paper_recipe(model, "cifar10"))
        optimizer.build([keras.Variable(0.0)])
        optimizer.iterations.assign(step)
        assert float(numpy(optimizer.learning_rate)) == pytest.approx(rate, rel=1e-5)

    def test_the_papers_settings(self):
        resnet = recipes.paper_recipe("resnet", "cifar100")
        assert (resnet.steps, resnet.batch_size, resnet.momentum, resnet.nesterov) == (64_000, 128, 0.9, True)
        assert (resnet.weight_decay, resnet.clipnorm, resnet.loss_scale, resnet.augment) == (1e-4, 1.0, 3.0, True)
        alexnet = recipes.paper_recipe("alexnet", "cifar10")
        assert (alexnet.momentum, alexnet.weight_decay, alexnet.clipnorm, alexnet.loss_scale) == (0.0, 0.04, 0.0, 3.0)
        assert not recipes.paper_recipe("mlp", "mnist").augment

    def test_the_head_has_its_own_rate(self):
        def moved(head_rate, **bound):
            layers = {name: keras.layers.Dense(1, name=name) for name in ("hidden", "logits")}
            for layer in layers.values():
                layer.build((None, 1))
                layer.kernel.assign([[1.0]])
            variables = [layer.kernel for layer in layers.values()]
            optimizer = building.HeadRateSGD(0.5, momentum=0.9, head_rate=head_rate, **bound)
            optimizer.build(variables)
            for _ in range(2):
                optimizer.apply([ops.ones((1, 1)), ops.ones((1, 1))], variables)
            return [1 - float(numpy(v)[0, 0]) for v in variables]

        plain = 0.5 * (1 + 1.9)  # two steps of SGD with momentum 0.9 on a gradient of 1
        np.testing.assert_allclose(moved(1.0), [plain, plain], rtol=1e-6)
        np.testing.assert_allclose(moved(0.1), [plain, 0.1 * plain], rtol=1e-5)
        bounded = 0.5 * (1 + 1.9) / 2**0.5  # both gradients of 1 count in their norm
        np.testing.assert_allclose(moved(0.1, global_clipnorm=1.0), [bounded, 0.1 * bounded], rtol=1e-5)

    @pytest.mark.parametrize(
        ("steps", "pass_length", "multiple", "expected"),
        [
            (64_000, 312, 20, (320, 200)),
            (390_000, 312, 1, (312, 1250)),
            (1_000, 18, 1, (100, 10)),  # short passes are joined
            (997, 18, 1, (100, 10)),  # a prime: rounded up
            (600, 468, 7, (602, 1)),
            (1, 18, 20, (20, 1)),
        ],
    )
    def test_epoch_length(self, steps, pass_length, multiple, expected):
        assert epochs.epoch_length(steps, pass_length, multiple) == expected

    def test_epochs_hold_at_least_the_steps(self):
        for steps in range(1, 700, 13):
            for multiple in (1, 3, 20):
                length, number = epochs.epoch_length(steps, 50, multiple)
                assert length % multiple == 0
                assert steps <= length * number < steps + multiple * (number + 1)


def toy(rng, classes=3):
    x, y = pixels(rng, (64, 8, 8, 1)), rng.integers(0, classes, 64).astype("int32")
    return ImageData("toy", x, y, x, y, tuple("abc"[:classes]))


def toy_recipe(**changes):
    recipe = Recipe(steps=12, steps_per_epoch=4, batch_size=16, momentum=0.9, augment=True, hidden=(8,), depth=8)
    return dataclasses.replace(recipe, **changes)


@pytest.mark.parametrize("name", ["mlp", slow("resnet")])
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(rng, name, tmp_path, monkeypatch):
    data, recipe = toy(rng), toy_recipe()

    def run(path):
        keras.utils.set_random_seed(3)
        model = make_model(name, data, recipe, 0.1)
        return train(model, data, recipe, 3, path), model

    expected_history, expected = run(tmp_path / "whole")
    save = checkpoints.save

    def killed(path, model, epoch, *rest):
        if epoch == 2:
            raise KeyboardInterrupt
        save(path, model, epoch, *rest)

    monkeypatch.setattr(checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(checkpoints, "save", save)
    history, model = run(tmp_path / "killed")

    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert int(numpy(model.optimizer.iterations)) == 12
    for got, wanted in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_allclose(numpy(got), numpy(wanted), rtol=1e-4, atol=1e-5)
    assert history[-1]["loss"] == pytest.approx(expected_history[-1]["loss"], rel=1e-4)
    again, _ = run(tmp_path / "killed")  # finished: nothing is trained
    assert again == history


def test_a_checkpoint_is_whole_or_absent(rng, tmp_path, monkeypatch):
    data, recipe = toy(rng), toy_recipe()
    model = make_model("mlp", data, recipe, 0.0)
    path = tmp_path / "checkpoint.npz"
    checkpoints.save(path, model, 1, [{"epoch": 1}])

    def full(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(path, model, 2, [])
    assert checkpoints.restore(path, model) == (1, [{"epoch": 1}])


def test_a_checkpoint_of_another_network_is_refused(rng, tmp_path):
    data = toy(rng)
    path = tmp_path / "checkpoint.npz"
    checkpoints.save(path, make_model("mlp", data, toy_recipe(), 0.0), 1, [{"epoch": 1}])
    with pytest.raises(DamagedFile, match="another network"):
        checkpoints.restore(path, make_model("mlp", data, toy_recipe(hidden=(8, 8)), 0.0))


def test_divergence_stops_training(rng, tmp_path):
    data, recipe = toy(rng), toy_recipe(learning_rate=1e30)
    with pytest.raises(Diverged, match="lower the learning rate"):
        train(make_model("mlp", data, recipe, 0.0), data, recipe, 0, tmp_path)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_the_loss_is_scaled_and_clipping_is_of_the_whole_gradient(rng):
    data = toy(rng)
    model = make_model("mlp", data, toy_recipe(loss_scale=3.0, clipnorm=1.0, weight_decay=0.5), 0.1)
    decay = 0.25 * sum(np.square(numpy(v)).sum() for v in model.trainable_variables if len(v.shape) == 2)
    z = numpy(model(data.x_test)).astype("float64")
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    expected = 3 * -(0.9 * log_p[np.arange(64), data.y_test] + 0.1 * log_p.mean(-1)).mean() + decay
    assert model.evaluate(data.x_test, data.y_test, verbose=0)[0] == pytest.approx(expected, rel=1e-4)
    assert model.optimizer.global_clipnorm == 1.0
    assert model.optimizer.clipnorm is None


def test_batches_are_augmented_as_the_recipe_says(rng):
    x, y = rng.integers(1, 256, (16, 12, 12, 1)).astype("uint8"), np.arange(16, dtype="int32")

    def images(**fields):
        return building.batches_of(x, y, Recipe(batch_size=16, **fields), 5, 2)[0][0]

    plain = images()
    cropped = crop_and_flip(plain, np.random.default_rng([5, 2, 0]), 4)
    np.testing.assert_array_equal(images(augment=True), cropped)
    np.testing.assert_array_equal(images(shift=2), shift(plain, np.random.default_rng([5, 2, 0]), 2))


def test_images_are_channels_last_whatever_keras_is_set_to(rng):
    images, recipe = rng.integers(0, 256, (8, 28, 28, 1), "uint8"), Recipe(model="alexnet")
    order = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        model = building.build(images, 10, recipe)
        assert keras.config.image_data_format() == "channels_first"
    finally:
        keras.config.set_image_data_format(order)
    shapes = [weight.shape for weight in building.build(images, 10, recipe).weights]
    assert [weight.shape for weight in model.weights] == shapes
