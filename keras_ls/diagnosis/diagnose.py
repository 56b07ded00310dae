"""One call that says whether label smoothing, more or less of it, or a temperature would help a classifier."""

from typing import Any

import keras

from keras_ls._arrays import to_numpy
from keras_ls._checks import check_count, check_flag, check_ignore_class, check_optional_flag
from keras_ls._models.data import LabelledData, predicted_logits
from keras_ls._models.inputs import (
    check_dataset,
    check_fits,
    check_no_preprocessor,
    input_arrays,
    is_dataset,
    number_of_examples,
)
from keras_ls._models.outputs import of_output
from keras_ls._rows import LabelledRows, labelled_rows
from keras_ls.diagnosis._estimates import Settings, check_settings, measure
from keras_ls.diagnosis._geometry import measure_training_data
from keras_ls.diagnosis.estimates import Estimate
from keras_ls.diagnosis.findings import find
from keras_ls.diagnosis.report import Diagnosis


def diagnose(
    model: keras.Model,
    x: Any,
    y: Any = None,
    x_train: Any = None,
    y_train: Any = None,
    batch_size: int = 256,
    num_bins: int = 15,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
    sample_weight: Any = None,
    ignore_class: int | None = None,
    from_logits: bool | None = None,
    output: str | None = None,
) -> Diagnosis:
    """Says whether label smoothing, more or less of it, or a temperature would help a model, with error bars.

    Held-out data are predicted once, and what `diagnose_predictions` measures is measured on these predictions. With
    training data, the activations before the last `Dense` are measured, too: whether the classes' clusters have
    collapsed, and how much the model could still teach a student.

    Args:
        model: a built Keras model with an output (..., K), or (..., 1) for a binary classifier with one sigmoid unit.
        x: inputs that the model was not trained on, as `model.predict` takes them, or a dataset of (inputs, labels) or
            (inputs, labels, weights) that can be read twice.
        y: class ids (N, ...) or (N, ..., 1), or one row per prediction (N, ..., K). None if `x` is a dataset.
        x_train: None, or training inputs in the same form, without augmentation. The model must then end in a `Dense`,
            whatever activation follows it. Of a dataset's weights only zeros matter: what has weight 0 does not count.
        y_train: the labels of `x_train`. None if `x_train` is a dataset or is not given.
        batch_size: examples per batch, if `x` is not a dataset.
        num_bins: number of bins of calibration errors, at least 1.
        level: level of the intervals, in (0, 1).
        num_resamples: resamples of examples for the intervals of rankings, at least 1. Those of clusters are 100.
        seed: of halves, resamples, and the order of ties.
        sample_weight: None, or weights ≥ 0, (N, ...) or its leading dimensions. What the model masks never counts.
        ignore_class: a label, in [0, K) or not, whose positions do not count, or None.
        from_logits: whether the output holds logits (True) or probabilities (False); None to read it off the layers.
        output: the name of the output, if `model` has several; labels and weights may then be dicts by outputs.

    Returns:
        A `Diagnosis`; with `x_train` its estimates also hold the fields of `NeuralCollapse` and `ClusterStatistics`,
        and "gamma" (`equivalent_smoothing` at a temperature of 1).

    Raises:
        ValueError: As `calibrate`; if the predictions are NaN or infinite, or make a label impossible; and if `x_train`
            comes without labels, or the model that is to be measured on it does not end in a `Dense`.

    Example:
        >>> import numpy as np, keras, keras_ls
        >>> rng = np.random.default_rng(0)
        >>> x, y = 4 * rng.normal(size=(300, 3)), rng.integers(0, 3, 300)
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, kernel_initializer="identity")])
        >>> diagnosis = keras_ls.diagnose(model, x, y)  # a model that is sure, and guesses
        >>> print(diagnosis.findings[0].verdict, diagnosis.estimates["ece"].low > 0.3)
        over-confident True

    Reference:
        Müller, Kornblith and Hinton 2019; the guide docs/diagnosis.md has the sources of all intervals.
    """
    asked = check_settings(num_bins, level, num_resamples, seed)
    batch_size, ignored = check_count("batch_size", batch_size), check_ignore_class(ignore_class)
    check_optional_flag("from_logits", from_logits)
    check_no_preprocessor(model)
    x_train, y_train = _training_data(x_train, y_train, output)
    if y_train is not None:
        check_fits("x_train", x_train, model)
    data = LabelledData(x, y, sample_weight, ignored, output)
    _, rows = predicted_logits(model, data, from_logits, batch_size)
    estimates: dict[str, Estimate] = {}
    notes: tuple[str, ...] = ()
    if x_train is not None:
        estimates, notes = measure_training_data(
            model, x_train, y_train, rows.num_classes, batch_size, ignored, from_logits, output, asked.level, asked.seed
        )
    return _diagnosis(rows, asked, estimates, notes)


def diagnose_predictions(
    y_true: Any,
    y_pred: Any,
    num_bins: int = 15,
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
    sample_weight: Any = None,
    ignore_class: int | None = None,
    from_logits: bool = False,
) -> Diagnosis:
    """The same as `diagnose`, for predictions made by any framework.

    It measures accuracy, NLL, Brier score, calibration errors (top-label in bins of equal width and of equal mass, and
    class by class), the best temperature, what NLL and calibration error are once each half of the examples is scaled
    by the temperature of the other, and how well confidence ranks errors (AURC): by the largest probability, by
    the largest logit and by normalised logits. The unit is the example, the leading dimension: positions of a sequence
    depend on each other.

    Args:
        y_true: class ids (...,) or (..., 1), or one row per prediction (..., K) whose largest entry is the class.
        y_pred: probabilities, or logits with `from_logits`, (..., K); (..., 1) or (N,) of a binary classifier. A memory
            map is read block by block.
        num_bins: number of bins of calibration errors, at least 1.
        level: level of the intervals, in (0, 1).
        num_resamples: resamples of examples for the intervals of rankings, at least 1.
        seed: of halves, resamples, and the order of ties.
        sample_weight: None, or weights ≥ 0, shaped as the class ids or as their leading dimensions.
        ignore_class: a label, in [0, K) or not, whose positions do not count, or None.
        from_logits: whether `y_pred` holds logits; −inf is the logit of a class that cannot occur.

    Returns:
        A `Diagnosis`. Limits that the data do not allow are NaN. The interval of a calibration error need not hold its
        value, which is too high with few examples per bin.

    Raises:
        ValueError: If shapes do not match, labels are outside [0, K), no prediction counts, predictions are NaN or
            infinite or, without `from_logits`, outside [0, 1], or make a label impossible.

    Example:
        >>> import numpy as np, keras_ls
        >>> rng = np.random.default_rng(0)
        >>> p = rng.dirichlet(np.ones(3), 2000)
        >>> y = (rng.random((2000, 1)) > p.cumsum(-1)).sum(-1)  # drawn with these probabilities
        >>> diagnosis = keras_ls.diagnose_predictions(y, p)
        >>> print(diagnosis.findings[0].verdict, diagnosis.estimates["ece"].low)
        calibrated 0.0

    Reference:
        Wilson 1927 (accuracy); Hall 1992 (NLL, Brier score); Kumar, Liang and Ma 2019, Sun et al. 2024 (calibration
        errors); Geifman, Uziel and El-Yaniv 2019, Cattelan and Silva 2024, Xia et al. 2025 (rankings).
    """
    asked = check_settings(num_bins, level, num_resamples, seed)
    check_flag("from_logits", from_logits)
    rows = labelled_rows(y_true, y_pred, sample_weight, check_ignore_class(ignore_class), from_logits)
    return _diagnosis(rows.check_any(), asked, {}, ())


def _training_data(x_train: Any, y_train: Any, output: str | None) -> tuple[Any, Any]:
    """Arrays, with the labels of the output, or a dataset and None."""
    if x_train is None and y_train is not None:
        raise ValueError("`y_train` must come with `x_train`. Received: x_train=None.")
    if x_train is not None and y_train is None:
        check_dataset(x_train, ("x_train", "y_train"))
    if y_train is not None and is_dataset(x_train):
        raise ValueError("`y_train` must be None if `x_train` is a dataset. Received: y_train beside it.")
    if y_train is None:
        return x_train, None
    arrays, labels = input_arrays("x_train", x_train), to_numpy("y_train", of_output(y_train, output, None))
    if labels.ndim == 0 or len(labels) != number_of_examples(arrays):
        raise ValueError(
            "`x_train` and `y_train` must be of the same length. "
            f"Received: {number_of_examples(arrays)} examples and y_train of shape {labels.shape}."
        )
    return arrays, labels


def _diagnosis(
    rows: LabelledRows, asked: Settings, of_training: dict[str, Estimate], notes: tuple[str, ...]
) -> Diagnosis:
    measured = measure(rows, asked)
    estimates = {**measured.estimates, **of_training}
    return Diagnosis(
        estimates=estimates,
        findings=find(estimates, rows.num_classes, measured.class_errors, measured.class_limits),
        level=asked.level,
        num_examples=measured.num_examples,
        num_predictions=measured.num_predictions,
        num_classes=rows.num_classes,
        class_errors=measured.class_errors,
        reliability=measured.reliability,
        ranking=measured.ranking,
        notes=(*measured.notes, *notes),
    )
