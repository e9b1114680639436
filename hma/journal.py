"""The journal: what is true now and what happened, in SQLite, so that no start begins from "healthy".

Rules of this file:
- One transaction per commit, flushed to the disk before it returns (a mere move of cursors is not: it is worth one re-read line).
- Opening proves the database (structure, checksums, completeness) and compares it with the copy; what fails is moved aside, the
  new one starts from the copy, and `notes` says what was lost. Notes stay until a commit after `load` shows they were heard.
- A new database is made under another name and renamed: one without its tables is always a damaged one.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hma.codec import decode, encode
from hma.journal_copy import COPY_NAME, Copy, CopyError, move_aside, read_copy, sync_directory, write_copy
from hma.journal_read import (
    DDL, SCHEMA, TRUTH, UNSOUND, DamagedError, JournalReader, Value, checksum, connect, explained, is_environment, open_readonly,
)  # fmt: skip
from hma.journal_records import Commit, Cursor, Event, JournalError, Pruned, Snapshot
from hma.model import Action, Fault, FaultKey, Past, State, Status, Verdict

__all__ = ["Commit", "Cursor", "Event", "Journal", "JournalError", "JournalReader", "Pruned", "Snapshot", "state_of"]

DB_NAME = "journal.db"
LOAD_EVENTS = 1000
HISTORY_KEPT_S = 7 * 86_400.0
T = TypeVar("T")


def realtime() -> float:
    """Return Unix seconds."""
    return time.clock_gettime(time.CLOCK_REALTIME)


class Journal(JournalReader):
    """The one writer. Every method raises `JournalError` when the disk or the file does not let it work."""

    def __init__(self, path: Path, now_utc: Callable[[], float] = realtime) -> None:
        self._now = now_utc
        self._copy_stale = False
        self._told = False
        self._directory = path.parent
        try:
            self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            notes = self._recover(path)
            super().__init__(path, _opened(path))
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as err:
            raise explained(self._directory, err) from err
        self.notes = (*json.loads(self.meta("notes")), *notes)
        self._guarded(self._finish_recovery)

    @classmethod
    def open_readonly(cls, path: Path) -> JournalReader:
        """Return a reader of the journal at `path`; see `hma.journal_read.open_readonly`."""
        return open_readonly(path)

    # -- the daily work -----------------------------------------------------------------------------------------------

    def load(self) -> Snapshot:
        """Return all that a start begins from."""
        truth = self._guarded(self.stored)
        events = self.unemitted(limit=LOAD_EVENTS)
        if self.damaged_events:
            self._guarded(self._forget_damaged)
        self._told = True
        left = self.count_unemitted() - len(events)
        return Snapshot(state_of(truth), truth.cursors, events, left, truth.identity, self.notes)

    def commit(self, commit: Commit) -> None:
        """Save all of `commit` or nothing; what it holds twice or what is saved already changes nothing."""
        self._guarded(lambda: self._commit(commit))

    def mark_emitted(self, ids: Iterable[str]) -> None:
        """Note that a sink has taken these events; not flushed at once (at worst one is sent twice)."""
        self.commit(Commit(emitted=tuple(ids)))

    def prune(self, now_utc: float, keep_s: float, max_bytes: int) -> Pruned:
        """Remove sent events older than `keep_s` and pasts older than that and 7 days; then, while the file is larger than
        `max_bytes`, the oldest sent events, pasts older than 7 days, unsent events and last the other pasts. Never a live fault.
        """
        return self._guarded(lambda: self._prune(now_utc, keep_s, max_bytes))

    # -- writing ------------------------------------------------------------------------------------------------------

    def _commit(self, commit: Commit) -> None:
        # Outside of a transaction this takes effect at once and costs microseconds.
        self._db.execute(f"PRAGMA synchronous = {'NORMAL' if commit.only_moves else 'FULL'}")
        with self._transaction():
            if self._write(commit):
                self._put("meta", "generation", str(int(self.meta("generation")) + 1))
                self._put("meta", "utc", str(self._now()))
                self._copy_stale = True
            if self._told and self.notes:
                self._put("meta", "notes", "[]")
        if self._told:
            self.notes = ()
        self._write_copy()

    def _write(self, commit: Commit) -> bool:
        """Write the rows; return whether what is true now has changed in more than counts and cursors."""
        changed = self._write_faults(commit)
        for past in commit.history:
            changed |= self._put_if_new("history", past.fault_id, float(past.ended_utc), _text(past))
        if commit.verdict is not None:
            changed |= self._put_if_new("verdict", 1, _text(commit.verdict))
        if commit.full and self._db.execute("DELETE FROM aliases").rowcount:
            changed = True
        for name, component in commit.aliases.items():
            changed |= self._put_if_new("aliases", name, component)
        for name, cursor in commit.cursors.items():
            self._put("cursors", name, cursor.boot_id, cursor.seq)
        if commit.identity and commit.identity != self.meta("identity"):
            self._put("meta", "identity", commit.identity)
            changed = True
        self._write_events(commit)
        for table in self._touched(commit):
            self._put_sum(table)
        return changed

    def _touched(self, commit: Commit) -> list[str]:
        parts = {
            "cursors": commit.cursors, "faults": commit.faults or commit.full, "history": commit.history,
            "verdict": commit.verdict, "aliases": commit.aliases or commit.full,
        }  # fmt: skip
        return [table for table, part in parts.items() if part]

    def _write_faults(self, commit: Commit) -> bool:
        changed = False
        gone = [key for key, fault in commit.faults.items() if fault is None]
        if commit.full:
            keys = [FaultKey(*row) for row in self._db.execute("SELECT code, component FROM faults").fetchall()]
            gone.extend(key for key in keys if key not in commit.faults)
        for key in gone:
            changed |= self._db.execute("DELETE FROM faults WHERE code = ? AND component = ?", key).rowcount > 0
        for key, fault in commit.faults.items():
            if fault is None:
                continue
            row = self._db.execute("SELECT body FROM faults WHERE code = ? AND component = ?", key).fetchone()
            changed |= row is None or _standing(decode(Fault, json.loads(row[0]))) != _standing(fault)
            self._put("faults", *key, _text(fault))
        return changed

    def _write_events(self, commit: Commit) -> None:
        columns = "id, utc, kind, fault_id, code, component, body, crc"
        rows = [(e.id, float(e.utc), *e[2:]) for e in commit.events]
        sql = f"INSERT OR IGNORE INTO events({columns}) VALUES (?,?,?,?,?,?,?,?)"  # noqa: S608 (columns of ours)
        self._db.executemany(sql, [(*row, checksum(row)) for row in rows])
        self._db.executemany("UPDATE events SET emitted = 1 WHERE id = ?", [(i,) for i in commit.emitted])

    def _put(self, table: str, *row: Value) -> None:
        marks = ",".join("?" * (len(row) + 1))
        self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*row, checksum(row)))  # noqa: S608 (names of ours)

    def _put_if_new(self, table: str, *row: Value) -> bool:
        key = {"history": "fault_id", "verdict": "one", "aliases": "name"}[table]
        found = self._db.execute(f"SELECT crc FROM {table} WHERE {key} = ?", row[:1]).fetchone()  # noqa: S608 (names of ours)
        if found is not None and found[0] == checksum(row):
            return False
        self._put(table, *row)
        return True

    def _put_sum(self, table: str) -> None:
        count, total = self._db.execute(f"SELECT count(*), coalesce(sum(crc), 0) FROM {table}").fetchone()  # noqa: S608
        self._put("meta", f"sum.{table}", f"{count}:{total}")

    def _write_copy(self) -> None:
        if not self._copy_stale:
            return
        write_copy(self._directory, self.for_copy())
        self._copy_stale = False

    def _forget_damaged(self) -> None:
        ids = self.damaged_events
        with self._transaction():
            self._db.executemany("DELETE FROM events WHERE id = ?", [(i,) for i in ids])
        self.notes = (*self.notes, f"{len(ids)} unsent events in {self.path} were damaged and are lost: {', '.join(ids[:5])}")
        self.damaged_events = ()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors (a full disk).
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

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
        with self._transaction():
            events = self._db.execute("DELETE FROM events WHERE emitted = 1 AND utc < ?", (now_utc - keep_s,)).rowcount
            history = self._db.execute("DELETE FROM history WHERE ended_utc < ?", (old,)).rowcount
            events += self._shrink(max_bytes, "events", "seq", "emitted = 1", ())
            history += self._shrink(max_bytes, "history", "ended_utc", "ended_utc < ?", (young,))
            unsent = self._shrink(max_bytes, "events", "seq", "emitted = 0", ())
            history += self._shrink(max_bytes, "history", "ended_utc", "1", ())
            self._put_sum("history")
        self._db.execute("PRAGMA incremental_vacuum").fetchall()
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

    def _recover(self, path: Path) -> tuple[str, ...]:
        """Make `path` a sound database, from the copy where it is not; return what has to be said and is not saved with it."""
        copy, said = self._read_copy()
        problem = self._problem(path)
        if not problem:
            return tuple(said)
        lost = [self._aside(p) for p in (path, *_companions(path)) if p.exists()]
        if lost:
            said.insert(0, f"{path} {problem}; it was moved to {lost[0]}, events recorded before are only there")
        elif copy is not None:
            said.insert(0, f"{path} is gone, and all events recorded before with it")
        elif any(path.parent.glob(f"{path.name}.corrupt-*")):
            said.insert(0, f"{path} is gone; older ones lie beside it as {path.name}.corrupt-*")
        if said:
            said.append(_started_from(copy))
        _create(path, copy, said)
        return ()

    def _problem(self, path: Path) -> str:
        """Return what is wrong with the database, "" if nothing."""
        if not path.exists():
            return "is not there"
        with open(path, "rb") as file:
            header = file.read(20)
        # SQLite takes a write version above 2 for "read-only", which would hide the damage behind the wrong mend.
        if header[:16] != b"SQLite format 3\x00" or not set(header[18:20]) <= {1, 2}:
            return "is damaged: no SQLite header"
        db = connect(path, "mode=rw")
        try:
            JournalReader(path, db).verify()
        except (*UNSOUND, DamagedError) as err:
            if is_environment(err):
                raise
            return f"is damaged: {err}" if "newer hma" not in str(err) else f"was {err}"
        finally:
            db.close()
        return ""

    def _read_copy(self) -> tuple[Copy | None, list[str]]:
        try:
            return read_copy(self._directory), []
        except CopyError as err:
            aside = self._aside(self._directory / COPY_NAME)
            return None, [f"{self._directory / COPY_NAME} was damaged ({err}) and moved to {aside}"]

    def _aside(self, path: Path) -> Path:
        return move_aside(path, self._now())

    def _finish_recovery(self) -> None:
        """Adopt the copy where the database has lost its last changes, and bring the copy up to date where it has."""
        copy, generation = read_copy(self._directory), int(self.meta("generation"))
        if copy is not None and copy.generation > generation:
            note = (
                f"{self.path} had lost its last changes ({copy.generation - generation} of the state, and events with them); "
                + _started_from(copy)
            )
            with self._transaction():
                self._adopt(copy, [*self.notes, note])
            self.notes = (*self.notes, note)
        elif copy is None or copy.generation < generation:
            self._copy_stale = generation > 0
            self._write_copy()

    def _adopt(self, copy: Copy, notes: Sequence[str]) -> None:
        faults = {fault.key: fault for fault in copy.faults}
        self._write(Commit(faults, copy.history, copy.verdict, copy.cursors, copy.aliases, identity=copy.identity, full=True))
        for key, value in (("generation", str(copy.generation)), ("utc", str(copy.utc)), ("notes", json.dumps(notes))):
            self._put("meta", key, value)


def state_of(truth: Copy) -> State | None:
    """Return the engine's state, None where nothing was recorded; faults without a verdict make an unknown one, never `ok`."""
    verdict = truth.verdict
    if verdict is None and truth.faults:
        since = max((fault.changed for fault in truth.faults), key=lambda at: at.utc)
        verdict = Verdict(Status.UNKNOWN, schedulable=False, action=Action.NONE, when="now", since=since)
    if verdict is None:
        return None
    return State(verdict, {fault.key: fault for fault in truth.faults}, truth.history, truth.aliases)


def _text(value: Fault | Past | Verdict) -> str:
    return json.dumps(encode(value), separators=(",", ":"))


def _standing(fault: Fault) -> Fault:
    """Return `fault` without what each further sight of it changes."""
    return replace(
        fault, last_seen=fault.first_seen, changed=fault.first_seen, count=1, detail="", evidence="", attrs=(), occurrences=(), ok_since=None
    )


def _started_from(copy: Copy | None) -> str:
    if copy is None:
        return "there is no usable copy either: live faults, history, verdict and cursors are lost, what is true now is unknown"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(copy.utc))
    cut = f", history before the last {len(copy.history)} pasts is lost" if copy.history_cut else ""
    return f"live faults ({len(copy.faults)}), history, verdict and cursors are those of the copy of {at}{cut}"


def _companions(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _opened(path: Path) -> sqlite3.Connection:
    db = connect(path, "mode=rw")
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -256", "wal_autocheckpoint = 256",
                   "journal_size_limit = 1048576", "cell_size_check = ON"):  # fmt: skip
        db.execute(f"PRAGMA {pragma}").fetchall()
    return db


def _create(path: Path, copy: Copy | None, notes: Sequence[str]) -> None:
    """Make a new database at `path` with the content of `copy`, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    for old in (new, new.with_name(f"{new.name}-journal")):
        old.unlink(missing_ok=True)
    db = connect(new, "mode=rwc")
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.executescript(f"BEGIN; {DDL}")
        writer = Journal.__new__(Journal)
        JournalReader.__init__(writer, new, db)
        for key in ("schema", "identity"):
            writer._put("meta", key, str(SCHEMA) if key == "schema" else "")
        writer._adopt(copy or Copy(0, 0.0), notes)
        for table in TRUTH:
            writer._put_sum(table)
        db.execute("COMMIT")
    finally:
        db.close()
    new.rename(path)
    sync_directory(path.parent)
