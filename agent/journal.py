"""What was done, when and why, and the little the agent must remember: SQLite, one file, write-ahead log.

A damaged file is put aside and a new one begun: everything here is history or can be found out again. What a
full disk does not take is kept in memory and written once there is room: the agent goes on.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from agent.control import JournalEntry
from runtime.errors import Unavailable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, project TEXT NOT NULL, service TEXT NOT NULL,
    target TEXT NOT NULL, kind TEXT NOT NULL, cause TEXT NOT NULL, result TEXT NOT NULL,
    detail TEXT NOT NULL, seconds REAL NOT NULL);
CREATE INDEX IF NOT EXISTS journal_service ON journal (project, service, id);
CREATE TABLE IF NOT EXISTS memory (
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key));
"""
_MOST_ENTRIES = 100_000
_TRIM_EVERY = 1_000
_MOST_LATE = 50_000
_MOST_GATHERED = 1_000
_AGAIN = 1.0
_DAMAGES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_log = logging.getLogger(__name__)


class Journal:
    """Append, query, and small remembered values by (kind, key). `path` ":memory:" keeps nothing."""

    def __init__(
        self, path: str, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` dates the entries, `monotonic` paces what is tried again: a date set back must not stop it."""
        self._path, self._clock, self._monotonic = path, clock, monotonic
        self._db = self._open()
        self._last_id: int = self._db.execute("SELECT COALESCE(MAX(id), 0) FROM journal").fetchone()[0]
        self._late: deque[tuple[str, tuple[Any, ...]]] = deque(maxlen=_MOST_LATE)
        self._gathering = self._failing = False
        self._again = 0.0  # after a failure: when to try next, by the monotonic clock

    def close(self) -> None:
        """Flush and let go."""
        self._again = 0.0
        self._flush()
        self._db.close()

    def write(
        self,
        *,
        project: str = "",
        service: str = "",
        target: str = "",
        kind: str,
        cause: str,
        result: Literal["ok", "failed", "cancelled", "note"] = "note",
        detail: str = "",
        seconds: float = 0.0,
    ) -> JournalEntry:
        """One entry."""
        at = self._clock()
        row = (at, project, service, target, kind, cause, result, detail, seconds)
        self._last_id += 1
        self._execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (self._last_id, *row))
        if self._last_id % _TRIM_EVERY == 0:
            self._execute("DELETE FROM journal WHERE id <= ?", (self._last_id - _MOST_ENTRIES,))
        return _entry((self._last_id, *row))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written within the block is one transaction, or a few when it is much."""
        outermost, self._gathering = not self._gathering, True
        try:
            yield
        finally:
            if outermost:
                self._gathering = False
                self._flush()

    def entries(
        self, *, project: str = "", service: str = "", since: float = 0.0, limit: int = 100
    ) -> list[JournalEntry]:
        """Newest first."""
        rows = self._db.execute(
            "SELECT id, at, project, service, target, kind, cause, result, detail, seconds FROM journal"
            " WHERE at >= ? AND (? = '' OR project = ?) AND (? = '' OR service = ?)"
            " ORDER BY id DESC LIMIT ?",
            (since, project, project, service, service, limit),
        )
        return [_entry(row) for row in rows]

    def remember(self, kind: str, key: str, value: Any) -> None:
        """Keep a JSON-able value across restarts."""
        self._execute("INSERT OR REPLACE INTO memory VALUES (?, ?, ?)", (kind, key, json.dumps(value)))

    def forget(self, kind: str, key: str) -> None:
        """Drop a value; nothing happens when there is none."""
        self._execute("DELETE FROM memory WHERE kind = ? AND key = ?", (kind, key))

    def remembered(self, kind: str) -> Iterator[tuple[str, Any]]:
        """All values of a kind."""
        rows = self._db.execute("SELECT key, value FROM memory WHERE kind = ?", (kind,)).fetchall()
        return ((key, json.loads(value)) for key, value in rows)

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        self._late.append((statement, values))
        if not self._gathering or len(self._late) % _MOST_GATHERED == 0:
            self._flush()

    def _flush(self) -> None:
        """Write what is due as one transaction; what the disk does not take stays due."""
        if not self._late or self._monotonic() < self._again:
            return
        try:
            self._db.execute("BEGIN")
            for statement, values in self._late:
                self._db.execute(statement, values)
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as e:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if not self._failing:
                _log.warning("cannot write %s: %s; kept in memory until it can be written", self._path, e)
            self._failing, self._again = True, self._monotonic() + _AGAIN
            return
        self._late.clear()
        self._failing, self._again = False, 0.0

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as e:
            if e.sqlite_errorcode & 0xFF not in _DAMAGES:
                raise Unavailable(f"cannot open {self._path}: {e}") from e
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(self._path + suffix):
                    os.replace(self._path + suffix, f"{self._path}{suffix}.damaged")
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
        if os.path.exists(self._path):
            os.chmod(self._path, 0o600)
        return db


def _entry(row: tuple[Any, ...]) -> JournalEntry:
    return JournalEntry(
        id=row[0],
        at=row[1],
        project=row[2],
        service=row[3],
        target=row[4],
        kind=row[5],
        cause=row[6],
        result=row[7],
        detail=row[8],
        seconds=row[9],
    )
