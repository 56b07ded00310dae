"""Event files for TensorBoard, written with the `tensorboard` package alone: TensorFlow is never imported."""

import importlib.util
import io
import itertools
import os
import socket
import time
from typing import Any

_serial = itertools.count()  # two files of one second and process stay apart


def prepare_log_dir(log_dir: Any) -> str:
    """Returns `log_dir` as a path, the folder made and found to be writable.

    Raises:
        ValueError: where events cannot be written there.
    """
    try:
        path = os.fspath(log_dir)
        os.makedirs(path, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError("no permission to write")
    except (TypeError, OSError) as error:
        raise ValueError(f"`log_dir` must be a folder that can be written. Received: {log_dir!r} ({error}).") from error
    return path


def check_installed(argument: str, *packages: str) -> None:
    """Raises ImportError where one of the packages that an argument needs is absent."""
    modules = {"pillow": "PIL"}
    missing = [package for package in packages if importlib.util.find_spec(modules.get(package, package)) is None]
    if missing:
        raise ImportError(f"`{argument}` needs {' and '.join(missing)}: pip install {' '.join(missing)}")


class EventWriter:
    """Writes scalars and images to a new event file in a folder.

    Args:
        log_dir: the folder, which exists.
    """

    def __init__(self, log_dir: str):
        # Not tensorboard's own EventFileWriter: it imports TensorFlow where that is installed.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_serial)}"
        self._records = RecordWriter(open(os.path.join(log_dir, name), "wb"))  # noqa: SIM115 (see close)
        self._write(file_version="brain.Event:2")
        self.flush()

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Adds one point of the curve `tag`."""
        self._add(step, tag=tag, simple_value=value)

    def image(self, tag: str, figure: Any, step: int) -> None:
        """Adds a matplotlib `Figure` to the images `tag`."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas, png = FigureCanvasAgg(figure), io.BytesIO()
        canvas.print_png(png)
        width, height = canvas.get_width_height()
        image = self._summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png.getvalue())
        self._add(step, tag=tag, image=image)

    def flush(self) -> None:
        """Hands everything written to the operating system, so that a killed run keeps it."""
        self._records.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self._records.close()

    def _add(self, step: int, **value: Any) -> None:
        self._write(step=step, summary=self._summary(value=[self._summary.Value(**value)]))

    def _write(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
