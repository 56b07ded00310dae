"""Training steps of the image demos' ResNet-20 on the engines and precisions that two cores could use."""

import dataclasses

import numpy as np

from benchmarks.harness import Bound, Case, Prepared, Subject

CHOSEN = Case("TensorFlow", "tensorflow")
XLA, BFLOAT16 = {"jit_compile": True}, {"precision": "mixed_bfloat16"}
OTHERS = (
    Case("TensorFlow, bfloat16", "tensorflow", BFLOAT16),
    Case("TensorFlow, XLA", "tensorflow", XLA),
    Case("TensorFlow, XLA, bfloat16", "tensorflow", XLA | BFLOAT16),
    Case("JAX", "jax", XLA),
    Case("JAX, bfloat16", "jax", XLA | BFLOAT16),
)


def prepare(case, steps, batch_size, depth, classes):
    """Steps of `fit`, optimizer included, on images of 32 × 32 pixels that are not augmented."""
    from demos.image import recipes
    from demos.image.networks import building

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (steps * batch_size, 32, 32, 3), "uint8")
    y = rng.integers(0, classes, len(x), "int32")
    recipe = dataclasses.replace(recipes.paper_recipe("resnet", "cifar100"), depth=depth)
    model = building.build(x, classes, recipe, case.options.get("precision", "float32"))
    building.compile_model(model, recipe, 0.1, jit_compile=case.options.get("jit_compile", False))
    weights = model.count_params()
    return Prepared(
        lambda: model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0), facts=lambda _: {"weights": weights}
    )


SUBJECT = Subject(
    title="Training an image network",
    about="A few steps of the demos' ResNet with label smoothing 0.1, float32 unless stated otherwise, to choose the "
    "engine for training on two cores.",
    prepare=prepare,
    size={"steps": 4, "batch_size": 128, "depth": 20, "classes": 100},
    quick={"steps": 2, "batch_size": 4, "depth": 8, "classes": 10},
    cases=(CHOSEN, *OTHERS),
    bounds=tuple(Bound(CHOSEN.name, 1.0, case.name) for case in OTHERS),
    together=True,
    notes="Some rounds of one case take twice as long as others: the machine was not quiet, and whether XLA with "
    "bfloat16 or float32 without XLA is the faster cannot be told from them.",
)
