"""What the agent says of itself: the status of a streamed check is that of its live faults."""

from __future__ import annotations

import pytest

from hma.catalogue import Catalogue
from hma.model import Fault, FaultState, Instant, Status
from hma.readings import CheckState
from hma.status import check_rows, state_body

NOW = Instant(100.0, 1_790_000_000.0, "boot-1")
GPU = "gpu:0000:97:00"


def fault(
    code: str = "XID-79",
    check: str = "xid",
    status: Status = Status.FAILED,
    state: FaultState = FaultState.ACTIVE,
    cause: str = "",
) -> Fault:
    return Fault(f"id-{code}", code, GPU, check, state, status, NOW, NOW, NOW, detail="gone", inhibited_by=cause)


def row(status: str, *faults: Fault, streamed: bool = True) -> tuple[str, str]:
    """Return status and reason of the check xid, whose last look said `status`."""
    states = {"xid": CheckState("xid", status, "as last seen")}
    (shown,) = check_rows(states, {one.key: one for one in faults}, ("xid",) if streamed else ())
    return shown.status, shown.reason


@pytest.mark.parametrize(
    ("status", "faults", "shown"),
    [
        ("ok", (), ("ok", "as last seen")),
        ("failed", (), ("ok", "no fault of it is live")),
        ("ok", (fault(),), ("failed", f"XID-79 {GPU}: gone")),
        ("failed", (fault(check="sxid"),), ("ok", "no fault of it is live")),
        ("failed", (fault(state=FaultState.PENDING),), ("ok", "no fault of it is live")),
        ("failed", (fault(cause="id-XID-48"),), ("ok", "no fault of it is live")),
        ("failed", (fault("XID-13", status=Status.DEGRADED),), ("degraded", f"XID-13 {GPU}: gone")),
        ("ok", (fault("XID-13", status=Status.DEGRADED), fault()), ("failed", f"XID-79 {GPU}: gone (+1 more)")),
        *((grey, (fault(),), (grey, "as last seen")) for grey in ("unknown", "waiting", "not applicable", "disabled")),
    ],
)
def test_streamed_check_is_as_its_faults_are(status: str, faults: tuple[Fault, ...], shown: tuple[str, str]) -> None:
    assert row(status, *faults) == shown


@pytest.mark.parametrize("status", ["degraded", "failed", "unknown", "not applicable"])
def test_polled_check_is_as_it_last_saw(status: str) -> None:
    assert row(status, fault(), streamed=False) == (status, "as last seen")


def test_polled_check_that_saw_all_well_still_has_the_faults_that_do_not_end_by_that() -> None:
    assert row("ok", fault(), streamed=False)[0] == row("ok", fault(), streamed=True)[0] != "ok"
    assert row("ok", streamed=False) == ("ok", "as last seen")


def test_before_the_journal_is_read_there_is_no_verdict() -> None:
    assert state_body(None, Catalogue.of(())) == {"verdict": None, "faults": []}
