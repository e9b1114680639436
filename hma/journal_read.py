"""The journal as readers see it: its tables, its checksums, and queries that never write.

Rules of this file:
- Each row carries the CRC-32 of its other columns, and `meta` the count and sum of them for each table of what is true now:
  SQLite notices a damaged page structure, not a changed byte inside a value nor a row that is gone.
- What is true now is the newer of database and copy (`generation`): a write-ahead log with a damaged frame loses its tail
  without a word, and that tail may be the fault.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hma.codec import CodecError, decode
from hma.journal_copy import MAX_HISTORY, Copy, CopyError, read_copy
from hma.journal_records import Cursor, Event, JournalError, Snapshot
from hma.model import Action, Counter, Fault, FaultKey, Past, State, Status, Verdict

T = TypeVar("T")
Value = str | int | float

SCHEMA = 1
LOAD_EVENTS = 1000
DDL = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors(name TEXT PRIMARY KEY, boot_id TEXT NOT NULL, seq INTEGER NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE faults(code TEXT, component TEXT, body TEXT NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY(code, component))
  WITHOUT ROWID;
CREATE TABLE history(fault_id TEXT PRIMARY KEY, ended_utc REAL NOT NULL, body TEXT NOT NULL, crc INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE verdict(one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE aliases(name TEXT PRIMARY KEY, component TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE events(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, utc REAL NOT NULL, kind TEXT NOT NULL,
  fault_id TEXT NOT NULL, code TEXT NOT NULL, component TEXT NOT NULL, body TEXT NOT NULL, crc INTEGER NOT NULL,
  emitted INTEGER NOT NULL DEFAULT 0);
CREATE INDEX events_unsent ON events(seq) WHERE emitted = 0;
"""
COUNTERS = """
CREATE TABLE IF NOT EXISTS counters(code TEXT, component TEXT, body TEXT NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY(code, component)) WITHOUT ROWID
"""
"""Added to schema 1 without a new number: an hma that knows no counters leaves the table alone and works on."""
TRUTH = ("cursors", "faults", "history", "verdict", "aliases", "counters")
"""The tables whose count and sum of checksums stand in `meta` as `sum.<table>`."""
EVENT_COLUMNS = "id, utc, kind, fault_id, code, component, body"

_ENVIRONMENT = frozenset({3, 5, 6, 7, 8, 10, 13, 14, 15, 23})
"""Primary SQLite result codes that speak of the surroundings, not of the file's content: PERM BUSY LOCKED NOMEM READONLY IOERR
FULL CANTOPEN PROTOCOL AUTH (sqlite.org/rescode.html)."""
_SHORT_READ = 522
UNSOUND = (sqlite3.Error, CodecError, ValueError, TypeError, LookupError, OverflowError, MemoryError)
"""What reading a damaged database may raise."""


class DamagedError(Exception):
    """The database is not what was written."""


def checksum(row: Sequence[Value]) -> int:
    """Return the checksum of a row's columns."""
    return zlib.crc32("\x1f".join(map(str, row)).encode("utf-8", "surrogatepass"))


def is_environment(err: Exception) -> bool:
    """Return whether `err` comes from the surroundings (space, rights, another process) and not from damaged content."""
    if isinstance(err, OSError):
        return True
    code = getattr(err, "sqlite_errorcode", None)
    return code is not None and code != _SHORT_READ and code & 0xFF in _ENVIRONMENT


def explained(directory: Path, err: Exception) -> JournalError:
    """Return `err` as one line for people: what, where, the mend."""
    where, code = f"state directory {directory}", getattr(err, "sqlite_errorcode", 0) & 0xFF
    there = directory
    while not os.path.lexists(there):
        there = there.parent
    try:
        stat = os.statvfs(there)
    except OSError as gone:
        return JournalError(f"{where} cannot be used: {gone.strerror}; mend: create it, or set another state_dir")
    if isinstance(err, OSError) and err.errno in _IN_THE_WAY:
        name = directory if err.filename is None else os.fsdecode(err.filename)
        return JournalError(
            f"{where} cannot be used: {name} is in the way ({err.strerror}); mend: remove it, or set another state_dir"
        )
    if stat.f_flag & os.ST_RDONLY:
        return JournalError(f"{where} is read-only: {err}; mend: remount it writable, or set another state_dir")
    if (
        code == sqlite3.SQLITE_FULL
        or (isinstance(err, OSError) and err.errno in _NO_SPACE)
        or not (stat.f_bavail and stat.f_favail)
    ):
        size = f"{stat.f_bavail * stat.f_frsize} of {stat.f_blocks * stat.f_frsize} bytes free"
        return JournalError(f"{where} is full: {err} ({size}); mend: free space there, or set another state_dir")
    if not os.access(there, os.W_OK | os.X_OK):
        return JournalError(f"{where} is not writable for user id {os.geteuid()}: {err}; mend: chown it to the agent's user")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return JournalError(f"{where}: another process keeps the journal locked: {err}; mend: stop the second agent")
    return JournalError(f"{where}: {err}; mend: look for errors of its disk in the kernel log")


_NO_SPACE = frozenset({28, 122})  # ENOSPC, EDQUOT
_IN_THE_WAY = frozenset({17, 20, 21})  # EEXIST, ENOTDIR, EISDIR


def connect(path: Path, query: str) -> sqlite3.Connection:
    """Open the database file with the options `query` of a SQLite URI."""
    name = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    db = sqlite3.connect(f"file:{name}?{query}", uri=True, isolation_level=None, timeout=2.0)
    # A damaged byte is a wrong checksum of its row, not the end of the whole query.
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return db


class JournalReader:
    """Queries on one journal. Made by `Journal.open_readonly`, or as part of a `Journal`."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self.notes: tuple[str, ...] = ()
        self.damaged_events: dict[int, str] = {}
        self._db = db

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def verdict(self) -> Verdict | None:
        """Return the last verdict saved."""
        return self.truth().verdict

    def faults(self) -> tuple[Fault, ...]:
        """Return the live faults, by code and component."""
        return self.truth().faults

    def history(self) -> tuple[Past, ...]:
        """Return the faults that ended, oldest first."""
        return self.truth().history

    def events(
        self,
        since_utc: float | None = None,
        kinds: Sequence[str] = (),
        code: str = "",
        component: str = "",
        fault_id: str = "",
        limit: int = 1000,
    ) -> tuple[Event, ...]:
        """Return the newest `limit` events that match all that is given, oldest first."""
        wanted: list[tuple[str, Value]] = [("code = ?", code), ("component = ?", component), ("fault_id = ?", fault_id)]
        wanted = [(sql, value) for sql, value in wanted if value]
        if since_utc is not None:
            wanted.append(("utc >= ?", since_utc))
        where = [sql for sql, _ in wanted]
        if kinds:
            where.append(f"kind IN ({','.join('?' * len(kinds))})")
        args = [*(value for _, value in wanted), *kinds, limit]
        found = self._events(f"{'WHERE ' if where else ''}{' AND '.join(where)} ORDER BY seq DESC LIMIT ?", args)
        return tuple(reversed(found))

    def event(self, event_id: str) -> Event | None:
        """Return one event, None if there is none of that id."""
        return next(iter(self._events("WHERE id = ?", [event_id])), None)

    def unemitted(self, after_id: str = "", limit: int = 1000) -> tuple[Event, ...]:
        """Return the oldest events that no sink has taken, those after the event `after_id` only."""
        after = "AND seq > coalesce((SELECT seq FROM events WHERE id = ?), 0)"
        return self._events(f"WHERE emitted = 0 {after} ORDER BY seq LIMIT ?", [after_id, limit])

    def count_unemitted(self) -> int:
        """Return how many events no sink has taken."""
        return self._reading(lambda: int(self._db.execute("SELECT count(*) FROM events WHERE emitted = 0").fetchone()[0]))

    def truth(self) -> Copy:
        """Return all that is true now: the newer of database and copy."""
        stored = self._reading(self.stored)
        copy = _last_copy(self.path.parent)
        return copy if copy is not None and copy.generation > stored.generation else stored

    def stored(self, history: int = -1) -> Copy:
        """Return what the database holds, with the newest `history` pasts (-1: all); raise `DamagedError` or an `UNSOUND`."""
        self._db.execute("BEGIN")  # one consistent view over all tables
        try:
            pasts = [self._decoded(Past, row[2]) for row in self.rows("history", f"ORDER BY ended_utc DESC LIMIT {history}")]
            verdicts = [self._decoded(Verdict, row[1]) for row in self.rows("verdict")]
            return Copy(
                generation=int(self.meta("generation")),
                utc=float(self.meta("utc")),
                identity=self.meta("identity"),
                verdict=verdicts[0] if verdicts else None,
                faults=tuple(self._decoded(Fault, row[2]) for row in self.rows("faults")),
                history=tuple(reversed(pasts)),
                history_cut=len(pasts) == history,
                cursors={name: Cursor(boot_id, seq) for name, boot_id, seq in self.rows("cursors")},
                aliases=dict(self.rows("aliases")),
                counters={FaultKey(*row[:2]): self._decoded(Counter, row[2]) for row in self.rows("counters")},
            )
        finally:
            self._db.execute("COMMIT")

    def snapshot(self, truth: Copy) -> Snapshot:
        """Return `truth`, the oldest unsent events and the notes, as a start needs them."""
        events = self.unemitted(limit=LOAD_EVENTS)
        left = self.count_unemitted() - len(events)
        return Snapshot(state_of(truth), truth.cursors, events, left, truth.identity, self.notes)

    def for_copy(self) -> Copy:
        """Return what belongs into the copy: all, but no more than the newest `MAX_HISTORY` pasts."""
        return self.stored(MAX_HISTORY)

    def verify(self) -> None:
        """Raise `DamagedError` or an `UNSOUND` unless the database is what was written."""
        # Not quick_check, which leaves out the indexes: the first insert would find them damaged. 10 ms for 5 MB, either.
        found = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise DamagedError(str(found).replace("\n", " "))
        if int(self.meta("schema")) > SCHEMA:
            raise DamagedError(f"written by a newer hma (schema {self.meta('schema')}, this one knows {SCHEMA})")
        for table in TRUTH:
            if table == "counters" and not self.has(table):
                continue
            sums = [checksum(row) for row in self.rows(table)]
            if self.meta(f"sum.{table}") != f"{len(sums)}:{sum(sums)}":
                raise DamagedError(f"table {table} is not complete")
        self.stored()
        json.loads(self.meta("notes"))

    def rows(self, table: str, order: str = "") -> Iterator[Any]:
        """Yield the rows of `table` without their checksum; raise `DamagedError` at one that does not match."""
        if table == "counters" and not self.has(table):
            return
        for *row, crc in self._db.execute(f"SELECT * FROM {table} {order}"):  # noqa: S608 (names of ours)
            if crc != checksum(row):
                raise DamagedError(f"a row of table {table} does not match its checksum")
            yield row

    def has(self, table: str) -> bool:
        """Return whether there is such a table: a journal of before has no counters."""
        return self._db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None

    def meta(self, key: str) -> str:
        """Return one value of the table meta; raise `DamagedError` if it is not there or damaged."""
        row = self._db.execute("SELECT value, crc FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None or row[1] != checksum((key, row[0])):
            raise DamagedError(f"its value {key} is missing or damaged")
        return str(row[0])

    def _decoded(self, type_: type[T], body: str) -> T:
        return decode(type_, json.loads(body))

    def _events(self, rest: str, args: Sequence[Value]) -> tuple[Event, ...]:
        sql = f"SELECT seq, {EVENT_COLUMNS}, crc FROM events {rest}"  # noqa: S608 (columns and conditions of ours)
        good = []
        for seq, *row, crc in self._reading(lambda: self._db.execute(sql, args).fetchall()):
            if crc == checksum(row):
                good.append(Event(*row))
            else:
                self.damaged_events[seq] = str(row[0])
        return tuple(good)

    def _reading(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except (*UNSOUND, DamagedError) as err:
            raise _unreadable(self.path, err) from err


def open_readonly(path: Path) -> JournalReader:
    """Return a reader that works beside a writing agent, and in a directory that cannot be written.

    There SQLite may be unable to share memory with a writer; then the file is read as it is, `notes` says what that leaves out.
    """
    try:
        there = path.exists()
    except OSError as err:
        raise JournalError(f"{path} cannot be read: {err.strerror}; mend: be root, or the agent's user") from err
    if not there:
        raise JournalError(
            f"no journal at {path}: no agent has run with this state directory; mend: start it, or name its state_dir"
        )
    if not path.is_file():
        raise JournalError(f"{path} is no regular file; mend: move it away")
    try:
        try:
            return _checked(path, "mode=ro")
        except sqlite3.Error as err:
            if not is_environment(err):
                raise
        reader = _checked(path, "mode=ro&immutable=1")
    except (*UNSOUND, DamagedError) as err:
        raise _unreadable(path, err) from err
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size:
        reader.notes = (f"{path} was read without {wal.name}: its last events are not shown",)
    return reader


def _checked(path: Path, query: str) -> JournalReader:
    reader = JournalReader(path, connect(path, query))
    try:
        schema = int(reader.meta("schema"))
    except BaseException:
        reader.close()
        raise
    if schema > SCHEMA:
        reader.close()
        raise JournalError(f"{path} was written by a newer hma (schema {schema}); mend: use the hma of that version")
    return reader


def _unreadable(path: Path, err: Exception) -> JournalError:
    if is_environment(err):
        return explained(path.parent, err)
    return JournalError(f"{path} is damaged: {err}; mend: restart the agent, it starts a new journal from its copy")


def state_of(truth: Copy) -> State | None:
    """Return the engine's state, None where nothing was recorded; faults without a verdict make an unknown one, never `ok`."""
    verdict = truth.verdict
    if verdict is None and truth.faults:
        since = max((fault.changed for fault in truth.faults), key=lambda at: at.utc)
        verdict = Verdict(Status.UNKNOWN, schedulable=False, action=Action.NONE, when="now", since=since)
    if verdict is None:
        return None
    return State(verdict, {fault.key: fault for fault in truth.faults}, truth.history, truth.aliases, truth.counters)


def last_known(path: Path) -> Snapshot:
    """Return what a journal that cannot be opened for writing still tells; raise `JournalError` if that cannot be said.

    Where no journal is, nothing was recorded. Where one is and cannot be read, the copy speaks for it, with a note.
    """
    copy = _last_copy(path.parent)
    try:
        there = _exists(path)
        if there:
            reader = open_readonly(path)
            with contextlib.closing(reader):
                return reader.snapshot(reader.truth())
    except OSError as err:
        raise explained(path.parent, err) from err
    except JournalError as err:
        if copy is None:
            raise
        note = str(err)
    else:
        note = f"{path} is gone, and all events recorded before with it"
    if copy is None or not copy.generation:
        return Snapshot(None)
    return Snapshot(state_of(copy), copy.cursors, identity=copy.identity, notes=(f"{note}; {started_from(copy)}",))


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _last_copy(directory: Path) -> Copy | None:
    try:
        return read_copy(directory)
    except (CopyError, OSError):
        return None


def started_from(copy: Copy | None) -> str:
    """Return the part of a note that says what the content of a lost database was replaced with."""
    if copy is None:
        return "there is no usable copy either: live faults, history, verdict and cursors are lost, what is true now is unknown"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(copy.utc))
    cut = f", history before the last {len(copy.history)} pasts is lost" if copy.history_cut else ""
    return f"live faults ({len(copy.faults)}), history, verdict and cursors are those of the copy of {at}{cut}"
