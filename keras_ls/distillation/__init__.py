"""Distillation: students trained on a teacher's logits, these logits on file, and the smoothing that they amount to."""

from keras_ls.distillation.distiller import Distiller
from keras_ls.distillation.teacher import equivalent_smoothing, teacher_logits

__all__ = ["Distiller", "equivalent_smoothing", "teacher_logits"]
