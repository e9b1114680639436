"""The rows of the journal: what one commit changes in an open database.

Rules of this file:
- All of it happens inside `transaction`; nothing here opens, flushes or moves a file.
- What is there already is not written again: the copy is rewritten only when what is true now has changed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hma.codec import decode, encode
from hma.journal_copy import Copy
from hma.journal_read import COUNTERS, JournalReader, Value, checksum
from hma.journal_records import Commit
from hma.model import Counter, Fault, FaultKey, Past, Verdict


class JournalWriter(JournalReader):
    """Writes rows; a reader that may change what it reads."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all that is written inside one thing: there after it, or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors (a full disk).
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def write(self, commit: Commit) -> bool:
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
            self.put("cursors", name, cursor.boot_id, cursor.seq)
        if commit.identity and commit.identity != self.meta("identity"):
            self.put("meta", "identity", commit.identity)
            changed = True
        self._write_counters(commit)
        self._write_events(commit)
        for table in self._touched(commit):
            self.put_sum(table)
        return changed

    def _touched(self, commit: Commit) -> list[str]:
        parts = {
            "cursors": commit.cursors, "faults": commit.faults or commit.full, "history": commit.history,
            "verdict": commit.verdict, "aliases": commit.aliases or commit.full, "counters": commit.counters or commit.full,
        }  # fmt: skip
        return [table for table, part in parts.items() if part]

    def _write_faults(self, commit: Commit) -> bool:
        changed = False
        gone = [key for key, fault in commit.faults.items() if fault is None]
        if commit.full:
            keys = [FaultKey(*row) for row in self._db.execute("SELECT code, component FROM faults").fetchall()]
            gone.extend(key for key in keys if key not in commit.faults)
        for key in gone:
            changed |= self._db.execute("DELETE FROM faults WHERE code = ? AND component = ?", storable(key)).rowcount > 0
        for key, fault in commit.faults.items():
            if fault is None:
                continue
            row = self._db.execute("SELECT body FROM faults WHERE code = ? AND component = ?", storable(key)).fetchone()
            changed |= row is None or _standing(decode(Fault, json.loads(row[0]))) != _standing(fault)
            self.put("faults", *key, _text(fault))
        return changed

    def _write_counters(self, commit: Commit) -> None:
        if commit.full:
            self._db.execute("DELETE FROM counters")
        for key, counter in commit.counters.items():
            if counter is None:
                self._db.execute("DELETE FROM counters WHERE code = ? AND component = ?", storable(key))
            else:
                self.put("counters", *key, _text(counter))

    def _write_events(self, commit: Commit) -> None:
        columns = "id, utc, kind, fault_id, code, component, body, crc"
        rows = [storable((e.id, float(e.utc), *e[2:])) for e in commit.events]
        sql = f"INSERT OR IGNORE INTO events({columns}) VALUES (?,?,?,?,?,?,?,?)"  # noqa: S608 (columns of ours)
        self._db.executemany(sql, [(*row, checksum(row)) for row in rows])
        self._db.executemany("UPDATE events SET emitted = 1 WHERE id = ?", [storable((i,)) for i in commit.emitted])

    def put(self, table: str, *row: Value) -> None:
        """Write one row with its checksum."""
        values = storable(row)
        marks = ",".join("?" * (len(row) + 1))
        self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*values, checksum(values)))  # noqa: S608 (names of ours)

    def _put_if_new(self, table: str, *row: Value) -> bool:
        key = {"history": "fault_id", "verdict": "one", "aliases": "name"}[table]
        values = storable(row)
        found = self._db.execute(f"SELECT crc FROM {table} WHERE {key} = ?", values[:1]).fetchone()  # noqa: S608 (names of ours)
        if found is not None and found[0] == checksum(values):
            return False
        self.put(table, *row)
        return True

    def put_sum(self, table: str) -> None:
        """Note how many rows a table holds and what their checksums add up to."""
        count, total = self._db.execute(f"SELECT count(*), coalesce(sum(crc), 0) FROM {table}").fetchone()  # noqa: S608
        self.put("meta", f"sum.{table}", f"{count}:{total}")

    def add_tables(self) -> None:
        """Add the tables that an older hma did not make."""
        if not self.has("counters"):
            with self.transaction():
                self._db.execute(COUNTERS)
                self.put_sum("counters")

    def adopt(self, copy: Copy, notes: Sequence[str]) -> None:
        """Make the content of `copy` what is true now."""
        faults = {fault.key: fault for fault in copy.faults}
        whole = Commit(
            faults, copy.history, copy.verdict, copy.cursors, copy.aliases,
            identity=copy.identity, full=True, counters=dict(copy.counters),
        )  # fmt: skip
        self.write(whole)
        for key, value in (("generation", str(copy.generation)), ("utc", str(copy.utc)), ("notes", json.dumps(notes))):
            self.put("meta", key, value)


def storable(row: Sequence[Value]) -> tuple[Value, ...]:
    """Return `row` as SQLite can hold it: a lone surrogate (a byte of the kernel log that was no UTF-8) becomes `?`."""
    return tuple(
        value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value for value in row
    )


def _text(value: Fault | Past | Verdict | Counter) -> str:
    return json.dumps(encode(value), separators=(",", ":"))


def _standing(fault: Fault) -> Fault:
    """Return `fault` without what each further sight of it changes."""
    return replace(
        fault,
        last_seen=fault.first_seen,
        changed=fault.first_seen,
        count=1,
        detail="",
        evidence="",
        attrs=(),
        occurrences=(),
        ok_since=None,
    )
