"""The user's cache directory: where it is, content hashes that survive between runs, locks, atomic writes.

Everything in it can be deleted at any time; it is made again when needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from describe.errors import InputError

ENVIRONMENT_VARIABLE = "HEAD_DESCRIPTIONS_CACHE"
_CHUNK = 1 << 20  # bytes read at a time


def cache_root(cache_dir: Path | None = None) -> Path:
    """The cache directory: `cache_dir`, else HEAD_DESCRIPTIONS_CACHE, else the system's place.

    Raises:
        InputError: it cannot be created.
    """
    if cache_dir is None:
        chosen = os.environ.get(ENVIRONMENT_VARIABLE)
        if chosen:
            cache_dir = Path(chosen).expanduser()
        else:
            from platformdirs import user_cache_dir

            cache_dir = Path(user_cache_dir("head-descriptions"))
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The cache directory '{cache_dir}' cannot be created ({error.strerror}): "
            f"set {ENVIRONMENT_VARIABLE} to a folder that can be written."
        ) from error
    return cache_dir


def write_atomically(path: Path, content: str) -> None:
    """Write text so that a reader, or a crash, sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` among processes of this machine; waits while another holds it."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def file_sha256(path: Path, cache_dir: Path | None = None) -> str:
    """sha256 (hex) of a file's content, remembered in the cache by (path, size, mtime in ns).

    A multi-gigabyte checkpoint is thus hashed once and not at every command.

    Raises:
        InputError: the file cannot be read.
    """
    path = path.resolve()  # a hub snapshot is a folder of links: one entry per real file
    try:
        status = path.stat()
        state = [str(path), status.st_size, status.st_mtime_ns]
        key = hashlib.sha256(str(path).encode()).hexdigest()[:32]
        note = cache_root(cache_dir) / "hashes" / f"{key}.json"
        remembered = _read_note(note)
        if remembered.get("state") == state and isinstance(remembered.get("sha256"), str):
            return str(remembered["sha256"])
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(_CHUNK):
                digest.update(block)
    except OSError as error:
        raise InputError(
            f"'{path.name}' cannot be read ({error.strerror}): check the file and its permissions."
        ) from error
    with suppress(OSError):  # a cache that cannot be written only costs time
        write_atomically(note, json.dumps({"state": state, "sha256": digest.hexdigest()}))
    return digest.hexdigest()


def files_sha256(folder: Path, names: list[str], cache_dir: Path | None = None) -> str:
    """One sha256 (hex) over sorted (relative name, sha256 of the file) of some files of a folder."""
    pairs = [[name, file_sha256(folder / name, cache_dir)] for name in sorted(names)]
    return hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()


def _read_note(path: Path) -> dict[str, object]:
    """A remembered hash; an unreadable note counts as none, since it can always be computed again."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
