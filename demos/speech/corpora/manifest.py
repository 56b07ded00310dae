"""Anyone's recordings, listed in a CSV or JSONL file: the audio's path, its transcript, its split."""

import csv
import io
import json
import os
import pathlib
from collections.abc import Iterator

from demos.kit.texts import read_text
from demos.speech.corpora.base import SPLITS, FileCorpus, file_corpus

COLUMNS = ("audio", "transcript", "split")


def load(data_dir: str | None, skip_bad: bool = False) -> FileCorpus:
    """The recordings of a manifest, a `.csv` file with a header or a `.jsonl` file with one object per line.

    An entry has "audio" (a path, from the manifest's own folder), "transcript" and "split" (train, dev or test). See
    `file_corpus` for bad ones; those without these fields are always a ValueError.
    """
    if not data_dir:
        raise ValueError("--corpus manifest needs --data-dir, a .csv or .jsonl file with audio, transcript and split.")
    path = pathlib.Path(os.path.expanduser(data_dir))
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise ValueError(f"A manifest must be a .csv or .jsonl file. Received: {path}.")
    rows = (_csv_rows if suffix == ".csv" else _jsonl_rows)(path, read_text(path))
    return file_corpus(path.stem, path.parent, _entries(path, rows), skip_bad)


def _entries(path: pathlib.Path, rows) -> Iterator[tuple[str, str, pathlib.Path, str]]:
    for line, row in rows:
        place = f"{path}, line {line}"
        missing = [column for column in COLUMNS if not isinstance(row.get(column), str)]
        if missing:
            raise ValueError(f"{place} must have {', '.join(COLUMNS)}, each as text. Without: {', '.join(missing)}.")
        if row["split"] not in SPLITS:
            raise ValueError(f"{place}: the split must be one of {', '.join(SPLITS)}. Received: {row['split']!r}.")
        yield row["split"], place, path.parent / os.path.expanduser(row["audio"]), row["transcript"]


def _csv_rows(path: pathlib.Path, text: str):
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            columns = ", ".join(COLUMNS)
            raise ValueError(f"{path} must have the columns {columns} in its first line. Without: {missing}.")
        for row in reader:
            if None in row:
                raise ValueError(
                    f"{path}, line {reader.line_num} has more cells than the first line: quote text with commas."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}, line {max(1, reader.line_num)} cannot be read as CSV: {error}") from error


def _jsonl_rows(path: pathlib.Path, text: str):
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number} cannot be read as JSON: {error}") from error
            yield number, row
