"""Demos: what label smoothing does, shown on real data with the public API of keras_ls."""

import os

# Before TensorFlow is imported, which each demo does: its start-up notes would hide the demos' own lines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
