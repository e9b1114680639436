"""Crashes of the kernel in its log. Where the kept lines are from: tests/data/kernel/ORIGIN-host.md."""

import pytest

from checks.passive.oops import CHECK
from hma.check import KernelLine, Lines
from hma.model import Observation, Status
from tests.checks.kernel_lines import NODE, Case, cases, look

POINTER = "BUG: kernel NULL pointer dereference, address: 0000000000000008"
HEADER = "Oops: 0002 [#1] PREEMPT SMP NOPTI"


def observe(*lines: tuple[float, str]) -> list[Observation]:
    return list(
        CHECK.observe(Lines(tuple(KernelLine(n, at, 1, text) for n, (at, text) in enumerate(lines))), NODE, CHECK.options)
    )


@pytest.mark.parametrize("case", cases("host-oops.txt"), ids=lambda case: case.text[:70])
def test_kept_line_says_what_it_must(case: Case) -> None:
    assert [(seen.code, seen.component) for seen in look(CHECK, case.text)] == (
        [(case.code, case.component)] if case.code else []
    )


def test_every_code_has_a_kept_line() -> None:
    assert {case.code for case in cases("host-oops.txt")} - {""} == CHECK.codes


def test_both_lines_of_one_oops_are_one_observation() -> None:
    (seen,) = observe((5.0, POINTER), (5.01, HEADER))
    assert (seen.detail, seen.evidence, seen.at, seen.status) == (POINTER, f"{POINTER}\n{HEADER}", 5.0, Status.FAILED)
    assert seen.attrs == (("oops", "1"),)


def test_two_crashes_in_one_batch_are_two() -> None:
    assert len(observe((5.0, POINTER), (5.01, HEADER), (9.0, POINTER), (9.01, HEADER.replace("#1", "#2")))) == 2


def test_header_that_comes_late_stands_for_itself() -> None:
    assert len(observe((5.0, POINTER), (7.0, HEADER))) == 2


@pytest.mark.parametrize(
    "text",
    [
        "cgroup: fork rejected by pids controller in /user.slice/x: 0000 [#1]",
        "cgroup: fork rejected by pids controller in /Oops: 0000 [#1] SMP",
        "overlayfs: failed to resolve '/home/x/general protection fault: 0000 [#1]': -2",
        "BUG: spinlock b invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "BUG: KASAN: a[77]: segfault at 0 ip 0 sp 0 error 14 in x[400000+1000]",
    ],
)
def test_names_that_tenants_choose_make_no_crash(text: str) -> None:
    assert look(CHECK, text) == []
