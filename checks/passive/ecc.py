"""ECC errors that the driver has counted in GPU memory and caches, and whether ECC is on.

Rules of this file:
- An uncorrected error is a fact, and no verdict: it may have hit one job only. What the GPU needs, the driver says
  elsewhere (row remapping, recovery action, XIDs).
- The corrected errors are a counter; how many of them in what time are too many stands in the catalogue.
- ECC that is off counts as odd on data-centre parts only: cards for desktops and workstations come with it off.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.passive._gpus import component, has_gpus, look, unread
from checks.passive._memory import looked_at, numbers
from hma.check import Check, NoOptions, Nvml
from hma.gpu import Ecc, Gpu, GpuReadings
from hma.model import NodeFacts, Observation, Status

UNCORRECTED = "ECC-UNCORRECTED"
CORRECTED = "ECC-CORRECTED"
SRAM = "ECC-SRAM-THRESHOLD"
OFF = "ECC-OFF"
MODE = "ECC-MODE-PENDING"

NOTHING = Ecc()
OFF_BY_DEFAULT = ("GeForce", "Quadro", "TITAN", "RTX")
"""Words in the names of cards that are sold with ECC switched off."""


def observe(sample: GpuReadings, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return what is wrong with the memory of each GPU, and how many errors were corrected."""
    found = look(sample, node, UNCORRECTED, "ecc", _part)
    yield from unread(found, UNCORRECTED, "ecc")
    said = (one for gpu, ecc in found.parts for one in (*_errors(gpu, ecc), *_mode(gpu, ecc)))
    yield from looked_at(found, UNCORRECTED, said, "no uncorrected error")


def _part(gpu: Gpu) -> Ecc | None:
    return gpu.ecc if gpu.ecc != NOTHING else None


def _errors(gpu: Gpu, ecc: Ecc) -> Iterator[Observation]:
    place = component(gpu)
    evidence = numbers(
        volatile_uncorrected=ecc.volatile_uncorrected,
        volatile_corrected=ecc.volatile_corrected,
        aggregate_uncorrected=ecc.aggregate_uncorrected,
        aggregate_corrected=ecc.aggregate_corrected,
    )
    if ecc.volatile_uncorrected:
        count = ecc.volatile_uncorrected
        detail = f"{count} uncorrected ECC errors since the driver was loaded or the GPU was reset"
        attrs = (("volatile_uncorrected", str(count)),)
        yield Observation(UNCORRECTED, place, Status.FAILED, detail, evidence, attrs=attrs)
    if ecc.sram_threshold:
        detail = "more uncorrectable errors in its SRAM than NVIDIA allows"
        yield Observation(SRAM, place, Status.FAILED, detail, f"SRAM threshold exceeded; {evidence}")
    if ecc.volatile_corrected is not None:
        count = ecc.volatile_corrected
        detail = f"{count} corrected ECC errors since the driver was loaded or the GPU was reset"
        yield Observation(CORRECTED, place, Status.OK, detail, evidence, counter=count)


def _mode(gpu: Gpu, ecc: Ecc) -> Iterator[Observation]:
    if ecc.enabled is None:
        return
    evidence = f"current {_word(ecc.enabled)}" + ("" if ecc.pending is None else f", pending {_word(ecc.pending)}")
    if ecc.pending is not None and ecc.pending is not ecc.enabled:
        detail = f"ECC is {_word(ecc.enabled)}, and {_word(ecc.pending)} after the next reset"
        yield Observation(MODE, component(gpu), Status.DEGRADED, detail, evidence)
    elif not ecc.enabled and not any(word in gpu.name for word in OFF_BY_DEFAULT):
        yield Observation(OFF, component(gpu), Status.DEGRADED, f"ECC is off ({gpu.name or 'name not known'})", evidence)


def _word(state: bool) -> str:
    return "on" if state else "off"


CHECK = Check(
    name="ecc",
    title="ECC errors of GPU memory",
    source=Nvml(),
    observe=observe,
    codes=frozenset({UNCORRECTED, CORRECTED, SRAM, OFF, MODE}),
    applies=has_gpus,
    needs="NVIDIA GPUs with ECC",
    complete=True,
    optional=True,
)
