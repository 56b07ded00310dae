"""The distiller: its loss and gradients against float64, and everything that a compiled model can do."""

import contextlib
import json
import shutil

import keras
import numpy as np
import pytest
import reference
from harness import BACKEND, EAGER, numpy, slow
from keras import layers, ops

import keras_ls
from keras_ls.distillation import Distiller, equivalent_smoothing, teacher_logits
from keras_ls.distillation._matching import MatchingLoss, softened_cross_entropy

K, D, N = 4, 5, 12


# --- models and references -------------------------------------------------------------------------------------------


def linear(kernel, softmax=False, **options):
    """Softmax regression with the given kernel and no bias."""
    head = layers.Dense(kernel.shape[1], "softmax" if softmax else None, use_bias=False, **options)
    model = keras.Sequential([keras.Input(kernel.shape[:1]), head])
    model.set_weights([kernel])
    return model


def network(softmax=False, dropout=0.0, **head):
    """Everything that keeps a state of its own: batch normalisation and dropout."""
    return keras.Sequential(
        [
            keras.Input((D,)),
            layers.Dense(8, "relu", kernel_regularizer=keras.regularizers.L2(0.01)),
            layers.BatchNormalization(),
            layers.Dropout(dropout),
            layers.Dense(K, "softmax" if softmax else None, **head),
        ]
    )


@keras.saving.register_keras_serializable(package="test_distillation")
class Opaque(keras.Model):
    """A subclassed model: its layers do not show what it gives."""

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = activation
        self.head = layers.Dense(K, activation)

    def call(self, inputs):
        return self.head(inputs)

    def get_config(self):
        return {**super().get_config(), "activation": self.activation}


def opaque(activation=None):
    model = Opaque(activation)
    model(np.zeros((1, D), "float32"))
    return model


def hard_loss(softmax=False):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not softmax)


def expected(x, kernel, zt, labels, beta, temperature, own, matching, scale, weights=None, l2=0.0):
    """Loss and its gradient with respect to the kernel of softmax regression, in float64."""
    x, kernel, zt = (np.asarray(array, "float64") for array in (x, kernel, zt))
    z, targets = x @ kernel, np.eye(kernel.shape[1])[labels]
    weights = np.ones(len(x)) if weights is None else weights
    if matching == "squared_logits":
        soft, slope = 0.5 * ((zt - z) ** 2).sum(-1), z - zt
    else:
        soft_targets = reference.softmax(zt / temperature)
        soft = reference.cross_entropy(soft_targets, z / own)
        slope = (reference.softmax(z / own) - soft_targets) / own
    each = (1 - beta) * reference.cross_entropy(targets, z) + beta * scale * soft
    slope = (1 - beta) * (reference.softmax(z) - targets) + beta * scale * slope
    loss = (weights * each).mean() + l2 * (kernel**2).sum()
    return loss, x.T @ (weights[:, None] * slope) / len(x) + 2 * l2 * kernel


def data(rng, n=N):
    return rng.standard_normal((n, D)).astype("float32"), rng.integers(0, K, n)


def one_step(distiller, x, y, softmax=False, run_eagerly=EAGER, **weights):
    """Loss of a batch, and its gradient with respect to the student's weights: what a step of plain SGD takes off."""
    before = distiller.student.get_weights()
    distiller.compile(keras.optimizers.SGD(1.0), hard_loss(softmax), run_eagerly=run_eagerly)
    loss = distiller.train_on_batch(x, y, **weights)
    after = distiller.student.get_weights()
    return float(loss), [a - b for a, b in zip(before, after, strict=True)]


def assert_same(weights, others, **tolerance):
    assert len(weights) == len(others)
    for a, b in zip(weights, others, strict=True):
        if tolerance:
            np.testing.assert_allclose(numpy(a), numpy(b), **tolerance)
        else:
            np.testing.assert_array_equal(numpy(a), numpy(b))


@contextlib.contextmanager
def policy(name):
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return keras.tree.map_structure(lambda array: array[4 * index : 4 * index + 4], self.arrays)


# --- loss and gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matching", ["cross_entropy", "squared_logits"])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("temperature", "student_temperature", "softmax"), [(1.0, None, False), (3.0, None, True), (2.5, 0.7, False)]
)
def test_loss_and_gradient_are_the_formula(matching, beta, temperature, student_temperature, softmax, rng):
    x, y = data(rng)
    kernel, teacher_kernel = rng.standard_normal((2, D, K)).astype("float32")
    distiller = Distiller(
        linear(teacher_kernel, softmax=softmax),
        linear(kernel, softmax=softmax),
        temperature=temperature,
        beta=beta,
        student_temperature=student_temperature,
        matching=matching,
    )
    own = student_temperature or (1.0 if beta == 1.0 else temperature)
    loss, gradient = expected(x, kernel, x @ teacher_kernel, y, beta, temperature, own, matching, 1.0)
    # Some are compiled, too.
    found_loss, (found,) = one_step(distiller, x, y, softmax, EAGER and (temperature, beta) != (3.0, 0.3))
    assert found_loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("matching", ["cross_entropy", "squared_logits"])
@pytest.mark.parametrize("beta", [0.4, 1.0])
def test_weights_penalties_and_squared_temperature(matching, beta, rng):
    x, y = data(rng)
    kernel, teacher_kernel = rng.standard_normal((2, D, K)).astype("float32")
    weights = np.array([0.0, 3.0] * 6, "float32")
    student = linear(kernel, kernel_regularizer=keras.regularizers.L2(0.05))
    teacher = linear(teacher_kernel, kernel_regularizer=keras.regularizers.L2(10.0))
    distiller = Distiller(teacher, student, 2.0, beta, matching=matching, temperature_squared=True)
    own = 1.0 if beta == 1.0 else 2.0
    loss, gradient = expected(x, kernel, x @ teacher_kernel, y, beta, 2.0, own, matching, 4.0, weights, 0.05)
    found_loss, (found,) = one_step(distiller, x, y, sample_weight=weights)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=2e-6)


def test_penalties_of_a_frozen_layer_that_both_have_count_at_every_beta(rng):
    x, y = data(rng)
    found = {}
    for beta in (0.0, 0.5):
        for regularizer in (None, "l2"):
            keras.utils.set_random_seed(0)
            shared = layers.Dense(D, activity_regularizer=regularizer, trainable=False)
            teacher, student = (keras.Sequential([keras.Input((D,)), shared, layers.Dense(K)]) for _ in range(2))
            found[beta, regularizer] = one_step(Distiller(teacher, student, beta=beta), x, y)[0]
    penalty = found[0.0, "l2"] - found[0.0, None]
    assert penalty > 0.01
    assert found[0.5, "l2"] - found[0.5, None] == pytest.approx(penalty, rel=1e-3)


@pytest.mark.peer
def test_gradient_is_pytorchs(rng):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's cross-entropy of soft targets")
    x, y = data(rng)
    kernel, teacher_kernel = rng.standard_normal((2, D, K)).astype("float32")
    distiller = Distiller(linear(teacher_kernel), linear(kernel), 2.0, 0.6, temperature_squared=True)
    loss, (found,) = one_step(distiller, x, y)
    w = torch.tensor(kernel, requires_grad=True)
    z, zt = torch.tensor(x) @ w, torch.tensor(x @ teacher_kernel)
    soft = torch.nn.functional.cross_entropy(z / 2, torch.softmax(zt / 2, -1))
    value = 0.4 * torch.nn.functional.cross_entropy(z, torch.tensor(y)) + 0.6 * 4 * soft
    value.backward()
    assert loss == pytest.approx(value.item(), rel=1e-5)
    np.testing.assert_allclose(found, w.grad.numpy(), rtol=1e-4, atol=2e-6)


def test_extreme_logits_stay_finite_and_not_finite_ones_show(rng):
    x = np.eye(D, dtype="float32")
    kernel = np.zeros((D, K), "float32")
    far = 100 * rng.standard_normal((D, K)).astype("float32")
    loss, (gradient,) = one_step(Distiller(linear(kernel), linear(far)), x, None)
    assert loss == pytest.approx(expected(x, far, x @ kernel, [0] * D, 1.0, 1, 1, "cross_entropy", 1)[0], rel=1e-5)
    assert np.isfinite(gradient).all()
    far[0, 0] = np.nan
    assert np.isnan(one_step(Distiller(linear(kernel), linear(far)), x, None)[0])
    assert np.isnan(one_step(Distiller(linear(far), linear(kernel)), x, None)[0])


@pytest.mark.parametrize("matching", ["cross_entropy", "squared_logits"])
def test_a_class_that_cannot_occur_costs_nothing(matching, rng):
    teacher, student = rng.standard_normal((2, 5, K)).astype("float32")
    teacher[:, 1] = student[:, 1] = -np.inf
    found = MatchingLoss(matching, 2.0, 1.0, 1.0)(teacher, student)
    rest = MatchingLoss(matching, 2.0, 1.0, 1.0)(np.delete(teacher, 1, 1), np.delete(student, 1, 1))
    assert float(found) == pytest.approx(float(rest), rel=1e-6)
    student[:, 1] = np.nan
    assert np.isnan(float(MatchingLoss(matching, 2.0, 1.0, 1.0)(teacher, student)))


def test_one_unit_is_two_columns_at_infinity():
    for teacher, logit in ((np.inf, 0.5), (-np.inf, 0.5), (-np.inf, -np.inf), (-200.0, -np.inf), (0.5, -np.inf)):
        one, two = (
            float(softened_cross_entropy(*(ops.convert_to_tensor([[*row, z]], "float32") for z in pair), 1.0, 1.0)[0])
            for row, pair in (((), (teacher, logit)), ((0.0,), (teacher, logit)))
        )
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("teachers", [-np.inf, -1e9, -200.0])
def test_a_class_that_only_the_student_forbids_costs_nothing_if_the_teacher_gives_it_no_probability(teachers, rng):
    teacher, student = rng.standard_normal((2, 5, K)).astype("float32")
    teacher[:, 1], student[:, 1] = teachers, -np.inf
    loss = MatchingLoss("cross_entropy", 1.0, 1.0, 1.0)
    rest = loss(np.delete(teacher, 1, 1), np.delete(student, 1, 1))
    assert float(loss(teacher, student)) == pytest.approx(float(rest), rel=1e-6)
    teacher[:, 1] = 0.0
    assert float(loss(teacher, student)) == np.inf


def test_class_weights_may_be_named_by_floats(rng):
    x, y = data(rng)
    kernel, zt = rng.standard_normal((D, K)).astype("float32"), rng.standard_normal((N, K)).astype("float32")
    losses = []
    for class_weight in ({0: 2.0, 1: 3.0}, {0.0: 2.0, np.float32(1): 3.0}):
        distiller = Distiller(None, linear(kernel), 2.0, 0.6)
        distiller.compile(keras.optimizers.SGD(0.0), hard_loss())
        targets = {"labels": y, "teacher_logits": zt}
        losses += distiller.fit(x, targets, batch_size=N, class_weight=class_weight, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for key in (0.5, "a", K):
        with pytest.raises(ValueError, match="`class_weight` must name classes in"):
            distiller.fit(x, targets, batch_size=N, class_weight={key: 2.0}, verbose=0)


def test_sequences_count_what_the_mask_and_the_weights_leave(rng):
    tokens = rng.integers(1, 9, (6, 3))
    tokens[:3, 2] = 0
    embedding, kernel = rng.standard_normal((9, D)), rng.standard_normal((D, K))

    def model(softmax):
        found = keras.Sequential(
            [keras.Input((3,)), layers.Embedding(9, D, mask_zero=True), layers.Dense(K, softmax, use_bias=False)]
        )
        found.set_weights([embedding, kernel])
        return found

    zt = rng.standard_normal((6, 3, K)).astype("float32")
    zt[:3, 2] = np.nan  # padding may hold anything
    weights = rng.uniform(0, 2, (6, 3)).astype("float32")
    rows = [(i, t) for i in range(6) for t in range(3) if tokens[i, t]]
    each = [
        reference.cross_entropy(reference.softmax(zt[i, t] / 2.0), embedding[tokens[i, t]] @ kernel) * weights[i, t]
        for i, t in rows
    ]
    for activation in (None, "softmax"):
        distiller = Distiller(None, model(activation), 2.0)
        both = {"labels": weights, "teacher_logits": weights}
        loss, _ = one_step(distiller, tokens, {"labels": tokens, "teacher_logits": zt}, sample_weight=both)
        assert loss == pytest.approx(np.mean(each), rel=1e-5)
    # One weight an example counts for all of its positions.
    distiller = Distiller(None, model(None), 2.0)
    loss, _ = one_step(distiller, tokens, {"teacher_logits": zt}, sample_weight=np.arange(6.0))
    assert loss == pytest.approx(
        np.mean([value / weights[row] * row[0] for value, row in zip(each, rows, strict=True)]), rel=1e-5
    )


def test_weights_of_examples_are_not_of_steps(rng):
    x, y = rng.standard_normal((4, 4, D)).astype("float32"), rng.integers(0, K, (4, 4))
    zt, kernel = rng.standard_normal((4, 4, K)).astype("float32"), rng.standard_normal((D, K)).astype("float32")
    weight, losses = np.arange(4.0, dtype="float32"), []
    for given in (weight, np.repeat(weight[:, None], 4, axis=1)):
        student = keras.Sequential([keras.Input((4, D)), layers.Dense(K, use_bias=False)])
        student.set_weights([kernel])
        distiller = Distiller(None, student, 2.0, 0.4)
        distiller.compile("sgd", hard_loss())
        targets, weights = ({"labels": a, "teacher_logits": b} for a, b in ((y, zt), (given, given)))
        losses.append(distiller.fit(x, targets, batch_size=4, sample_weight=weights, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("beta", [0.4, 1.0])
@pytest.mark.parametrize("cached", [False, True])
def test_both_terms_count_the_weights_of_masked_sequences_once(cached, beta, rng):
    tokens, labels = rng.integers(1, 9, (6, 3)), rng.integers(0, K, (6, 3))
    tokens[:3, 2] = 0
    embeddings, kernels = rng.standard_normal((2, 9, D)), rng.standard_normal((2, D, K))

    def model(which):
        found = keras.Sequential(
            [keras.Input((3,)), layers.Embedding(9, D, mask_zero=True), layers.Dense(K, use_bias=False)]
        )
        found.set_weights([embeddings[which], kernels[which]])
        return found

    z, zt = (embeddings[which][tokens] @ kernels[which] for which in range(2))
    each = (1 - beta) * reference.cross_entropy(np.eye(K)[labels], z)
    own = 1.0 if beta == 1.0 else 2.0
    each = each + beta * reference.cross_entropy(reference.softmax(zt / 2.0), z / own)
    by_class = np.array([1.0, 3.0, 0.5, 0.0], "float32")
    positions = {"weights": rng.uniform(0, 2, (6, 3)).astype("float32")}
    if cached:
        positions["class_weight"] = by_class[labels]
    positions["one per sequence"] = np.repeat(np.arange(6, dtype="float32")[:, None], 3, axis=1)
    for name, weights in positions.items():
        distiller = Distiller(None if cached else model(1), model(0), 2.0, beta)
        y = {"labels": labels, "teacher_logits": zt.astype("float32")} if cached else labels
        options = {"sample_weight": {"labels": weights, "teacher_logits": weights} if cached else weights}
        if name == "one per sequence":
            weight = weights[:, 0]
            options = {"sample_weight": {"labels": weight, "teacher_logits": weight} if cached else weight}
        if name == "class_weight":
            options = {"class_weight": dict(enumerate(by_class.tolist()))}
        loss, _ = one_step(distiller, tokens, y, **options)
        assert loss == pytest.approx((each * weights)[tokens > 0].mean(), rel=1e-5), name


@pytest.mark.parametrize("softmax", [False, True])
def test_penalties_of_the_student_count_once_whatever_beta_is(softmax, rng):
    x, y = data(rng)
    student = network(softmax, activity_regularizer=keras.regularizers.L1(0.1))
    teacher = network(softmax, activity_regularizer=keras.regularizers.L1(7.0))
    z = teacher_logits(teacher, x)
    student(x, training=True)
    penalty = sum(float(numpy(loss)) for loss in student.losses)
    student.set_weights(student.get_weights())
    losses = {}
    for beta in (0.0, 0.5, 1.0):
        copy = keras.models.clone_model(student)
        copy.set_weights(student.get_weights())
        losses[beta], _ = one_step(Distiller(teacher, copy, beta=beta, student_temperature=1.0), x, y, softmax)
    assert penalty > 0.1
    assert losses[0.5] == pytest.approx((losses[0.0] + losses[1.0]) / 2, rel=1e-5)
    copy = keras.models.clone_model(student)
    copy.set_weights(student.get_weights())
    logits = numpy(copy(x, training=True))
    logits = np.log(logits) if softmax else logits
    soft = reference.cross_entropy(reference.softmax(z), logits).mean()
    assert losses[1.0] == pytest.approx(soft + penalty, rel=1e-4)


# --- binary classifiers: one sigmoid unit, or its logit --------------------------------------------------------------


def unit(kernel, sigmoid=False, **options):
    """Logistic regression with the given kernel (D, 1) and no bias."""
    head = layers.Dense(1, "sigmoid" if sigmoid else None, use_bias=False, **options)
    model = keras.Sequential([keras.Input(kernel.shape[:1]), head])
    model.set_weights([kernel])
    return model


def binary_loss(sigmoid=False):
    return keras.losses.BinaryCrossentropy(from_logits=not sigmoid)


def binary_cross_entropy(p, z):
    """−p·log σ(z) − (1 − p)·log(1 − σ(z)), in float64, without a logarithm of 0."""
    return p * np.logaddexp(0, -z) + (1 - p) * np.logaddexp(0, z)


def sigmoid(z):
    return 0.5 * (1 + np.tanh(z / 2))


def expected_of_unit(x, kernel, zt, labels, beta, temperature, own, matching, scale=1.0, weights=None):
    """Loss and its gradient with respect to the kernel of logistic regression, in float64."""
    x, kernel, zt = (np.asarray(array, "float64") for array in (x, kernel, zt))
    z, zt = (x @ kernel)[:, 0], zt.reshape(-1)
    weights = np.ones(len(x)) if weights is None else weights
    if matching == "squared_logits":
        soft, slope = 0.5 * (zt - z) ** 2, z - zt
    else:
        p = sigmoid(zt / temperature)
        soft, slope = binary_cross_entropy(p, z / own), (sigmoid(z / own) - p) / own
    each = (1 - beta) * binary_cross_entropy(labels, z) + beta * scale * soft
    slope = (1 - beta) * (sigmoid(z) - labels) + beta * scale * slope
    return (weights * each).mean(), x.T @ (weights * slope)[:, None] / len(x)


def unit_step(distiller, x, y, sigmoid=False, run_eagerly=EAGER, **weights):
    before = distiller.student.get_weights()
    distiller.compile(keras.optimizers.SGD(1.0), binary_loss(sigmoid), run_eagerly=run_eagerly)
    loss = distiller.train_on_batch(x, y, **weights)
    return float(np.ravel(loss)[0]), before[0] - distiller.student.get_weights()[0]


@pytest.mark.parametrize("matching", ["cross_entropy", "squared_logits"])
@pytest.mark.parametrize("beta", [slow(0.0), 0.3, 1.0])
@pytest.mark.parametrize(("temperature", "own"), [slow(1.0, None), (3.0, None), (2.5, 0.7)])
@pytest.mark.parametrize("given", ["logits", "sigmoids", "cached"])
def test_loss_and_gradient_of_one_unit_are_the_formula(matching, beta, temperature, own, given, rng):
    x, _ = data(rng)
    y = rng.integers(0, 2, (N, 1)).astype("float32")
    kernel, teacher_kernel = rng.standard_normal((2, D, 1)).astype("float32")
    shown = given == "sigmoids"
    teacher, student = unit(teacher_kernel, shown), unit(kernel, shown)
    targets = y
    if given == "cached":
        zt = teacher_logits(unit(teacher_kernel, True), x)
        assert zt.shape == (N, 1)
        np.testing.assert_allclose(zt, x @ teacher_kernel, rtol=1e-5, atol=1e-6)
        teacher, targets = None, {"labels": y, "teacher_logits": zt}
    distiller = Distiller(teacher, student, temperature, beta, own, matching)
    own = own or (1.0 if beta == 1.0 else temperature)
    loss, gradient = expected_of_unit(x, kernel, x @ teacher_kernel, y[:, 0], beta, temperature, own, matching)
    found_loss, found = unit_step(distiller, x, targets, shown, EAGER and (temperature, beta) != (3.0, 0.3))
    assert found_loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=2e-6)


def test_one_unit_is_two_classes_one_of_whose_logits_is_0(rng):
    x, _ = data(rng)
    kernel, teacher_kernel = rng.standard_normal((2, D, 1)).astype("float32")
    one = Distiller(unit(teacher_kernel, True), unit(kernel, True), 2.0, temperature_squared=True)
    both = [linear(np.concatenate([np.zeros((D, 1)), k], -1), True) for k in (teacher_kernel, kernel)]
    weights = rng.uniform(0, 2, N).astype("float32")
    loss, gradient = unit_step(one, x, None, sample_weight=weights)
    two_loss, (two_gradient,) = one_step(
        Distiller(*both, 2.0, temperature_squared=True), x, None, sample_weight=weights
    )
    assert loss == pytest.approx(two_loss, rel=1e-5)
    np.testing.assert_allclose(gradient, two_gradient[:, 1:], rtol=1e-4, atol=1e-6)


def test_extreme_logits_of_one_unit_stay_exact():
    x = np.eye(8, dtype="float32")
    z = np.array([0.0, 0.0, 40.0, 100.0, 100.0, -100.0, 30.0, -30.0])[:, None]
    zt = np.array([0.0, 40.0, 41.0, 100.0, -100.0, -100.0, 20.0, -20.0])[:, None]
    loss, gradient = expected_of_unit(x, z, zt, np.zeros(8), 1.0, 1.0, 1.0, "cross_entropy")
    found, found_gradient = unit_step(Distiller(unit(zt), unit(z)), x, None)
    assert found == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(found_gradient, gradient, rtol=1e-5, atol=1e-9)
    # The small losses, which the mean hides.
    pairs = [(2, 40.0, 41.0), (3, 100.0, 100.0), (6, 30.0, 20.0)]
    for place, logit, target in pairs:
        distiller = Distiller(unit(zt), unit(z))
        found, _ = unit_step(distiller, x[place : place + 1], None)
        exact = np.logaddexp(0, -logit) / (1 + np.exp(-target)) + np.logaddexp(0, logit) / (1 + np.exp(target))
        assert found == pytest.approx(exact, rel=1e-4)
    z[0] = np.nan
    assert np.isnan(unit_step(Distiller(unit(zt), unit(z)), x, None)[0])


def test_masked_sequences_of_one_unit(rng):
    tokens = rng.integers(1, 9, (6, 3))
    tokens[:3, 2] = 0
    embedding, kernel = rng.standard_normal((9, D)), rng.standard_normal((D, 1))

    def model(activation):
        found = keras.Sequential(
            [keras.Input((3,)), layers.Embedding(9, D, mask_zero=True), layers.Dense(1, activation, use_bias=False)]
        )
        found.set_weights([embedding, kernel])
        return found

    zt = rng.standard_normal((6, 3, 1)).astype("float32")
    zt[:3, 2] = np.nan
    each = [
        binary_cross_entropy(sigmoid(zt[i, t, 0] / 2.0), (embedding[tokens[i, t]] @ kernel)[0])
        for i in range(6)
        for t in range(3)
        if tokens[i, t]
    ]
    for activation in (None, "sigmoid"):
        distiller = Distiller(None, model(activation), 2.0)
        loss, _ = unit_step(distiller, tokens, {"teacher_logits": zt})
        assert loss == pytest.approx(np.mean(each), rel=1e-5)


def test_class_weights_of_one_unit_live_and_from_the_cache(rng):
    x, _ = data(rng)
    y = rng.integers(0, 2, N)
    kernel, teacher_kernel = rng.standard_normal((2, D, 1)).astype("float32")
    class_weight = {1: 3.0}
    weights = np.where(y == 1, 3.0, 1.0)
    loss, _ = expected_of_unit(x, kernel, x @ teacher_kernel, y, 0.6, 2.0, 2.0, "cross_entropy", weights=weights)
    zt = x @ teacher_kernel
    for teacher, targets in (
        (unit(teacher_kernel, True), y[:, None]),
        (None, {"labels": y[:, None], "teacher_logits": zt}),
        (None, {"labels": y[:, None].astype("float32"), "teacher_logits": zt}),
        (None, {"labels": y, "teacher_logits": zt}),
    ):
        distiller = Distiller(teacher, unit(kernel, True), 2.0, 0.6)
        distiller.compile(keras.optimizers.SGD(0.0), binary_loss(True), weighted_metrics=["accuracy"])
        history = distiller.fit(x, targets, batch_size=N, class_weight=class_weight, verbose=0).history
        assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
        hits = ((x @ kernel)[:, 0] > 0) == y
        assert history["accuracy"][0] == pytest.approx((hits * weights).sum() / weights.sum(), rel=1e-5)
    with pytest.raises(ValueError, match=r"must name classes in \[0, 2\)"):
        distiller.fit(x, targets, class_weight={2: 2.0}, verbose=0)


def test_log_odds_stand_for_the_logit_that_is_not_shown(rng):
    x, _ = data(rng)

    @keras.saving.register_keras_serializable(package="test_distillation")
    class OpaqueUnit(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.head = layers.Dense(1, "sigmoid")

        def call(self, inputs):
            return self.head(inputs)

    teacher, student = OpaqueUnit(), OpaqueUnit()
    p, q = (np.asarray(numpy(model(x)), "float64")[:, 0] for model in (teacher, student))
    zt, z = np.log(p / (1 - p)), np.log(q / (1 - q))
    np.testing.assert_allclose(teacher_logits(teacher, x, from_logits=False)[:, 0], zt, rtol=1e-4, atol=1e-5)
    distiller = Distiller(teacher, student, 2.0, teacher_from_logits=False, student_from_logits=False)
    loss = binary_cross_entropy(sigmoid(zt / 2), z).mean()
    assert unit_step(distiller, x, None, True)[0] == pytest.approx(loss, rel=1e-5)


def test_a_binary_distiller_trains_evaluates_and_is_saved_as_its_student(rng, tmp_path):
    x, _ = data(rng, 64)
    y = (x[:, :1] > 0).astype("float32")
    teacher = unit(10 * np.eye(D, 1, dtype="float32"), True)
    student = keras.Sequential([keras.Input((D,)), layers.Dense(8, "relu"), layers.Dense(1, "sigmoid")])
    distiller = Distiller(teacher, student, 2.0, 0.5)
    compiled = {"loss": binary_loss(True), "metrics": ["accuracy"]}
    distiller.compile(keras.optimizers.Adam(0.05), **compiled)
    history = distiller.fit(x, y, epochs=10, verbose=0, validation_data=(x, y)).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_accuracy"][-1] > 0.85
    student.compile(**compiled)
    own = student.evaluate(x, y, verbose=0, return_dict=True)
    assert distiller.evaluate(x, y, verbose=0, return_dict=True) == own
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), student.predict(x, verbose=0))
    losses = [model.fit(x, y, shuffle=False, verbose=0).history["loss"] for model in (distiller, loaded)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_models_that_are_no_pair_of_binary_classifiers_are_refused(rng):
    x, _ = data(rng)
    two, one = linear(np.zeros((D, 2)), True), unit(np.zeros((D, 1)), True)
    for teacher, student, received in ((two, one, "2 from the teacher, 1"), (one, two, "1 from the teacher, 2")):
        with pytest.raises(ValueError, match=f"same number of outputs. Received: {received} .* zt") as error:
            Distiller(teacher, student)
        assert "\n" not in str(error.value)
    cached = Distiller(None, one)
    cached.compile("sgd")
    with pytest.raises(ValueError, match=r"must have the shape of the student's.*zt\[\.\.\., 1:\] - zt"):
        cached.fit(x, {"teacher_logits": np.zeros((N, 2), "float32")}, verbose=0)
    cached.fit(x, {"teacher_logits": np.zeros((N, 1), "float32")}, verbose=0)  # what was wrong is mended
    several = keras.Sequential([keras.Input((D,)), layers.Dense(K, "sigmoid")])
    for said in (None, False):
        for role in ("teacher", "student"):
            models = {"teacher": network(), "student": network(), role: several}
            with pytest.raises(ValueError, match=f"`{role}` must give one distribution.* multi-label"):
                Distiller(**models, **{f"{role}_from_logits": said})
    with pytest.raises(ValueError, match=r"`teacher` must give one distribution.* multi-label"):
        teacher_logits(several, x, from_logits=False)
    softmax = keras.Sequential([keras.Input((D,)), layers.Dense(1, "softmax")])
    with pytest.raises(ValueError, match="`teacher` must not end in a softmax over one unit"):
        Distiller(softmax, one)


# --- what must stay as it is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("teacher_given", "softmax"), [(True, False), slow(False, True)])
def test_beta_0_trains_bit_for_bit_as_the_student_alone(teacher_given, softmax, rng):
    x, y = data(rng, 40)

    def train(distilled):
        keras.utils.set_random_seed(7)
        student = network(softmax, dropout=0.4)
        start = student.get_weights()
        keras.utils.set_random_seed(8)
        teacher = network(dropout=0.3) if teacher_given else None
        keras.utils.set_random_seed(9)
        model = Distiller(teacher, student, 3.0, beta=0.0) if distilled else student
        model.compile(keras.optimizers.Adam(0.01), hard_loss(softmax), metrics=["accuracy"])
        targets = y if teacher_given or not distilled else {"labels": y, "teacher_logits": np.full((40, K), np.nan)}
        history = model.fit(x, targets, batch_size=8, epochs=2, verbose=0, validation_data=(x, y)).history
        return start, student.get_weights(), history

    start, alone, history = train(distilled=False)
    again, distilled, distilled_history = train(distilled=True)
    assert_same(start, again)
    assert_same(alone, distilled)
    assert history == distilled_history
    assert any((a != b).any() for a, b in zip(start, alone, strict=True))


def test_a_training_step_of_the_student_is_not_called_and_a_warning_says_so(rng):
    class Own(keras.Model):
        def compute_loss(self, *args, **kwargs):
            raise AssertionError("of the student alone")

    inputs = keras.Input((D,))
    student = Own(inputs, layers.Dense(K)(inputs))
    with pytest.warns(UserWarning, match="Distiller trains .* does not call the compute_loss of Own") as warned:
        distiller = Distiller(network(), student)
    assert warned[0].filename == __file__
    distiller.compile("sgd")
    distiller.fit(data(rng)[0], verbose=0)


@pytest.mark.parametrize("labels", ["wrong", "none"])
def test_beta_1_reads_no_labels(labels, rng):
    x, y = data(rng)
    kernel, teacher_kernel = rng.standard_normal((2, D, K)).astype("float32")
    distiller = Distiller(linear(teacher_kernel), linear(kernel))
    loss, _ = expected(x, kernel, x @ teacher_kernel, y, 1.0, 1.0, 1.0, "cross_entropy", 1.0)
    if labels == "none":
        distiller.compile("sgd")
        history = distiller.fit(x, batch_size=N, verbose=0).history
        distiller.compile("sgd", hard_loss())
        assert np.isnan(distiller.evaluate(x, verbose=0))
        distiller = Distiller(linear(teacher_kernel), linear(kernel))
        distiller.compile("sgd", metrics=["accuracy"])  # a loss is what the labels are for, too
        with pytest.warns(UserWarning, match="given no `loss`, so that in evaluation the loss is NaN"):
            found = distiller.evaluate(x, y, verbose=0, return_dict=True)
        assert np.isnan(found["loss"])
        assert found["accuracy"] == pytest.approx(((x @ kernel).argmax(-1) == y).mean())
        distiller = Distiller(linear(teacher_kernel), linear(kernel))
        distiller.compile("sgd", hard_loss(), metrics=["accuracy"])
        validated = distiller.fit(x, validation_data=(x, y), batch_size=N, epochs=2, verbose=0).history
        assert validated.keys() == {"loss", "val_loss", "val_accuracy"}
        assert validated["loss"][0] == pytest.approx(loss, rel=1e-5)
    else:
        distiller.compile("sgd", hard_loss())
        history = distiller.fit(x, np.full(N, np.nan), batch_size=N, verbose=0).history
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("softmax", [False, True])
def test_nothing_of_the_teacher_changes_and_its_dropout_is_off(softmax, rng):
    x, y = data(rng)
    teacher = network(softmax, dropout=0.9, activity_regularizer="l2")
    kernel = rng.standard_normal((D, K)).astype("float32")
    student = linear(kernel)
    before = [numpy(variable).copy() for variable in teacher.variables]
    flags = [layer.trainable for layer in teacher._flatten_layers()]
    zt = np.log(teacher.predict(x, verbose=0)) if softmax else teacher.predict(x, verbose=0)
    matching = "cross_entropy" if softmax else "squared_logits"
    distiller = Distiller(teacher, student, matching=matching)
    distiller.compile(keras.optimizers.SGD(0.0), hard_loss())
    history = distiller.fit(x, y, batch_size=N, epochs=3, verbose=0).history
    distiller.evaluate(x, y, verbose=0)
    loss, _ = expected(x, kernel, zt, y, 1.0, 1.0, 1.0, matching, 1.0)
    np.testing.assert_allclose(history["loss"], [loss] * 3, rtol=1e-5)
    assert_same(before, teacher.variables)
    assert flags == [layer.trainable for layer in teacher._flatten_layers()]
    assert all(flags)
    assert teacher.losses[1:] == []  # the weight penalty alone, no trace of a step
    assert [id(v) for v in distiller.trainable_variables] == [id(v) for v in student.trainable_variables]
    teacher.compile("sgd", hard_loss(softmax))
    teacher.fit(x, y, verbose=0)  # and it can be trained on
    assert any((a != numpy(b)).any() for a, b in zip(before, teacher.variables, strict=True))


@pytest.mark.parametrize("softmax", [slow(False), True])
def test_evaluate_and_predict_are_the_students(softmax, rng):
    x, y = data(rng, 30)
    student = network(softmax, dropout=0.5)
    distiller = Distiller(network(), student, 2.0, 0.5)
    compiled = {"loss": hard_loss(softmax), "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
    distiller.compile("adam", **compiled)
    distiller.fit(x, y, verbose=0)
    student.compile(**compiled)
    weights = rng.uniform(0, 2, 30).astype("float32")
    own = student.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    assert distiller.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True) == own
    cached = Distiller(None, student, 2.0, 0.5)
    cached.compile("adam", **compiled)
    targets = {"labels": y, "teacher_logits": np.full((30, K), np.nan, "float32")}
    for given in (y, targets):
        assert cached.evaluate(x, given, sample_weight=weights, verbose=0, return_dict=True) == own
    np.testing.assert_array_equal(distiller.predict(x, verbose=0), student.predict(x, verbose=0))
    np.testing.assert_array_equal(numpy(distiller(x, training=False)), numpy(student(x, training=False)))


@keras.saving.register_keras_serializable(package="test_distillation")
class Counting(layers.Layer):
    """Counts its calls in training and in inference."""

    def build(self, shape):
        self.counts = self.add_weight(shape=(2,), initializer="zeros", trainable=False)

    def call(self, inputs, training=False):
        self.counts.assign(self.counts + np.array([1.0, 0.0] if training else [0.0, 1.0]))
        return inputs


@pytest.mark.parametrize("softmax", [None, "dense", "nested"])
def test_each_model_runs_once_a_step(softmax, rng):
    x, y = data(rng)

    def model():
        head = layers.Dense(K, "softmax" if softmax == "dense" else None)
        inner = keras.Sequential([keras.Input((D,)), Counting(), head])
        if softmax == "nested":
            inner.add(layers.Softmax())
            inner = keras.Sequential([keras.Input((D,)), inner])
        return inner

    teacher, student = model(), model()
    distiller = Distiller(teacher, student, 2.0, 0.5)
    distiller.compile("sgd", hard_loss(softmax is not None), metrics=["accuracy"])
    distiller.fit(x, y, batch_size=4, verbose=0)  # three steps
    counts = [numpy(v) for m in (student, teacher) for v in m.variables if tuple(v.shape) == (2,)]
    np.testing.assert_array_equal(counts[0], [3, 0])
    # JAX hands on what a call in `compute_loss` assigned; what is tested is that there are no more calls.
    np.testing.assert_array_equal(counts[1], [0, 3])


# --- fit -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "cached"),
    [
        ("numpy", True),
        slow("PyDataset", False),
        slow("PyDataset", True),
        slow("DataLoader", True),
        ("tf.data", True),
    ],
)
def test_every_input_and_the_cache_train_the_same(source, cached, rng):
    x, y = data(rng)
    teacher, student = network(True), network()
    start = student.get_weights()
    zt = teacher_logits(teacher, x)
    targets = {"labels": y, "teacher_logits": zt} if cached else y

    def fit(teacher, *given, **options):
        student.set_weights(start)
        distiller = Distiller(teacher, student, 2.0, 0.5, None, "squared_logits")
        distiller.compile(keras.optimizers.SGD(0.05, momentum=0.9), hard_loss(), metrics=["accuracy"])
        history = distiller.fit(*given, epochs=2, verbose=0, shuffle=False, **options).history
        return history, student.get_weights()

    history, weights = fit(teacher, x, y, batch_size=4)
    if source == "numpy":
        given = {"x": x, "y": targets, "batch_size": 4, "validation_data": (x, targets)}
    elif source == "PyDataset":
        given = {"x": Batches(x, targets), "validation_data": Batches(x, targets)}
    elif source == "tf.data":
        tf = pytest.importorskip("tensorflow", reason="tf.data needs TensorFlow")
        dataset = tf.data.Dataset.from_tensor_slices((x, targets)).batch(4)
        given = {"x": dataset, "validation_data": dataset}
    else:
        torch = pytest.importorskip("torch", reason="a DataLoader needs PyTorch")
        examples = [(x[i], keras.tree.map_structure(lambda array, i=i: array[i], targets)) for i in range(N)]
        given = {"x": torch.utils.data.DataLoader(examples, batch_size=4)}
    found_history, found = fit(None if cached else teacher, **given)
    assert_same(weights, found, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found_history["loss"], history["loss"], rtol=1e-5)
    assert found_history["accuracy"] == history["accuracy"]


@pytest.mark.parametrize(
    ("dtype", "jit_compile", "softmax"),
    [
        slow("float32", False, True),
        slow("float32", True, True),
        ("mixed_bfloat16", True, False),
        ("mixed_float16", "auto", False),
    ],
)
def test_fit_compiled_and_in_mixed_precision(dtype, jit_compile, softmax, rng):
    if BACKEND == "torch" and jit_compile is True:
        if shutil.which("g++") is None:
            pytest.skip("torch.compile needs a C++ compiler at run time")
        if dtype != "float32":
            pytest.skip("torch.compile takes half a minute: one case stands for all")
    x, y = data(rng, 64)
    x[np.arange(64), y] += 3.0
    with policy(dtype):
        student = network(softmax)
    distiller = Distiller(linear(np.eye(D, K, dtype="float32")), student, 2.0, 0.5)
    steps = {} if BACKEND == "torch" else {"steps_per_execution": 2}
    distiller.compile(
        keras.optimizers.Adam(0.05), hard_loss(softmax), metrics=["accuracy"], jit_compile=jit_compile, **steps
    )
    scaled = isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (dtype == "mixed_float16")
    history = distiller.fit(x, y, batch_size=16, epochs=4, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["accuracy"][-1] > 0.8


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_second_term_is_in_float32_under_half_precision(dtype, rng):
    x = (1000 + rng.integers(0, 8, (N, D))).astype("float32") / 8  # exact in half precision
    kernel = np.eye(D, K, dtype="float32")
    with policy(dtype):
        student = linear(kernel)
    z = numpy(student(x)).astype("float64")
    zt = z + 0.01  # lost where logits are subtracted in half precision
    distiller = Distiller(None, student, matching="squared_logits")
    loss, _ = one_step(distiller, x, {"teacher_logits": zt.astype("float32")})
    assert loss == pytest.approx(0.5 * K * 0.01**2, rel=0.02)


def test_class_weights_that_change_in_place_count_as_they_are(rng):
    x, y = data(rng)
    kernel, zt = rng.standard_normal((D, K)).astype("float32"), rng.standard_normal((N, K)).astype("float32")
    distiller = Distiller(None, linear(kernel), 2.0, 0.6)
    distiller.compile(keras.optimizers.SGD(0.0), hard_loss(), run_eagerly=EAGER)
    class_weight, losses = {0: 1.0, 1: 1.0}, []
    for weight in (1.0, 10.0):
        class_weight[1] = weight
        targets = {"labels": y, "teacher_logits": zt}
        losses += distiller.fit(x, targets, batch_size=N, class_weight=class_weight, verbose=0).history["loss"]
    weights = np.where(y == 1, 10.0, 1.0)
    assert losses[1] == pytest.approx(
        expected(x, kernel, zt, y, 0.6, 2.0, 2.0, "cross_entropy", 1.0, weights)[0], rel=1e-5
    )
    assert losses[1] != pytest.approx(losses[0], rel=1e-2)


@pytest.mark.parametrize("steps", [3, 5])
def test_a_mask_with_a_trailing_dimension(rng, steps):
    class Column(layers.Embedding):
        def compute_mask(self, inputs, mask=None):
            return ops.expand_dims(ops.not_equal(inputs, 0), -1)

    tokens = rng.integers(0, 4, (5, steps))  # as many sequences as steps, too, where shapes can be mixed up
    zt, losses = rng.standard_normal((5, steps, K)).astype("float32"), []
    for make in (layers.Embedding, Column):
        keras.utils.set_random_seed(0)
        student = keras.Sequential([keras.Input((steps,), dtype="int32"), make(4, 6, mask_zero=True), layers.Dense(K)])
        distiller = Distiller(None, student, 2.0)
        distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=EAGER)
        losses += distiller.fit(tokens, {"teacher_logits": zt}, batch_size=5, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="layers that read `training` of PyTorch's modules")
def test_a_teacher_of_pytorch_runs_in_inference_mode(rng):
    import torch

    class Dropping(keras.Model):
        def __init__(self):
            super().__init__()
            self.body, self.head = layers.Dense(20), layers.Dense(K)

        def call(self, x):
            return self.head(torch.nn.functional.dropout(self.body(x), 0.5, self.training))

    x, _ = data(rng)
    teacher, kernel = Dropping(), rng.standard_normal((D, K)).astype("float32")
    zt = numpy(teacher.head(teacher.body(x)))
    teacher(x)
    assert teacher.training
    distiller = Distiller(teacher, linear(kernel), 2.0, teacher_from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.0))
    loss = distiller.fit(x, batch_size=N, verbose=0).history["loss"][0]
    assert teacher.training
    y = np.zeros(N, int)
    assert loss == pytest.approx(expected(x, kernel, zt, y, 1.0, 2.0, 1.0, "cross_entropy", 1.0)[0], rel=1e-5)


def test_class_weights_weigh_both_terms_live_and_from_the_cache(rng):
    x, y = data(rng)
    kernel, teacher_kernel = rng.standard_normal((2, D, K)).astype("float32")
    class_weight = {0: 2.0, 2: 0.5}
    weights = np.array([class_weight.get(int(label), 1.0) for label in y])
    loss, _ = expected(x, kernel, x @ teacher_kernel, y, 0.6, 2.0, 2.0, "cross_entropy", 1.0, weights)
    plain, _ = expected(x, kernel, x @ teacher_kernel, y, 0.6, 2.0, 2.0, "cross_entropy", 1.0)
    zt = x @ teacher_kernel
    rows, hard_rows = np.eye(K)[y], keras.losses.CategoricalCrossentropy(from_logits=True)
    for teacher, targets, hard in (
        (linear(teacher_kernel), y, hard_loss()),
        (None, {"labels": y, "teacher_logits": zt}, hard_loss()),
        (None, {"labels": rows, "teacher_logits": zt}, hard_rows),
    ):
        distiller = Distiller(teacher, linear(kernel), 2.0, 0.6)
        distiller.compile(keras.optimizers.SGD(0.0), hard, weighted_metrics=["accuracy"])
        fitted = distiller.fit(
            x, targets, batch_size=N, class_weight=class_weight, verbose=0, validation_data=(x, targets)
        ).history
        assert fitted["loss"][0] == pytest.approx(loss, rel=1e-5)
        hits = ((x @ kernel).argmax(-1) == y) * weights
        assert fitted["accuracy"][0] == pytest.approx(hits.sum() / weights.sum(), rel=1e-5)
        hard_alone = reference.cross_entropy(np.eye(K)[y], x @ kernel).mean()
        assert fitted["val_loss"][0] == pytest.approx(hard_alone, rel=1e-5)
        # The next call is not weighed.
        assert distiller.fit(x, targets, batch_size=N, verbose=0).history["loss"][0] == pytest.approx(plain, rel=1e-5)
        distiller.reset_metrics()  # Keras 3.12 goes on with those of `fit`
        once = distiller.train_on_batch(x, targets, class_weight=class_weight)
        assert np.ravel(once)[0] == pytest.approx(loss, rel=1e-5)


def test_class_weights_with_cached_targets_at_beta_0(rng):
    x, y = data(rng)
    kernel, class_weight = rng.standard_normal((D, K)).astype("float32"), {0: 2.0, 2: 0.5}
    weights = np.array([class_weight.get(int(label), 1.0) for label in y])
    distiller = Distiller(None, linear(kernel), beta=0.0)
    distiller.compile(keras.optimizers.SGD(0.0), hard_loss())
    targets = {"labels": y, "teacher_logits": x @ kernel}
    found = distiller.fit(x, targets, batch_size=N, class_weight=class_weight, verbose=0).history["loss"][0]
    losses = reference.cross_entropy(np.eye(K)[y], x @ kernel)
    assert found == pytest.approx((losses * weights).mean(), rel=1e-5)


def test_sample_weights_of_an_example_reach_both_terms_from_the_cache(rng):
    x, y = data(rng)
    kernel, teacher_kernel = rng.standard_normal((2, D, K)).astype("float32")
    weights = rng.uniform(0, 2, N).astype("float32")
    loss, _ = expected(x, kernel, x @ teacher_kernel, y, 0.6, 2.0, 2.0, "cross_entropy", 1.0, weights)
    distiller = Distiller(None, linear(kernel), 2.0, 0.6)
    distiller.compile(keras.optimizers.SGD(0.0), hard_loss())
    targets = {"labels": y, "teacher_logits": x @ teacher_kernel}
    history = distiller.fit(
        x, targets, batch_size=N, sample_weight=weights, verbose=0, validation_data=(x, targets, weights)
    ).history
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    hard = (weights * reference.cross_entropy(np.eye(K)[y], x @ kernel)).mean()
    assert history["val_loss"][0] == pytest.approx(hard, rel=1e-5)


# --- models of all kinds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("softmax", [False, slow(True)])
def test_a_student_not_built_yet_and_a_subclassed_one_train(softmax, rng):
    x, y = data(rng)
    activation = "softmax" if softmax else None
    for student in (keras.Sequential([layers.Dense(K, activation)]), Opaque(activation)):
        said = not softmax if isinstance(student, Opaque) else None
        distiller = Distiller(network(), student, 2.0, 0.5, student_from_logits=said)
        distiller.compile(keras.optimizers.SGD(0.1), hard_loss(softmax), metrics=["accuracy"])
        history = distiller.fit(x, y, epochs=5, verbose=0, validation_data=(x, y)).history
        assert history["loss"][-1] < history["loss"][0]


def test_log_p_stands_for_logits_that_are_not_shown(rng):
    x, y = data(rng)
    teacher, student = opaque("softmax"), opaque("softmax")
    distiller = Distiller(teacher, student, 2.0, 0.5, teacher_from_logits=False, student_from_logits=False)
    zt, z = (np.log(model.predict(x, verbose=0).astype("float64")) for model in (teacher, student))
    soft = reference.cross_entropy(reference.softmax(zt / 2), z / 2)
    loss = (soft / 2 + reference.cross_entropy(np.eye(K)[y], z) / 2).mean()
    assert one_step(distiller, x, y, softmax=True)[0] == pytest.approx(loss, rel=1e-5)


def test_said_beats_seen(rng):
    x, _ = data(rng)
    kernel, teacher_kernel = rng.standard_normal((2, D, K)).astype("float32")
    distiller = Distiller(
        linear(teacher_kernel, True), linear(kernel), teacher_from_logits=True, matching="squared_logits"
    )
    loss, _ = one_step(distiller, x, None)
    gap = reference.softmax(x @ teacher_kernel) - x @ kernel
    assert loss == pytest.approx((0.5 * gap**2).sum(-1).mean(), rel=1e-5)


def test_several_inputs_and_dtypes(rng):
    def model(width):
        left, right = keras.Input((D,), name="left"), keras.Input((1,), dtype="uint8", name="right")
        hidden = layers.Concatenate()([left, layers.Rescaling(1 / 255)(right)])
        return keras.Model({"left": left, "right": right}, layers.Dense(K, "softmax")(layers.Dense(width)(hidden)))

    x = {"left": data(rng)[0], "right": rng.integers(0, 256, (N, 1)).astype("uint8")}
    teacher, student = model(3), model(2)
    distiller = Distiller(teacher, student, 2.0)
    z = {role: np.log(found.predict(x, verbose=0)) for role, found in (("t", teacher), ("s", student))}
    loss = reference.cross_entropy(reference.softmax(z["t"] / 2), z["s"]).mean()
    assert one_step(distiller, x, None)[0] == pytest.approx(loss, rel=1e-5)


def test_teacher_and_student_may_have_the_same_names(rng):
    x, y = data(rng)

    def model():
        inputs = keras.Input((D,), name="x")
        return keras.Model(inputs, layers.Dense(K, name="head", kernel_initializer="zeros")(inputs), name="net")

    student = model()
    distiller = Distiller(model(), student, beta=0.5)
    distiller.compile(keras.optimizers.SGD(0.5), hard_loss())
    alone = model()
    kernel, bias = (np.zeros_like(w) for w in alone.get_weights())
    for _ in range(3):
        distiller.train_on_batch(x, y)
        p = reference.softmax(x @ kernel + bias)
        slope = 0.5 * (p - np.eye(K)[y]) + 0.5 * (p - 1 / K)
        kernel, bias = kernel - 0.5 * x.T @ slope / N, bias - 0.5 * slope.mean(0)
    assert_same(student.get_weights(), [kernel, bias], rtol=1e-4, atol=1e-6)


def test_losses_and_metrics_may_be_named_after_the_students_output(rng):
    x, y = data(rng)
    inputs = keras.Input((D,))
    student = keras.Model(inputs, layers.Dense(K)(inputs))
    distiller = Distiller(network(), student, beta=0.5)
    name = student.output_names[0]
    distiller.compile("sgd", {name: hard_loss()}, metrics={name: ["accuracy"]})
    assert "accuracy" in distiller.fit(x, y, verbose=0).history


@pytest.mark.parametrize("softmax", [False, True])
def test_what_asks_a_model_for_its_logits_finds_the_students(softmax, rng):
    x, y = data(rng)
    distiller = Distiller(network(softmax), network(softmax), beta=0.5)
    distiller.compile("sgd", hard_loss(softmax))
    measure = keras_ls.MutualInformation(x, np.arange(N) % 2, (0, 1), layers.GaussianNoise(0.1))
    assert len(distiller.fit(x, y, verbose=0, callbacks=[measure]).history["mutual_information"]) == 1
    calibrated = keras_ls.calibrate(distiller, x, y).predict(x, verbose=0)
    np.testing.assert_array_equal(calibrated, keras_ls.calibrate(distiller.student, x, y).predict(x, verbose=0))
    np.testing.assert_array_equal(keras_ls.class_templates(distiller), keras_ls.class_templates(distiller.student))


def test_compute_loss_takes_any_output_of_the_student(rng):
    x, y = data(rng)
    kernel, teacher_kernel = rng.standard_normal((2, D, K)).astype("float32")
    distiller = Distiller(linear(teacher_kernel, True), linear(kernel, True), 2.0, 0.5)
    distiller.compile("sgd", hard_loss(True))
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    loss, _ = expected(x, kernel, numpy(x) @ teacher_kernel, numpy(y), 0.5, 2.0, 2.0, "cross_entropy", 1.0)
    for output in (distiller(x, training=True), distiller.student(x)):
        assert float(numpy(distiller.compute_loss(x, y, output))) == pytest.approx(loss, rel=1e-5)


# --- saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [slow("functional"), "softmax", slow("subclassed"), "cached", slow("built by fit")])
def test_a_saved_distiller_goes_on_where_it_was(kind, rng, tmp_path):
    x, y = data(rng)
    teacher, student = network(), network(kind == "softmax")
    options = {"temperature": 2.0, "beta": 0.4, "student_temperature": 1.5, "temperature_squared": True, "name": "d"}
    if kind == "subclassed":
        teacher, student = opaque(), opaque()
        options.update(teacher_from_logits=True, student_from_logits=True)
    if kind == "built by fit":
        student = keras.Sequential([layers.Dense(K)])
    targets = {"labels": y, "teacher_logits": teacher.predict(x, verbose=0)} if kind == "cached" else y
    distiller = Distiller(None if kind == "cached" else teacher, student, **options)
    distiller.compile(keras.optimizers.Adam(0.05), hard_loss(kind == "softmax"), metrics=["accuracy"])
    distiller.fit(x, targets, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    assert isinstance(loaded, Distiller)
    if kind != "cached":
        np.testing.assert_array_equal(loaded.teacher.predict(x, verbose=0), teacher.predict(x, verbose=0))
    assert_same(loaded.student.get_weights(), student.get_weights())
    assert_same(loaded.optimizer.variables, distiller.optimizer.variables)
    settings = {key: value for key, value in distiller.get_config().items() if key not in ("teacher", "student")}
    assert {key: loaded.get_config()[key] for key in settings} == settings
    assert {"temperature", "beta", "matching", "teacher_from_logits", "student_from_logits"} <= set(settings)
    json.dumps(distiller.get_config())
    histories = [model.fit(x, targets, epochs=2, shuffle=False, verbose=0).history for model in (distiller, loaded)]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-6)
    assert_same(loaded.student.get_weights(), student.get_weights(), rtol=1e-5, atol=1e-7)
    student.save(tmp_path / "student.keras")  # a plain model to ship
    shipped = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(shipped.predict(x, verbose=0), distiller.predict(x, verbose=0))


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "`temperature` must be a finite number above 0"),
        ({"temperature": 1e-39}, "`temperature` must be a finite number above 0, also in float32"),
        ({"student_temperature": 1e39}, "`student_temperature` must be a finite number above 0, also in float32"),
        ({"temperature": 1e20, "temperature_squared": True}, r"`temperature\*\*2` must be a finite number above 0"),
        ({"temperature": float("nan")}, "`temperature`"),
        ({"student_temperature": -1}, "`student_temperature`"),
        ({"beta": 1.1}, r"`beta` must be in \[0, 1\]"),
        ({"beta": -0.1}, "`beta`"),
        ({"beta": float("nan")}, "`beta`"),
        ({"matching": "mse"}, "`matching` must be one of 'cross_entropy', 'squared_logits'"),
        ({"teacher_from_logits": "yes"}, "`teacher_from_logits`"),
        ({"student_from_logits": "yes"}, "`student_from_logits`"),
        ({"teacher": None, "teacher_from_logits": "False"}, "`teacher_from_logits` must be True, False or None"),
        ({"temperature_squared": 1}, "`temperature_squared` must be True or False"),
        ({"teacher": "resnet"}, "`teacher` must be a keras.Model"),
        ({"student": None}, "`student` must be a keras.Model"),
        ({"teacher": keras.Sequential([layers.Dense(K)])}, "`teacher` must be built"),
        ({"teacher": Opaque()}, "`teacher` must be built"),
        ({"teacher": None, "teacher_from_logits": False}, "targets hold logits"),
    ],
)
def test_bad_arguments_are_refused_at_once(options, message):
    arguments = {"teacher": network(), "student": network(), **options}
    with pytest.raises(ValueError, match=message):
        Distiller(**arguments)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_models_that_preprocess_are_refused(role):
    models = {"teacher": network(), "student": network()}
    models[role].preprocessor = lambda x: x / 255
    with pytest.raises(ValueError, match=f"`{role}` must not preprocess its inputs"):
        Distiller(**models)
    if role == "teacher":
        with pytest.raises(ValueError, match="`teacher` must not preprocess its inputs"):
            teacher_logits(models["teacher"], np.ones((2, D)))


def test_models_that_do_not_fit_are_refused_at_once():
    with pytest.raises(ValueError, match=r"same number of classes. Received: 3 from the teacher, 4"):
        Distiller(linear(np.zeros((D, 3))), network())
    with pytest.raises(ValueError, match=r"`teacher_from_logits` must be True .* or False"):
        Distiller(opaque(), network())
    with pytest.raises(ValueError, match=r"`student_from_logits` must be True .* or False"):
        Distiller(network(), opaque())
    sigmoid = keras.Sequential([keras.Input((D,)), layers.Dense(K, "sigmoid")])
    with pytest.raises(ValueError, match="sigmoid"):
        Distiller(sigmoid, network())
    for role in ("teacher", "student"):
        models = {"teacher": network(), "student": network(), role: opaque("softmax")}
        with pytest.raises(ValueError, match=f"needs the logits of `{role}`"):
            Distiller(**models, matching="squared_logits", **{f"{role}_from_logits": False})
    two = keras.Input((D,))
    with pytest.raises(ValueError, match=r"one output\. Received: 2"):
        Distiller(keras.Model(two, [layers.Dense(K)(two), layers.Dense(K)(two)]), network())
    student = network()
    with pytest.raises(ValueError, match="must not share variables"):
        Distiller(student, student)
    for shared in (layers.Dense(D), layers.BatchNormalization(center=False, scale=False)):
        pair = [keras.Sequential([keras.Input((D,)), shared, layers.Dense(K)]) for _ in range(2)]
        with pytest.raises(ValueError, match="must not share variables"):
            Distiller(*pair)
        shared.trainable = False
        distiller = Distiller(*pair)
        distiller.compile("sgd")
        distiller.fit(np.ones((2, D)), verbose=0)
        with pytest.raises(ValueError, match="cannot be saved: save `student` alone"):
            distiller.get_config()
        shared.trainable = True
        distiller.compile("sgd")
        with pytest.raises(ValueError, match="must not share variables"):
            distiller.fit(np.ones((2, D)), verbose=0)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"labels": np.zeros(N)}, "where `teacher` is None"),
        (np.zeros(N), "where `teacher` is None"),
        ({"labels": np.zeros(N), "logits": np.zeros((N, K))}, "must be named 'labels' and 'teacher_logits'"),
        ({"labels": np.zeros(N), "teacher_logits": np.zeros((N, K + 1))}, "must have the shape of the student's"),
        ({"labels": np.zeros(N), "teacher_logits": np.zeros((N, 2, K))}, "must have the shape of the student's"),
        ({"labels": np.zeros(N), "teacher_logits": np.zeros((N - 1, K))}, "cardinality"),
        ({"teacher_logits": np.zeros((N, K))}, "must hold labels where `beta` is below 1"),
    ],
)
def test_cached_targets_that_do_not_fit_stop_the_first_batch(targets, message):
    distiller = Distiller(None, network(), beta=0.5)
    distiller.compile("sgd", hard_loss())
    with pytest.raises(ValueError, match=message):
        distiller.fit(np.zeros((N, D)), targets, verbose=0)


class TwoOutputs(keras.Model):
    """A model whose layers do not show that it gives a structure."""

    def call(self, inputs):
        return {"a": inputs, "b": inputs}


def test_what_only_the_first_batch_shows(rng):
    x, y = data(rng)
    other = keras.Sequential([keras.Input((D,)), layers.Dense(3)])
    distiller = Distiller(other, Opaque(), beta=0.5, student_from_logits=True)
    distiller.compile("sgd", hard_loss())
    with pytest.raises(ValueError, match="must have the shape of the student's"):
        distiller.fit(x, y, verbose=0)
    distiller = Distiller(network(), keras.Sequential([layers.Dense(3)]), beta=0.5)
    distiller.compile("sgd", hard_loss())
    with pytest.raises(ValueError, match="same number of classes"):
        distiller.fit(x, y, verbose=0)
    distiller = Distiller(network(), network(), beta=0.5)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="`compile` needs a `loss`"):
        distiller.fit(x, y, verbose=0)
    distiller.compile("sgd", hard_loss())
    with pytest.raises(ValueError, match="only where `teacher` is None"):
        distiller.fit(x, {"labels": y, "teacher_logits": np.zeros((N, K))}, verbose=0)
    flat = keras.Sequential([keras.Input((D,)), layers.Dense(1), layers.Reshape(())])
    distiller = Distiller(None, flat, student_from_logits=True)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match=r"must give logits \(…, K\), or \(…, 1\) for two classes"):
        distiller.fit(x, {"teacher_logits": np.zeros(N, "float32")}, verbose=0)
    two = TwoOutputs()
    two(x)
    distiller = Distiller(two, network(), teacher_from_logits=True)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="`teacher` must have one output"):
        distiller.fit(x, verbose=0)
    cached = Distiller(None, network(), beta=0.5)
    cached.compile("sgd", hard_loss())
    targets = {"labels": y, "teacher_logits": np.zeros((N, K))}
    with pytest.raises(ValueError, match=r"must name classes in \[0, 4\)"):
        cached.fit(x, targets, class_weight={K: 2.0}, verbose=0)
    with pytest.raises(ValueError, match="at the same time"):
        cached.fit(x, targets, class_weight={0: 2.0}, sample_weight=np.ones(N), verbose=0)


def test_an_error_at_the_first_batch_costs_no_weights(rng):
    x, y = data(rng)
    teacher, student = network(), network()
    kept = [*teacher.variables, *student.trainable_variables]
    before = [numpy(variable).copy() for variable in kept]
    distiller = Distiller(teacher, student, beta=0.5)
    distiller.compile("sgd", hard_loss())
    with pytest.raises(ValueError, match="only where `teacher` is None"):
        distiller.fit(x, {"labels": y, "teacher_logits": np.zeros((N, K))}, verbose=0)
    assert_same(before, kept)


def test_a_student_may_begin_with_the_weights_of_its_teacher(rng):
    x, y = data(rng)
    teacher, student = network(), network()
    for own, given in zip(student.variables, teacher.variables, strict=True):
        own.assign(given)
    before = [numpy(variable).copy() for variable in teacher.variables]
    distiller = Distiller(teacher, student, beta=0.5)
    distiller.compile("sgd", hard_loss())
    distiller.evaluate(x, y, verbose=0)
    distiller.predict(x, verbose=0)
    distiller.fit(x, y, epochs=2, verbose=0)
    assert_same(before, teacher.variables)
    assert not np.array_equal(student.get_weights()[0], before[0])


def test_an_error_in_evaluation_costs_no_weights(rng):
    x, y = data(rng)
    teacher, student = network(), network()
    distiller = Distiller(teacher, student, beta=0.5)
    distiller.compile("sgd", hard_loss(), metrics=["accuracy"])
    distiller.fit(x, y, verbose=0)
    kept = [*teacher.variables, *student.trainable_variables]
    before = [numpy(variable).copy() for variable in kept]
    with pytest.raises(ValueError):  # noqa: PT011, Keras's own words
        distiller.evaluate(x, np.zeros((N, K + 1)), verbose=0)
    with pytest.raises(ValueError):  # noqa: PT011
        distiller.predict(x[:, 1:], verbose=0)
    assert_same(before, kept)
    distiller.evaluate(x, y, verbose=0)


@pytest.mark.parametrize("lazy", [False, True])
def test_after_an_error_at_the_first_batch_training_goes_on_as_if_nothing_had_been(lazy, rng):
    x, y = data(rng)

    def distiller():
        keras.utils.set_random_seed(3)
        student = keras.Sequential([*([] if lazy else [keras.Input((D,))]), layers.Dense(K)])
        distiller = Distiller(None, student, beta=0.5, student_from_logits=True)
        distiller.compile(keras.optimizers.Adagrad(0.1), hard_loss(), metrics=["accuracy"])
        return distiller

    targets = {"labels": y, "teacher_logits": rng.standard_normal((N, K)).astype("float32")}
    expected = distiller().fit(x, targets, epochs=2, shuffle=False, verbose=0).history
    broken = distiller()
    with pytest.raises(ValueError, match="Targets must be"):
        broken.fit(x, y, verbose=0)
    assert broken.fit(x, targets, epochs=2, shuffle=False, verbose=0).history == expected


# --- equivalent smoothing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_smoothed_targets_have_their_own_smoothing(alpha, dtype, rng):
    labels = rng.integers(0, 7, 50)
    targets = reference.smoothed_targets(labels, 7, alpha).astype(dtype)
    assert equivalent_smoothing(targets, labels, from_logits=False) == pytest.approx(alpha, abs=1e-6)
    assert np.isnan(equivalent_smoothing([[np.inf, 0.0], [0.5, 0.5]], [0, 1], from_logits=False))
    with np.errstate(divide="ignore"):
        logits = np.log(targets) + 5.0
    for given in (labels, labels[:, None], np.eye(7)[labels]):
        assert equivalent_smoothing(logits, given) == pytest.approx(alpha, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_gamma_is_the_formula(temperature, rng):
    logits = 4 * rng.standard_normal((2, 30, K))
    labels = rng.integers(0, K, (2, 30))
    p = reference.softmax(logits / temperature)
    gamma = ((1 - np.eye(K)[labels]) * p).sum(-1).mean() * K / (K - 1)
    assert equivalent_smoothing(logits, labels, temperature) == pytest.approx(gamma, rel=1e-12)
    probabilities = reference.softmax(logits)
    assert equivalent_smoothing(probabilities, labels, temperature, from_logits=False) == pytest.approx(gamma, rel=1e-9)
    tensor = ops.convert_to_tensor(logits.astype("float32"))
    assert equivalent_smoothing(tensor, labels, temperature) == pytest.approx(gamma, rel=1e-5)


def test_gamma_tends_to_one_as_temperature_grows(rng):
    logits, labels = 30 * rng.standard_normal((40, K)), rng.integers(0, K, 40)
    gammas = [equivalent_smoothing(logits, logits.argmax(-1), t) for t in (1, 10, 100, 1e4, 1e9)]
    assert gammas == sorted(gammas)
    assert gammas[-1] == pytest.approx(1.0, abs=1e-6)
    certain = np.eye(K, dtype="float32")[labels]  # probabilities that underflowed
    assert equivalent_smoothing(certain, labels, 1e9, from_logits=False) == pytest.approx(1.0, abs=1e-6)


def test_gamma_of_large_and_of_broken_predictions(rng):
    logits, labels = rng.standard_normal((3000, 500)).astype("float32"), rng.integers(0, 500, 3000)
    p = reference.softmax(logits)
    gamma = (1 - p[np.arange(3000), labels]).mean() * 500 / 499
    assert equivalent_smoothing(logits, labels) == pytest.approx(gamma, rel=1e-9)  # more than a block
    for broken in (np.nan, np.inf):
        logits[7, 3] = broken
        assert np.isnan(equivalent_smoothing(logits, labels))
    for arguments, message in (
        ((np.zeros((3, K)), [0, 1, K]), "`labels`"),
        ((np.zeros((3, K)), [0, 1]), "`labels`"),
        ((np.zeros((3, 1)), [0, 1, 2]), r"`labels` must hold integers in \[0, 2\)"),
        ((np.zeros(3), [0, 1, 2]), r"`labels` must hold integers in \[0, 2\)"),
        ((np.zeros((3, 1)), np.eye(2)[[0, 1, 0]]), "`labels`"),
        ((np.full((3, 1), 2.0), [0, 1, 0], 1.0, False), "from_logits=True"),
        ((np.zeros((3, K)), [0, 1, 2], 1.0, "False"), "`from_logits` must be True or False"),
        ((np.zeros((0, K)), []), "at least one prediction"),
        ((np.zeros((3, K)), [0, 0, 0], 0.0), "`temperature`"),
        (
            (np.full((3, K), 2.0), [0, 0, 0], 1.0, False),
            "teacher_probabilities_or_logits.*Received: values from 2 to 2",
        ),
        ((np.array([[np.nan, 2.0]]), [0], 1.0, False), "Received: values from 2 to 2"),
        ((np.full((3, K), -0.5), [0, 0, 0], 1.0, False), "from_logits=True"),
    ):
        with pytest.raises(ValueError, match=message):
            equivalent_smoothing(*arguments)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_gamma_of_one_unit_is_that_of_two_classes(temperature, rng):
    z, labels = 4 * rng.standard_normal((200, 1)), rng.integers(0, 2, 200)
    wrong = np.where(labels == 1, sigmoid(-z[:, 0] / temperature), sigmoid(z[:, 0] / temperature))
    gamma = 2 * wrong.mean()
    for logits, ids in (
        (z, labels),
        (z, labels[:, None]),
        (z[:, 0], labels),
        (z.reshape(50, 4, 1), labels.reshape(50, 4)),
    ):
        assert equivalent_smoothing(logits, ids, temperature) == pytest.approx(gamma, rel=1e-12)
        p = sigmoid(logits)
        assert equivalent_smoothing(p, ids, temperature, from_logits=False) == pytest.approx(gamma, rel=1e-9)
    columns = np.concatenate([np.zeros((200, 1)), z], -1)
    assert equivalent_smoothing(columns, labels, temperature) == pytest.approx(gamma, rel=1e-12)
    certain = labels.astype("float32")  # probabilities that underflowed, or rounded to 1
    assert equivalent_smoothing(certain, labels, from_logits=False) == pytest.approx(0.0, abs=1e-6)
    assert equivalent_smoothing(certain, labels, 1e9, from_logits=False) == pytest.approx(1.0, abs=1e-6)
    for alpha in (0.1, 0.6):
        smoothed = np.where(labels == 1, 1 - alpha / 2, alpha / 2)
        assert equivalent_smoothing(smoothed, labels, from_logits=False) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_a_student_whose_only_output_is_in_a_dict(softmax, beta, rng):
    x, y = data(rng)
    kernel, other = rng.normal(size=(2, D, K)).astype("float32")
    inputs, found, weight = keras.Input((D,)), [], np.arange(N, dtype="float32")
    for in_dict in (False, True):
        outputs = layers.Dense(K, "softmax" if softmax else None, use_bias=False, name="kind")(inputs)
        student = keras.Model(inputs, {"kind": outputs} if in_dict else outputs)
        student.set_weights([other])
        distiller = Distiller(linear(kernel), student, temperature=2.0, beta=beta)
        distiller.compile(keras.optimizers.SGD(0.1), hard_loss(softmax), metrics=["accuracy"], run_eagerly=EAGER)
        for labels in (y, {"kind": y}) if in_dict else (y, y):
            distiller.fit(x, labels, batch_size=N, sample_weight=weight, verbose=0)
        measured = distiller.evaluate(x, labels, sample_weight=weight, verbose=0)
        found.append([*student.get_weights(), measured, teacher_logits(student, x)])
        assert isinstance(distiller.predict(x, verbose=0), dict) == in_dict
    for one, another in zip(*found, strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a SavedModel is TensorFlow's")
def test_the_exported_model_is_the_student(rng, tmp_path):
    import tensorflow as tf

    x, y = data(rng)
    distiller = Distiller(network(), network(), beta=0.5)
    distiller.compile("sgd", hard_loss())
    distiller.fit(x, y, verbose=0)
    distiller.export(str(tmp_path / "exported"))
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(x), distiller.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_t_squared_is_that_of_the_teachers_temperature(rng):
    zt, z = rng.standard_normal((2, N, K)).astype("float32")
    distiller = Distiller(None, linear(np.eye(K)), 3.0, 1.0, student_temperature=1.5, temperature_squared=True)
    loss, _ = one_step(distiller, z, {"teacher_logits": zt})
    wanted = 3.0**2 * reference.cross_entropy(reference.softmax(zt / 3), z / 1.5).mean()
    assert loss == pytest.approx(wanted, rel=1e-5)


def test_half_precision_everywhere(rng):
    x, y = data(rng)
    before = keras.config.floatx()
    keras.config.set_floatx("float16")
    try:
        with policy("float16"):
            distiller = Distiller(network(), network(), temperature=2.0, beta=0.5)
            distiller.compile("sgd", hard_loss(), run_eagerly=EAGER)
            assert np.isfinite(distiller.fit(x, y, batch_size=N, verbose=0).history["loss"]).all()
            assert distiller._matching_loss.dtype == "float32"
    finally:
        keras.config.set_floatx(before)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_the_compiled_loss_of_a_masked_student_leaves_padding_out(activation, rng):
    tokens, labels = rng.integers(1, 9, (6, 3)), rng.integers(0, K, (6, 3))
    tokens[:3, 2] = 0
    embedding, kernel = rng.standard_normal((9, D)), rng.standard_normal((D, K))
    zt = rng.standard_normal((6, 3, K)).astype("float32")
    head = layers.Dense(K, activation, use_bias=False)
    student = keras.Sequential([keras.Input((3,)), layers.Embedding(9, D, mask_zero=True), head])
    student.set_weights([embedding, kernel])
    z = embedding[tokens] @ kernel
    each = 0.6 * reference.cross_entropy(np.eye(K)[labels], z)
    each = each + 0.4 * reference.cross_entropy(reference.softmax(zt / 2.0), z / 2.0)
    targets = {"labels": labels, "teacher_logits": zt}
    loss, _ = one_step(Distiller(None, student, 2.0, 0.4), tokens, targets, activation is not None)
    assert loss == pytest.approx(each[tokens > 0].mean(), rel=1e-5)


def test_probabilities_in_training_are_in_the_dtype_of_the_students_output(rng):
    x, _ = data(rng)
    head = [layers.Dense(K, dtype="mixed_float16"), layers.Softmax(dtype="float32")]
    student = keras.Sequential([keras.Input((D,)), *head])
    outputs = Distiller(network(), student, 2.0, 0.5)(x, training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    np.testing.assert_allclose(numpy(outputs), numpy(student(x)), rtol=1e-6)


def test_a_teacher_that_xla_cannot_compile_keeps_the_distiller_from_it():
    teacher = network()
    assert Distiller(teacher, network()).supports_jit
    teacher.layers[-1].supports_jit = False
    assert not Distiller(teacher, network()).supports_jit


def test_a_distiller_loads_whatever_its_models_were_compiled_with(rng, tmp_path):
    x, y = rng.normal(size=(N, D)).astype("float32"), rng.integers(0, K, N)
    models = keras.Sequential([network(), layers.Dense(K)]), network()
    for model in (models[0].layers[0], *models):
        model.compile("adam", lambda y_true, y_pred: ops.mean(y_pred, axis=-1))
    distiller = Distiller(*models, beta=0.5)
    distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    for given, found in ((distiller, loaded), (distiller.teacher, loaded.teacher)):
        np.testing.assert_array_equal(found.predict(x, verbose=0), given.predict(x, verbose=0))
    older = distiller.get_config()
    older["teacher"] = keras.saving.serialize_keras_object(models[0])  # as earlier versions wrote it
    assert "compile_config" in older["teacher"]
    assert Distiller.from_config(older).teacher.count_params() == models[0].count_params()


def test_weights_alone_are_those_of_the_student_and_the_optimizer(rng, tmp_path):
    x, y = data(rng)
    kernels = rng.standard_normal((4, D, K)).astype("float32")
    first, second = (Distiller(linear(kernels[i]), linear(kernels[i + 1])) for i in (0, 2))
    for distiller in (first, second):
        distiller.compile("adam", hard_loss(), run_eagerly=EAGER)
        distiller.fit(x, y, batch_size=N // 2, epochs=1 + (distiller is first), verbose=0)
    first.save_weights(tmp_path / "some.weights.h5")
    second.load_weights(tmp_path / "some.weights.h5")
    np.testing.assert_array_equal(second.student.get_weights(), first.student.get_weights())
    assert int(second.optimizer.iterations) == 4
    np.testing.assert_array_equal(first.teacher.get_weights(), kernels[:1])
    np.testing.assert_array_equal(second.teacher.get_weights(), kernels[2:3])
