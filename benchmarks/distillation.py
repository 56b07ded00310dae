"""A training step of a student alone, distilled from cached logits, distilled live, and in Keras's Distiller."""

import numpy as np

from benchmarks.harness import Bound, Case, Prepared, Subject

PLAIN, CACHED, LIVE, KERAS = "student alone", "Distiller, cached logits", "Distiller, live teacher", "Keras's Distiller"


def prepare(case, batch_size, depth):
    """One step, optimizer and accuracy included, of an AlexNet that a ResNet teaches."""
    import keras

    from demos.image.networks.building import build
    from demos.image.recipes import Recipe
    from keras_ls.distillation import Distiller, teacher_logits

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (batch_size, 32, 32, 3)).astype("uint8"), rng.integers(0, 10, batch_size)
    teacher, student = build(x, 10, Recipe("resnet", depth=depth)), build(x, 10, Recipe("alexnet"))
    targets = y
    if case.name == CACHED:
        targets = {"labels": y, "teacher_logits": teacher_logits(teacher, x)}
    if case.name in (CACHED, LIVE):
        taught_by = teacher if case.name == LIVE else None
        model = Distiller(taught_by, student, temperature=3.0, beta=0.5, temperature_squared=True)
    elif case.name == KERAS:
        matching = keras.distillation.LogitsDistillation(3.0, keras.losses.KLDivergence())
        model = keras.distillation.Distiller(teacher, student, matching, student_loss_weight=0.5)
    else:
        model = student
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    return Prepared(lambda: model.train_on_batch(x, targets))


SUBJECT = Subject(
    title="Distillation",
    about="A training step of an AlexNet on random 32 × 32 images of 10 classes, whose teacher is a ResNet.",
    prepare=prepare,
    size={"batch_size": 128, "depth": 56},
    quick={"batch_size": 4, "depth": 8},
    cases=tuple(Case(name, "tensorflow") for name in (PLAIN, CACHED, LIVE, KERAS)),
    bounds=(Bound(CACHED, 1.15, PLAIN), Bound(CACHED, 0.6, KERAS), Bound(LIVE, 1.05, KERAS)),
)
