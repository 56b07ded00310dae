"""Neural collapse: how near classes have come to tight, equally distant clusters that mirror the output layer."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_ls._arrays import checked_ids, to_numpy
from keras_ls.projection._pairs import BLOCK_SIZE, mean_over_pairs, squared_distances
from keras_ls.projection.clusters import RANK_TOLERANCE


@dataclasses.dataclass(frozen=True)
class NeuralCollapse:
    """How near classes are to the simplex that training beyond zero error leads to; 0 is complete collapse.

    With class means μ_k, their mean μ, and K the number of classes that have examples:

    Attributes:
        variability: tr(Σ_W Σ_B⁺)/K, spread within classes over that between them (NC1).
        cdnv: mean over pairs of classes of (σ²_a + σ²_b)/(2‖μ_a − μ_b‖²), σ² being a class's mean squared distance to
            its mean.
        means_norm_cv: standard deviation over mean of ‖μ_k − μ‖: 0 if all classes are equally far from the centre.
        means_angle: mean over pairs of |cos(μ_a − μ, μ_b − μ) + 1/(K − 1)|: 0 if they are as far apart as they can be
            (NC2). Always 0 for two classes, and never 0 if there are fewer than K − 1 features.
        templates_norm_cv: as `means_norm_cv`, of the templates less their mean.
        templates_angle: as `means_angle`, of the templates less their mean.
        self_duality: ‖W/‖W‖_F − M/‖M‖_F‖²_F, W being these templates and M the rows μ_k − μ (NC3); in [0, 4].
        nearest_mean_agreement: share of examples whose nearest class mean is the class with the largest logit (NC4);
            1 is complete collapse.

    The fields about templates are NaN if none are given.
    """

    variability: float
    cdnv: float
    means_norm_cv: float
    means_angle: float
    templates_norm_cv: float = np.nan
    templates_angle: float = np.nan
    self_duality: float = np.nan
    nearest_mean_agreement: float = np.nan


def neural_collapse(activations: Any, labels: Any, templates: Any = None) -> NeuralCollapse:
    """Measures what the paper calls tight, equally distant clusters in the terms of the literature on neural collapse.

    Classes without examples are left out, of the templates too. Everything is computed in float64. A memory map is
    read in two passes, block by block.

    Args:
        activations: (N, D), for instance of `penultimate_activations`.
        labels: (N,) or (N, 1) class ids; with templates in [0, number of templates).
        templates: None, or (K, D + 1) as `class_templates` gives them, the bias last, or (K, D) without biases.

    Returns:
        A `NeuralCollapse`; everything in it is NaN if activations are NaN or infinite, or only one class has examples;
        the fields about templates are NaN if those are.

    Raises:
        ValueError: If shapes do not match, or a label is no row of `templates`.

    Example:
        >>> import numpy as np, keras_ls
        >>> corners = np.eye(3)[[0, 1, 2, 0]]
        >>> collapse = keras_ls.neural_collapse(corners, [0, 1, 2, 0], templates=np.eye(3))
        >>> print(round(collapse.variability, 6), round(collapse.means_angle, 6), collapse.nearest_mean_agreement)
        0.0 0.0 1.0

    Reference:
        Papyan, Han and Donoho 2020, "Prevalence of neural collapse during the terminal phase of deep learning
        training"; Galanti, György and Hutter 2022 (cdnv); Müller, Kornblith and Hinton 2019, section 2.
    """
    rows, ids, weights, biases = _checked(activations, labels, templates)
    present, groups, counts = np.unique(ids, return_inverse=True, return_counts=True)
    means = _class_means(rows, groups, counts)
    with np.errstate(invalid="ignore"):  # infinities
        centred = means - means.mean(axis=0)
    if len(present) < 2 or not np.isfinite(centred).all():
        return NeuralCollapse(*[np.nan] * len(dataclasses.fields(NeuralCollapse)))
    kernel, offsets = weights[present], biases[present]
    within, variability, agreement = _spread(rows, groups, counts, means, kernel, offsets)
    result = NeuralCollapse(variability, _distance_normalised_variance(centred, within), *_equality(centred))
    if not (np.isfinite(kernel).all() and np.isfinite(offsets).all()):
        return result  # there are no templates, or none that can be compared
    kernel = kernel - kernel.mean(axis=0)
    norm_cv, angle = _equality(kernel)
    with np.errstate(divide="ignore", invalid="ignore"):  # templates that coincide
        difference = kernel / np.linalg.norm(kernel) - centred / np.linalg.norm(centred)
    return dataclasses.replace(
        result,
        templates_norm_cv=norm_cv,
        templates_angle=angle,
        self_duality=float(np.square(difference).sum()),
        nearest_mean_agreement=agreement,
    )


def _checked(activations, labels, templates):
    """Activations as they are, (N,) ids, and the templates' (K, D) kernel and (K,) biases, NaN without templates."""
    rows = activations if isinstance(activations, np.memmap) else to_numpy("activations", activations)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"`activations` must be of shape (N, D) with examples. Received shape: {rows.shape}.")
    ids = to_numpy("labels", labels)
    ids = ids[:, 0] if ids.shape[1:] == (1,) else ids
    if ids.shape != (len(rows),):
        raise ValueError(f"`labels` must be of shape ({len(rows)},). Received shape: {ids.shape}.")
    if templates is None:
        _, ids = np.unique(ids, return_inverse=True)
        return rows, ids, np.full((ids.max() + 1, rows.shape[1]), np.nan), np.full(ids.max() + 1, np.nan)
    given = to_numpy("templates", templates).astype("float64")
    width = rows.shape[1]
    if given.ndim != 2 or given.shape[1] not in (width, width + 1):
        raise ValueError(
            f"`templates` must be of shape (K, {width + 1}), or (K, {width}) without biases. "
            f"Received shape: {given.shape}."
        )
    biases = given[:, width] if given.shape[1] > width else np.zeros(len(given))
    return rows, checked_ids("labels", ids, len(given)), given[:, :width], biases


def _blocks(rows: np.ndarray, width: int = 1) -> Iterator[tuple[slice, np.ndarray]]:
    """Float64 blocks of which as many rows, or rows of `width` numbers, are alive at a time as fit a block.

    The first row is taken off all, so that sums of equal rows are exactly 0.
    """
    origin = np.asarray(rows[0], "float64")
    size = max(1, BLOCK_SIZE // max(width, rows.shape[1]))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        with np.errstate(invalid="ignore"):  # infinities
            block = np.asarray(rows[part], "float64") - origin
        yield part, block


def _class_means(rows: np.ndarray, groups: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(K, D) means, of the first pass."""
    sums = np.zeros((len(counts), rows.shape[1]))
    with np.errstate(invalid="ignore"):  # infinities of both signs
        for part, block in _blocks(rows):
            order = np.argsort(groups[part], kind="stable")
            classes, first = np.unique(groups[part][order], return_index=True)
            sums[classes] += np.add.reduceat(block[order], first, axis=0)
        return sums / counts[:, None]


def _spread(rows, groups, counts, means, kernel, offsets):
    """(K,) mean squared distances to the class means, NC1, and how often nearest mean and output layer agree."""
    _, sizes, directions = np.linalg.svd((means - means.mean(axis=0)) / len(counts) ** 0.5, full_matrices=False)
    kept = sizes**2 > RANK_TOLERANCE * sizes[0] ** 2  # the singular values of Σ_B are squares of these
    scaled = directions[kept].T / sizes[kept]
    half_squares = np.square(means).sum(-1) / 2.0
    is_comparable = np.isfinite(kernel).all() and np.isfinite(offsets).all()
    distances, total, agree = np.zeros(len(counts)), 0.0, 0
    for part, block in _blocks(rows, len(means)):
        difference = block - means[groups[part]]
        distances += np.bincount(groups[part], np.square(difference).sum(-1), minlength=len(counts))
        total += float(np.square(difference @ scaled).sum())
        if is_comparable:
            nearest = (block @ means.T - half_squares).argmax(-1)
            # Of the activations as they are: logits that are equal stay so, and the first class is the prediction.
            logits = np.asarray(rows[part], "float64") @ kernel.T + offsets
            agree += int(np.sum(nearest == logits.argmax(-1)))
    variability = total / len(rows) / len(counts)
    if sizes[0] == 0:  # all means coincide: nothing to compare with
        variability = np.inf if distances.any() else np.nan
    return distances / counts, variability, agree / len(rows)


def _distance_normalised_variance(centred: np.ndarray, within: np.ndarray) -> float:
    """The mean over pairs of (K, D) class means around 0 of (σ²_a + σ²_b) over twice their squared distance."""

    def of_block(first: slice, later: slice) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):  # means that coincide
            return (within[first, None] + within[later]) / (2.0 * squared_distances(centred, first, later))

    return mean_over_pairs(len(centred), of_block)


def _equality(centred: np.ndarray) -> tuple[float, float]:
    """Of (K, D) vectors around 0: how unequal their lengths are, and how far their angles are from a simplex's."""
    lengths = np.linalg.norm(centred, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a vector in the centre has no direction
        directions = centred / lengths[:, None]

        def of_block(first: slice, later: slice) -> np.ndarray:
            return np.abs(directions[first] @ directions[later].T + 1.0 / (len(centred) - 1))

        return float(lengths.std() / lengths.mean()), mean_over_pairs(len(centred), of_block)
