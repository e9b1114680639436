"""States of the clock made by hand."""

import pytest

from checks.passive.clock_sync import CHECK, Options
from hma.check import Clock
from hma.model import Status
from tests.checks.kernel_lines import NODE


@pytest.mark.parametrize(
    ("clock", "options", "status", "said"),
    [
        (Clock(True, 0.000_1, 0.02), Options(), Status.OK, ""),
        (Clock(False, 0.0, 16.0), Options(), Status.DEGRADED, "nothing keeps the clock synchronised"),
        (Clock(True, 0.5, 0.02), Options(), Status.DEGRADED, "the clock is +0.500 s off"),
        (Clock(True, -0.5, 0.02), Options(), Status.DEGRADED, "the clock is -0.500 s off"),
        (Clock(True, 0.49, 0.02), Options(), Status.OK, ""),
        (Clock(True, 0.0, 5.0), Options(), Status.DEGRADED, "the clock may be wrong by 5.000 s"),
        (Clock(True, 0.0, 5.0), Options(error_s=10.0), Status.OK, ""),
        (Clock(True, 0.02, 0.0), Options(offset_s=0.01), Status.DEGRADED, "the clock is +0.020 s off"),
        (
            Clock(False, 2.0, 16.0),
            Options(),
            Status.DEGRADED,
            "nothing keeps the clock synchronised; the clock is +2.000 s off",
        ),
    ],
)
def test_state_against_the_thresholds(clock: Clock, options: Options, status: Status, said: str) -> None:
    (seen,) = CHECK.observe(clock, NODE, options)
    assert (seen.code, seen.component, seen.status, seen.detail) == ("CLOCK-UNSYNCED", "host", status, said)
    assert bool(seen.evidence) is (status is not Status.OK)
