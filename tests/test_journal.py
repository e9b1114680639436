"""What was saved is there after a start, once; what cannot be saved or read is said, and never becomes "healthy"."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hma.journal import Journal, JournalError
from hma.journal_copy import COPY_NAME, KEPT_CORRUPT, Copy, move_aside, read_copy
from hma.journal_read import SCHEMA, checksum, connect, last_known, open_readonly
from hma.journal_records import Commit, Cursor, Snapshot
from hma.model import Action, FaultKey, Status
from tests.disks import NEEDS, fill, memory_disk, mount
from tests.journal_values import BOOT, DAY_S, UTC, commit, counter, event, fault, past, verdict


@contextlib.contextmanager
def opened(path: Path, now: float = UTC) -> Iterator[Journal]:
    journal = Journal(path, lambda: now)
    try:
        yield journal
    finally:
        journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


def loaded(path: Path) -> Snapshot:
    with opened(path) as journal:
        return journal.load()


def saved(path: Path, *commits: Commit) -> None:
    with opened(path) as journal:
        for one in commits:
            journal.commit(one)


def tampered(path: Path, sql: str) -> None:
    """Change the database behind the journal's back."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute(sql).rowcount


def test_new_journal_holds_nothing_and_says_nothing(path: Path) -> None:
    assert loaded(path) == Snapshot(None)


def test_all_that_was_saved_is_there_after_a_start(path: Path) -> None:
    one = Commit(
        {fault(1).key: fault(1), fault(2).key: fault(2)},
        (past(3),),
        verdict(1.0, 1, 2),
        {"kernel": Cursor(BOOT, 7)},
        {"gpu:GPU-1": "gpu:0000:01:00"},
        (event(1), event(2)),
        ("event-1",),
        "i-0123",
    )
    saved(path, one)
    snapshot = loaded(path)
    assert snapshot.state is not None
    assert (snapshot.state.faults, snapshot.state.history, snapshot.state.verdict) == (one.faults, one.history, one.verdict)
    assert (snapshot.state.aliases, snapshot.cursors, snapshot.identity) == (one.aliases, one.cursors, "i-0123")
    assert (snapshot.unemitted, snapshot.unemitted_left, snapshot.notes) == ((event(2),), 0, ())


def test_commit_said_twice_changes_nothing(path: Path) -> None:
    saved(path, commit(fault(1), events=(event(1),)))
    once = loaded(path)
    before = read_copy(path.parent)
    saved(path, commit(fault(1), events=(event(1),)), commit(fault(1), events=(event(1)._replace(body="other"),)))
    assert loaded(path) == once
    assert read_copy(path.parent) == before


@pytest.mark.parametrize(
    ("one", "synchronous"),
    [
        (commit(fault(1)), 2),
        (Commit(events=(event(1),)), 2),
        (Commit(cursors={"kernel": Cursor(BOOT, 9)}), 1),
        (Commit(counters={FaultKey("TALLY", "gpu:0"): counter(1.0)}), 1),
    ],
)
def test_commit_is_flushed_unless_it_only_moves(path: Path, one: Commit, synchronous: int) -> None:
    """FULL flushes the log at each commit, NORMAL at each checkpoint (sqlite.org/pragma.html#pragma_synchronous)."""
    with opened(path) as journal:
        for _ in range(2):
            journal.commit(Commit(verdict=verdict(3.0)))
            journal.commit(one)
            assert journal._db.execute("PRAGMA synchronous").fetchone() == (synchronous,)
            assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


TALLIES = {FaultKey("TALLY", f"gpu:0000:0{number}:00"): counter(1.0, 2.0 + number, counted=2.0) for number in range(3)}


def test_counters_are_there_after_a_start_and_are_no_change_of_the_copy(path: Path) -> None:
    saved(path, commit(fault(1)))
    before = read_copy(path.parent)
    first, second, third = TALLIES
    saved(path, Commit(counters=dict(TALLIES)), Commit(counters={first: counter(9.0), second: None}))
    assert loaded(path).state.counters == {first: counter(9.0), third: TALLIES[third]}  # type: ignore[union-attr]
    assert read_copy(path.parent) == before
    saved(
        path, Commit(counters={second: counter(4.0)}, verdict=verdict(9.0)), Commit(full=True, counters={second: counter(4.0)})
    )
    assert loaded(path).state.counters == {second: counter(4.0)}  # type: ignore[union-attr]


def test_counters_come_back_from_the_copy(path: Path) -> None:
    saved(path, Commit({fault(1).key: fault(1)}, verdict=verdict(), counters=dict(TALLIES)))
    path.unlink()
    assert loaded(path).state.counters == TALLIES  # type: ignore[union-attr]


def older(path: Path) -> None:
    """Make the journal at `path` one of an hma that knew no counters."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TABLE counters")
        db.execute("DELETE FROM meta WHERE key = 'sum.counters'")


def test_journal_of_before_the_counters_opens_and_takes_them(path: Path) -> None:
    saved(path, commit(fault(1), events=(event(1),)))
    older(path)
    with contextlib.closing(open_readonly(path)) as reader:
        assert [f.key for f in reader.faults()] == [fault(1).key], "also for readers, which change nothing"
    before = loaded(path)
    assert before.state is not None
    assert (set(before.state.faults), before.state.counters, before.notes) == ({fault(1).key}, {}, ())
    saved(path, Commit(counters=dict(TALLIES)))
    assert loaded(path).state.counters == TALLIES  # type: ignore[union-attr]


def test_counters_are_proven_like_the_rest(path: Path) -> None:
    saved(path, Commit({fault(1).key: fault(1)}, verdict=verdict(), counters=dict(TALLIES)))
    tampered(path, "DELETE FROM counters WHERE component LIKE '%02:00'")
    assert "counters is not complete" in " ".join(loaded(path).notes)


def test_ended_fault_is_gone_and_another_stays(path: Path) -> None:
    saved(path, commit(fault(1), fault(2)), Commit({fault(1).key: None}))
    assert set(loaded(path).state.faults) == {fault(2).key}  # type: ignore[union-attr]


def test_whole_commit_leaves_nothing_else_live_but_keeps_what_has_been(path: Path) -> None:
    saved(
        path,
        Commit(aliases={"a": "b"}, history=(past(1),), cursors={"old": Cursor(BOOT, 1)}),
        commit(fault(1)),
        commit(fault(2), full=True),
    )
    snapshot = loaded(path)
    assert snapshot.state is not None
    assert set(snapshot.state.faults) == {fault(2).key}
    assert (snapshot.state.aliases, snapshot.state.history) == ({}, (past(1),))
    assert snapshot.cursors["old"] == Cursor(BOOT, 1)


def test_faults_without_a_verdict_make_health_unknown(path: Path) -> None:
    saved(path, Commit({fault(1).key: fault(1)}))
    state = loaded(path).state
    assert state is not None
    assert (state.verdict.health, state.verdict.action, set(state.faults)) == (Status.UNKNOWN, Action.NONE, {fault(1).key})


def test_text_that_is_no_utf_8_is_kept_as_far_as_it_can_be(path: Path) -> None:
    odd = FaultKey("DISK", "fs:/mnt/\udcff")
    live = fault(1)
    broken = type(live)(
        **{**{name: getattr(live, name) for name in live.__slots__}, "code": odd.code, "component": odd.component}
    )
    saved(path, Commit({odd: broken}, verdict=verdict(), events=(event(1)._replace(body='{"line":"\udcff"}'),)))
    snapshot = loaded(path)
    assert snapshot.state is not None
    assert snapshot.state.faults == {odd: broken}
    assert snapshot.unemitted[0].body == '{"line":"?"}'
    saved(path, Commit({odd: None}))
    assert loaded(path).state.faults == {}  # type: ignore[union-attr]


def test_start_gets_the_oldest_unsent_events_and_how_many_more_there_are(path: Path) -> None:
    saved(path, Commit(events=tuple(event(n) for n in range(1005))))
    with opened(path) as journal:
        snapshot = journal.load()
        assert [kept.id for kept in snapshot.unemitted[:2]] == ["event-0", "event-1"]
        assert (len(snapshot.unemitted), snapshot.unemitted_left) == (1000, 5)
        assert [kept.id for kept in journal.unemitted("event-999")] == [f"event-{n}" for n in range(1000, 1005)]
        journal.mark_emitted(kept.id for kept in snapshot.unemitted)
        assert journal.count_unemitted() == 5


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [1, 2, 3]),
        ({"limit": 2}, [2, 3]),
        ({"since_utc": UTC + 2}, [2, 3]),
        ({"kinds": ("fault_active",)}, [1, 3]),
        ({"kinds": ("fault_active", "verdict_changed")}, [1, 2, 3]),
        ({"fault_id": "fault-2"}, [2]),
        ({"code": "XID-79", "component": "gpu:0000:9b:00"}, [1, 2, 3]),
        ({"code": "XID-48"}, []),
    ],
)
def test_events_are_found_by_what_is_known_of_them(path: Path, wanted: dict[str, object], found: list[int]) -> None:
    saved(path, Commit(events=(event(1), event(2, "verdict_changed"), event(3))))
    with contextlib.closing(open_readonly(path)) as reader:
        assert [kept.id for kept in reader.events(**wanted)] == [f"event-{n}" for n in found]  # type: ignore[arg-type]
        assert reader.event("event-2") == event(2, "verdict_changed")
        assert reader.event("event-9") is None


# -- beside each other ----------------------------------------------------------------------------------------------------


def test_second_writer_is_refused_and_harms_nothing(path: Path) -> None:
    with opened(path) as journal:
        journal.commit(commit(fault(1)))
        with pytest.raises(JournalError, match="another process keeps the journal locked; mend: stop the second agent"):
            Journal(path)
        journal.commit(commit(fault(2)))
    assert set(loaded(path).state.faults) == {fault(1).key, fault(2).key}  # type: ignore[union-attr]


def test_closed_journal_lets_the_next_writer_in_at_once(path: Path) -> None:
    for number in range(3):
        saved(path, commit(fault(number)))


def test_reader_sees_each_commit_while_the_writer_works(path: Path) -> None:
    with opened(path) as journal:
        journal.commit(commit(fault(1), events=(event(1),)))
        with contextlib.closing(open_readonly(path)) as reader:
            for number in (2, 3):
                journal.commit(commit(fault(number), events=(event(number),)))
                assert len(reader.faults()) == len(reader.events()) == number
            assert reader.verdict() == verdict()
            assert reader.history() == ()


def test_reader_without_a_journal_says_what_to_do(path: Path) -> None:
    with pytest.raises(JournalError, match="no agent has run with this state directory; mend: start it"):
        open_readonly(path)


@pytest.mark.needs("root")
def test_reader_without_the_right_to_look_says_what_to_do(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(JournalError, match=r"journal\.db cannot be read: Permission denied; mend: be root"):
            open_readonly(path)
    finally:
        os.seteuid(0)


# -- the copy -------------------------------------------------------------------------------------------------------------


def test_copy_waits_for_tidy_and_is_written_at_the_end(path: Path) -> None:
    with opened(path) as journal:
        journal.commit(commit(fault(1)))
        assert read_copy(path.parent) == Copy(0, 0.0)
        journal.tidy()
        assert read_copy(path.parent) == journal.for_copy()
        journal.commit(commit(fault(2)))
    copy = read_copy(path.parent)
    assert copy is not None
    assert {live.key for live in copy.faults} == {fault(1).key, fault(2).key}


def test_copy_is_not_written_again_for_one_more_sight_of_a_fault(path: Path) -> None:
    with opened(path) as journal:
        journal.commit(commit(fault(1)))
        journal.tidy()
        journal.commit(
            Commit({fault(1).key: fault(1, count=9, seen=9.0)}, events=(event(1),), cursors={"kernel": Cursor(BOOT, 9)})
        )
        assert not journal.untidy
    assert loaded(path).state.faults == {fault(1).key: fault(1, count=9, seen=9.0)}  # type: ignore[union-attr]


def test_database_that_lost_its_last_changes_takes_them_from_the_copy(path: Path, tmp_path: Path) -> None:
    saved(path, commit(fault(1)))
    older = path.read_bytes()
    saved(path, commit(fault(2)))
    path.write_bytes(older)
    snapshot = loaded(path)
    assert set(snapshot.state.faults) == {fault(1).key, fault(2).key}  # type: ignore[union-attr]
    assert len(snapshot.notes) == 1
    assert "had lost its last changes (1 of the state, and events with them)" in snapshot.notes[0]


def test_copy_older_than_the_database_is_brought_up_to_date(path: Path) -> None:
    saved(path, commit(fault(1)))
    older = (path.parent / COPY_NAME).read_bytes()
    saved(path, commit(fault(2)))
    (path.parent / COPY_NAME).write_bytes(older)
    assert set(loaded(path).state.faults) == {fault(1).key, fault(2).key}  # type: ignore[union-attr]
    copy = read_copy(path.parent)
    assert copy is not None
    assert len(copy.faults) == 2


def test_no_more_than_three_damaged_files_are_kept(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / "journal.db").write_text(str(number))
        move_aside(tmp_path / "journal.db", UTC + 60 * number)
    assert sorted(kept.read_text() for kept in tmp_path.iterdir()) == [str(n) for n in range(6 - KEPT_CORRUPT, 6)]


def test_files_moved_in_the_same_second_do_not_meet(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "journal.db").write_text(str(number))
        move_aside(tmp_path / "journal.db", UTC)
    assert {kept.read_text() for kept in tmp_path.iterdir()} == {"0", "1"}


# -- notes ----------------------------------------------------------------------------------------------------------------


def test_loss_is_told_until_a_commit_shows_that_it_was_heard(path: Path) -> None:
    saved(path, commit(fault(1)))
    path.write_bytes(b"not a database")
    first = loaded(path)
    assert "is damaged: no SQLite header; it was moved to" in first.notes[0]
    assert "live faults (1), history, verdict and cursors are those of the copy of 2025-10-09T" in first.notes[1]
    assert loaded(path).notes == first.notes
    with opened(path) as journal:
        journal.load()
        journal.commit(Commit(cursors={"kernel": Cursor(BOOT, 9)}))
    assert loaded(path).notes == ()


def test_all_lost_is_not_healthy(path: Path) -> None:
    saved(path, commit(fault(1)))
    path.write_bytes(b"not a database")
    (path.parent / COPY_NAME).write_bytes(b"not a copy")
    snapshot = loaded(path)
    assert snapshot.state is None
    assert "what is true now is unknown" in " ".join(snapshot.notes)


def test_missing_copy_is_said_once_because_it_may_have_been_newer(path: Path) -> None:
    saved(path, commit(fault(1)))
    (path.parent / COPY_NAME).unlink()
    snapshot = loaded(path)
    assert set(snapshot.state.faults) == {fault(1).key}  # type: ignore[union-attr]
    assert "is gone: that journal.db holds the last changes cannot be proven" in snapshot.notes[0]
    assert loaded(path).notes == ()


def test_start_that_was_cut_short_before_anything_was_recorded_is_no_loss(path: Path) -> None:
    assert loaded(path) == Snapshot(None)
    path.unlink()
    assert last_known(path) == loaded(path) == Snapshot(None)


def test_missing_database_beside_its_copy_is_a_loss(path: Path) -> None:
    saved(path, commit(fault(1)))
    path.unlink()
    snapshot = loaded(path)
    assert set(snapshot.state.faults) == {fault(1).key}  # type: ignore[union-attr]
    assert "is gone, and all events recorded before with it" in snapshot.notes[0]


# -- what SQLite does not notice ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE faults SET body = replace(body, 'failed', 'ok')", "a row of table faults does not match its checksum"),
        ("UPDATE verdict SET body = replace(body, 'replace', 'none')", "a row of table verdict does not match its checksum"),
        ("UPDATE cursors SET seq = seq + 1", "a row of table cursors does not match its checksum"),
        ("DELETE FROM faults WHERE component = 'gpu:0000:01:00'", "table faults is not complete"),
        ("DELETE FROM history", "table history is not complete"),
        ("DELETE FROM verdict", "table verdict is not complete"),
        ("UPDATE meta SET value = '1' WHERE key = 'generation'", "its value generation is missing or damaged"),
        ("DELETE FROM meta WHERE key = 'sum.faults'", "its value sum.faults is missing or damaged"),
        ("DROP TABLE aliases", "no such table: aliases"),
    ],
)
def test_change_behind_our_back_is_damage(path: Path, sql: str, said: str) -> None:
    saved(path, commit(fault(1)), commit(fault(2)), Commit(history=(past(3),)))
    before = loaded(path).state
    tampered(path, sql)
    snapshot = loaded(path)
    assert snapshot.state == before
    assert f"is damaged: {said}; it was moved to" in snapshot.notes[0]


def test_damaged_unsent_event_is_left_out_and_named(path: Path) -> None:
    saved(path, Commit(events=(event(1), event(2), event(3))))
    tampered(path, "UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE id = 'event-2'")
    snapshot = loaded(path)
    assert snapshot.unemitted == (event(1), event(3))
    assert snapshot.notes == (f"1 unsent events in {path} were damaged and are lost: event-2",)
    assert loaded(path) == Snapshot(None, unemitted=(event(1), event(3)))


def test_index_from_before_is_damage(path: Path) -> None:
    """A write of one page that never reached the disk: each page is sound, together they are not."""
    saved(path, Commit(events=(event(1),)))
    with contextlib.closing(connect(path, "mode=ro")) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_events_1'").fetchone()
    place = slice(4096 * (root - 1), 4096 * root)
    older = path.read_bytes()[place]
    saved(path, Commit(events=(event(2),)))
    data = bytearray(path.read_bytes())
    assert data[place] != older
    data[place] = older
    path.write_bytes(data)
    assert "is damaged" in loaded(path).notes[0]


# -- versions -------------------------------------------------------------------------------------------------------------


def with_checksum(path: Path, table: str, key: str, column: str, value: str) -> None:
    """Change one text of a row, and all checksums with it."""
    with contextlib.closing(connect(path, "mode=rw")) as db:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE {key}", (value,))
        *row, _ = db.execute(f"SELECT * FROM {table} WHERE {key}").fetchone()
        db.execute(f"UPDATE {table} SET crc = ? WHERE {key}", (checksum(row),))
        count, total = db.execute(f"SELECT count(*), sum(crc) FROM {table}").fetchone()
        db.execute(
            "UPDATE meta SET value = ?, crc = ? WHERE key = ?",
            (f"{count}:{total}", checksum((f"sum.{table}", f"{count}:{total}")), f"sum.{table}"),
        )


def test_fields_of_a_newer_version_are_left_out(path: Path) -> None:
    saved(path, commit(fault(1)))
    with contextlib.closing(connect(path, "mode=ro")) as db:
        body = json.loads(db.execute("SELECT body FROM faults").fetchone()[0])
    with_checksum(path, "faults", "code = 'XID-79'", "body", json.dumps({**body, "invented_later": [1, 2]}))
    snapshot = loaded(path)
    assert (snapshot.state.faults, snapshot.notes) == ({fault(1).key: fault(1)}, ())  # type: ignore[union-attr]


def test_fields_that_an_older_version_did_not_write_take_their_default(path: Path) -> None:
    saved(path, commit(fault(1)))
    with contextlib.closing(connect(path, "mode=ro")) as db:
        body = json.loads(db.execute("SELECT body FROM faults").fetchone()[0])
    del body["told"], body["boots"], body["occurrences"]
    with_checksum(path, "faults", "code = 'XID-79'", "body", json.dumps(body))
    assert loaded(path).state.faults == {fault(1).key: fault(1)}  # type: ignore[union-attr]


def test_database_of_a_newer_version_is_kept_aside_and_its_state_goes_on(path: Path) -> None:
    saved(path, commit(fault(1)))
    with_checksum(path, "meta", "key = 'schema'", "value", str(SCHEMA + 1))
    with pytest.raises(JournalError, match="was written by a newer hma"):
        open_readonly(path)
    snapshot = loaded(path)
    assert set(snapshot.state.faults) == {fault(1).key}  # type: ignore[union-attr]
    assert f"was written by a newer hma (schema {SCHEMA + 1}, this one knows {SCHEMA}); it was moved to" in snapshot.notes[0]


# -- retention ------------------------------------------------------------------------------------------------------------


def test_sent_events_and_pasts_grow_old_and_live_faults_do_not(path: Path) -> None:
    now = UTC + 30 * DAY_S
    with opened(path) as journal:
        journal.commit(commit(fault(1), events=(event(1), event(2), event(3)._replace(utc=now - 60))))
        journal.commit(Commit(history=(past(1), past(2, 20 * DAY_S), past(3, 29 * DAY_S)), emitted=("event-1", "event-3")))
        assert journal.prune(now, 2 * DAY_S, 1 << 30) == (1, 0, 1 + 1)
        assert [kept.id for kept in journal.events()] == ["event-2", "event-3"]
        assert [kept.fault_id for kept in journal.history()] == ["past-3"]
        assert len(journal.faults()) == 1
    assert loaded(path).notes == ()


def test_file_that_is_too_large_loses_sent_events_first_and_unsent_ones_before_young_pasts(path: Path) -> None:
    with opened(path) as journal:
        journal.commit(commit(fault(1), events=tuple(event(n)._replace(body="x" * 1000) for n in range(600))))
        journal.commit(Commit(history=tuple(past(n) for n in range(20)), emitted=tuple(f"event-{n}" for n in range(300, 600))))
        pruned = journal.prune(UTC + 60, 90 * DAY_S, 500_000)
        assert (pruned.unsent, pruned.history) == (0, 0)
        assert pruned.events > 0
        assert {kept.id for kept in journal.unemitted()} == {f"event-{n}" for n in range(300)}
        pruned = journal.prune(UTC + 60, 90 * DAY_S, 200_000)
        assert pruned.unsent > 0
        assert (len(journal.history()), len(journal.faults())) == (20, 1)
        journal.prune(UTC + 60, 90 * DAY_S, 1)
        assert (journal.history(), len(journal.faults()), journal.count_unemitted()) == ((), 1, 0)
    assert path.stat().st_size < 200_000
    snapshot = loaded(path)
    assert (set(snapshot.state.faults), snapshot.notes) == ({fault(1).key}, ())  # type: ignore[union-attr]


def test_write_ahead_log_stays_short(path: Path) -> None:
    wal = path.with_name("journal.db-wal")
    with opened(path) as journal:
        sizes = []
        for number in range(400):
            journal.commit(commit(fault(number % 8), events=(event(number)._replace(body="x" * 600),)))
            if journal.untidy:
                journal.tidy()
            sizes.append(wal.stat().st_size)
    assert max(sizes) < 4 << 20


# -- disks ----------------------------------------------------------------------------------------------------------------


def save_for_ever(journal: Journal) -> None:
    for number in itertools.count(2):
        journal.commit(commit(fault(number % 100), events=tuple(event(10 * number + n) for n in range(10))))


@pytest.mark.needs(*NEEDS)
def test_full_disk_is_said_saves_all_or_nothing_and_heals(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk") as disk:
        path = disk / "state" / "journal.db"
        with opened(path) as journal:
            journal.commit(commit(fault(1)))
            filler = fill(disk)
            with pytest.raises(JournalError, match=r"state directory .* is full: .* mend: free space there, or set another"):
                save_for_ever(journal)
            found = len(journal.events(limit=10_000))
            assert found % 10 == 0, "a part of a commit was saved"
            filler.unlink()
            assert len(journal.events(limit=10_000)) == found
            journal.commit(commit(fault(200)))
        assert fault(200).key in loaded(path).state.faults  # type: ignore[union-attr]


@pytest.mark.needs(*NEEDS)
def test_copy_that_finds_no_room_is_said_and_the_database_goes_on(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk") as disk, opened(disk / "state" / "journal.db") as journal:
        journal.commit(commit(fault(1)))
        filler = fill(disk)
        with pytest.raises(JournalError, match="is full"):
            journal.tidy()
        assert journal.untidy
        filler.unlink()
        journal.tidy()
        assert not journal.untidy


@pytest.mark.needs(*NEEDS)
def test_read_only_disk_is_said_and_still_tells_what_it_knows(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk") as disk:
        path = disk / "state" / "journal.db"
        saved(path, commit(fault(1), events=(event(1),)))
        mount("-o", "remount,ro", str(disk))
        with pytest.raises(JournalError, match=r"state directory .* is read-only: .* mend: remount it writable"):
            Journal(path)
        snapshot = last_known(path)
        assert set(snapshot.state.faults) == {fault(1).key}  # type: ignore[union-attr]
        assert snapshot.unemitted == (event(1),)
        with contextlib.closing(open_readonly(path)) as reader:
            assert reader.events() == (event(1),)


@pytest.mark.needs(*NEEDS)
def test_disk_that_turns_read_only_fails_the_next_commit_only(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk") as disk:
        path = disk / "state" / "journal.db"
        with opened(path) as journal:
            journal.commit(commit(fault(1)))
        mount("-o", "remount,ro", str(disk))
        with pytest.raises(JournalError, match="is read-only"):
            Journal(path)
        mount("-o", "remount,rw", str(disk))
        assert set(loaded(path).state.faults) == {fault(1).key}  # type: ignore[union-attr]


def test_file_size_limit_is_an_error_of_one_commit(path: Path) -> None:
    script = f"""
import signal, resource
from pathlib import Path
from hma.journal import Journal, JournalError
from tests.journal_values import commit, event, fault
journal = Journal(Path({str(path)!r}))
journal.commit(commit(fault(1)))
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
try:
    for number in range(100):
        journal.commit(commit(fault(2), events=tuple(event(100 * number + n) for n in range(100))))
except JournalError as err:
    print(err)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"state directory {path.parent}")
    assert "mend:" in done.stdout
    state = loaded(path).state
    assert state is not None
    assert fault(1).key in state.faults


@pytest.mark.parametrize("place", ["file/state", "file"])
def test_state_directory_that_cannot_be_one_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"state directory .*file.* mend: ") as err:
        Journal(tmp_path / place / "journal.db")
    assert "\n" not in str(err.value)


# -- what a journal that cannot be opened for writing still tells ----------------------------------------------------------


def test_no_journal_and_no_copy_is_nothing_recorded(path: Path) -> None:
    assert last_known(path) == Snapshot(None)


def test_copy_speaks_for_a_damaged_database(path: Path) -> None:
    saved(path, commit(fault(1)))
    path.write_bytes(b"\0" * 4096)
    snapshot = last_known(path)
    assert set(snapshot.state.faults) == {fault(1).key}  # type: ignore[union-attr]
    assert len(snapshot.notes) == 1
    assert "live faults (1), history, verdict and cursors are those of the copy" in snapshot.notes[0]


def test_damaged_database_without_a_copy_cannot_say_that_nothing_was(path: Path) -> None:
    saved(path, commit(fault(1)))
    path.write_bytes(b"\0" * 4096)
    (path.parent / COPY_NAME).unlink()
    with pytest.raises(JournalError, match="damaged"):
        last_known(path)


def test_reader_prefers_the_copy_that_is_newer(path: Path) -> None:
    saved(path, commit(fault(1)))
    older = path.read_bytes()
    saved(path, commit(fault(2)))
    path.write_bytes(older)
    with contextlib.closing(open_readonly(path)) as reader:
        assert len(reader.truth().faults) == 2


# -- kill -9 --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_saved_is_lost_by_being_killed(path: Path) -> None:
    """Fifteen times: write until killed, at a moment of its own each time."""
    script = f"""
import os, sys
from pathlib import Path
from hma.journal import Journal
from tests.journal_values import commit, event, fault
journal, begin = Journal(Path({str(path)!r})), int(sys.argv[1])
for number in range(begin, begin + 100_000):
    journal.commit(commit(fault(number % 8), events=(event(number),)))
    os.write(1, b"%d\\n" % number)
    if journal.untidy and number % 3 == 0:
        journal.tidy()
"""
    last = -1
    for turn in range(15):
        child = subprocess.Popen([sys.executable, "-c", script, str(last + 1)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(1 + 7 * turn % 23)]
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.stdout.close()
        child.wait()
        acknowledged = int((rest or lines)[-1])
        with opened(path) as journal:
            assert journal.load().notes == ()
            numbers = [int(kept.id.removeprefix("event-")) for kept in journal.events(limit=100_000)]
        assert numbers[: acknowledged + 1] == list(range(acknowledged + 1))
        assert len(numbers) <= acknowledged + 2
        last = numbers[-1]
