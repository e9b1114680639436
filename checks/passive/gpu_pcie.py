"""The PCIe links of the GPUs: lanes, generation and repeated packets.

Rules of this file:
- The healthy width is that of the instance type, not of the GPU: on many types eight of sixteen lanes are wired. Where the type
  is not known, fewer lanes than the GPU could use is only a hint, under a code of its own.
- A GPU at rest lowers the generation to save power. It is looked at only where the GPU works for certain: it names reasons for
  its clocks, idle is not among them, and it draws at least `load` of its limit.
- Replays are a counter: a few are normal on every link, since a packet is repeated for each bit that flips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from checks.passive._gpus import NODE, component, has_gpus, look
from hma.check import Check, Nvml
from hma.gpu import Gpu, GpuReadings, Pcie
from hma.model import NodeFacts, Observation, Status

WIDTH = "PCIE-WIDTH"
REDUCED = "PCIE-WIDTH-REDUCED"
GENERATION = "PCIE-GEN"
REPLAY = "PCIE-REPLAY"

_IDLE = 0x1


@dataclass(frozen=True, slots=True)
class Options:
    """`load`: the share of its power limit that a GPU must draw for its PCIe generation to be looked at."""

    load: float = field(default=0.5, metadata={"least": 0.01, "most": 1.0})


def observe(sample: GpuReadings, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return each GPU whose link is narrower or slower than it should be, and how often each link repeated a packet."""
    seen = look(sample, node, WIDTH, "pcie", lambda gpu: gpu.pcie)
    yield from seen.grey
    slow: list[Observation] = []
    for gpu, pcie in seen.parts:
        if pcie.width is None and "pcie" in gpu.errors:
            yield Observation(WIDTH, component(gpu), Status.UNKNOWN, gpu.errors["pcie"])
        slow += _width(gpu, pcie, node)
        slow += _generation(gpu, pcie, options)
    yield from slow
    for gpu, pcie in seen.parts:
        if pcie.replays is not None:
            detail = f"{pcie.replays} packets repeated in all"
            yield Observation(REPLAY, component(gpu), Status.OK, detail, counter=pcie.replays)
    widths = sorted({pcie.width for _, pcie in seen.parts if pcie.width is not None})
    if widths and not slow:
        yield Observation(WIDTH, NODE, Status.OK, f"{len(seen.parts)} GPUs at {', '.join(f'x{width}' for width in widths)}")


def _width(gpu: Gpu, pcie: Pcie, node: NodeFacts) -> Iterator[Observation]:
    usual = node.expected.pcie_width if node.expected else None
    wanted = usual or pcie.max_width
    if pcie.width is None or wanted is None or pcie.width >= wanted:
        return
    code, why = (WIDTH, f"x{wanted} is usual on this type") if usual else (REDUCED, f"the GPU could do x{wanted}")
    attrs = (("width", str(pcie.width)), ("expected", str(wanted)), ("max_width", str(pcie.max_width)))
    evidence = f"link width {pcie.width} of {wanted}"
    yield Observation(code, component(gpu), Status.DEGRADED, f"x{pcie.width}, {why}", evidence, attrs=attrs)


def _generation(gpu: Gpu, pcie: Pcie, options: Options) -> Iterator[Observation]:
    now, most = pcie.generation, pcie.max_generation
    if now is None or most is None or now >= most or not _works(gpu, options):
        return
    detail = f"generation {now} at work, {most} is possible"
    attrs = (("generation", str(now)), ("max_generation", str(most)))
    yield Observation(GENERATION, component(gpu), Status.DEGRADED, detail, f"link generation {now} of {most}", attrs=attrs)


def _works(gpu: Gpu, options: Options) -> bool:
    """Return whether the GPU is at work beyond doubt."""
    reasons = None if gpu.clocks is None else gpu.clocks.reasons
    if reasons is None or reasons & _IDLE or gpu.power is None:
        return False
    drawn, limit = gpu.power.draw_w, gpu.power.limit_w
    return drawn is not None and limit is not None and limit > 0.0 and drawn >= options.load * limit


CHECK = Check(
    name="gpu_pcie",
    title="PCIe links of the GPUs",
    source=Nvml(),
    observe=observe,
    codes=frozenset({WIDTH, REDUCED, GENERATION, REPLAY}),
    applies=has_gpus,
    needs="NVIDIA GPUs that tell of their PCIe link",
    options=Options(),
    complete=True,
    optional=True,
)
