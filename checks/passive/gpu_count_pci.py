"""GPUs on the PCI bus now, against how many the node should have: the route that needs no driver, see `gpu_count_smi`.

A GPU that has fallen off the bus often stays in sysfs until its slot is rescanned, so this route alone proves presence badly
and absence well.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive.nvidia_smi import has_gpus
from hma.check import Check, Files, NoOptions, Tree
from hma.model import Attrs, NodeFacts, Observation, Status

COUNT = "GPU-COUNT-PCI"
EXTRA = "GPU-COUNT-EXTRA"
NODE = "node"
_ROOT = "sys/bus/pci/devices/"


def observe(sample: Tree, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Name the GPUs seen at start that have left the bus, and tell fewer or more GPUs than the instance type has."""
    if not sample.files:
        detail = f"/{_ROOT}: no device can be read; is /sys mounted where the agent looks?"
        yield Observation(COUNT, NODE, Status.UNKNOWN, detail)
        return
    seen, unread = _gpus(sample)
    gone = sorted(gpu.address for gpu in node.gpus if gpu.address not in seen | unread)
    known = node.expected.gpus if node.expected else None
    wanted = len(node.gpus) if known is None else known
    attrs: Attrs = (("expected", str(wanted)), ("seen", str(len(seen))))
    evidence = " ".join(sorted(seen)) or "no NVIDIA GPU on the PCI bus"
    count = f"{len(seen)} of {wanted} GPUs on the PCI bus"
    if len(seen | unread) < wanted or gone:
        left = f"; left the bus: {' '.join(gone)}" if gone else ""
        missing = " ".join(f"gpu:{address.rpartition('.')[0]}" for address in gone)
        yield Observation(COUNT, NODE, Status.FAILED, f"{count}{left}", evidence, attrs=(*attrs, ("missing", missing)))
    elif len(seen) < wanted:
        yield Observation(COUNT, NODE, Status.UNKNOWN, f"{count}; cannot be read: {' '.join(sorted(unread))}", attrs=attrs)
    else:
        yield Observation(COUNT, NODE, Status.OK, attrs=attrs)
    if known is not None and len(seen) > known:
        detail = f"{len(seen)} GPUs on the PCI bus, {known} expected"
        yield Observation(EXTRA, NODE, Status.DEGRADED, detail, evidence, attrs=attrs)
    else:
        yield Observation(EXTRA, NODE, Status.OK)


def _gpus(sample: Tree) -> tuple[frozenset[str], frozenset[str]]:
    """Return the addresses of the NVIDIA GPUs, and of what may be one but could not be read."""
    kinds: dict[str, dict[str, str]] = {}
    for path, text in (*sample.files.items(), *dict.fromkeys(sample.errors, "").items()):
        address, _, name = path.removeprefix(_ROOT).partition("/")
        kinds.setdefault(address, {})[name] = text.strip()
    seen: set[str] = set()
    unread: set[str] = set()
    for address, kind in kinds.items():
        vendor, pci_class = kind.get("vendor", ""), kind.get("class", "")
        if vendor in ("", "0x10de") and pci_class[:6] in ("", "0x0300", "0x0302"):
            (seen if vendor and pci_class else unread).add(address)
    return frozenset(seen), frozenset(unread)


CHECK: Check[Tree, NoOptions] = Check(
    name="gpu_count_pci",
    title="Every GPU is on the PCI bus",
    source=Files(("sys/bus/pci/devices/*/vendor", "sys/bus/pci/devices/*/class")),
    observe=observe,
    codes=frozenset({COUNT, EXTRA}),
    interval_s=60.0,
    applies=has_gpus,
    needs="NVIDIA GPUs",
)
