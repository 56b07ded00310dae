"""Distances between the logits of student and teacher, and the loss that reduces them as Keras does."""

import math
from typing import Any

import keras
from keras import ops

from keras_ls._arrays import wide_dtype
from keras_ls._backend import get_mask, set_mask
from keras_ls._checks import check_optional_flag, compatible_shapes, shown
from keras_ls._labels import spread_over
from keras_ls._models.inputs import check_no_preprocessor

MATCHINGS = ("cross_entropy", "squared_logits")
_IMPOSSIBLE = -1e30  # a logit whose probability is 0, and 0 times whose logarithm is not NaN


def softened_cross_entropy(teacher_logits, logits, temperature: float, student_temperature: float):
    """Returns H(softmax(zᵗ/T), softmax(z/T_s)) in nats: two tensors (…, K) to (…,).

    For tensors (…, 1), it is the cross-entropy of two classes with probabilities 1 − sigmoid(z/T) and sigmoid(z/T). A
    class costs nothing if its probability is 0 for both.
    """
    teacher_logits, logits = teacher_logits / temperature, logits / student_temperature
    if logits.shape[-1] == 1:
        teacher_logits = ops.where(teacher_logits == math.inf, math.nan, teacher_logits)  # as a softmax has it
        none = ops.logical_and(ops.sigmoid(teacher_logits) == 0, logits == -math.inf)
        logits = ops.where(none, _IMPOSSIBLE, logits)
        # 1 − sigmoid(z) = sigmoid(−z), which stays exact where sigmoid(z) is nearly 1.
        losses = ops.sigmoid(teacher_logits) * ops.log_sigmoid(logits)
        losses = losses + ops.sigmoid(-teacher_logits) * ops.log_sigmoid(-logits)
        return -ops.squeeze(losses, axis=-1)
    targets = ops.softmax(teacher_logits, axis=-1)
    logits = ops.where(ops.logical_and(targets == 0, logits == -math.inf), _IMPOSSIBLE, logits)
    return ops.categorical_crossentropy(targets, logits, from_logits=True)


def half_squared_difference(teacher_logits, logits):
    """Returns ½ Σ_k (zᵗ_k − z_k)²: two tensors (…, K), or (…, 1), to (…,). Where both are −inf nothing is added."""
    none = ops.logical_and(teacher_logits == -math.inf, logits == -math.inf)
    teacher_logits, logits = (ops.where(none, 0.0, z) for z in (teacher_logits, logits))
    return 0.5 * ops.sum(ops.square(teacher_logits - logits), axis=-1)


class MatchingLoss(keras.losses.Loss):
    """The distillation term, called with the teacher's and the student's logits (…, K) in place of y_true and y_pred.

    Logits (…, 1) are those of class 1 of two. The term is reduced like Keras's `sum_over_batch_size`, with sample
    weights and the mask of the student's logits, and computed in float32, or in float64 if that is Keras's floatx.

    Args:
        matching: one of `MATCHINGS`.
        temperature: T of the teacher.
        student_temperature: T_s of the student.
        scale: the factor of the term.
    """

    def __init__(self, matching: str, temperature: float, student_temperature: float, scale: float):
        dtype = wide_dtype(keras.config.floatx())
        super().__init__(name="matching", reduction="sum_over_batch_size", dtype=dtype)
        self.matching, self.scale = matching, scale
        self.temperature, self.student_temperature = temperature, student_temperature

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns a scalar; weights with fewer dimensions than the losses are spread over the trailing ones."""
        check_logits(y_true, y_pred)
        teacher, student, mask = y_true, y_pred, get_mask(y_pred)
        if mask is not None:  # 0 times the NaN that padding may hold is NaN
            mask = ops.cast(spread_over("mask", mask, y_pred[..., 0]), "bool")
            counts = ops.expand_dims(mask, -1)
            teacher, student = (ops.where(counts, ops.cast(z, self.dtype), 0.0) for z in (teacher, student))
            set_mask(student, mask)
        if sample_weight is not None:
            # A copy: on PyTorch, Keras multiplies weights by the mask in place, before the compiled loss sees them.
            sample_weight = ops.copy(spread_over("sample_weight", sample_weight, y_pred[..., 0]))
        return super().__call__(teacher, student, sample_weight)

    def call(self, y_true, y_pred):
        """Returns one loss per prediction."""
        if self.matching == "squared_logits":
            losses = half_squared_difference(y_true, y_pred)
        else:
            losses = softened_cross_entropy(y_true, y_pred, self.temperature, self.student_temperature)
        return self.scale * losses


def check_logits(teacher_logits, logits) -> None:
    """Raises `ValueError` unless both are single tensors (…, K), or (…, 1), of the same shape."""
    given, wanted = tuple(teacher_logits.shape), tuple(logits.shape)
    if len(wanted) < 2:
        raise ValueError(f"The student must give logits (…, K), or (…, 1) for two classes. Received: shape {wanted}.")
    if not compatible_shapes(given, wanted):
        raise ValueError(
            "The teacher's logits must have the shape of the student's, classes last. "
            f"Received: {given} from the teacher, {wanted} from the student.{one_logit_advice(given[-1:], wanted[-1:])}"
        )


def one_logit_advice(given: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> str:
    """Returns advice for a pair of which one has two outputs and the other one sigmoid unit, else ""."""
    if {*given, *wanted} != {1, 2}:
        return ""
    return (
        " Two outputs cannot stand for one sigmoid unit, nor the other way round: give the student the teacher's "
        "number of outputs, or cached logits zt[..., 1:] - zt[..., :1], which are those of one unit."
    )


def check_same_outputs(given: int | None, wanted: int | None) -> None:
    """Raises `ValueError` if the numbers of outputs of teacher and student are known to differ."""
    if None not in (given, wanted) and given != wanted:
        kind = "outputs" if 1 in (given, wanted) else "classes"
        raise ValueError(
            f"Teacher and student must have the same number of {kind}. Received: {given} from the teacher, {wanted} "
            f"from the student.{one_logit_advice((given,), (wanted,))}"
        )


def check_not_shared(teacher: keras.Model, student: keras.Model) -> None:
    """Raises `ValueError` if training the student would change the teacher."""
    changed = [*student.trainable_variables]
    for layer in student._flatten_layers():
        changed += layer._non_trainable_variables if layer.trainable else []  # such as moving statistics
    if {id(variable) for variable in changed} & {id(variable) for variable in teacher.variables}:
        raise ValueError("`teacher` must not share variables with what is trained in `student`.")


def check_models(teacher: Any, student: Any, teacher_from_logits: Any) -> None:
    """Raises `ValueError` unless both are Keras models that do not preprocess, and the teacher is built.

    The teacher may be None: targets then hold its logits.
    """
    if not isinstance(student, keras.Model):
        raise ValueError(f"`student` must be a keras.Model. Received: student={shown(student)}.")
    check_no_preprocessor(student, "student")
    if teacher is None:
        if check_optional_flag("teacher_from_logits", teacher_from_logits) is False:
            raise ValueError(
                "`teacher_from_logits` must be True or None if `teacher` is None, since targets hold logits. "
                "Received: teacher_from_logits=False."
            )
        return
    if not isinstance(teacher, keras.Model):
        raise ValueError(f"`teacher` must be a keras.Model or None. Received: teacher={shown(teacher)}.")
    check_no_preprocessor(teacher, "teacher")
    if not teacher.built:
        raise ValueError(f"`teacher` must be built and trained. Received: {teacher.name!r}, which has no weights yet.")
