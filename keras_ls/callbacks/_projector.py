"""Folders that TensorBoard's Embedding Projector reads, written with NumPy and the `tensorboard` package alone."""

import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ls.callbacks._tensorboard import new_event_file

CONFIG = "projector_config.pbtxt"
FILES = "projector"  # the folder, beside the config, of all that the config names


class ProjectorFolder:
    """A TensorBoard run whose embeddings the projector offers side by side, by name.

    `projector_config.pbtxt` lists them; tensors, metadata and sprites lie in the folder `projector` beside it. What the
    config lists already stays, unless an embedding of the same name is added. Every file is written under another name
    and then renamed, the config after all that it names.

    Args:
        log_dir: the run's folder, which exists.

    Raises:
        ValueError: If there is a config that cannot be read.
    """

    def __init__(self, log_dir: str):
        self.log_dir = log_dir
        self._read_config()

    def add(
        self,
        name: str,
        points: np.ndarray,
        columns: Mapping[str, Sequence[str]],
        sprite: tuple[bytes, tuple[int, int]] | None = None,
    ) -> None:
        """Writes an embedding and lists it.

        Args:
            name: what the projector calls it.
            points: (N, D) finite numbers.
            columns: at least two columns of metadata by name, N strings each, without tabs and newlines.
            sprite: the PNG of a sprite sheet and the (width, height) of one thumbnail in it, or None.
        """
        from google.protobuf import text_format

        config = self._read_config()
        others = [embedding for embedding in config.embeddings if embedding.tensor_name != name]
        added = config.embeddings.add(tensor_name=name, tensor_shape=points.shape)
        added.tensor_path = self._write(f"{name}_tensors.bytes", tensor_bytes(points))
        added.metadata_path = self._write(f"{name}_metadata.tsv", metadata_table(columns))
        if sprite is not None:
            png, size = sprite
            # Named by its content: listed embeddings of other examples keep theirs.
            added.sprite.image_path = self._write(f"sprite_{zlib.crc32(png):08x}.png", png)
            added.sprite.single_image_dim.extend(size)
        listed = sorted([*others, added], key=lambda embedding: embedding.tensor_name)
        config.ClearField("embeddings")
        config.embeddings.extend(listed)
        _replace(os.path.join(self.log_dir, CONFIG), text_format.MessageToString(config).encode())
        self._make_listed()

    def _make_listed(self) -> None:
        """Sees to an event file: TensorBoard looks for configs where one lies, and reads them when the first appears.

        So it comes last. Where there is one already none is added, since TensorBoard may only follow the newest.
        """
        if not any("tfevents" in name for name in os.listdir(self.log_dir)):
            new_event_file(self.log_dir)

    def _read_config(self) -> Any:
        from google.protobuf import text_format
        from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

        path = os.path.join(self.log_dir, CONFIG)
        if not os.path.exists(path):
            return ProjectorConfig()
        try:
            with open(path, encoding="utf-8") as file:
                return text_format.Parse(file.read(), ProjectorConfig())
        except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
            raise ValueError(f"`log_dir` holds a {CONFIG} that cannot be read: {path!r} ({error}).") from error

    def _write(self, name: str, content: bytes) -> str:
        os.makedirs(os.path.join(self.log_dir, FILES), exist_ok=True)
        _replace(os.path.join(self.log_dir, FILES, name), content)
        return f"{FILES}/{name}"


def tensor_bytes(points: np.ndarray) -> bytes:
    """(N, D) finite numbers as the little-endian float32 of a binary tensor file.

    TensorBoard takes a tensor file for a table unless what stands before the first newline is no UTF-8, and fails where
    numbers happen to look like text (zeros do). Such a file is made to begin with a byte that no text begins with: the
    first number's last bits are changed, by less than 2⁻¹⁶ of it.
    """
    content = bytearray(np.ascontiguousarray(points, dtype="<f4").tobytes())
    try:
        content.partition(b"\n")[0].decode()
    except UnicodeDecodeError:
        return bytes(content)
    if content[0] < 0x80:  # a character of its own
        content[0] = 0x80
    elif 0xC2 <= content[0] <= 0xF4:  # may begin a character
        content[0] = 0xC1 if content[0] < 0xDB else 0xF5
    return bytes(content)


def metadata_table(columns: Mapping[str, Sequence[str]]) -> bytes:
    """Columns of text as tab-separated lines, the names first."""
    lines = ["\t".join(columns), *map("\t".join, zip(*columns.values(), strict=True))]
    return ("\n".join(lines) + "\n").encode()


def _replace(path: str, content: bytes) -> None:
    """Writes a file so that whoever reads it sees all of it or what was there before."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, path)
