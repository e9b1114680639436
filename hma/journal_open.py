"""Opening the journal: the lock of its one writer, the proof that the database is what was written, a new one where it is not.

Rules of this file:
- Nothing is deleted: what cannot be trusted is moved aside, and what that costs is said in the new database's `notes`.
- A new database is made under another name and renamed: one without its tables is always a damaged one.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hma.journal_copy import COPY_NAME, Copy, CopyError, move_aside, read_copy, sync_directory, write_copy
from hma.journal_read import (
    COUNTERS,
    DDL,
    SCHEMA,
    TRUTH,
    UNSOUND,
    DamagedError,
    JournalReader,
    connect,
    is_environment,
    started_from,
)
from hma.journal_records import JournalError
from hma.journal_write import JournalWriter

LOCK_NAME = "journal.lock"
LOCK_WAIT_S = 2.0


def locked(directory: Path) -> int:
    """Return a descriptor that holds the lock of the one writer; a predecessor that is just finishing gets a little time."""
    fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    end = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(fd)
                raise JournalError(
                    f"{directory}: another process keeps the journal locked; mend: stop the second agent"
                ) from None
        time.sleep(0.005)


def opened(path: Path) -> sqlite3.Connection:
    """Open a sound database for writing."""
    db = connect(path, "mode=rw")
    try:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -256", "wal_autocheckpoint = 1024",
                       "journal_size_limit = 1048576", "cell_size_check = ON"):  # fmt: skip
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.execute("BEGIN IMMEDIATE")
        db.execute("ROLLBACK")
    except BaseException:
        db.close()
        raise
    return db


def recover(path: Path, now: Callable[[], float]) -> tuple[Copy | None, tuple[str, ...]]:
    """Make `path` a sound database, from the copy where it is not; return the copy and what is to be said besides."""
    copy, said = _read_copy(path.parent, now)
    problem = _problem(path)
    if not problem:
        if copy is None and not said:
            said.append(f"{path.parent / COPY_NAME} is gone: that {path.name} holds the last changes cannot be proven")
        return copy, tuple(said)
    lost = [move_aside(p, now()) for p in (path, *_companions(path)) if p.exists()]
    if lost:
        said.insert(0, f"{path} {problem}; it was moved to {lost[0]}, events recorded before are only there")
    elif copy is not None and copy.generation:
        said.insert(0, f"{path} is gone, and all events recorded before with it")
    elif any(path.parent.glob(f"{path.name}.corrupt-*")):
        said.insert(0, f"{path} is gone; older ones lie beside it as {path.name}.corrupt-*")
    if said:
        said.append(started_from(copy))
    if copy is None:
        # From the first database on there is a copy: one without has lost it.
        copy = Copy(0, 0.0)
        write_copy(path.parent, copy)
    _create(path, copy, said)
    return copy, ()


def _problem(path: Path) -> str:
    """Return what is wrong with the database, "" if nothing."""
    if not path.exists():
        return "is not there"
    if not path.is_file():  # opening a pipe would never end
        return "is no regular file"
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


def _read_copy(directory: Path, now: Callable[[], float]) -> tuple[Copy | None, list[str]]:
    try:
        return read_copy(directory), []
    except CopyError as err:
        aside = move_aside(directory / COPY_NAME, now())
        return None, [f"{directory / COPY_NAME} was damaged ({err}) and moved to {aside}"]


def _companions(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _create(path: Path, copy: Copy, notes: Sequence[str]) -> None:
    """Make a new database at `path` with the content of `copy`, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    for old in (new, new.with_name(f"{new.name}-journal")):
        old.unlink(missing_ok=True)
    db = connect(new, "mode=rwc")
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.executescript(f"BEGIN; {DDL}{COUNTERS};")
        writer = JournalWriter(new, db)
        writer.put("meta", "schema", str(SCHEMA))
        writer.put("meta", "identity", "")
        writer.adopt(copy, notes)
        for table in TRUTH:
            writer.put_sum(table)
        db.execute("COMMIT")
    finally:
        db.close()
    new.rename(path)
    sync_directory(path.parent)
