"""The paper's view of a network: penultimate activations in the plane through the templates of three classes."""

import dataclasses
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ls._arrays import as_array, hard_labels, taken, to_numpy
from keras_ls._checks import check_count, shown
from keras_ls._models.head import Forward, Probe
from keras_ls._models.inputs import input_arrays, number_of_examples
from keras_ls._models.outputs import of_output, output_names
from keras_ls.projection.activations import templates_of
from keras_ls.projection.clusters import RANK_TOLERANCE

EXAMPLES_PER_CLASS = 100


class ClassPlane:
    """The plane through the templates of three classes.

    Attributes:
        basis: (2, D + 1) orthonormal rows, float64. The first points from the first template to the second; the third
            template lies on the positive side of the second.
        origin: (D + 1,), the mean of the templates.
        templates_2d: (3, 2), the templates in the plane.

    Args:
        templates: (3, D + 1), such as `class_templates(model)[[0, 1, 2]]`.

    Raises:
        ValueError: If there are not three finite templates, or they lie on a line.

    Example:
        >>> import keras_ls
        >>> plane = keras_ls.ClassPlane([[0, 0, 0], [3, 0, 0], [0, 0, 3]])
        >>> print((plane.templates_2d.round(3) + 0).tolist())
        [[-1.0, -1.0], [2.0, -1.0], [-1.0, 2.0]]

    Reference:
        Müller, Kornblith and Hinton 2019, section 2.
    """

    def __init__(self, templates: Any):
        corners = to_numpy("templates", templates).astype("float64")
        if corners.ndim != 2 or len(corners) != 3 or corners.shape[1] < 2:
            raise ValueError(f"`templates` must be of shape (3, D + 1). Received shape: {corners.shape}.")
        if not np.isfinite(corners).all():
            raise ValueError("`templates` must be finite. Received: NaN or infinite entries.")
        self.origin = corners.mean(axis=0)
        sizes = np.linalg.svd(corners - self.origin, compute_uv=False)
        if not sizes[1] > RANK_TOLERANCE * max(sizes[0], np.abs(corners).max()):
            raise ValueError(
                "`templates` must span a plane. Received: three that are, for their size, "
                "nearly on a line (are two of them equal?)."
            )
        sides = corners[1:] - corners[0]
        orthonormal, triangular = np.linalg.qr(sides.T)
        self.basis = (orthonormal * np.sign(np.diag(triangular))).T
        self.templates_2d = self._coordinates(corners)

    def project(self, activations: Any) -> np.ndarray:
        """Returns the point of the plane nearest to each activation vector.

        Args:
            activations: (N, D), to which a 1 is appended, or (N, D + 1) with the 1.

        Returns:
            (N, 2), float64: basis · (x − origin).

        Raises:
            ValueError: If `activations` has another shape.
        """
        rows, width = to_numpy("activations", activations).astype("float64"), len(self.origin)
        if rows.ndim != 2 or rows.shape[1] not in (width - 1, width):
            raise ValueError(
                f"`activations` must be of shape (N, {width - 1}) or (N, {width}). Received shape: {rows.shape}."
            )
        if rows.shape[1] < width:  # a 1 multiplies the bias
            rows = np.pad(rows, ((0, 0), (0, 1)), constant_values=1.0)
        return self._coordinates(rows)

    def __repr__(self) -> str:
        return f"ClassPlane(3 templates of width {len(self.origin)})"

    def _coordinates(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.origin) @ self.basis.T


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Projection:
    """Examples of three classes in the plane through their templates.

    Attributes:
        points: (N, 2) float64.
        labels: (N,), the class of each point, as given.
        templates_2d: (3, 2), the templates of the three classes, in their order.
        class_names: the names of the three classes, in their order.
        classes: the ids of the three classes, in their order; if not given, the sorted ids in `labels`.
    """

    points: np.ndarray
    labels: np.ndarray
    templates_2d: np.ndarray
    class_names: tuple[str, ...]
    classes: tuple[int, ...] = ()

    def __post_init__(self):
        if not self.classes:
            object.__setattr__(self, "classes", tuple(np.unique(self.labels).tolist()))
        if not len(self.classes) == len(self.class_names) == len(self.templates_2d) == 3:
            raise ValueError(
                "`classes`, `class_names` and `templates_2d` must be of three classes. Received: "
                f"classes={shown(self.classes)}, class_names={shown(self.class_names)}, "
                f"{len(self.templates_2d)} templates."
            )

    def __repr__(self) -> str:
        names = textwrap.shorten(", ".join(map(str, self.class_names)), 80, placeholder=" …")
        return f"Projection({len(self.points)} points, classes {names})"


def project_classes(
    model: keras.Model,
    x: Any,
    y: Any,
    classes: Sequence[int],
    examples_per_class: int = EXAMPLES_PER_CLASS,
    seed: int = 0,
    output: str | None = None,
) -> Projection:
    """Projects examples of three classes onto the plane through the classes' templates.

    Args:
        model: as for `penultimate_activations`, with at least three classes.
        x: the inputs, an array, or a list or dict of arrays.
        y: class ids (N,) or (N, 1), or one-hot rows (N, K); examples of other classes are skipped. If the `Dense` is
            applied to sequences, class ids (N, T), where positions that the model masks are skipped. With `output`,
            `y` may also be the dict by output names that `fit` takes.
        classes: ids of three different classes, in [0, K).
        examples_per_class: number of examples drawn from each class, without replacement. A class with fewer gives
            all of them, with a warning unless the number is the default.
        seed: the seed of the draw, an integer of at least 0.
        output: the name of one output, if the model has several.

    Returns:
        A `Projection`, with examples in the order of `y`.

    Raises:
        ValueError: If classes, labels and inputs do not fit together, the model has fewer than three classes, or the
            three templates lie on a line.

    Example:
        >>> import keras, keras_ls, numpy as np
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> x, y = np.eye(4, dtype="float32")[[0, 1, 2, 3, 0, 1]], np.array([0, 1, 2, 0, 1, 2])
        >>> projection = keras_ls.project_classes(model, x, y, classes=(0, 1, 2), examples_per_class=2)
        >>> print(projection.points.shape, projection.labels.tolist(), projection.class_names)
        (6, 2) [0, 1, 2, 0, 1, 2] ('0', '1', '2')

    Reference:
        Müller, Kornblith and Hinton 2019, section 2 and Figure 1.
    """
    examples_per_class = check_count("examples_per_class", examples_per_class)
    seed = check_count("seed", seed, minimum=0, maximum=None)
    ids = check_classes(classes)
    probe = Probe(model, output)
    arrays, labels = check_labels(x, of_output(y, output, output_names(model)))
    if labels.ndim == 2 and labels.shape[1:] == probe.forward(taken(arrays, slice(256))).outputs.shape[1:]:
        labels = hard_labels("y", labels, labels.shape)  # one-hot rows
    if labels.ndim == 2:
        run = probe.forward(arrays)
        check_steps(labels, run)
        places = drawn(labels, ids, examples_per_class, seed, run.mask, EXAMPLES_PER_CLASS)
        activations = run.activations[places]
    else:
        places = drawn(labels, ids, examples_per_class, seed, default=EXAMPLES_PER_CLASS)
        run = probe.forward(taken(arrays, places[0]))
        activations = run.activations
        check_steps(labels[places], run)
    return projected(run.head, activations, labels[places], ids)


def projected(head: Any, activations: np.ndarray, labels: np.ndarray, ids: tuple[int, ...]) -> Projection:
    """The `Projection` of (N, D) activations onto the plane of three columns of the `Dense` `head`."""
    check_in_range(ids, head)
    templates = templates_of(head)
    plane = ClassPlane(templates[list(ids)])
    names = tuple(str(k) for k in ids)
    return Projection(plane.project(activations), labels, plane.templates_2d, names, ids)


def drawn(
    labels: np.ndarray,
    ids: tuple[int, ...],
    examples_per_class: int,
    seed: int,
    mask: np.ndarray | None = None,
    default: int | None = None,
) -> tuple[np.ndarray, ...]:
    """Draws at most `examples_per_class` entries of `labels` for each id; returns their index arrays, in order.

    Warns if a class has fewer, unless `examples_per_class` is the `default`.

    Raises:
        ValueError: If a class has no example.
    """
    chosen = []
    flat = labels.reshape(-1)
    counts = np.ones(flat.shape, bool) if mask is None else mask.reshape(-1)
    for k in ids:
        places = np.flatnonzero((flat == k) & counts)
        if len(places) == 0:
            raise ValueError(f"`y` must hold examples of each of the classes {list(ids)}. Received: none of class {k}.")
        if len(places) < examples_per_class != default:
            warnings.warn(
                f"Class {k} has {len(places)} examples, fewer than examples_per_class={examples_per_class}; all of "
                "them are used.",
                stacklevel=3,
            )
        # A generator for each class, so that the order of the classes does not matter.
        chosen.append(np.random.default_rng([seed, k]).permutation(places)[:examples_per_class])
    return np.unravel_index(np.sort(np.concatenate(chosen)), labels.shape)


def check_classes(classes: Any) -> tuple[int, ...]:
    """Returns three different class ids."""
    try:
        array = as_array(classes)
    except ValueError:  # ragged lists
        array = np.empty(0)
    if array.shape != (3,) or array.dtype.kind not in "iu" or len(set(array.tolist())) != 3 or array.min() < 0:
        raise ValueError(f"`classes` must be three different class ids. Received: classes={shown(classes)}.")
    return tuple(array.tolist())


def check_in_range(ids: tuple[int, ...], head: Any) -> None:
    """Raises `ValueError` unless the `Dense` `head` has the classes."""
    if head.units < 3:
        raise ValueError(
            "`model` must have at least three classes, whose templates span a plane. "
            f"Received: a last Dense of {head.units} unit{'s' if head.units > 1 else ', a binary classifier'}."
        )
    if max(ids) >= head.units:
        raise ValueError(f"`classes` must be in [0, {head.units}). Received: {list(ids)}.")


def check_labels(x: Any, y: Any) -> tuple[Any, np.ndarray]:
    """Returns `x` as NumPy arrays, and `y` as an array (N,) or (N, T) of the same length."""
    arrays, labels = input_arrays("x", x), to_numpy("y", y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or len(labels) != number_of_examples(arrays):
        raise ValueError(
            f"`y` must hold one class id per example of `x` ({number_of_examples(arrays)}). "
            f"Received: shape {labels.shape}."
        )
    return arrays, labels


def check_steps(labels: np.ndarray, run: Forward) -> None:
    """Raises `ValueError` unless there is one label for each row of a pass's activations."""
    wanted = run.activations.shape[:-1]
    if labels.shape != wanted:
        raise ValueError(
            "`y` must hold one class id for each input of the model's last Dense. Received: labels of shape "
            f"{labels.shape} for its inputs of shape {run.activations.shape}, of the examples that are looked at."
        )
