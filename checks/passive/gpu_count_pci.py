"""GPUs on the PCI bus now, against how many the node should have: the route that needs no driver, see `gpu_count_smi`.

A GPU that has fallen off the bus often stays in sysfs until its slot is rescanned, so this route alone proves presence badly
and absence well.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive.nvidia_smi import has_gpus
from hma.check import Check, Files, NoOptions, SourceError, Tree
from hma.model import Attrs, NodeFacts, Observation, Status

COUNT = "GPU-COUNT-PCI"
EXTRA = "GPU-COUNT-EXTRA"
NODE = "node"
_ROOT = "sys/bus/pci/devices/"


def observe(sample: Tree, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Name the GPUs seen at start that have left the bus, and tell fewer or more GPUs than the instance type has."""
    if not sample.files:
        raise SourceError(f"/{_ROOT}: no device can be read; is /sys mounted where the agent looks?")
    seen = _gpus(sample)
    gone = sorted(gpu.address for gpu in node.gpus if gpu.address not in seen)
    known = node.expected.gpus if node.expected else None
    wanted = len(node.gpus) if known is None else known
    attrs: Attrs = (("expected", str(wanted)), ("seen", str(len(seen))))
    evidence = " ".join(sorted(seen)) or "no NVIDIA GPU on the PCI bus"
    if len(seen) < wanted or gone:
        left = f"; left the bus: {' '.join(gone)}" if gone else ""
        attrs = (*attrs, ("missing", " ".join(f"gpu:{address.rpartition('.')[0]}" for address in gone)))
        yield Observation(COUNT, NODE, Status.FAILED, f"{len(seen)} of {wanted} GPUs on the PCI bus{left}", evidence, attrs=attrs)
    else:
        yield Observation(COUNT, NODE, Status.OK, attrs=attrs)
    if known is not None and len(seen) > known:
        yield Observation(EXTRA, NODE, Status.DEGRADED, f"{len(seen)} GPUs on the PCI bus, {known} expected", evidence, attrs=attrs)
    else:
        yield Observation(EXTRA, NODE, Status.OK)


def _gpus(sample: Tree) -> frozenset[str]:
    found = set()
    for path, text in sample.files.items():
        address, _, name = path.removeprefix(_ROOT).partition("/")
        if name != "vendor" or text.strip() != "0x10de":
            continue
        pci_class = sample.files.get(f"{_ROOT}{address}/class", "").strip()
        if pci_class[:6] in ("0x0300", "0x0302"):
            found.add(address)
    return frozenset(found)


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
