"""The kernel's watchdogs: hung tasks, lockups, stalls. Where the kept lines are from: tests/data/kernel/ORIGIN-host.md."""

import pytest

from checks.passive.hung_task import CHECK, CODES
from hma.model import Observation, Status
from tests.checks.kernel_lines import Case, cases, look

HUNG = "INFO: task python3:1240 blocked for more than 120 seconds."


def one(text: str) -> Observation:
    (seen,) = look(CHECK, text)
    return seen


@pytest.mark.parametrize("case", cases("host-hung.txt"), ids=lambda case: case.text[:70])
def test_kept_line_says_what_it_must(case: Case) -> None:
    assert [(seen.code, seen.component) for seen in look(CHECK, case.text)] == (
        [(case.code, case.component)] if case.code else []
    )


def test_every_code_has_a_kept_line() -> None:
    assert {case.code for case in cases("host-hung.txt")} - {""} == CODES


def test_hung_task_names_the_process_and_keeps_the_line() -> None:
    seen = one(HUNG)
    assert (seen.actor, seen.status, seen.evidence, seen.at) == ("pid 1240", Status.DEGRADED, HUNG, 7.5)
    assert dict(seen.attrs) == {"comm": "python3", "pid": "1240", "seconds": "120"}


@pytest.mark.parametrize(
    ("text", "pid"),
    [
        ("INFO: task a:1 blocked for:4711 blocked for more than 120 seconds.", "pid 4711"),
        ("watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [x:1] [y:4711]", "pid 4711"),
    ],
)
def test_process_name_cannot_change_the_process_id(text: str, pid: str) -> None:
    assert one(text).actor == pid


def test_hard_lockup_is_worse_than_a_soft_one() -> None:
    assert one("watchdog: CPU4: Watchdog detected hard LOCKUP on cpu 63").status is Status.FAILED
    assert one("watchdog: BUG: soft lockup - CPU#2 stuck for 23s! [kworker/2:1:25629]").status is Status.DEGRADED


def test_lines_of_one_batch_each_count() -> None:
    assert len(look(CHECK, HUNG, "Call Trace:", HUNG.replace("1240", "1241"))) == 2
