"""How many GPUs a node should have: what the three routes that count them (NVML, nvidia-smi, PCI) hold their count against.

Rules of this file:
- The instance type tells how many, the PCI bus at start tells which; without a type the bus at start has to do for both.
- A GPU that was handed to a virtual machine is on the bus, and no longer the driver's to list.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from hma.model import NodeFacts

_OTHER_DRIVERS = ("vfio-pci", "pci-stub")


class Wanted(NamedTuple):
    """How many GPUs the driver should list, and who says so."""

    gpus: int
    source: str


def wanted_of_driver(node: NodeFacts) -> Wanted | None:
    """Return how many GPUs the driver should list, None where nothing tells."""
    handed_over = sum(gpu.driver in _OTHER_DRIVERS for gpu in node.gpus)
    if node.expected is not None and node.expected.gpus is not None:
        return Wanted(max(0, node.expected.gpus - handed_over), f"instance type {node.expected.instance_type}")
    return Wanted(len(node.gpus) - handed_over, "PCI bus at start") if node.gpus else None


def missing_of_driver(node: NodeFacts, listed: Collection[str]) -> str:
    """Return the components of the GPUs that were on the bus at start and are not among the components `listed`."""
    places = (f"gpu:{gpu.address.rpartition('.')[0]}" for gpu in node.gpus if gpu.driver not in _OTHER_DRIVERS)
    return " ".join(place for place in places if place not in listed)
