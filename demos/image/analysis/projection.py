"""What smoothing does to a network's penultimate activations: what the projection demo does."""

import dataclasses
import functools
import itertools
import pathlib
import warnings
from typing import Any

import keras
import numpy as np

import keras_ls
from demos.image import data, recipes
from demos.image.analysis import SCATTER, clusters, smoothing
from demos.image.analysis.earlier import EarlierRun
from demos.image.data.common.images import ImageData
from demos.kit import checkpoints, measures, pictures
from demos.kit.options import Chosen
from demos.kit.pictures import network_name
from demos.kit.runs import open_run, publish
from demos.kit.smoothing import Comparison, directory, output_directory, prepare

PARENT = "runs/projection"
PICTURES = 5
PROJECTED_IMAGES = 1_000

Triple = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan(Comparison):
    """All that was decided before anything is trained or loaded."""

    triples: list[Triple]  # ids of three classes each
    earlier: EarlierRun | None  # the run that trained the networks, or None if this one does


def plan(options: Chosen) -> Plan:
    """Loads the data and settles everything that can be wrong before training starts."""
    if options.from_run is None:
        images = data.load_chosen(options)
        triples = choose_triples(options, images)
        recipe = recipes.chosen_in_epochs(options, len(images.x_train), "projection")
        comparison = prepare(options, images, recipe, PARENT)
        return Plan(**vars(comparison), triples=triples, earlier=None)
    for name in ("strategy", "steps_per_execution", "jit_compile"):
        if name in options.given():
            raise ValueError(f"--{name.replace('_', '-')} is for training: leave it out with --from.")
    earlier = EarlierRun(options.from_run)
    earlier.settle(options)
    images, recipe = earlier.load(options)
    triples = choose_triples(options, images)
    for alpha, seed in itertools.product(options.label_smoothing, options.seeds):
        earlier.check_network(alpha, seed, images.num_classes, triples)
    out = output_directory(options, images, recipe, PARENT)
    theirs = earlier.path.resolve()
    if out.resolve() in (theirs, *theirs.parents):
        raise ValueError(f"--out must not be the directory of --from, nor hold it. Received: {out}.")
    run = open_run(out, {**earlier.settings, "from_run": str(theirs)}, options.resume, options.defaults())
    return Plan(options, images, recipe, run, triples, earlier)


def choose_triples(options: Chosen, images: ImageData) -> list[Triple]:
    """The ids of the classes of each row; says where there are fewer images than asked for.

    It is a ValueError if a name is not known, a row has not three different classes, or a class has no images.
    """
    names = images.class_names
    if len(names) < 3:
        raise ValueError(f"A projection is of three different classes. {images.name} has {len(names)}.")
    rows = options.classes or data.get(options.dataset).triples
    if not options.classes and (not rows or not {name for row in rows for name in row} <= set(names)):
        rows = list(dict.fromkeys((names[:3], names[-3:])))
    for row in rows:
        unknown = [name for name in row if name not in names]
        if unknown:
            raise ValueError(f"--classes must be known ones: {', '.join(names)}. Received: {', '.join(unknown)}.")
        if len(row) != 3 or len(set(row)) != 3:
            raise ValueError(f"--classes must be three different classes. Received: {', '.join(row)}.")
    triples = [tuple(names.index(name) for name in row) for row in rows]
    for part, (_, labels) in clusters.parts(images).items():
        counts = {k: int(np.sum(labels == k)) for k in sorted({k for triple in triples for k in triple})}
        if 0 in counts.values():
            missing = ", ".join(names[k] for k, count in counts.items() if not count)
            raise ValueError(f"--classes must have {part} images in {images.name}. Received: {missing}, without any.")
        few = [f"{names[k]} ({count})" for k, count in counts.items() if count < options.examples_per_class]
        if few:
            asked = f"{options.examples_per_class} {part} images"
            print(f"Note: there are fewer than {asked} of {', '.join(few)}; all of them are shown.")
    return triples


def run(plan: Plan) -> dict[str, Any]:
    """Trains or loads, measures, draws and reports; returns what results.json holds."""
    options, images = plan.options, plan.data
    print(smoothing.describe(images, plan.recipe), flush=True)
    networks, series = [], []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Class \d+ has \d+ examples, fewer")  # said when it was planned
        trained = trained_networks(plan)
        for (alpha, seed), result in zip(plan.networks, trained, strict=True):
            model, accuracy = shown_network(plan, alpha, seed), result["accuracy"]
            numbers = clusters.measure(model, images, plan.triples)
            ratios = ", ".join(f"{part} ratio {of_part['ratio']:.3g}" for part, of_part in numbers.items())
            print(f"α={alpha:g} seed={seed}: accuracy {accuracy:.4f}, {ratios}", flush=True)
            networks.append({"label_smoothing": alpha, "seed": seed, "accuracy": accuracy, "statistics": numbers})
            if seed == options.seeds[0]:
                series += project(plan, model, alpha)
    results = plan.results(
        "demos.image.projection",
        evaluation=SCATTER,
        classes=[[images.class_names[k] for k in triple] for triple in plan.triples],
        examples_per_class=options.examples_per_class,
        trials=networks,
        **of_trials(networks),
        series=series,
        caption=f"{images.name}, {plan.recipe.model}, seed {options.seeds[0]}",
        pictures=["projection.png", "projection.pdf"],
    )
    return publish(plan.run, results, table, figure, "projection.txt", networks=trained)


def of_trials(networks: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary of networks; the series is of the first seed's alone."""
    return {"summary": clusters.summarize(networks)}


def together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The series of the first seed's networks, of several results."""
    of_first = [results["series"] for results in found if results["seeds"][0] == found[0]["seeds"][0]]
    return {"series": [column for series in of_first for column in series]}


def trained_networks(plan: Plan) -> list[dict[str, Any]]:
    """The result of each network, trained here or before."""
    if plan.earlier is not None:
        return [plan.earlier.result(*each) for each in plan.networks]
    watch = functools.partial(plane_callback, plan, max(1, plan.recipe.epochs // PICTURES))
    return smoothing.train(plan, watch)


def shown_network(plan: Plan, alpha: float, seed: int) -> keras.Model:
    """A trained network, after TensorBoard got to see it."""
    images, folder = plan.data, plan.run.out / directory(alpha, seed)
    trained_in = plan.run.out if plan.earlier is None else plan.earlier.path
    model = checkpoints.load_network(trained_in / directory(alpha, seed))
    # A folder of its own, so that a running TensorBoard finds it when it is complete.
    activations = keras_ls.EmbeddingProjector(
        images.x_test, folder / "activations", labels=images.y_test, images=images.x_test, max_examples=PROJECTED_IMAGES
    )
    for callback in (activations, *([] if plan.earlier is None else plane_callback(plan, 1, model, folder))):
        callback.set_model(model)
        callback.on_train_begin()
        callback.on_epoch_end(plan.recipe.epochs - 1)
        callback.on_train_end()
    return model


def plane_callback(plan: Plan, freq: int, model: keras.Model, folder: pathlib.Path) -> list[keras.callbacks.Callback]:
    """Draws the first triple's training images for TensorBoard."""
    images = plan.data
    shown = {"examples_per_class": plan.options.examples_per_class, "class_names": images.class_names}
    return [keras_ls.PenultimateProjection(images.x_train, images.y_train, plan.triples[0], folder, freq=freq, **shown)]


def project(plan: Plan, model: keras.Model, alpha: float) -> list[dict[str, Any]]:
    """A network's columns of the picture: their titles, and a panel for each triple."""
    images = plan.data
    columns = []
    for part, (x, y) in clusters.parts(images).items():
        panels: list[dict[str, Any] | None] = []
        for ids in plan.triples:
            try:
                projection = keras_ls.project_classes(model, x, y, ids, plan.options.examples_per_class)
            except ValueError as error:  # templates on a line, as of dead networks
                print(f"Note: a panel of {part}, {network_name(alpha)}, is empty: {error}", flush=True)
                panels.append(None)
                continue
            named = dataclasses.replace(projection, class_names=tuple(images.class_names[k] for k in ids))
            panels.append(measures.projection_to_json(named))
        columns.append({"title": f"{part}, {network_name(alpha)}", "panels": panels})
    return columns


def table(results: dict[str, Any]) -> str:
    """The summary as text, one row per part of the data and label smoothing."""
    return clusters.table(results["summary"])


def figure(results: dict[str, Any]) -> Any:
    """Figure 1 as a grid: a row for each triple, a column for each part of the data and label smoothing."""
    rows = [
        {column["title"]: _panel(column["panels"][i]) for column in results["series"]}
        for i in range(len(results["classes"]))
    ]
    drawn = keras_ls.projection_grid(rows)
    drawn.suptitle(pictures.plain(results["caption"]))
    return drawn


def _panel(found: dict[str, Any] | None) -> keras_ls.Projection | None:
    return None if found is None else measures.projection_from_json(found)
