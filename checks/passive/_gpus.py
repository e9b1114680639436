"""What all checks on GpuReadings share: what a GPU is called, and which GPUs could be looked at.

Rules of this file:
- Without a driver that is up nothing is known of any GPU. One that does not answer, or that the driver does not list any more,
  is grey (`nvml_gpus` and `gpu_count_nvml` say so): a check must not take its silence for health.
- A part that is None is not there on this GPU or driver, and grey only where `errors` names it. Of a part of which one value
  could not be read the check itself knows whether that one matters (`unread` where every one does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from hma.gpu import Gpu, GpuReadings
from hma.model import NodeFacts, Observation, Status

HOST = "host"
NODE = "node"
_DRIVERS = ("nvidia", "")
"""Whose driver it is, or will be: the agent may have looked at the bus before the driver was loaded."""

T = TypeVar("T")


class Look(NamedTuple, Generic[T]):
    """The GPUs whose part could be read, each with it, and one `unknown` for each that could not be looked at."""

    parts: tuple[tuple[Gpu, T], ...]
    grey: tuple[Observation, ...]


def has_gpus(node: NodeFacts) -> bool:
    """Return whether the node shows, or should show, an NVIDIA GPU."""
    return bool(node.gpus or (node.expected and node.expected.gpus))


def component(gpu: Gpu) -> str:
    """Return `gpu:0000:9b:00`, or the UUID or the number where the address could not be read."""
    return f"gpu:{gpu.pci or gpu.uuid or f'number-{gpu.number}'}"


def look(sample: GpuReadings, node: NodeFacts, code: str, name: str, part: Callable[[Gpu], T | None]) -> Look[T]:
    """Return what there is of `part` (its field is called `name`); `code` is the code under which grey is told."""
    driver = sample.driver
    if driver.state != "up":
        return Look(
            (), (Observation(code, NODE, Status.UNKNOWN, f"the driver does not answer ({driver.state}); see nvml_driver"),)
        )
    found: list[tuple[Gpu, T]] = []
    grey: list[Observation] = []
    for gpu in sample.gpus:
        value = part(gpu) if gpu.code == 0 else None
        if value is not None:
            found.append((gpu, value))
        elif why := _unread(gpu, name):
            grey.append(Observation(code, component(gpu), Status.UNKNOWN, why))
    grey += [Observation(code, place, Status.UNKNOWN, "the driver does not list this GPU") for place in unlisted(sample, node)]
    return Look(tuple(found), tuple(grey))


def unlisted(sample: GpuReadings, node: NodeFacts) -> tuple[str, ...]:
    """Return the components of the GPUs that were on the bus at start, are the driver's, and are not on its list."""
    listed = {component(gpu) for gpu in sample.gpus}
    places = (f"gpu:{address.rpartition('.')[0]}" for address in of_the_driver(node))
    return tuple(place for place in places if place not in listed)


def of_the_driver(node: NodeFacts) -> tuple[str, ...]:
    """Return the addresses of the GPUs that no other driver had at start, such as that of a virtual machine."""
    return tuple(device.address for device in node.gpus if device.driver in _DRIVERS)


def unread(found: Look[T], code: str, name: str) -> Iterator[Observation]:
    """Yield what could not be looked at: whole GPUs, and those of whose part `name` any value could not be read."""
    yield from found.grey
    for gpu, _ in found.parts:
        if why := _unread(gpu, name):
            yield Observation(code, component(gpu), Status.UNKNOWN, why)


def _unread(gpu: Gpu, name: str) -> str:
    """Return why this part of a GPU could not be read, or not all of it; nothing where it could."""
    if gpu.code:
        return gpu.text or f"NVML error {gpu.code}"
    return next((text for key, text in gpu.errors.items() if key == name or key.startswith(f"{name}.")), "")
