"""Process tables made by hand."""

import pytest

from checks.passive.zombies import CHECK, Options
from hma.check import Process, Table
from hma.model import Observation, Status
from tests.checks.kernel_lines import NODE

PARENT = Process(10, "launcher", "S", 1, 5_000.0)


def zombies(count: int, age_s: float = 600.0, state: str = "Z", ppid: int = 10) -> tuple[Process, ...]:
    return tuple(Process(1_000 * ppid + n, "worker", state, ppid, age_s) for n in range(count))


def observe(*processes: Process, options: Options = CHECK.options) -> Observation:
    (seen,) = CHECK.observe(Table(processes), NODE, options)
    return seen


@pytest.mark.parametrize(
    ("processes", "options", "status"),
    [
        (zombies(199), Options(), Status.OK),
        (zombies(200), Options(), Status.DEGRADED),
        (zombies(200, age_s=59.0), Options(), Status.OK),
        (zombies(200, state="S"), Options(), Status.OK),
        (zombies(200, state="X"), Options(), Status.OK),
        (zombies(3), Options(many=3), Status.DEGRADED),
        ((), Options(), Status.OK),
    ],
)
def test_too_many_for_long_enough(processes: tuple[Process, ...], options: Options, status: Status) -> None:
    assert observe(PARENT, *processes, options=options).status is status


def test_parent_with_most_is_named() -> None:
    seen = observe(PARENT, *zombies(150), *zombies(60, ppid=77))
    assert "210 zombies: 150 of launcher (pid 10), 60 of ? (pid 77)" in seen.detail
    assert dict(seen.attrs) == {"zombies": "210", "parent": "10"}
    assert seen.evidence.startswith("10000:worker ")
