"""Archives from the network: downloads that go on where they broke off, checked, unpacked as a whole or not at all."""

import dataclasses
import gzip
import hashlib
import http.client
import os
import pathlib
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib

from demos.kit import locks
from demos.kit.options import CACHE_VARIABLE, DATA_VARIABLE

BLOCK = 1 << 20
TIMEOUT = 20  # seconds without a byte
REPORT = 5  # seconds between lines of progress
TRIES = 3


@dataclasses.dataclass(frozen=True)
class Archive:
    """A .tar.gz file, or a single file as .gz."""

    url: str  # where it is
    sha256: str | None = None  # its checksum; if it is None, the checksums inside the file have to do


def cache_directory() -> pathlib.Path:
    """Where downloads and features lie unless a command says otherwise: $KERAS_LS_CACHE, or ~/.cache/keras_ls."""
    return pathlib.Path(os.path.expanduser(os.environ.get(CACHE_VARIABLE) or "~/.cache/keras_ls"))


def find(name: str, data_dir: str | None, marker: str, archives: tuple[Archive, ...], folder: str = "") -> pathlib.Path:
    """The directory that holds data from elsewhere, with files that fit the glob `marker` in it.

    It is --data-dir or else $KERAS_LS_DATA, or a folder in it called `name` or `folder`. If neither holds them,
    `archives` are downloaded; if that fails, a ValueError of one line says how to get the data.
    """
    directory = data_dir or os.environ.get(DATA_VARIABLE)
    remedy = f"unpack {urls(archives)} and name the directory by --data-dir or ${DATA_VARIABLE}"
    if directory:
        root = pathlib.Path(os.path.expanduser(directory))
        for candidate in (root, root / name, root / folder):
            if next(candidate.glob(marker), None) is not None:
                return candidate
        if data_dir:
            raise ValueError(f"{data_dir} holds no {marker} of {name}: {remedy}.")
    try:
        unpacked = fetch(archives, cache_directory() / name)
    except ValueError as error:
        raise ValueError(f"{name} is not here: {remedy}, or run once with a network. [{error}]") from error
    found = next(unpacked.rglob(marker.partition("/")[0]), None)
    if found is None:
        raise ValueError(f"{unpacked} holds no {marker} of {name}: remove it, so that it is downloaded again.")
    return found.parent


def urls(archives: tuple[Archive, ...]) -> str:
    """Where they are; of several in one place that place is said once."""
    folders, names = zip(*(archive.url.rsplit("/", 1) for archive in archives), strict=True)
    if len(names) > 1 and len(set(folders)) == 1:
        return f"{', '.join(names[:-1])} and {names[-1]} from {folders[0]}/"
    return " and ".join(archive.url for archive in archives)


def fetch(archives: tuple[Archive, ...], folder: pathlib.Path) -> pathlib.Path:
    """Downloads archives and unpacks them all into `folder`; does nothing where it exists.

    An interrupted download goes on from where it was, and one process waits for another's. The folder, which is
    returned, appears once all archives are whole, checked and unpacked. An archive that cannot be had, or is not what
    it should be, is a ValueError.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = locks.take(folder.with_name(".lock"), wait=True)
    try:
        return folder if folder.is_dir() else _fetch(archives, folder)
    finally:
        os.close(lock)


def _fetch(archives: tuple[Archive, ...], folder: pathlib.Path) -> pathlib.Path:
    if not hasattr(tarfile, "data_filter"):
        raise ValueError("Python before 3.11.4 cannot unpack archives safely")
    paths = [_download(archive, folder.parent / archive.url.rpartition("/")[2]) for archive in archives]
    unpacking = folder.with_name(f"{folder.name}.unpacking")
    shutil.rmtree(unpacking, ignore_errors=True)
    for path in paths:
        print(f"Unpacking {path}.", flush=True)
        try:
            _unpack(path, unpacking)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            path.unlink()
            raise ValueError(f"{path} could not be unpacked and is removed: {error}") from error
        except OSError as error:  # a full disk, say, for which the archive cannot be blamed
            raise ValueError(f"{path} could not be unpacked: {error}. The same command tries again.") from error
    getattr(os, "sync", lambda: None)()  # else a power cut might leave empty files under the final name
    os.replace(unpacking, folder)
    for path in paths:
        path.unlink()
    return folder


def _unpack(path: pathlib.Path, folder: pathlib.Path) -> None:
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
        return
    folder.mkdir(exist_ok=True)
    with gzip.open(path) as packed, open(folder / path.stem, "wb") as file:
        shutil.copyfileobj(packed, file)


def _download(archive: Archive, path: pathlib.Path) -> pathlib.Path:
    """The archive as a file, whole and checked."""
    if path.exists():
        return path
    part = path.with_name(f"{path.name}.part")
    for attempt in range(TRIES):
        try:
            _fetch_rest(archive.url, part)
            break
        except (OSError, http.client.HTTPException) as error:  # an HTTP status, no network, a line that breaks
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if final or attempt == TRIES - 1:
                got = part.stat().st_size if part.exists() else 0
                kept = f" The same command goes on from the {got / 1e6:.1f} MB that are here." if got else ""
                raise ValueError(f"{archive.url} could not be downloaded: {error}.{kept}") from error
    if archive.sha256:
        with open(part, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != archive.sha256:
            part.unlink()
            raise ValueError(
                f"{archive.url} is not what it should be and is removed: its SHA-256 is {found}, not {archive.sha256}."
            )
    os.replace(part, path)
    return path


def _fetch_rest(url: str, part: pathlib.Path) -> None:
    """Appends to `part` what it lacks; raises OSError if the connection fails or ends early."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{have}":
            return  # it is whole already
        raise
    with response:
        if response.status != 206:  # a server that knows no ranges sends all of it
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file:
            reported = time.monotonic()
            while block := response.read(BLOCK):
                file.write(block)
                have += len(block)
                if time.monotonic() - reported > REPORT or have == total:
                    reported = time.monotonic()
                    of = f" of {total / 1e6:.1f}" if total else ""
                    print(f"  {part.stem}: {have / 1e6:.1f}{of} MB", flush=True)
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")
