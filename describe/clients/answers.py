"""Every answer that came, kept by the digest of its request: no request is paid for twice, by any run.

A file of SQLite in the user's cache: it is written to answer by answer by several processes at once, and an
answer that was taken down survives `kill -9`. No key of an endpoint is ever in it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from describe.chat import ChatAnswer, ChatRequest, TokenChoice
from describe.errors import DescribeError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS exports (
    request_digest TEXT PRIMARY KEY,
    base_url TEXT NOT NULL,
    chat_model TEXT NOT NULL,
    purpose TEXT NOT NULL,
    command TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS batches (
    content_digest TEXT PRIMARY KEY,
    batch_id TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
    request_digest TEXT PRIMARY KEY,
    base_url TEXT NOT NULL,
    chat_model TEXT NOT NULL,
    purpose TEXT NOT NULL,
    status TEXT NOT NULL,
    text TEXT,
    answered_by TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    seconds REAL,
    attempts INTEGER NOT NULL,
    error TEXT,
    logprobs TEXT,
    asked_at REAL NOT NULL
);
"""
_COLUMNS = (
    "status, text, answered_by, input_tokens, output_tokens, seconds, attempts, error, logprobs, asked_at"
)
_PATIENCE = 60.0  # seconds to wait for another process that is writing


@dataclass(frozen=True)
class KeptAnswer:
    """An answer and when it was given, in seconds since 1970."""

    answer: ChatAnswer
    asked_at: float


@dataclass(frozen=True)
class Exported:
    """A request that went out in a file."""

    base_url: str
    chat_model: str
    purpose: str
    command: tuple[str, ...]  # what to run once it is answered


class AnswerStore:
    """The kept answers; `None` as a path keeps them for the life of the object only.

    Raises:
        DescribeError: the file is damaged or cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        with self._errors():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", timeout=_PATIENCE, isolation_level=None)
            self._write_ahead()
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)

    def _write_ahead(self) -> None:
        """Set the journal's mode; SQLite does not wait by itself where several open a new file at once."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def find(self, request_digest: str) -> KeptAnswer | None:
        """The answer to a request, or None."""
        with self._errors():
            row = self._db.execute(
                f"SELECT {_COLUMNS} FROM answers WHERE request_digest = ?", [request_digest]
            ).fetchone()
        if row is None:
            return None
        *plain, logprobs, asked_at = row
        choices = tuple(
            TokenChoice(token, tuple((text, value) for text, value in top))
            for token, top in json.loads(logprobs or "[]")
        )
        return KeptAnswer(replace(ChatAnswer(*plain), logprobs=choices), asked_at)

    def keep(
        self,
        request_digest: str,
        base_url: str,
        chat_model: str,
        purpose: str,
        answer: ChatAnswer,
        asked_at: float | None = None,
    ) -> bool:
        """Take an answer down; the first one stands. Returns whether this was the first."""
        choices = json.dumps([[one.token, one.top] for one in answer.logprobs]) if answer.logprobs else None
        row = [
            *(request_digest, base_url, chat_model, purpose),
            *(answer.status, answer.text, answer.answered_by, answer.input_tokens, answer.output_tokens),
            *(answer.seconds, answer.attempts, answer.error, choices, asked_at or time.time()),
        ]
        with self._errors():
            if answer.status != "rejected":  # a refusal stands only until there is an answer
                self._db.execute(
                    "DELETE FROM answers WHERE request_digest = ? AND status = 'rejected'", [request_digest]
                )
            marks = ", ".join("?" * len(row))
            done = self._db.execute(
                f"INSERT OR IGNORE INTO answers (request_digest, base_url, chat_model, purpose, {_COLUMNS}) VALUES ({marks})",
                row,
            )
        return done.rowcount == 1

    def note_export(self, keys: Mapping[str, ChatRequest], base_url: str, command: Sequence[str]) -> None:
        """Remember requests that went out in a file, and the command that their answers are for."""
        rows = [
            [key, base_url, one.chat_model, one.purpose, json.dumps(list(command))]
            for key, one in keys.items()
        ]
        how = "REPLACE" if command else "IGNORE"  # a batch of our own leaves the command of a file alone
        with self._errors():
            self._db.execute("BEGIN")
            self._db.executemany(f"INSERT OR {how} INTO exports VALUES (?, ?, ?, ?, ?)", rows)
            self._db.execute("COMMIT")

    def exported(self, request_digest: str) -> Exported | None:
        """What is remembered of a request that went out in a file; None for one that did not."""
        with self._errors():
            row = self._db.execute(
                "SELECT base_url, chat_model, purpose, command FROM exports WHERE request_digest = ?",
                [request_digest],
            ).fetchone()
        return None if row is None else Exported(row[0], row[1], row[2], tuple(json.loads(row[3])))

    def batch_of(self, content_digest: str) -> str | None:
        """The endpoint's name of a batch with this content that is under way."""
        with self._errors():
            row = self._db.execute(
                "SELECT batch_id FROM batches WHERE content_digest = ?", [content_digest]
            ).fetchone()
        return None if row is None else str(row[0])

    def note_batch(self, content_digest: str, batch_id: str | None) -> None:
        """Remember, or with None forget, a batch that is under way."""
        with self._errors():
            self._db.execute("DELETE FROM batches WHERE content_digest = ?", [content_digest])
            if batch_id is not None:
                self._db.execute("INSERT INTO batches VALUES (?, ?)", [content_digest, batch_id])

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DescribeError(
                f"The kept answers in {self.path} cannot be used ({error}): free some space there, or move the"
                " file away, then run the same command again."
            ) from error


def default_answers() -> Path:
    """Where answers are kept unless the user says otherwise."""
    from describe.cache import cache_root

    return cache_root() / "answers" / "answers.sqlite"
