"""The InfoROM of each GPU (its memory of retired rows and of its set-up), and whether equal GPUs have equal firmware.

Rules of this file:
- The checksum is read seldom; a reading without it says nothing of it, so this check is not `complete` and says `ok` itself.
- Versions are compared among the GPUs of one name on this node. What most of them have is taken as right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from checks.passive._gpus import NODE, Look, component, has_gpus, look, unread
from checks.passive._memory import gpus
from hma.check import Check, NoOptions, Nvml
from hma.gpu import Gpu, GpuReadings, Inforom
from hma.model import NodeFacts, Observation, Status

CORRUPT = "INFOROM-CORRUPT"
DIFFERS = "INFOROM-DIFFERS"
VBIOS = "VBIOS-DIFFERS"

NOTHING = Inforom()


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return whose InfoROM is corrupt, whose is right, and which GPUs differ from their equals."""
    found = look(sample, node, CORRUPT, "inforom", _part)
    yield from unread(found, CORRUPT, "inforom")
    for gpu, inforom in found.parts:
        if inforom.valid is not None:
            yield _checksum(gpu, inforom.valid)
    yield from _compare(found, DIFFERS, "InfoROM", lambda gpu: gpu.inforom.image if gpu.inforom else "")
    # Its own look: a GPU without an InfoROM has a VBIOS all the same. What is grey has been said.
    named = look(sample, node, VBIOS, "vbios", lambda gpu: gpu.vbios or None)
    yield from _compare(named, VBIOS, "VBIOS", lambda gpu: gpu.vbios)


def _part(gpu: Gpu) -> Inforom | None:
    return gpu.inforom if gpu.inforom != NOTHING else None


def _checksum(gpu: Gpu, valid: bool) -> Observation:
    if valid:
        return Observation(CORRUPT, component(gpu), Status.OK, "the InfoROM is right")
    detail = "the InfoROM of the GPU is corrupt"
    return Observation(CORRUPT, component(gpu), Status.DEGRADED, detail, "nvmlDeviceValidateInforom: corrupted infoROM")


def _compare(found: Look[Inforom] | Look[str], code: str, what: str, version: Callable[[Gpu], str]) -> Iterator[Observation]:
    known = [(gpu, text) for gpu, _ in found.parts if (text := version(gpu))]
    if not known:
        return
    by_name: dict[str, Counter[str]] = {}
    for gpu, text in known:
        by_name.setdefault(gpu.name, Counter())[text] += 1
    odd = [(gpu, text) for gpu, text in known if text != by_name[gpu.name].most_common(1)[0][0]]
    if not odd:
        versions = " and ".join(sorted({text for _, text in known}))
        yield Observation(code, NODE, Status.OK, f"{gpus(len(known))} with {what} {versions}")
        return
    evidence = "; ".join(f"{component(gpu)} {text}" for gpu, text in known)
    which = ", ".join(f"{component(gpu)} has {text}" for gpu, text in odd)
    yield Observation(code, NODE, Status.DEGRADED, f"{what} differs from the GPUs of the same name: {which}", evidence)


CHECK = Check(
    name="inforom",
    title="InfoROM and VBIOS",
    source=Nvml(),
    observe=observe,
    codes=frozenset({CORRUPT, DIFFERS, VBIOS}),
    applies=has_gpus,
    needs="NVIDIA GPUs with an InfoROM",
    optional=True,
)
