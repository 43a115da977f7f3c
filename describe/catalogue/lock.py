"""The owner lock of a catalogue file: who holds it, and one sentence for whoever comes second.

DuckDB 2.0.0 reads a file's header before it takes its own lock, so two processes that take turns on a file
can lose writes that were acknowledged. Our own `flock` on a side file is therefore taken before every
`duckdb.connect`, reads included, and held until after `close()`. It works on local disks of POSIX systems
only: network file systems may ignore `flock`. A child made by `fork` shares the lock, so a process that holds
it should start others by spawn.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from describe.errors import CatalogueError

_POLL_SECONDS = 0.02


def lock_path(path: Path) -> Path:
    """The side file of a catalogue; one for all symbolic links to the same file."""
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + ".lock")


@contextmanager
def owner_lock(path: Path, *, wait: float = 0.0, url: str | None = None) -> Iterator[None]:
    """Own the catalogue at `path` alone, as a writer must.

    Args:
        path: the catalogue file, which need not exist yet.
        wait: how many seconds to wait for another process to finish.
        url: where this process serves the catalogue, shown to the second comer.

    Raises:
        CatalogueError: another process (or this one, a second time) holds it, or the lock file cannot be
            made.
    """
    side = lock_path(path)
    try:
        handle = _acquire(path, side, fcntl.LOCK_EX, wait)
    except OSError as error:
        raise CatalogueError(f"The catalogue {path} cannot be locked: {_reason(error)}.") from error
    try:
        _write_holder(handle, {"pid": os.getpid(), "host": socket.gethostname(), "url": url})
        yield
    finally:
        _write_holder(handle, None)
        os.close(handle)  # releases the lock; the file stays, for removing it would let two owners in


@contextmanager
def reader_lock(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Keep writers out while reading; any number of readers may hold it at once.

    Raises:
        CatalogueError: a writer holds the catalogue.
    """
    try:
        handle = _acquire(path, lock_path(path), fcntl.LOCK_SH, wait)
    except FileNotFoundError:
        yield  # a folder we cannot write to, without a lock file: nobody who could write has ever been here
        return
    except OSError as error:
        raise CatalogueError(f"The catalogue {path} cannot be locked: {_reason(error)}.") from error
    try:
        yield
    finally:
        os.close(handle)


def _acquire(path: Path, side: Path, kind: int, wait: float) -> int:
    """Open and lock the side file; OSError where it can neither be made nor opened."""
    deadline = time.monotonic() + wait
    while True:
        handle = _open(side, kind)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            if _is_same_file(handle, side):
                return handle
        except BlockingIOError:
            holder = _read_holder(handle)
            if time.monotonic() >= deadline:
                os.close(handle)
                raise CatalogueError(_in_use(path, holder)) from None
            time.sleep(_POLL_SECONDS)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _open(side: Path, kind: int) -> int:
    """A descriptor of the lock file; a reader in a read-only folder opens an existing one for reading."""
    try:
        return os.open(side, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        if kind != fcntl.LOCK_SH:
            raise
    except OSError as error:
        if kind != fcntl.LOCK_SH or error.errno != errno.EROFS:
            raise
    return os.open(side, os.O_RDONLY | os.O_CLOEXEC)


def _is_same_file(handle: int, side: Path) -> bool:
    """Whether the locked file is still the one under its name: somebody may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(side))
    except FileNotFoundError:
        return False


def _write_holder(handle: int, holder: dict[str, object] | None) -> None:
    """Say in the lock file who holds it, or, with None, that nobody does."""
    try:
        os.ftruncate(handle, 0)
        if holder is not None:
            os.pwrite(handle, json.dumps(holder).encode(), 0)
    except OSError:
        pass  # a full disk: the lock itself holds all the same, the second comer only learns less


def _read_holder(handle: int) -> dict[str, object]:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _in_use(path: Path, holder: dict[str, object]) -> str:
    if "pid" not in holder:  # readers leave no name, for there may be many
        return f"The catalogue {path} is in use by another process, perhaps one that reads; wait or stop it."
    url = f" ({holder['url']})" if holder.get("url") else ""
    host = holder.get("host", "unknown")
    return f"The catalogue {path} is in use by process {holder['pid']} on host {host}{url}; wait or stop it."


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "its folder does not exist, so create it first"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return "its folder is read-only, so choose another place for it"
    return (error.strerror or str(error)).lower()
