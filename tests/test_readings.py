"""Readings: when each is due again, by when it must have been answered, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hma.check import Command, Files, SourceError, Tree
from hma.readings import Reading, read


@pytest.mark.parametrize(
    ("now", "interval_s", "phase_s", "due"),
    [(100.0, 10.0, 0.0, 110.0), (101.0, 10.0, 3.0, 103.0), (103.0, 10.0, 3.0, 113.0), (102.999_999_9, 10.0, 3.0, 113.0)],
)
def test_next_step_of_the_grid_is_always_a_later_one(now: float, interval_s: float, phase_s: float, due: float) -> None:
    assert Reading("a", interval_s, 5.0).due_after(now, phase_s) == due


@pytest.mark.parametrize("late_s", [0.0, 9.999, 12.5])
def test_answer_at_the_limit_of_the_next_run_is_in_time(late_s: float) -> None:
    reading = Reading("a", 10.0, 10.0)
    assert reading.answered_by(100.0) > reading.due_after(100.0, 0.0) + late_s


def test_kernel_files_are_read_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text("1\n")
    assert read(Files(("proc/loadavg",)), tmp_path, 1.0) == Tree({"proc/loadavg": "1\n"}, {})


def test_what_may_wait_is_not_read_here(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Command: the agent knows no such source"):
        read(Command(("df",)), tmp_path, 1.0)
