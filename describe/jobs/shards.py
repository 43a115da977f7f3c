"""Shards: folders of Parquet files under a content key, made wholly or not at all.

A shard is named by the digest of what it is made from. A killed job leaves either the whole folder or an
unfinished one under another name, so resuming is skipping what exists.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from describe.errors import DescribeError

_UNFINISHED = ".unfinished-"


class ShardStore:
    """The shards beside a catalogue file, in `<catalogue>.runs/`."""

    def __init__(self, catalogue: Path) -> None:
        self.root = catalogue.with_name(catalogue.name + ".runs")

    def path(self, key: str) -> Path:
        """Where the shard of a key is, or will be."""
        return self.root / key

    def has(self, key: str) -> bool:
        """Whether the shard is there, and so whole."""
        return self.path(key).is_dir()

    @contextmanager
    def making(self, key: str) -> Iterator[Path]:
        """A folder to fill; it becomes the shard when the block ends without an exception.

        Raises:
            DescribeError: the disk is full or the folder cannot be written; nothing of the shard is left.
        """
        unfinished = self.root / f"{_UNFINISHED}{key}-{uuid.uuid4().hex[:8]}"
        try:
            unfinished.mkdir(parents=True)
            yield unfinished
            for file in unfinished.iterdir():
                _flush(file)
            if not self.has(key):
                os.rename(unfinished, self.path(key))
        except OSError as error:
            if self.has(key):  # another process finished the same content first
                return
            raise DescribeError(
                f"Could not write to '{self.root.name}' ({error.strerror or error}): free some space there or"
                " choose another place with --catalogue, then run the same command again to go on."
            ) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def clean(self, keys: list[str]) -> None:
        """Remove shards that were ingested, what killed jobs left unfinished, and the folder if empty."""
        for key in keys:
            shutil.rmtree(self.path(key), ignore_errors=True)
        for folder in self.root.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(folder, ignore_errors=True)
        try:
            self.root.rmdir()
        except OSError:
            return  # shards of other settings are still wanted


def _flush(file: Path) -> None:
    """Have the file on disk before the rename says that it is whole."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
