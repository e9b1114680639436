"""PSI as read on Linux 6.1; loads set by hand."""

import pytest

from checks.passive.memory_pressure import CHECK, SOURCE, Options
from hma.check import Tree
from hma.model import Status
from tests.checks.kernel_lines import NODE

SOME = "some avg10=99.00 avg60=99.00 avg300=99.00 total=123\n"


@pytest.mark.parametrize(
    ("full", "options", "status"),
    [
        ("full avg10=0.00 avg60=0.00 avg300=0.00 total=0", Options(), Status.OK),
        ("full avg10=90.00 avg60=19.99 avg300=90.00 total=1", Options(), Status.OK),
        ("full avg10=0.00 avg60=20.00 avg300=0.00 total=1", Options(), Status.DEGRADED),
        ("full avg10=0.00 avg60=100.00 avg300=0.00 total=18446744073709551615", Options(), Status.DEGRADED),
        ("full avg10=0.00 avg60=20.00 avg300=0.00 total=1", Options(full=50.0), Status.OK),
    ],
)
def test_last_minute_against_the_threshold(full: str, options: Options, status: Status) -> None:
    (seen,) = CHECK.observe(Tree({SOURCE: f"{SOME}{full}\n"}, {}), NODE, options)
    assert (seen.code, seen.component, seen.status, seen.evidence) == ("MEMORY-PRESSURE", "host", status, full)


@pytest.mark.parametrize(
    "tree",
    [
        Tree({}, {}),
        Tree({}, {SOURCE: "Operation not supported"}),  # kernel/sched/psi.c: PSI compiled in and off
        Tree({SOURCE: ""}, {}),
        Tree({SOURCE: SOME}, {}),
        Tree({SOURCE: "full avg10=0.00 avg60=x avg300=0.00 total=0\n"}, {}),
    ],
)
def test_kernel_that_does_not_measure_says_nothing(tree: Tree) -> None:
    assert list(CHECK.observe(tree, NODE, Options())) == []
