"""Failed disk requests and file systems that give up. Where the kept lines are from: tests/data/kernel/ORIGIN-host.md."""

import pytest

from checks.passive.io_errors import CHECK
from hma.model import Observation, Status
from tests.checks.kernel_lines import Case, cases, look


def one(text: str) -> Observation:
    (seen,) = look(CHECK, text)
    return seen


@pytest.mark.parametrize("case", cases("host-io.txt"), ids=lambda case: case.text[:70])
def test_kept_line_says_what_it_must(case: Case) -> None:
    assert [(seen.code, seen.component) for seen in look(CHECK, case.text)] == (
        [(case.code, case.component)] if case.code else []
    )


def test_every_code_has_a_kept_line() -> None:
    assert {case.code for case in cases("host-io.txt")} - {""} == CHECK.codes


@pytest.mark.parametrize(
    ("why", "fires"),
    [
        ("I/O", True),
        ("critical medium", True),
        ("critical target", True),
        ("critical space allocation", True),
        ("timeout", True),
        ("protection", True),
        ("device offline", True),
        ("operation not supported", False),
        ("nonblocking retry", False),
        ("kernel resource", False),
        ("dm internal retry", False),
        ("reservation conflict", False),
    ],
)
def test_why_a_request_failed_decides(why: str, fires: bool) -> None:
    assert bool(look(CHECK, f"{why} error, dev nvme1n1, sector 8 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2")) is fires


@pytest.mark.parametrize(
    ("device", "component"),
    [("loop0-8", "disk:loop0"), ("dm-0-8", "disk:dm-0"), ("nvme0n1p1-8", "disk:nvme0n1p1"), ("sda1", "disk:sda1")],
)
def test_journal_s_inode_is_no_part_of_the_device(device: str, component: str) -> None:
    assert one(f"Aborting journal on device {device}.").component == component


def test_giving_up_is_worse_than_complaining() -> None:
    assert one("EXT4-fs (nvme0n1p1): Remounting filesystem read-only").status is Status.FAILED
    assert one("EXT4-fs error (device nvme0n1p1) in __ext4_new_inode:1181: IO failure").status is Status.DEGRADED


def test_process_name_in_the_line_changes_nothing() -> None:
    text = "EXT4-fs error (device sda1): ext4_find_entry:1683: inode #2: comm ): Remounting f: reading directory lblock 0"
    assert (one(text).code, one(text).component) == ("FS-ERROR", "disk:sda1")
