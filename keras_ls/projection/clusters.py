"""Statistics of clusters of activations: how tight they are, and how far apart."""

import dataclasses
from typing import Any

import numpy as np

from keras_ls._arrays import to_numpy
from keras_ls.projection._pairs import mean_over_pairs, squared_distances

# Singular values below this share of the largest are what rounding leaves of zero in float32.
RANK_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class ClusterStatistics:
    """How tight and how far apart the classes' clusters are.

    Attributes:
        within: mean squared distance from an example to the mean of its class.
        between: mean over examples of the squared distance from the mean of their class to the overall mean; 0 for one
            class.
        ratio: within / between; NaN for one class, which cannot be far from others, and if both are 0.
        template_distance: mean distance between the templates of two classes; NaN without templates.
        template_distance_cv: standard deviation of these distances over their mean: 0 for a regular simplex.
    """

    within: float
    between: float
    ratio: float
    template_distance: float
    template_distance_cv: float


def cluster_statistics(activations: Any, labels: Any, templates: Any = None) -> ClusterStatistics:
    """How tight the classes' clusters are and how far apart: what smoothing changes in the paper's picture.

    With templates, activations are first projected onto the span of the templates' differences: the paper's plane,
    generalised to all classes, and the only part of the activations on which the probabilities depend.

    Args:
        activations: (N, D), or (N, D + 1) with the 1 appended.
        labels: (N,) or (N, 1) integers.
        templates: (K, D + 1), K at least 2, as `class_templates` returns them, or None.

    Returns:
        A `ClusterStatistics`, computed in float64; `within` and `between` are in squared units of the activations.
        Activations or templates that are NaN or infinite give NaN.

    Raises:
        ValueError: If shapes do not match.

    Example:
        >>> import keras_ls
        >>> statistics = keras_ls.cluster_statistics([[0.0], [2.0], [8.0], [10.0]], [0, 0, 1, 1])
        >>> print(statistics.within, statistics.between, statistics.ratio)
        1.0 16.0 0.0625

    Reference:
        Müller, Kornblith and Hinton 2019, section 2.
    """
    rows = to_numpy("activations", activations).astype("float64")
    groups = to_numpy("labels", labels)
    groups = groups[:, 0] if groups.shape[1:] == (1,) else groups
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"`activations` must be of shape (N, D), N at least 1. Received shape: {rows.shape}.")
    if groups.shape != (len(rows),):
        raise ValueError(f"`labels` must be of shape ({len(rows)},). Received shape: {groups.shape}.")
    # Equal rows are 0, where rounding would make clusters of them; infinite activations are NaN from here on.
    rows = np.where(np.isfinite(rows), rows, np.nan)
    rows = rows - rows[0]
    distance = deviation = np.nan
    if templates is not None:
        directions = template_directions(templates, rows.shape[1])
        rows = in_the_span(rows, directions)
        distance, spread = _mean_and_deviation_of_distances(directions)
        deviation = spread / distance if distance else np.nan
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    centred = rows - rows.mean(axis=0)
    means = np.zeros((len(counts), rows.shape[1]))
    np.add.at(means, inverse, centred)
    means /= counts[:, None]
    within = float(np.square(centred - means[inverse]).sum() / len(rows))
    between, ratio = 0.0 * within, np.nan  # NaN stays NaN
    if len(counts) > 1:  # the mean of one class is the overall mean, but for rounding
        between = float(counts @ np.square(means).sum(axis=1) / len(rows))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(np.divide(within, between))
    return ClusterStatistics(within, between, ratio, distance, deviation)


def template_directions(templates: Any, width: int) -> np.ndarray:
    """(K, D + 1) templates of activations (N, `width`), less their mean, in float64; NaN if one is not finite."""
    given = to_numpy("templates", templates).astype("float64")
    if given.ndim != 2 or len(given) < 2 or given.shape[1] not in (width, width + 1):
        raise ValueError(f"`templates` must be of shape (K, {width + 1}), K at least 2. Received shape: {given.shape}.")
    return given - given.mean(axis=0) if np.isfinite(given).all() else np.full_like(given, np.nan)


def in_the_span(rows: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Coordinates of (N, D) rows in the span of what `template_directions` gives; NaN if one of these is not finite."""
    if np.isnan(directions).any() or not np.isfinite(rows).all():
        return np.full_like(rows, np.nan)
    _, sizes, axes = np.linalg.svd(directions, full_matrices=False)
    return rows @ axes[sizes > RANK_TOLERANCE * sizes[0], : rows.shape[1]].T


def _mean_and_deviation_of_distances(points: np.ndarray) -> tuple[float, float]:
    """Of all pairs of (K, D) points around 0."""

    def distances(first: slice, later: slice) -> np.ndarray:
        return np.sqrt(squared_distances(points, first, later))

    mean = mean_over_pairs(len(points), distances)
    variance = mean_over_pairs(len(points), lambda first, later: np.square(distances(first, later) - mean))
    return mean, float(np.sqrt(variance))
