"""Process tables made by hand; the wchan is the one of a process that waited for a frozen ext4 on Linux 6.18."""

import pytest

from checks.passive.stuck_process import CHECK, Options
from hma.check import Process, Table
from hma.model import Observation, Status
from tests.checks.kernel_lines import NODE


def stuck(pid: int = 1240, comm: str = "touch", state: str = "D", ppid: int = 900) -> Process:
    return Process(pid, comm, state, ppid, 700.0, "percpu_rwsem_wait")


def observe(*processes: Process, options: Options = CHECK.options) -> list[Observation]:
    return list(CHECK.observe(Table(processes), NODE, options))


def test_process_in_state_d_is_named_with_what_it_waits_for() -> None:
    (seen,) = observe(stuck())
    assert (seen.code, seen.component, seen.status, seen.actor) == (
        "STUCK-PROCESS",
        "process:1240",
        Status.DEGRADED,
        "pid 1240",
    )
    assert "percpu_rwsem_wait" in seen.detail
    assert "percpu_rwsem_wait" in seen.evidence


@pytest.mark.parametrize(
    ("process", "options", "named"),
    [
        (stuck(), Options(), True),
        (stuck(state="S"), Options(), False),
        (stuck(state="R"), Options(), False),
        (stuck(state="I"), Options(), False),
        (stuck(pid=88, comm="jbd2/nvme0n1p1-", ppid=2), Options(), False),
        (stuck(pid=2, comm="kthreadd", ppid=0), Options(), False),
        (stuck(comm="fio"), Options(ignore=("fio",)), False),
    ],
)
def test_who_counts(process: Process, options: Options, named: bool) -> None:
    assert bool(observe(process, options=options)) is named


def test_the_same_processes_are_named_each_time_when_there_are_too_many() -> None:
    crowd = [stuck(pid=5_000 - n) for n in range(500)]
    first = [seen.component for seen in observe(*crowd)]
    assert first == [seen.component for seen in observe(*reversed(crowd))]
    assert len(first) == 64
    assert "500 such processes" in observe(*crowd)[0].evidence


def test_unknown_place_of_waiting_is_said() -> None:
    (seen,) = observe(stuck()._replace(wchan=""))
    assert dict(seen.attrs)["wchan"] == "?"
