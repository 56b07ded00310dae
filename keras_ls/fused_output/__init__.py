"""Training of classifiers with many classes, without their logits in memory."""

from keras_ls.fused_output.model import FusedOutput

__all__ = ["FusedOutput"]
