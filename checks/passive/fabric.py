"""The NVLink fabric: whether every GPU has joined it, how it feels there, and whether the fabric manager runs.

Rules of this file:
- Only where there are two GPUs or more: one alone has nothing to join.
- The state is that of nvmlDeviceGetGpuFabricInfoV. 0 says that this GPU knows no fabric (A100), which is no fault.
- The health mask has two bits a subject, 1 = true, 2 = false, 0 = not told: 0x80 is a healthy mask, and has been taken for a
  sick one elsewhere. A wrong configuration has four bits, 1 = none. Values as in the NVML header (nvml.h 13).
- Without a driver, or with one that does not fit its library, there is nothing to manage: that is told by nvml_driver alone,
  or an upgrade of the driver, which stops the fabric manager first, would end in a reboot.
- A fabric manager of which nobody can see whether it is installed is not missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from checks.passive._gpus import NODE, component, has_gpus, look
from hma.check import Check, NoOptions, Nvml
from hma.gpu import Fabric, Gpu, GpuReadings
from hma.model import NodeFacts, Observation, Status

NOT_STARTED = "FABRIC-NOT-STARTED"
FAILED = "FABRIC-FAILED"
UNHEALTHY = "FABRIC-UNHEALTHY"
DEGRADED = "FABRIC-DEGRADED"
MANAGER = "FABRIC-MANAGER-DOWN"

_NOTHING_TO_MANAGE = ("no_driver", "mismatch")
_NOT_SUPPORTED, _COMPLETED = 0, 3
_COMING_UP = MappingProxyType({1: "has not started to join the fabric", 2: "is still joining the fabric"})
_SICK, _LIMITED = 2, 3

_TRUE = 1
_LESS = MappingProxyType({0: "degraded bandwidth", 2: "a route is being recovered", 6: "an access timed out and recovers"})
_ROUTE_SICK = 4
"""The shifts of the two-bit subjects."""
_CONFIGURATION = 8
_CONFIGURED_WRONG = MappingProxyType(
    {
        2: "wrong system GUID",
        3: "wrong chassis serial number",
        4: "no partition",
        5: "too few NVLinks",
        6: "incompatible GPU firmware",
        7: "invalid location",
        8: "invalid GPU state",
    }
)


def has_fabric(node: NodeFacts) -> bool:
    """Return whether there are, or should be, two GPUs or more."""
    expected = (node.expected.gpus if node.expected else None) or 0
    return has_gpus(node) and max(len(node.gpus), expected) > 1


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Tell of each GPU whether it has joined the fabric and how healthy it is, and whether the fabric manager runs."""
    yield from _manager(sample, node)
    seen = look(sample, node, NOT_STARTED, "fabric", _fabric)
    found = [wrong for gpu, fabric in seen.parts for wrong in _wrong(gpu, fabric)]
    yield from found
    yield from seen.grey
    if seen.parts and not found:
        yield Observation(NOT_STARTED, NODE, Status.OK, f"{len(seen.parts)} GPUs have joined the NVLink fabric")


def _fabric(gpu: Gpu) -> Fabric | None:
    # A GPU that is divided by MIG takes no part in the fabric.
    return None if gpu.mig or gpu.fabric is None or gpu.fabric.state == _NOT_SUPPORTED else gpu.fabric


def _manager(sample: GpuReadings, node: NodeFacts) -> Iterator[Observation]:
    manager = sample.fabric_manager
    if node.nvswitches and sample.driver.state in _NOTHING_TO_MANAGE:
        yield Observation(MANAGER, NODE, Status.OK, f"nothing to manage without the driver ({sample.driver.state})")
        return
    if manager is None or not node.nvswitches:
        return
    count = f"{len(node.nvswitches)} NVSwitches on the PCI bus"
    if manager.running:
        yield Observation(MANAGER, NODE, Status.OK, f"the fabric manager runs; {count}")
    elif manager.installed:
        yield Observation(MANAGER, NODE, Status.FAILED, f"the fabric manager is installed and does not run; {count}")


def _wrong(gpu: Gpu, fabric: Fabric) -> Iterator[Observation]:
    place = component(gpu)
    mask = "" if fabric.health_mask is None else f"{fabric.health_mask:#x}"
    summary = "" if fabric.summary is None else str(fabric.summary)
    attrs = (("state", str(fabric.state)), ("status", str(fabric.status)), ("mask", mask), ("summary", summary))
    if fabric.state != _COMPLETED:
        words = _COMING_UP.get(fabric.state, f"is in the fabric state {fabric.state}")
        yield Observation(NOT_STARTED, place, Status.FAILED, f"the GPU {words}", attrs=attrs)
        return
    if fabric.status:
        detail = f"joining the fabric ended with NVML error {fabric.status}"
        yield Observation(FAILED, place, Status.FAILED, detail, attrs=attrs)
    sick, less = _sick(fabric), _less(fabric)
    if sick:
        yield Observation(UNHEALTHY, place, Status.FAILED, f"the fabric is unhealthy: {', '.join(sick)}", attrs=attrs)
    elif less:
        yield Observation(DEGRADED, place, Status.DEGRADED, f"the fabric gives less: {', '.join(less)}", attrs=attrs)


def _sick(fabric: Fabric) -> list[str]:
    mask = fabric.health_mask or 0
    configuration = mask >> _CONFIGURATION & 0xF
    found = ["summary says unhealthy"] if fabric.summary == _SICK else []
    if mask >> _ROUTE_SICK & 3 == _TRUE:
        found.append("a route is unhealthy")
    if configuration > 1:
        found.append(_CONFIGURED_WRONG.get(configuration, f"wrong configuration {configuration}"))
    return found


def _less(fabric: Fabric) -> list[str]:
    mask = fabric.health_mask or 0
    found = [words for shift, words in _LESS.items() if mask >> shift & 3 == _TRUE]
    return (["summary says limited capacity"] if fabric.summary == _LIMITED else []) + found


CHECK: Check[GpuReadings, NoOptions] = Check(
    name="fabric",
    title="Every GPU has joined the NVLink fabric",
    source=Nvml(),
    observe=observe,
    codes=frozenset({NOT_STARTED, FAILED, UNHEALTHY, DEGRADED, MANAGER}),
    applies=has_fabric,
    needs="two NVIDIA GPUs or more",
    complete=True,
    optional=True,
)
