"""What training data show of a network: neural collapse, cluster statistics, and what its outputs could teach."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_ls._arrays import taken
from keras_ls._models.head import Probe
from keras_ls._models.inputs import is_dataset, one_pass
from keras_ls._models.logits import gives_logits
from keras_ls._models.outputs import of_output, output_names
from keras_ls._rows import labelled_rows
from keras_ls.diagnosis._ranking import FEWEST
from keras_ls.diagnosis.estimates import Estimate
from keras_ls.distillation.teacher import smoothing_of_rows
from keras_ls.projection.activations import templates_of
from keras_ls.projection.clusters import ClusterStatistics, cluster_statistics, in_the_span, template_directions
from keras_ls.projection.collapse import neural_collapse

NUM_RESAMPLES = 100
MOST_EXAMPLES, MOST_OF_A_CLASS = 5_000, 20
MOST_LOGITS = 2**28  # predictions times classes, unless `MOST_EXAMPLES` are more
_ANGLES = ("means_angle", "templates_angle")
# What is a spread, or a quotient of spreads: noise multiplies it, and it says nothing if a class has one example.
_SPREADS = ("variability", "cdnv", "within", "between", "ratio")
# What noise adds to in squares, such as deviations around 0.
_DEVIATIONS = ("means_norm_cv", "means_angle")
_OF_TEMPLATES = ("template_distance", "template_distance_cv")
_LARGEST = {"nearest_mean_agreement": 1.0}


def measure_training_data(
    model: keras.Model,
    x: Any,
    y: Any,
    num_classes: int,
    batch_size: int,
    ignore_class: int | None,
    from_logits: bool | None,
    output: str | None,
    level: float,
    seed: int,
) -> tuple[dict[str, Estimate], tuple[str, ...]]:
    """The fields of `NeuralCollapse` and `ClusterStatistics` and "gamma", with notes on how they were measured.

    Intervals come from resampling within classes, or of whole examples where these have several predictions, which
    depend on each other; see `_limits`. Of more than `MOST_EXAMPLES` predictions (or as many times `MOST_OF_A_CLASS` as
    there are classes) a random part is measured; of arrays no more examples are even predicted.

    Raises:
        ValueError: If labels do not fit, activations are not finite, or the model does not end in a `Dense`.
    """
    rng = np.random.default_rng([seed, 2])
    if from_logits is None:
        from_logits = bool(gives_logits(model, output))
    notes = []
    most = max(MOST_EXAMPLES, min(MOST_OF_A_CLASS * num_classes, MOST_LOGITS // num_classes))
    if y is not None and len(y) > most:
        notes.append(f"Clusters are those of {most:,} of {len(y):,} training examples, chosen at random.")
        chosen = np.sort(rng.permutation(len(y))[:most])
        x, y = taken(x, chosen), y[chosen]
    found, total, templates = _collected(model, x, y, batch_size, ignore_class, from_logits, output, most, rng)
    if not np.isfinite(found.activations).all():
        raise ValueError("`x_train` must give finite activations. Received: NaN or infinities.")
    num_examples = len(np.unique(found.examples))
    are_alone = num_examples == len(found.examples)
    if len(found.labels) < total:
        of_these = f"{len(found.labels):,} of {total:,}"
        notes.append(f"Clusters are those of {of_these} training predictions, chosen at random.")
    classes, counts = np.unique(found.labels, return_counts=True)
    values = _measures(found, templates, cluster_statistics(found.activations, found.labels, templates))
    # Resampling leaves the templates, and the span of their differences, as they are.
    in_span = in_the_span(
        found.activations - found.activations[0], template_directions(templates, found.activations.shape[1])
    )
    of_templates = {name: values[name] for name in _OF_TEMPLATES}
    drawn = []
    for _ in range(NUM_RESAMPLES):
        chosen = _redrawn(found.labels, rng, within=True) if are_alone else _redrawn(found.examples, rng, within=False)
        if len(classes) == 1 or len(np.unique(found.labels[chosen])) > 1:
            part = found.of(chosen)
            drawn.append(_measures(part, templates, cluster_statistics(in_span[chosen], part.labels)) | of_templates)
    estimates = {
        name: Estimate(value, *_limits(name, value, np.array([each[name] for each in drawn]), level))
        for name, value in values.items()
    }
    if num_examples < FEWEST and not are_alone:
        notes.append(f"Fewer than {FEWEST} training examples do not tell how much these differ: no intervals.")
        estimates.update({name: Estimate(value, np.nan, np.nan) for name, value in values.items()})
    if counts.min() == 1 and len(classes) > 1:
        notes.append("A class with a single example does not tell how spread out it is: spreads have no intervals.")
        estimates.update({name: Estimate(values[name], np.nan, np.nan) for name in _SPREADS})
    if len(classes) == 2 or found.activations.shape[1] < len(classes) - 1:
        notes.append("Angles say nothing of two classes, or where there are fewer than K − 1 features.")
        estimates.update({name: Estimate(values[name], np.nan, np.nan) for name in _ANGLES})
    return estimates, tuple(notes)


def _limits(name: str, value: float, drawn: np.ndarray, level: float) -> tuple[float, float]:
    """Limits from (R,) resamples, reflected at the value, which they always hold; NaN if a resample is.

    A resample has the noise of the data and as much again: its classes are less spread out than the data's, whose are
    less than the truth's, and the noise of its means is twice that of the data's. What lies as far on the other side of
    the value is therefore nearer to the truth (Efron and Tibshirani 1993, section 10.6): for a spread in logarithms,
    for a deviation in squares.
    """
    quantiles = np.quantile(drawn, [(1 + level) / 2, (1 - level) / 2])
    with np.errstate(divide="ignore", invalid="ignore"):
        if name in _SPREADS:
            reflected = np.exp(2.0 * np.log(value) - np.log(quantiles))
        elif name in _DEVIATIONS:
            reflected = np.sqrt(np.maximum(0.0, 2.0 * value**2 - quantiles**2))
        else:
            reflected = np.clip(2.0 * value - quantiles, 0.0, _LARGEST.get(name, np.inf))
    low, high = np.where(quantiles == value, value, reflected)  # 0, too
    return float(np.minimum(low, value)), float(np.maximum(high, value))


def _redrawn(groups: np.ndarray, rng: np.random.Generator, within: bool) -> np.ndarray:
    """Rows drawn with replacement: as many of each group as it has, from `within` it, or whole groups."""
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    if within:
        return order[np.repeat(starts, sizes) + (rng.random(len(groups)) * np.repeat(sizes, sizes)).astype("int64")]
    drawn = rng.integers(len(starts), size=len(starts))
    return np.concatenate([order[starts[group] : starts[group] + sizes[group]] for group in drawn])


@dataclasses.dataclass(frozen=True, eq=False)
class _Predictions:
    """What counts in training data: M predictions.

    Attributes:
        activations: (M, D).
        labels: (M,) class ids.
        examples: (M,) the place of the example that each belongs to.
        missed: (M,) the mass on wrong classes, times K/(K − 1), whose mean is γ.
        drawn: (M,) random numbers, by which some are chosen.
    """

    activations: np.ndarray
    labels: np.ndarray
    examples: np.ndarray
    missed: np.ndarray
    drawn: np.ndarray

    def of(self, chosen: np.ndarray) -> "_Predictions":
        """Those at the places `chosen`."""
        return _Predictions(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


def _collected(
    model, x, y, batch_size, ignore_class, from_logits, output, most, rng
) -> tuple[_Predictions, int, np.ndarray]:
    """The predictions of training data that count, at random `most` of them, how many there are, and templates.

    Of each batch no more is kept than can be among them. The templates are (K, D + 1).
    """
    probe, names = Probe(model, output), output_names(model)
    kept: list[_Predictions] = []
    head, total, seen = None, 0, 0
    for inputs, labels, weight in _batches(x, y, batch_size, output, names):
        forward = probe.forward(inputs, batch_size)
        flat = forward.activations.reshape(-1, forward.activations.shape[-1])
        # That of the activations is that of the predictions if there are as many.
        mask = forward.mask if len(flat) in (forward.outputs.size, forward.outputs[..., 0].size) else None
        rows = labelled_rows(
            labels, forward.outputs, weight, ignore_class, from_logits, mask, ("y_train", "predictions")
        )
        if len(flat) != len(rows.ids):
            raise ValueError(
                "`model` must give its last Dense one row per prediction. "
                f"Received: {len(flat)} rows for {len(rows.ids)} predictions."
            )
        counts, size = rows.weight > 0, len(forward.outputs)
        places = np.repeat(np.arange(size), len(flat) // max(1, size))[counts]
        drawn = rng.random(len(flat))[counts]
        found = flat[counts], rows.ids[counts], seen + places, smoothing_of_rows(rows), drawn
        kept.append(_Predictions(*found))
        head, total, seen = forward.head, total + len(places), seen + size
        if sum(len(part.labels) for part in kept) > 2 * most:
            kept = [_some(_joined(kept), most)]
    if total == 0:
        raise ValueError("`x_train` must hold at least one prediction that counts.")
    templates = templates_of(head).astype("float64")
    if len(templates) == 1:  # one unit, the logit of class 1: that of class 0 is 0
        templates = np.concatenate([np.zeros_like(templates), templates])
    return _some(_joined(kept), most), total, templates


def _batches(x: Any, y: Any, batch_size: int, output: str | None, names: list[str] | None) -> Iterator[tuple]:
    """Inputs, labels and weights, batch by batch."""
    if not is_dataset(x):
        for start in range(0, len(y), batch_size):
            part = slice(start, start + batch_size)
            yield taken(x, part), y[part], None
        return
    for batch in one_pass(x):
        inputs, labels, weight = keras.utils.unpack_x_y_sample_weight(batch)
        yield inputs, *(of_output(each, output, names) for each in (labels, weight))


def _joined(parts: list[_Predictions]) -> _Predictions:
    fields = (field.name for field in dataclasses.fields(_Predictions))
    return _Predictions(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def _some(found: _Predictions, most: int) -> _Predictions:
    """At most `most` predictions, chosen at random, in their order."""
    if len(found.drawn) <= most:
        return found
    return found.of(np.sort(np.argpartition(found.drawn, most)[:most]))


def _measures(found: _Predictions, templates: np.ndarray, clusters: ClusterStatistics) -> dict[str, float]:
    return {
        **dataclasses.asdict(neural_collapse(found.activations, found.labels, templates)),
        **dataclasses.asdict(clusters),
        "gamma": float(found.missed.mean()),
    }
