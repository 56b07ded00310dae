"""What training data show of a network: neural collapse, cluster statistics, and what its outputs could teach."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_ls._models.data import one_pass
from keras_ls._models.head import Probe
from keras_ls._models.inputs import is_dataset
from keras_ls._models.outputs import of_output, output_names
from keras_ls._rows import labelled_rows
from keras_ls.diagnosis.estimates import Estimate
from keras_ls.distillation.teacher import equivalent_smoothing
from keras_ls.projection.activations import templates_of
from keras_ls.projection.clusters import cluster_statistics
from keras_ls.projection.collapse import neural_collapse

NUM_RESAMPLES = 100
MOST_EXAMPLES, MOST_OF_A_CLASS = 5_000, 20
_ANGLES = ("means_angle", "templates_angle")


def measure_training_data(
    model: keras.Model,
    x: Any,
    y: Any,
    batch_size: int,
    ignore_class: int | None,
    output: str | None,
    level: float,
    seed: int,
) -> tuple[dict[str, Estimate], tuple[str, ...]]:
    """The fields of `NeuralCollapse` and `ClusterStatistics` and "gamma", with notes on how they were measured.

    Intervals come from resampling within classes, or of whole examples where these have several predictions, which
    depend on each other. Of more than `MOST_EXAMPLES` predictions (or as many times `MOST_OF_A_CLASS` as there are
    classes) a random part is measured.

    Raises:
        ValueError: If labels do not fit, or the model does not end in a `Dense`.
    """
    rng = np.random.default_rng([seed, 2])
    activations, labels, examples, templates = _collected(model, x, y, batch_size, ignore_class, output)
    are_alone = len(np.unique(examples)) == len(examples)
    notes = []
    most = max(MOST_EXAMPLES, MOST_OF_A_CLASS * len(templates))
    if len(labels) > most:
        chosen = _some(examples, most, rng)
        of_these = f"{len(chosen):,} of {len(labels):,}"
        notes.append(f"Clusters are those of {of_these} training predictions, chosen at random.")
        activations, labels, examples = activations[chosen], labels[chosen], examples[chosen]
    classes, values = np.unique(labels), _measures(activations, labels, templates)
    drawn = []
    for _ in range(NUM_RESAMPLES):
        chosen = _redrawn(labels, rng, within=True) if are_alone else _redrawn(examples, rng, within=False)
        if len(classes) == 1 or len(np.unique(labels[chosen])) > 1:
            drawn.append(list(_measures(activations[chosen], labels[chosen], templates).values()))
    limits = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    # Resampling spreads the means of small classes, and may leave the value itself outside.
    estimates = {
        name: Estimate(value, float(np.fmin(low, value)), float(np.fmax(high, value)))
        for (name, value), low, high in zip(values.items(), *limits, strict=True)
    }
    if len(classes) == 2 or activations.shape[1] < len(classes) - 1:
        notes.append("Angles say nothing of two classes, or where there are fewer than K − 1 features.")
        estimates.update({name: Estimate(np.nan, np.nan, np.nan) for name in _ANGLES})
    return estimates, tuple(notes)


def _some(examples: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """The rows, about `most` of them, of examples drawn at random."""
    order = rng.permutation(examples.max() + 1)
    counts = np.cumsum(np.bincount(examples)[order])
    return np.flatnonzero(np.isin(examples, order[: max(1, np.searchsorted(counts, most, side="right"))]))


def _redrawn(groups: np.ndarray, rng: np.random.Generator, within: bool) -> np.ndarray:
    """Rows drawn with replacement: as many of each group as it has, from `within` it, or whole groups."""
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    if within:
        return order[np.repeat(starts, sizes) + (rng.random(len(groups)) * np.repeat(sizes, sizes)).astype("int64")]
    drawn = rng.integers(len(starts), size=len(starts))
    return np.concatenate([order[starts[group] : starts[group] + sizes[group]] for group in drawn])


def _collected(model, x, y, batch_size, ignore_class, output) -> tuple[np.ndarray, ...]:
    """Activations (M, D), labels (M,) and examples (M,) of what counts in training data, and templates (K, D + 1)."""
    probe, names = Probe(model, output), output_names(model)
    parts = []
    if is_dataset(x):
        for batch in one_pass(x):
            inputs, labels, weight = keras.utils.unpack_x_y_sample_weight(batch)
            parts.append(
                (probe.forward(inputs, batch_size), *(of_output(each, output, names) for each in (labels, weight)))
            )
    else:
        parts.append((probe.forward(x, batch_size), of_output(y, output, None), None))
    templates = templates_of(parts[0][0].head).astype("float64")
    activations, ids, examples, seen = [], [], [], 0
    for forward, labels, weight in parts:
        rows = labelled_rows(
            labels, forward.outputs, weight, ignore_class, True, forward.mask, ("y_train", "predictions")
        )
        flat = forward.activations.reshape(-1, forward.activations.shape[-1])
        if len(flat) != len(rows.ids):
            raise ValueError(
                "`model` must give its last Dense one row per prediction. "
                f"Received: {len(flat)} rows for {len(rows.ids)} predictions."
            )
        counts = rows.weight > 0
        activations.append(flat[counts])
        ids.append(rows.ids[counts])
        size = len(forward.outputs)
        examples.append(np.repeat(np.arange(seen, seen + size), len(flat) // max(1, size))[counts])
        seen += size
    if len(templates) == 1:  # one unit, the logit of class 1: that of class 0 is 0
        templates = np.concatenate([np.zeros_like(templates), templates])
    found = np.concatenate(ids)
    if not len(found):
        raise ValueError("`x_train` must hold at least one prediction that counts.")
    return np.concatenate(activations), found, np.concatenate(examples), templates


def _measures(activations: np.ndarray, labels: np.ndarray, templates: np.ndarray) -> dict[str, float]:
    logits = activations @ templates[:, :-1].T + templates[:, -1]
    return {
        **dataclasses.asdict(neural_collapse(activations, labels, templates)),
        **dataclasses.asdict(cluster_statistics(activations, labels, templates)),
        "gamma": equivalent_smoothing(logits, labels),
    }
