"""A teacher's logits, computed once and cached, and the label smoothing that they are equivalent to."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_ls._arrays import log_softmax
from keras_ls._checks import check_count, check_flag, check_optional_flag, check_positive, shown
from keras_ls._models.devices import number_of_processes
from keras_ls._models.inputs import check_no_preprocessor
from keras_ls._models.random_state import kept_random_state
from keras_ls._rows import LARGEST_PROBABILITY, LabelledRows, labelled_rows
from keras_ls.distillation._cache import cache_path, load_or_compute
from keras_ls.distillation._identity import identity_of, teacher_digest
from keras_ls.distillation._inputs import Inputs
from keras_ls.distillation._sources import LogitSource, check_row_shape, logit_source
from keras_ls.distillation._together import load_or_compute_together

# Elements of one block of probabilities.
_BLOCK_SIZE = 2**20


def teacher_logits(
    teacher: keras.Model,
    x: Any,
    batch_size: int = 256,
    path: Any = None,
    from_logits: bool | None = None,
) -> np.ndarray:
    """Returns the logits of a teacher in inference mode, in the order of `x`, for `Distiller(None, student)`.

    With `path` they are stored in a file, which later calls read instead of running the teacher. The file records the
    weights and layers of its teacher, and the values, order and dtype of its inputs. If any of these differ, the logits
    are computed again and the file is **replaced**; no other file is ever replaced. (A `Lambda` of a Python lambda is
    another layer where it is defined in another file, line or notebook kernel: give it a registered function.)
    Recognising the inputs takes one pass over them, without running the teacher.

    The path always holds a complete file, or what was there before. Rows are first written to files beside it, whose
    names end in ``.part`` and ``.log``; after an interruption, an error or a full disk the next call continues from
    them. If another process is computing the same logits, this one waits and uses its result; computations of other
    logits do not interfere, and `path` keeps the result of the last to finish, which deletes what interrupted ones
    left. Every 1,024 rows have a checksum, which is verified when the file is opened; damaged rows are computed again,
    with a warning. (Files of earlier versions have no checksums.)

    Where a `keras.distribution` runs several processes, all of them call this with the same arguments and share the
    work; the first writes the file, in a folder that all see.

    The logits belong to exactly these inputs: if training augments at random, they are not the teacher's answer to what
    the student sees. In that case give `Distiller` the teacher itself, or train on fixed augmented copies::

        copies = np.concatenate([augment(x, seed) for seed in range(8)])
        zt = teacher_logits(teacher, copies, path="teacher.npy")
        distiller.fit(copies, {"labels": np.tile(y, 8), "teacher_logits": zt})

    Args:
        teacher: a built model with one output (..., K), or (..., 1) for a binary classifier.
        x: an array, or a list or dict of arrays (memory maps are read batch by batch); or a dataset of batches of
            inputs or (inputs, labels), `tf.data.Dataset`, `keras.utils.PyDataset` or
            `torch.utils.data.DataLoader`, which is read twice and must give the same both times.
        batch_size: number of examples per batch, if `x` holds arrays.
        path: a `.npy` file, written if it does not hold these logits, or None for an array in memory. Links are
            resolved.
        from_logits: whether the teacher's output holds logits (True) or probabilities (False); None tells from its
            last layers. Probabilities whose logits are not shown become log p, which is enough for cross-entropy only,
            or log(p/(1 − p)) for a binary classifier.

    Returns:
        (N, …, K) float32, or float64 for a float64 teacher; a read-only memory map if `path` is given. A binary
        classifier with one output gives (N, …, 1), the logit of its class 1.

    Raises:
        ValueError: If the teacher is not built, preprocesses its inputs in `predict`, does not show whether it gives
            logits, or does not give one row per input; if `x` is empty, or a dataset that is endless or
            changes from one pass to the next (by shuffling, say, so that no order can match it); if `path` cannot be
            written, or holds something that this function did not write.

    Example:
        >>> import numpy as np, keras
        >>> from keras_ls.distillation import teacher_logits
        >>> head = keras.layers.Dense(2, activation="softmax", kernel_initializer="identity")
        >>> teacher = keras.Sequential([keras.Input((2,)), head])
        >>> print(teacher_logits(teacher, np.array([[3.0, 1.0], [0.0, 2.0]])).round(3).tolist())
        [[3.0, 1.0], [0.0, 2.0]]
    """
    check_count("batch_size", batch_size)
    check_optional_flag("from_logits", from_logits)
    if not isinstance(teacher, keras.Model) or not teacher.built:
        raise ValueError(f"`teacher` must be a built keras.Model. Received: teacher={shown(teacher)}.")
    check_no_preprocessor(teacher, "teacher")
    source = logit_source("teacher", teacher, from_logits, argument="from_logits")
    inputs = Inputs(x, batch_size, source.takes_text)
    file = None if path is None else cache_path(path)
    with kept_random_state(teacher):
        if file is None and not inputs.is_dataset:
            return _predicted(source, inputs.batches())
        fingerprint = inputs.fingerprint()
        batches = inputs.batches_of(fingerprint)
        if file is None:
            return _predicted(source, batches)
        identity = identity_of(teacher_digest(teacher), source.way, fingerprint.digest(), *fingerprint.structure)
        load = load_or_compute_together if number_of_processes() > 1 else load_or_compute
        return load(file, identity, fingerprint.rows, batches, source.predict)


def equivalent_smoothing(
    teacher_probabilities_or_logits: Any, labels: Any, temperature: float = 1.0, from_logits: bool = True
) -> float:
    """Returns the label smoothing γ equivalent to a teacher's predictions: the mass that they give to wrong classes.

    ``γ = mean over examples of Σ_k (1 − y_k)·p_k(T)·K/(K − 1)``, p(T) = softmax(z/T). Targets smoothed with α have
    γ = α; γ → 1 as T → ∞. The paper takes the mean over the training examples. Predictions of one sigmoid unit stand
    for two classes with probabilities 1 − p and p: K = 2, p(T) = sigmoid(z/T).

    Args:
        teacher_probabilities_or_logits: (…, K), K ≥ 2, or (…, 1) of a binary classifier, any float dtype; a memory map
            is read block by block. Predictions (N,) with labels (N,) are those of a binary classifier, too.
        labels: class ids (…,) or (…, 1), or one row per prediction (…, K), whose largest entry is the class. For
            predictions (…, 1) always ids 0 and 1.
        temperature: T > 0. It applies to probabilities, too: p(T) ∝ p^(1/T), where a probability that underflowed to 0
            counts as the smallest positive number of its dtype, and, of one sigmoid unit, one that was rounded to 1 as
            the smallest that is.
        from_logits: whether predictions are logits (the default) or probabilities.

    Returns:
        γ, in [0, K/(K − 1)]: 1 if predictions tell nothing about the labels. NaN if a prediction is NaN or +inf.

    Raises:
        ValueError: If T ≤ 0, there are no predictions, labels do not fit, or, with ``from_logits=False``, a number is
            outside [0, 1].

    Example:
        >>> from keras_ls.distillation import equivalent_smoothing
        >>> print(round(equivalent_smoothing([[0.025, 0.925, 0.025, 0.025]], [1], from_logits=False), 6))
        0.1
        >>> print(round(equivalent_smoothing([0.95, 0.05], [1, 0], from_logits=False), 6))
        0.1

    Reference:
        Müller, Kornblith and Hinton 2019, section 4.
    """
    temperature = check_positive("temperature", temperature)
    from_logits = check_flag("from_logits", from_logits)
    names = ("labels", "teacher_probabilities_or_logits")
    rows = labelled_rows(labels, teacher_probabilities_or_logits, from_logits=from_logits, names=names)
    if not from_logits:
        _check_probabilities(rows.rows)
        if not np.isfinite(rows.rows).all():
            return np.nan
    return float(smoothing_of_rows(rows, temperature).mean())


def smoothing_of_rows(rows: LabelledRows, temperature: float = 1.0) -> np.ndarray:
    """(M,) what each row that counts adds to γ, of which that is the mean."""
    parts = [np.empty(0)]
    for logits, ids, _ in rows.logits():
        probabilities = np.exp(log_softmax(logits / temperature))
        probabilities[np.arange(len(ids)), ids] = 0.0  # and not 1 − p, which rounds to 0
        parts.append(probabilities.sum(axis=-1))
    return np.concatenate(parts) * rows.num_classes / (rows.num_classes - 1)


def _check_probabilities(rows: np.ndarray) -> None:
    size = max(1, _BLOCK_SIZE // rows.shape[-1])
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        if (((block < 0) | (block > LARGEST_PROBABILITY)) & np.isfinite(block)).any():
            raise ValueError(
                "`teacher_probabilities_or_logits` must hold probabilities in [0, 1], or logits with from_logits=True. "
                f"Received: values from {np.nanmin(block):g} to {np.nanmax(block):g}."
            )


def _predicted(source: LogitSource, batches: Iterable[tuple[int, Any]]) -> np.ndarray:
    parts: list[np.ndarray] = []
    for rows, batch in batches:
        if rows:
            parts.append(source.predict(batch))
            check_row_shape(parts[-1], parts[0].shape[1:])
    return np.concatenate(parts)
