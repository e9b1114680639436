"""GPUs on the PCI bus now, against how many the node should have: the route that needs no driver, see `gpu_count_nvml`.

Rules of this file:
- A GPU that has fallen off the bus often stays on the kernel's list until its slot is rescanned, so this route alone proves
  presence badly and absence well.
- The list is one file: a look every ten seconds costs less than one a minute at the hundreds of files of sysfs. It gives bus,
  slot and numbers of a device, and neither its domain nor its class: which device is a GPU is known from the start, when sysfs
  was read; a kind of NVIDIA device that was not there at the start counts as one.
- Format of a line: `9b00<tab>10de2330<tab>…`, that is bus, devfn, vendor and device (Linux drivers/pci/proc.c).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from checks.passive._gpus import NODE, has_gpus
from hma.check import Check, Files, NoOptions, Tree
from hma.model import Attrs, NodeFacts, Observation, PciDevice, Status

COUNT = "GPU-COUNT-PCI"
EXTRA = "GPU-COUNT-EXTRA"
DEVICES = "proc/bus/pci/devices"
_VENDOR = "\t10de"


class _Absent(NamedTuple):
    """GPUs that were there at the start: how many are gone, and the addresses where it can be told which."""

    gpus: int
    addresses: tuple[str, ...]


def observe(sample: Tree, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Name the GPUs seen at start that have left the bus, and tell fewer or more GPUs than the instance type has."""
    if DEVICES in sample.errors or not sample.files.get(DEVICES):
        detail = f"/{DEVICES}: {sample.errors.get(DEVICES, 'not there')}; is the /proc of the node where the agent looks?"
        yield Observation(COUNT, NODE, Status.UNKNOWN, detail)
        return
    if not node.pci:
        yield Observation(COUNT, NODE, Status.UNKNOWN, "which devices are GPUs is not known: sysfs could not be read at start")
        return
    seen = Counter(_gpus(sample.files[DEVICES], node))
    gone = _absent(node.gpus, seen)
    known = node.expected.gpus if node.expected else None
    wanted = len(node.gpus) if known is None else known
    attrs: Attrs = (("expected", str(wanted)), ("seen", str(seen.total())))
    evidence = " ".join(_names(node.gpus, seen)) or "no NVIDIA GPU on the PCI bus"
    count = f"{seen.total()} of {wanted} GPUs on the PCI bus"
    if seen.total() < wanted or gone.gpus:
        left = f"; left the bus: {' '.join(gone.addresses)}" if gone.addresses else ""
        missing = " ".join(f"gpu:{address.rpartition('.')[0]}" for address in gone.addresses)
        yield Observation(COUNT, NODE, Status.FAILED, f"{count}{left}", evidence, attrs=(*attrs, ("missing", missing)))
    else:
        yield Observation(COUNT, NODE, Status.OK, f"{seen.total()} GPUs", attrs=attrs)
    if known is not None and seen.total() > known:
        detail = f"{seen.total()} GPUs on the PCI bus, {known} expected"
        yield Observation(EXTRA, NODE, Status.DEGRADED, detail, evidence, attrs=attrs)


def _gpus(text: str, node: NodeFacts) -> Iterator[str]:
    """Return the place (bus and devfn) of each GPU on the list."""
    gpus = {gpu.device for gpu in node.gpus}
    others = {device.device for device in node.pci if device.vendor == "10de"} - gpus
    for line in text.splitlines():
        if line[4:9] != _VENDOR:
            continue
        place, _, rest = line.partition("\t")
        if rest[4:8] not in others:
            yield place


def _absent(gpus: Iterable[PciDevice], seen: Counter[str]) -> _Absent:
    places: dict[str, list[str]] = {}
    for gpu in gpus:
        places.setdefault(_place(gpu), []).append(gpu.address)
    fewer = {place: len(addresses) - seen[place] for place, addresses in places.items()}
    names = (address for place, addresses in places.items() if not seen[place] for address in addresses)
    return _Absent(sum(max(0, number) for number in fewer.values()), tuple(sorted(names)))


def _names(gpus: Iterable[PciDevice], seen: Counter[str]) -> list[str]:
    known = {_place(gpu): gpu.address for gpu in gpus}
    return sorted(known.get(place, place) for place in seen.elements())


def _place(gpu: PciDevice) -> str:
    """Return the first word of the line of a device: `0000:9b:00.0` is `9b00`, in hex bus and slot * 8 + function."""
    _, bus, rest = gpu.address.split(":")
    slot, _, function = rest.partition(".")
    return f"{bus}{int(slot, 16) << 3 | int(function, 16):02x}"


CHECK: Check[Tree, NoOptions] = Check(
    name="gpu_count_pci",
    title="Every GPU is on the PCI bus",
    source=Files((DEVICES,), max_bytes=1_048_576),
    observe=observe,
    codes=frozenset({COUNT, EXTRA}),
    interval_s=60.0,
    timeout_s=10.0,
    applies=has_gpus,
    needs="NVIDIA GPUs",
    complete=True,
)
