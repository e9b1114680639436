"""NVML events: an XID has the name that its kernel line has, and what the readings tell is not told twice."""

from __future__ import annotations

import pytest

from checks.passive import xid
from checks.passive.nvml_events import CHECK, CODES
from hma.check import KernelLine, Lines, NoOptions
from hma.gpu import GpuEvent, GpuEvents
from hma.model import NodeFacts, Observation, Status
from tests.checks.gpu_samples import NO_GPU, P5

PCI = "0000:9b:00"
NODE = NodeFacts("n1", "b1")


def look(*events: GpuEvent) -> list[Observation]:
    """Return what the check says, and that it says nothing it has not announced."""
    seen = list(CHECK.observe(GpuEvents(events), NODE, NoOptions()))
    assert {one.code for one in seen} <= CHECK.codes
    return seen


def event(number: int, kind: int = 0x8, **more: object) -> GpuEvent:
    """Return one event of the GPU."""
    return GpuEvent(PCI, kind, number, 1_234.5, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        (13, "XID-13", Status.DEGRADED),
        (45, "XID-45", Status.DEGRADED),
        (48, "XID-48", Status.FAILED),
        (63, "XID-63", Status.DEGRADED),
        (74, "XID-74", Status.FAILED),
        (79, "XID-79", Status.FAILED),
        (119, "XID-119", Status.FAILED),
        (145, "XID-145", Status.DEGRADED),
        (162, "XID-162", Status.OK),
        (173, "XID-173", Status.FAILED),
        (174, "XID-UNKNOWN", Status.DEGRADED),
        (0, "XID-UNKNOWN", Status.DEGRADED),
    ],
)
def test_xid_is_named_by_its_number(number: int, code: str, status: Status) -> None:
    (told,) = look(event(number))
    assert (told.code, told.component, told.status, told.at) == (code, f"gpu:{PCI}", status, 1_234.5)
    assert dict(told.attrs) == {"xid": str(number), "form": "nvml-event"}


@pytest.mark.parametrize("number", [n for n in xid.NUMBERS if n != 154])
def test_event_and_plain_kernel_line_tell_the_same_fault(number: int) -> None:
    line = KernelLine(1, 1_234.5, 3, f"NVRM: Xid (PCI:{PCI}): {number}, pid=1, name=x, text without registers")
    (by_line,) = xid.CHECK.observe(Lines((line,)), NODE, NoOptions())
    (by_event,) = look(event(number))
    assert (by_line.code, by_line.component, by_line.status) == (by_event.code, by_event.component, by_event.status)


def test_recovery_action_has_no_code_without_its_value() -> None:
    assert look(event(154)) == []
    assert "XID-154" not in CODES


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (0x1, ""), (0x2, ""), (0x4, ""), (0x10, ""), (0x100, ""), (0x200, "NVML-EVENT-SBE-STORM"), (0x400, ""), (0x800, ""),
        (0x1000, ""), (0x2000, ""), (0x4000, "NVML-EVENT-UNAVAILABLE"), (0x8000, ""), (0x10000, ""),
    ],
)  # fmt: skip
def test_other_events_are_told_where_nothing_else_would_tell(kind: int, code: str) -> None:
    assert [one.code for one in look(event(0, kind))] == ([code] if code else [])


def test_mig_instance_is_named() -> None:
    (told,) = look(event(43, gi=1, ci=0))
    assert dict(told.attrs) == {"xid": "43", "gi": "1", "ci": "0", "form": "nvml-event"}


@pytest.mark.parametrize(
    ("pci", "uuid", "component"),
    [(PCI, "GPU-1", f"gpu:{PCI}"), ("", "GPU-1", "gpu:GPU-1"), ("", "", "gpu:unknown")],
)
def test_component_falls_back_to_the_uuid(pci: str, uuid: str, component: str) -> None:
    (told,) = look(event(79)._replace(pci=pci, uuid=uuid))
    assert told.component == component


def test_events_keep_their_order_and_an_empty_batch_says_nothing() -> None:
    assert [one.code for one in look(event(48), event(0, 0x2), event(63))] == ["XID-48", "XID-63"]
    assert look() == []


def test_applies_where_a_gpu_is_or_should_be() -> None:
    assert (CHECK.applies(P5), CHECK.applies(NO_GPU)) == (True, False)
