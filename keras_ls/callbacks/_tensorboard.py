"""Event files for TensorBoard, written with the `tensorboard` package alone: TensorFlow is never imported."""

import io
import itertools
import os
import socket
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from keras_ls._checks import shown
from keras_ls._processes import is_first_process

_serial = itertools.count()  # two files of one second and process stay apart


def check_log_dir(log_dir: Any) -> str:
    """Returns `log_dir`, which must be a path, as a string."""
    if not isinstance(log_dir, (str, os.PathLike)) or not isinstance(os.fspath(log_dir), str):
        raise ValueError(f"`log_dir` must be a path: a string or pathlib.Path. Received: log_dir={shown(log_dir)}.")
    if "://" in os.fspath(log_dir):
        raise ValueError(f"`log_dir` must be a folder of this machine, not a URL. Received: log_dir={shown(log_dir)}.")
    return os.fspath(log_dir)


def prepare_log_dir(log_dir: Any) -> str:
    """Returns `log_dir` as a string, after making the folder and finding it writable, in the process that writes.

    Raises:
        ValueError: If it is not a path, or events cannot be written there.
    """
    path = check_log_dir(log_dir)
    if not is_first_process():
        return path
    try:
        os.makedirs(path, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError("no permission to write")
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error  # which does not repeat the path
        raise ValueError(
            f"`log_dir` must be a folder that can be written. Received: log_dir={shown(log_dir)} ({reason})."
        ) from error
    return path


def new_event_file(log_dir: str) -> str:
    """Makes an event file that holds nothing yet, and the folder unless it is there; returns the file's path."""
    name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_serial)}"
    path = os.path.join(log_dir, name)
    append_records(path, [])
    return path


def append_records(path: str, records: list[bytes]) -> None:
    """Adds records to an event file, all of them or none; file and folder are made again if somebody removes them.

    The file is open only meanwhile, so that nothing is left open if a training ends with an error.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        first = [] if end else [_event(file_version="brain.Event:2")]
        content = b"".join([*first, *records])
        try:
            if file.write(content) != len(content):
                raise OSError(f"no space left to write {path!r}")
        except BaseException:
            file.truncate(end)  # readers stop at half a record, and would see nothing of what follows it
            raise


class BackgroundWriter:
    """Writes scalars and images to a new event file, on a thread of its own, in the order in which it is asked to.

    Pictures are rendered in the caller's thread, since matplotlib is not made for several. An error of the other thread
    is raised by the next call. What was asked for is written even if no other call follows.

    Args:
        log_dir: the folder, where the file is made at once.
    """

    def __init__(self, log_dir: str):
        self._path = new_event_file(log_dir)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keras_ls_events")
        self._pending: Future[None] | None = None

    def write(self, step: int, scalars: Mapping[str, float], figures: Mapping[str, Any]) -> None:
        """Adds one point to the curve of each scalar, and one picture to the images of each figure.

        Returns before they are written, but waits for the write before.

        Args:
            step: the epoch, counted from 0.
            scalars: numbers by name.
            figures: matplotlib figures by name.
        """
        self._wait()
        self._pending = self._thread.submit(append_records, self._path, _records(step, scalars, figures))

    def close(self) -> None:
        """Waits until everything is written, and ends the thread."""
        try:
            self._wait()
        finally:
            self._thread.shutdown()

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def _records(step: int, scalars: Mapping[str, float], figures: Mapping[str, Any]) -> list[bytes]:
    """One record for each scalar and each figure."""
    values = [{"tag": tag, "simple_value": value} for tag, value in scalars.items()]
    values += [{"tag": tag, "image": _image(figure)} for tag, figure in figures.items()]
    return [_event(step=step, summary={"value": [value]}) for value in values]


def _event(**fields: Any) -> bytes:
    """An event as a record of an event file."""
    # Not tensorboard's own EventFileWriter: it imports TensorFlow where that is installed.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    record = io.BytesIO()
    RecordWriter(record).write(Event(wall_time=time.time(), **fields).SerializeToString())
    return record.getvalue()


def _image(figure: Any) -> dict[str, Any]:
    """The fields of an image that shows a matplotlib `Figure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    png = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    canvas.print_png(png)
    width, height = canvas.get_width_height()
    return {"height": height, "width": width, "colorspace": 4, "encoded_image_string": png.getvalue()}
