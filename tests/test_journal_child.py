"""What the keeper of the journal answers, message by message, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hma.codec import decode, encode
from hma.journal_child import LATEST_S, PRUNE_EVERY_S, QUIET_S, Keeper
from hma.journal_copy import COPY_NAME, read_copy
from hma.journal_records import Commit, Cursor, Snapshot
from tests.disks import NEEDS, fill, memory_disk
from tests.journal_values import BOOT, commit, event, fault


class Asked:
    """A keeper and its answers."""

    def __init__(self, state_dir: Path, trace: Path | None = None, max_bytes: int = 1 << 28) -> None:
        self.state_dir = state_dir
        self.said: list[dict[str, Any]] = []
        self.keeper = Keeper(state_dir / "journal.db", 1e7, max_bytes, trace, lambda message: self.said.append(dict(message)))
        self._number = 0

    def open(self) -> dict[str, Any]:
        self.keeper.open()
        return self.said[-1]

    def commit(self, one: Commit) -> dict[str, Any]:
        self._number += 1
        self.keeper.take({"commit": encode(one), "n": self._number})
        return self.said[-1]


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    one = Asked(tmp_path / "state")
    yield one
    one.keeper.close()


def test_each_commit_gets_one_answer(asked: Asked) -> None:
    assert decode(Snapshot, asked.open()["loaded"]) == Snapshot(None)
    assert asked.commit(commit(fault(1))) == {"saved": 1}
    assert asked.commit(commit(fault(2))) == {"saved": 2}
    assert len(asked.said) == 3


def test_after_a_failure_only_the_whole_is_taken(asked: Asked) -> None:
    """A part would be laid on a state that lacks the failed one."""
    (asked.state_dir.parent / "state").write_text("a file is in the way")
    assert "error" in asked.open()
    asked.state_dir.unlink()
    assert asked.commit(commit(fault(1)))["failed"] == 1
    assert not (asked.state_dir / "journal.db").exists()
    assert asked.commit(commit(fault(1), full=True)) == {"saved": 2}
    assert asked.commit(commit(fault(2))) == {"saved": 3}


def test_commit_that_cannot_be_understood_fails_and_names_the_place(asked: Asked) -> None:
    asked.open()
    asked.keeper.take({"commit": {"faults": [[{"code": "XID-79"}, None]]}, "n": 7})
    assert asked.said[-1] == {"failed": 7, "error": "faults[0].component: missing (FaultKey)"}
    assert asked.commit(commit(fault(1), full=True)) == {"saved": 1}


def test_answer_comes_before_the_copy_and_the_copy_after_a_moment(asked: Asked) -> None:
    asked.open()
    asked.commit(commit(fault(1)))
    copy = read_copy(asked.state_dir)
    assert copy is not None
    assert copy.faults == ()
    assert 0.0 < asked.keeper.due_in() <= QUIET_S
    asked.keeper._tidy_at = 0.0
    asked.keeper.idle()
    copy = read_copy(asked.state_dir)
    assert copy is not None
    assert copy.faults == (fault(1),)
    assert asked.keeper.due_in() > 1.0, "it wakes up without need"


def test_copy_does_not_wait_for_ever_under_a_stream_of_commits(asked: Asked) -> None:
    asked.open()
    asked.commit(commit(fault(1)))
    began = asked.keeper._untidy_since
    assert began is not None
    asked.keeper._untidy_since = began - LATEST_S
    asked.commit(commit(fault(2)))
    assert asked.keeper.due_in() == 0.0


def test_mere_moves_wake_nobody_later(asked: Asked) -> None:
    asked.open()
    asked.commit(Commit(cursors={"kernel": Cursor(BOOT, 7)}))
    assert asked.keeper.due_in() > 1.0


def test_retention_has_time_and_says_what_no_sink_has_taken(tmp_path: Path) -> None:
    asked = Asked(tmp_path / "state", max_bytes=100_000)
    asked.open()
    asked.commit(Commit(events=tuple(event(n)._replace(body="x" * 1000) for n in range(500))))
    asked.keeper._prune_at = 0.0
    asked.keeper.idle()
    assert asked.said[-1]["pruned"] > 300
    assert asked.keeper.due_in() == pytest.approx(PRUNE_EVERY_S, abs=1.0)
    asked.keeper.close()


def test_loss_found_when_the_journal_is_opened_again_comes_with_the_answer(asked: Asked) -> None:
    asked.open()
    asked.commit(commit(fault(1)))
    asked.keeper._abandon(OSError("as after an error of the disk"))
    (asked.state_dir / "journal.db").write_bytes(b"nonsense")
    answer = asked.commit(commit(fault(1), full=True))
    assert answer["saved"] == 2
    assert "is damaged: no SQLite header" in answer["notes"][0]
    assert asked.commit(commit(fault(2))) == {"saved": 3}


@pytest.mark.needs(*NEEDS)
def test_copy_without_room_is_said_and_retried_and_commits_go_on(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk") as disk:
        asked = Asked(disk / "state")
        asked.open()
        asked.commit(commit(fault(1)))
        filler = fill(disk)
        asked.keeper._tidy_at = 0.0
        asked.keeper.idle()
        assert "is full" in asked.said[-1]["copy"]
        assert 0.5 < asked.keeper.due_in() <= 1.0
        filler.unlink()
        assert asked.commit(commit(fault(2))) == {"saved": 2}
        asked.keeper._tidy_at = 0.0
        asked.keeper.idle()
        assert asked.said[-1] == {"copy": ""}
        assert b"gpu:0000:02:00" in (disk / "state" / COPY_NAME).read_bytes()
        asked.keeper.close()
