"""Machine checks, memory errors, firmware records. Where the kept lines are from: tests/data/kernel/ORIGIN-host.md."""

import pytest

from checks.passive.mce import CHECK
from hma.model import Observation, Status
from tests.checks.kernel_lines import Case, cases, look

EDAC = (
    "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0 (channel:0 slot:0 page:0xe16677 offset:0x0 grain:32 - "
    " err_code:0000:009f socket:0 imc:0 rank:0 bg:0 ba:3 row:dad3 col:3c0)"
)


def one(text: str) -> Observation:
    (seen,) = look(CHECK, text)
    return seen


@pytest.mark.parametrize("case", cases("host-mce.txt"), ids=lambda case: case.text[:70])
def test_kept_line_says_what_it_must(case: Case) -> None:
    assert [(seen.code, seen.component) for seen in look(CHECK, case.text)] == (
        [(case.code, case.component)] if case.code else []
    )


def test_every_code_has_a_kept_line() -> None:
    assert {case.code for case in cases("host-mce.txt")} - {""} == CHECK.codes


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        ("Machine Check Exception: 5", "be00000000000135", "MCE-UNCORRECTED"),
        ("Machine Check Exception: 5", "9c00000000010090", "MCE-CORRECTED"),
        ("Machine Check: 0", "be00000000000135", "MCE-DEFERRED"),
        ("Machine Check: 0", "8c00004000010090", "MCE-CORRECTED"),
    ],
)
def test_bit_61_and_the_exception_decide(raised: str, status: str, code: str) -> None:
    assert one(f"mce: [Hardware Error]: CPU 3: {raised} Bank 7: {status}").code == code


def test_memory_error_names_the_module_and_keeps_the_line() -> None:
    seen = one(EDAC)
    assert (seen.unit, seen.status, seen.evidence) == ("CPU_SrcID#0_MC#0_Chan#0_DIMM#0", Status.FAILED, EDAC)
    assert dict(seen.attrs) == {
        "label": "CPU_SrcID#0_MC#0_Chan#0_DIMM#0",
        "where": "channel:0 slot:0",
        "count": "1",
        "message": "memory read error",
    }


def test_crash_of_a_process_with_a_chosen_name_and_file_is_no_memory_error() -> None:
    """A name has 15 bytes; the name of the file is the tenant's, too; from 6.0 on the kernel ends the line like this."""
    text = (
        "EDAC MC0: 1 UE [4711]: segfault at 0 ip 0 sp 0 error 14 in x on y (page:0x1 z[400000+1000]"
        " likely on CPU 3 (core 3, socket 0)"
    )
    assert look(CHECK, text) == []


def test_record_without_a_number_is_of_an_earlier_boot() -> None:
    assert one("[Hardware Error]: event severity: fatal").detail.startswith("an earlier boot")
    assert one("{1}[Hardware Error]: event severity: recoverable").detail.startswith("the firmware reports")
