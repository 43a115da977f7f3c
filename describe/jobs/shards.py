"""Shards: folders of files that are there wholly or not at all, so that a killed run goes on where it was.

The shards of a run lie in `<catalogue>.runs/<run id>/`. The run's id is the digest of all that its rows depend
on, so a shard that is there is the right one, and resuming is skipping what exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from describe.errors import DescribeError

_UNFINISHED = ".unfinished-"
_REMOVED = ".removed-"


class ShardStore:
    """The shards of one run.

    Args:
        catalogue: the DuckDB file beside which they lie.
        run_id: content identity of the run.
    """

    def __init__(self, catalogue: Path, run_id: str) -> None:
        self.root = Path(os.path.realpath(catalogue) + ".runs")
        self.folder = self.root / run_id

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Work on this run alone for a block; what killed processes left unfinished is removed first.

        Raises:
            DescribeError: another process works on this run, or the folder cannot be made.
        """
        handle = self._lock()
        try:
            self._sweep()
            yield
        finally:
            if self._is_under(handle):  # after `remove`, the name may already be another process's
                self._sweep()
                _remove_if_empty(self.folder)
            _remove_if_empty(self.root)
            os.close(handle)  # releases the lock

    def path(self, name: str) -> Path:
        """Where a shard is, or will be."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether a shard is there, and so whole."""
        return self.path(name).is_dir()

    def make(self, name: str, fill: Callable[[Path], None]) -> Path:
        """Where a shard is, made by `fill(folder)` unless it is there.

        Raises:
            DescribeError: the disk is full or the folder cannot be written; nothing of the shard is left.
        """
        if not self.has(name):
            with self.scratch(name) as unfinished:
                fill(unfinished)
                for file in unfinished.iterdir():
                    _flush(file)
                _flush(unfinished)
                os.rename(unfinished, self.path(name))
        return self.path(name)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder on the same disk, gone after the block.

        Raises:
            DescribeError: the disk is full or the folder cannot be written.
        """
        unfinished = self.folder / f"{_UNFINISHED}{name}-{uuid.uuid4().hex[:8]}"
        try:
            unfinished.mkdir()
            yield unfinished
        except OSError as error:
            raise self._not_written(error) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def remove(self) -> None:
        """Remove every shard of the run, at the end of owning it: with the folder goes the lock on its name.

        The name goes first, so that a kill in between leaves no shard that is half there.
        """
        with contextlib.suppress(FileNotFoundError):  # somebody has cleared it away by hand
            os.rename(self.folder, self.root / f"{_REMOVED}{self.folder.name}-{uuid.uuid4().hex[:8]}")
        self._sweep()

    def _lock(self) -> int:
        """A descriptor of the run's folder, made if missing, with an exclusive lock on it."""
        while True:
            try:
                self.root.mkdir(exist_ok=True)
                self.folder.mkdir(exist_ok=True)
                handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                blocked = any(place.exists() and not place.is_dir() for place in (self.root, self.folder))
                vanished = isinstance(error, FileNotFoundError | FileExistsError) and not blocked
                if vanished and self.root.parent.is_dir():
                    continue  # a run that ended removed a folder while this one made it
                raise self._not_written(error) from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise DescribeError(
                    f"Another process is at work on this very run ({self.folder.name}): wait for it or stop it,"
                    " then run the same command again."
                ) from None
            if self._is_under(handle):
                return handle
            os.close(handle)  # its owner has removed it meanwhile

    def _is_under(self, handle: int) -> bool:
        """Whether the locked folder is still the one under the run's name."""
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.folder))
        except FileNotFoundError:
            return False

    def _sweep(self) -> None:
        """Delete what is unfinished here, and what any run had already removed by name."""
        for folder, prefix in ((self.folder, _UNFINISHED), (self.root, _REMOVED)):
            with contextlib.suppress(FileNotFoundError):  # removed by a run that has just ended
                for name in os.listdir(folder):
                    if name.startswith(prefix):
                        shutil.rmtree(folder / name, ignore_errors=True)

    def _not_written(self, error: OSError) -> DescribeError:
        return DescribeError(
            f"The folder '{self.root}' cannot be written ({(error.strerror or 'not all was written').lower()}): free some"
            " space there or choose another place with --catalogue, then run the same command again to go on."
        )


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it holds shards that are still wanted, or is gone already
        folder.rmdir()


def _flush(path: Path) -> None:
    """Have a file or folder on disk before a rename says that it is whole."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
