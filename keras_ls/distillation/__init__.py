"""Distillation: training on a teacher's logits, caching them, and the label smoothing that they are equivalent to."""

from keras_ls.distillation.distiller import Distiller
from keras_ls.distillation.teacher import equivalent_smoothing, teacher_logits

__all__ = ["Distiller", "equivalent_smoothing", "teacher_logits"]
