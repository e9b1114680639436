"""Errors on the PCI Express links, as the root ports report them (AER) or contain them (DPC).

Rules of this file:
- One error prints a block: a port names the device that sent the message, then each device with an error of its own is named
  with severity and layer. The second kind is the event; the first counts only where no other line of the batch names a device
  with that severity (`found no error details`: a device that has left the bus answers nothing).
- The component is the device that names itself, a GPU or NVSwitch under the name that XIDs and SXids use for it.
- What stands first is the name of a driver and a bus address, neither of which a tenant can choose.
- Formats: drivers/pci/pcie/aer.c, err.c and dpc.c of Linux 5.10, 6.1, 6.12 (which says Correctable for Corrected and
  Uncorrectable for Uncorrected); captured lines in tests/data/kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import Attrs, NodeFacts, Observation, Status

FATAL = "AER-FATAL"
NONFATAL = "AER-NONFATAL"
CORRECTED = "AER-CORRECTED"
UNRECOVERED = "AER-UNRECOVERED"
CONTAINED = "PCIE-DPC"

_DEVICE = r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
_HEAD = rf"[A-Za-z0-9_.-]{{1,64}} (?P<address>{_DEVICE}): "
_SEVERITY = r"(?P<severity>Correct(?:ed|able)|Uncorrect(?:ed|able) \((?:Non-)?Fatal\))"
_ERROR = re.compile(
    rf"{_HEAD}(?:AER: )?PCIe Bus Error: severity={_SEVERITY}, type=(?P<layer>[A-Za-z ]{{1,40}}),"
    r" (?:id=[0-9a-f]{4})?\((?P<agent>[A-Za-z ]{1,40})\)"
)
_RECEIVED = re.compile(rf"{_HEAD}AER: (?:Multiple )?{_SEVERITY} error (?:message )?received(?: from)?:? (?P<source>{_DEVICE})")
_UNRECOVERED = re.compile(rf"{_HEAD}AER: device recovery failed")
_CONTAINED = re.compile(rf"{_HEAD}DPC: containment event, status:(?P<status>0x[0-9a-f]{{1,8}}).{{0,100}}")


def observe(sample: Lines, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each error that a device reports."""
    told: set[str] = set()
    messages: list[tuple[KernelLine, re.Match[str]]] = []
    for line in sample.lines:
        text = line.text.rstrip()
        if found := _ERROR.fullmatch(text):
            told.add(_code(found["severity"]))
            yield _error(line, found, found["address"], node)
        elif found := _RECEIVED.fullmatch(text):
            messages.append((line, found))
        elif found := _UNRECOVERED.fullmatch(text):
            detail = "the kernel could not bring the devices behind this port back after an error"
            yield _seen(line, UNRECOVERED, found["address"], Status.FAILED, detail, (), node)
        elif found := _CONTAINED.fullmatch(text):
            attrs: Attrs = (("status", found["status"]),)
            yield _seen(line, CONTAINED, found["address"], Status.FAILED, "the port has cut its link off", attrs, node)
    for line, found in messages:
        if _code(found["severity"]) not in told:
            yield _error(line, found, found["source"], node)


def _error(line: KernelLine, found: re.Match[str], address: str, node: NodeFacts) -> Observation:
    facts = found.groupdict()
    code = _code(found["severity"])
    layer = facts.get("layer") or ""
    attrs = (
        ("severity", found["severity"]),
        ("layer", layer),
        ("agent", facts.get("agent") or ""),
        ("told_by", found["address"]),
    )
    detail = f"PCIe error: {found['severity']}" + (f", {layer}" if layer else ", no details from the device")
    return _seen(line, code, address, Status.FAILED if code == FATAL else Status.DEGRADED, detail, attrs, node)


def _code(severity: str) -> str:
    if severity.startswith("Correct"):
        return CORRECTED
    return NONFATAL if "Non-" in severity else FATAL


def _seen(
    line: KernelLine, code: str, address: str, status: Status, detail: str, attrs: Attrs, node: NodeFacts
) -> Observation:  # fmt: skip
    shown = tuple((key, value) for key, value in attrs if value)
    return Observation(code, component_of(address, node), status, detail, line.text, line.at, attrs=shown)


def component_of(address: str, node: NodeFacts) -> str:
    """Return the name of the device at `0000:9b:00.0`: `gpu:0000:9b:00`, `nvswitch:...` or `pci:0000:9b:00.0`."""
    for kind, devices in (("gpu", node.gpus), ("nvswitch", node.nvswitches)):
        if any(device.address == address for device in devices):
            return f"{kind}:{address.rpartition('.')[0]}"
    return f"pci:{address}"


CHECK = Check(
    name="pcie_aer",
    title="PCI Express errors in the kernel log",
    source=KernelLog(rb"PCIe Bus Error: |AER: |DPC: containment"),
    observe=observe,
    codes=frozenset({FATAL, NONFATAL, CORRECTED, UNRECOVERED, CONTAINED}),
)
