"""Policy violations of DCGM: which row each of them is, where, and that an XID is the one that the kernel log tells."""

from __future__ import annotations

import pytest

from checks.passive import dcgm_policy
from checks.passive.xid import CODES as XID_CODES
from hma.catalogue_file import load_catalogue
from hma.gpu import DcgmViolation, DcgmViolations
from hma.model import Action, Observation, Status
from tests.checks.gpu_samples import P5

CHECK = dcgm_policy.CHECK
PCI = "0000:97:00"
GPU = f"gpu:{PCI}"
DBE, PCIE, PAGES, THERMAL, POWER, NVLINK, XID = (1 << bit for bit in range(7))


def look(*violations: DcgmViolation) -> list[Observation]:
    """Return what the check says of them."""
    seen = list(CHECK.observe(DcgmViolations(violations), P5, CHECK.options))
    assert {one.code for one in seen} <= CHECK.codes
    return seen


def violation(condition: int, value: float, gpu: str = PCI, field: int = 0) -> DcgmViolation:
    """Return a violation at the second 12.5."""
    return DcgmViolation(condition, value, 12.5, gpu, field)


@pytest.mark.parametrize(
    ("given", "code", "component", "status", "detail"),
    [
        (violation(DBE, 2), "DCGM-POLICY-DBE", GPU, Status.DEGRADED, "DCGM policy: uncorrectable memory errors"),
        (violation(PCIE, 31), "DCGM-POLICY-PCIE", GPU, Status.DEGRADED, "DCGM policy: PCIe replays: 31"),
        (violation(PAGES, 61), "DCGM-POLICY-PAGES", GPU, Status.DEGRADED, "DCGM policy: retired pages: 61"),
        (violation(THERMAL, 101), "DCGM-POLICY-THERMAL", GPU, Status.DEGRADED, "DCGM policy: temperature 101 °C"),
        (violation(POWER, 412.5), "DCGM-POLICY-POWER", GPU, Status.DEGRADED, "DCGM policy: power 412.5 W"),
        (violation(NVLINK, 7, "", 9), "DCGM-POLICY-NVLINK", "node", Status.DEGRADED, "DCGM policy: NVLink errors: 7 (field 9)"),
        (violation(PCIE, 31, gpu=""), "DCGM-POLICY-PCIE", "node", Status.DEGRADED, "DCGM policy: PCIe replays: 31"),
        (violation(XID, 79), "XID-79", GPU, Status.FAILED, "Xid 79, told by a DCGM policy"),
        (violation(XID, 31), "XID-31", GPU, Status.DEGRADED, "Xid 31, told by a DCGM policy"),
        (violation(XID, 74), "XID-74", GPU, Status.FAILED, "Xid 74, told by a DCGM policy"),
        (violation(XID, 173), "XID-173", GPU, Status.FAILED, "Xid 173, told by a DCGM policy"),
        (violation(XID, 4_000), "XID-UNKNOWN", GPU, Status.DEGRADED, "Xid 4000, told by a DCGM policy"),
        (violation(XID, 79, gpu=""), "DCGM-POLICY-XID", "node", Status.DEGRADED, "Xid 79, told by a DCGM policy"),
        (violation(XID, 4_000, gpu=""), "DCGM-POLICY-XID", "node", Status.DEGRADED, "Xid 4000, told by a DCGM policy"),
    ],
)  # fmt: skip
def test_violation_is_a_row(given: DcgmViolation, code: str, component: str, status: Status, detail: str) -> None:
    (seen,) = look(given)
    assert (seen.code, seen.component, seen.status, seen.detail, seen.at) == (code, component, status, detail, 12.5)


@pytest.mark.parametrize(
    "given",
    [
        # Which recovery the driver wants, the number alone does not say.
        violation(XID, 154),
        violation(XID, 154, gpu=""),
        violation(XID, 0),
        violation(0x80, 1),
        violation(0, 1),
        violation(DBE | XID, 1),
    ],
)
def test_violation_that_says_nothing_of_its_own(given: DcgmViolation) -> None:
    assert look(given) == []


def test_violations_keep_their_order() -> None:
    assert [one.code for one in look(violation(DBE, 1), violation(XID, 48), violation(DBE, 2))] == [
        "DCGM-POLICY-DBE",
        "XID-48",
        "DCGM-POLICY-DBE",
    ]


def test_nothing_notified_says_nothing() -> None:
    assert look() == []


def test_xid_is_told_with_its_number_and_its_form() -> None:
    (seen,) = look(violation(XID, 79))
    assert dict(seen.attrs) == {"xid": "79", "form": "dcgm-policy"}
    assert seen.evidence == "DCGM policy condition 0x40 of 0000:97:00: 79"


def test_xids_bear_the_codes_of_the_kernel_log() -> None:
    assert {code for code in CHECK.codes if not code.startswith("DCGM-")} <= XID_CODES


def test_limits_of_a_host_engine_act_on_nothing() -> None:
    rows = load_catalogue()
    own = [rows[code] for code in CHECK.codes if code.startswith("DCGM-")]
    assert len(own) == 7
    assert {(row.action, row.again, row.evidence) for row in own} == {(Action.NONE, None, "weak")}
