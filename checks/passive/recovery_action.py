"""What the driver itself wants done to each GPU before it is used again: the state of which XID 154 tells the changes."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from checks.passive._gpus import component, has_gpus, look, unread
from checks.passive._memory import looked_at
from hma.check import Check, NoOptions, Nvml
from hma.gpu import Gpu, GpuReadings
from hma.model import NodeFacts, Observation, Status

UNKNOWN = "RECOVERY-UNKNOWN"

# nvmlDeviceGpuRecoveryAction_t of the NVML header (nvidia-ml-py 13.615); 0 is none. The words are those of XID-154-*.
ACTIONS = MappingProxyType(
    {
        1: ("RECOVERY-GPU_RESET", Status.FAILED, "a reset of this GPU"),
        2: ("RECOVERY-NODE_REBOOT", Status.FAILED, "a reboot of the node"),
        3: ("RECOVERY-DRAIN_P2P", Status.DEGRADED, "an end of peer-to-peer work"),
        4: ("RECOVERY-DRAIN_AND_RESET", Status.DEGRADED, "a reset of this GPU once its work has left"),
        5: ("RECOVERY-IMEX", Status.DEGRADED, "a recovery of the IMEX domain"),
        6: ("RECOVERY-BUS_RESET", Status.FAILED, "a reset of the bus of this GPU"),
        7: ("RECOVERY-SYSTEM_REBOOT", Status.FAILED, "a reboot of the system"),
    }
)
FIRST = ACTIONS[1][0]


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return which GPUs the driver wants recovered, and how."""
    found = look(sample, node, FIRST, "recovery_action", lambda gpu: gpu.recovery_action)
    yield from unread(found, FIRST, "recovery_action")
    said = (_of(gpu, action) for gpu, action in found.parts if action)
    yield from looked_at(found, FIRST, said, "the driver asks for no recovery")


def _of(gpu: Gpu, action: int) -> Observation:
    code, status, wanted = ACTIONS.get(action, (UNKNOWN, Status.DEGRADED, f"a recovery that is not known here ({action})"))
    attrs = (("recovery_action", str(action)),)
    return Observation(code, component(gpu), status, f"the driver asks for {wanted}", f"recovery action {action}", attrs=attrs)


CHECK = Check(
    name="recovery_action",
    title="Recovery that the driver asks for",
    source=Nvml(),
    observe=observe,
    codes=frozenset({UNKNOWN, *(code for code, _, _ in ACTIONS.values())}),
    applies=has_gpus,
    needs="NVIDIA GPUs and a driver that tells it (565 and later)",
    complete=True,
    optional=True,
)
