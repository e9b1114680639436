"""The journal: what is true now and what happened, in SQLite, so that no start begins from "healthy".

Rules of this file:
- One transaction per commit, flushed to the disk before it returns (a mere move of cursors is not: worth one re-read line).
- What is not needed for that (the copy, the checkpoint) is left for `tidy`, so that nobody waits for it.
- One writer: an open journal holds a lock on `journal.lock`. Two would save changes of states that differ.
- Opening proves the database (structure, checksums, completeness) and compares it with the copy; what fails is moved aside, the
  new one starts from the copy, and `notes` says what was lost. Notes stay until a commit after `load` shows they were heard.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from hma.journal_copy import Copy, write_copy
from hma.journal_open import locked, opened, recover
from hma.journal_read import UNSOUND, DamagedError, JournalReader, Value, explained, is_environment, open_readonly, started_from
from hma.journal_records import Commit, Cursor, Event, JournalError, Pruned, Snapshot
from hma.journal_write import JournalWriter

__all__ = ["Commit", "Cursor", "Event", "Journal", "JournalError", "JournalReader", "Pruned", "Snapshot"]

DB_NAME = "journal.db"
HISTORY_KEPT_S = 7 * 86_400.0
CHECKPOINT_COMMITS = 64
T = TypeVar("T")


def realtime() -> float:
    """Return Unix seconds."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file is at `path`: SQLite goes on writing into one that was removed."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_dev, stat.st_ino


class Journal(JournalWriter):
    """The one writer. Every method raises `JournalError` when the disk or the file does not let it work."""

    def __init__(self, path: Path, now_utc: Callable[[], float] = realtime) -> None:
        self._now = now_utc
        self._copy_stale = False
        self._commits = 0
        self._told = False
        self._directory = path.parent
        with contextlib.ExitStack() as undo:
            try:
                self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
                self._lock = locked(self._directory)
                undo.callback(os.close, self._lock)
                copy, notes = recover(path, now_utc)
                super().__init__(path, opened(path))
                undo.callback(self._db.close)
                self._file = _identity(path)
            except (sqlite3.Error, OSError) as err:
                raise explained(self._directory, err) from err
            self._guarded(lambda: self._finish_recovery(copy, notes))
            undo.pop_all()

    @classmethod
    def open_readonly(cls, path: Path) -> JournalReader:
        """Return a reader of the journal at `path`; see `hma.journal_read.open_readonly`."""
        return open_readonly(path)

    # -- the daily work -----------------------------------------------------------------------------------------------

    def load(self) -> Snapshot:
        """Return all that a start begins from."""
        truth = self._guarded(self.stored)
        snapshot = self.snapshot(truth)
        if self.damaged_events:
            self._guarded(self._forget_damaged)
            snapshot = self.snapshot(truth)
        self._told = True
        return snapshot

    def commit(self, commit: Commit) -> None:
        """Save all of `commit` or nothing; what it holds twice or what is saved already changes nothing."""
        self._guarded(lambda: self._commit(commit))

    @property
    def untidy(self) -> bool:
        """Return whether `tidy` has something to do."""
        return self._copy_stale or self._commits >= CHECKPOINT_COMMITS

    def tidy(self) -> None:
        """Bring the copy up to date and keep the write-ahead log short; for when nobody waits for an answer."""
        self._guarded(self._tidy)

    def close(self) -> None:
        """Bring the copy up to date, close the database and let another writer in."""
        try:
            if self._copy_stale:
                self.tidy()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the database and let another writer in, after an error."""
        with contextlib.suppress(sqlite3.Error):
            super().close()
        os.close(self._lock)

    def mark_emitted(self, ids: Iterable[str]) -> None:
        """Note that a sink has taken these events; not flushed at once (at worst one is sent twice)."""
        self.commit(Commit(emitted=tuple(ids)))

    def prune(self, now_utc: float, keep_s: float, max_bytes: int) -> Pruned:
        """Remove sent events older than `keep_s` and pasts older than that and 7 days; then, while more than `max_bytes` are
        in use, the oldest sent events, pasts older than 7 days, unsent events and last the other pasts. Never a live fault.
        """
        return self._guarded(lambda: self._prune(now_utc, keep_s, max_bytes))

    # -- writing ------------------------------------------------------------------------------------------------------

    def _commit(self, commit: Commit) -> None:
        if _identity(self.path) != self._file:
            raise JournalError(f"{self.path} was removed or replaced while it was in use; a new one is begun")
        # Outside of a transaction this takes effect at once and costs microseconds.
        self._db.execute(f"PRAGMA synchronous = {'NORMAL' if commit.only_moves else 'FULL'}")
        with self.transaction():
            if self.write(commit):
                self.put("meta", "generation", str(int(self.meta("generation")) + 1))
                self.put("meta", "utc", str(self._now()))
                self._copy_stale = True
            if self._told and self.notes:
                self.put("meta", "notes", "[]")
        self._commits += 1
        if self._told:
            self.notes = ()

    def _tidy(self) -> None:
        self._write_copy()
        if self._commits >= CHECKPOINT_COMMITS:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._commits = 0

    def _write_copy(self) -> None:
        if not self._copy_stale:
            return
        write_copy(self._directory, self.for_copy())
        self._copy_stale = False

    def _forget_damaged(self) -> None:
        found, self.damaged_events = self.damaged_events, {}
        with self.transaction():
            self._db.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in found])
        some = ", ".join(list(found.values())[:5])
        self.notes = (*self.notes, f"{len(found)} unsent events in {self.path} were damaged and are lost: {some}")

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (*UNSOUND, DamagedError, OSError) as err:
            if is_environment(err):
                raise explained(self._directory, err) from err
            raise JournalError(f"{self.path} is damaged: {err}; it is moved aside when the journal is next opened") from err

    # -- retention ----------------------------------------------------------------------------------------------------

    def _prune(self, now_utc: float, keep_s: float, max_bytes: int) -> Pruned:
        self._db.execute("PRAGMA synchronous = NORMAL")
        old, young = now_utc - max(keep_s, HISTORY_KEPT_S), now_utc - HISTORY_KEPT_S
        with self.transaction():
            events = self._db.execute("DELETE FROM events WHERE emitted = 1 AND utc < ?", (now_utc - keep_s,)).rowcount
            history = self._db.execute("DELETE FROM history WHERE ended_utc < ?", (old,)).rowcount
            events += self._shrink(max_bytes, "events", "seq", "emitted = 1", ())
            history += self._shrink(max_bytes, "history", "ended_utc", "ended_utc < ?", (young,))
            unsent = self._shrink(max_bytes, "events", "seq", "emitted = 0", ())
            history += self._shrink(max_bytes, "history", "ended_utc", "1", ())
            self.put_sum("history")
        # `execute` takes one step of a statement without columns, which frees one page.
        self._db.executescript("PRAGMA incremental_vacuum")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Pruned(events, unsent, history)

    def _shrink(self, max_bytes: int, table: str, order: str, where: str, args: Sequence[Value]) -> int:
        """Delete the oldest rows of `table` until the pages in use fit into `max_bytes`; return how many."""
        key = {"events": "seq", "history": "fault_id"}[table]
        oldest = f"SELECT {key} FROM {table} WHERE {where} ORDER BY {order} LIMIT 256"  # noqa: S608 (names of ours)
        deleted = 0
        while self._used_bytes() > max_bytes:
            count = self._db.execute(f"DELETE FROM {table} WHERE {key} IN ({oldest})", args).rowcount  # noqa: S608
            if not count:
                break
            deleted += count
        return deleted

    def _used_bytes(self) -> int:
        pages, free, size = (
            int(self._db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    # -- opening ------------------------------------------------------------------------------------------------------

    def _finish_recovery(self, copy: Copy | None, notes: Sequence[str]) -> None:
        """Adopt the copy where the database has lost its last changes, and bring the copy up to date where it has."""
        self.add_tables()
        self.notes = (*json.loads(self.meta("notes")), *notes)
        generation = int(self.meta("generation"))
        if copy is not None and copy.generation > generation:
            note = (
                f"{self.path} had lost its last changes ({copy.generation - generation} of the state, and events with them); "
                + started_from(copy)
            )
            with self.transaction():
                self.adopt(copy, [*self.notes, note])
            self.notes = (*self.notes, note)
        elif copy is None or copy.generation < generation:
            self._copy_stale = True
