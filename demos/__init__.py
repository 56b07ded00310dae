"""Demos: what label smoothing does, shown on real data with the public API of keras_ls."""

import os
import signal
import sys

# Before TensorFlow is imported, which each demo does: its start-up notes would hide the demos' own lines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

if sys.argv[:1] == ["-m"]:
    # Until the demo itself takes care of Ctrl-C, which comes as a traceback out of any import.
    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"\nInterrupted.\n"), os._exit(130)))
