"""What the NVIDIA driver tells NVML as it happens: XIDs, and the few events that nothing else would tell.

Rules of this file:
- An XID bears here the code that `xid` gives its line in the kernel log where that line refines nothing: so that the two routes
  tell one fault. NVML tells the number alone, without registers, process or text.
- 154 has no code without the value it changed to, which the next reading tells (`recovery_action`).
- ECC errors, retirements, poison and recovery actions change values that the readings show, or come with an XID: no code here.
- Numbers of event types are those of the NVML header (nvmlEventType*).
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpus import has_gpus
from checks.passive.xid import NUMBERS, code_of, status_of
from hma.check import Check, NoOptions, NvmlEvents
from hma.gpu import GpuEvent, GpuEvents
from hma.model import Attrs, NodeFacts, Observation, Status

XID = 0x8
_RECOVERY_CHANGED = 154

_OTHERS: dict[int, tuple[str, str, Status]] = {
    0x200: ("NVML-EVENT-SBE-STORM", "single-bit ECC errors come in a storm", Status.DEGRADED),
    0x4000: ("NVML-EVENT-UNAVAILABLE", "the GPU has become unavailable", Status.FAILED),
}

CODES = frozenset(
    {code_of(number) for number in NUMBERS if number != _RECOVERY_CHANGED}
    | {code_of(0)}
    | {code for code, _, _ in _OTHERS.values()}
)


def observe(sample: GpuEvents, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each event that says something of its own."""
    for event in sample.events:
        seen = _xid(event) if event.kind == XID else _other(event)
        if seen is not None:
            yield seen


def _xid(event: GpuEvent) -> Observation | None:
    if event.data == _RECOVERY_CHANGED:
        return None
    code = code_of(event.data)
    attrs = (("xid", str(event.data)), *_instance(event), ("form", "nvml-event"))
    detail = f"Xid {event.data}, told by an NVML event"
    evidence = f"NVML event {event.kind:#x} of {event.pci or event.uuid}: {event.data}"
    return Observation(code, _component(event), status_of(code), detail, evidence, event.at, attrs=attrs)


def _other(event: GpuEvent) -> Observation | None:
    meaning = _OTHERS.get(event.kind)
    if meaning is None:
        return None
    code, words, status = meaning
    evidence = f"NVML event {event.kind:#x} of {event.pci or event.uuid}: {event.data}"
    return Observation(code, _component(event), status, words, evidence, event.at, attrs=_instance(event))


def _component(event: GpuEvent) -> str:
    return f"gpu:{event.pci or event.uuid or 'unknown'}"


def _instance(event: GpuEvent) -> Attrs:
    known = (("gi", event.gi), ("ci", event.ci))
    return tuple((name, str(number)) for name, number in known if number is not None)


CHECK: Check[GpuEvents, NoOptions] = Check(
    name="nvml_events",
    title="NVIDIA driver errors (XID) as NVML events",
    source=NvmlEvents(),
    observe=observe,
    codes=CODES,
    applies=has_gpus,
    needs="NVIDIA GPUs and the driver library libnvidia-ml.so.1",
    optional=True,
)
