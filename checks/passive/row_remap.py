"""Rows of GPU memory that were replaced by spare ones (A100 and later): what waits, what failed, what is left.

Rules of this file:
- The driver tells no remapping of a GPU that is cut into MIG instances: such a GPU is grey, for what failed or waits has not
  gone away.
- `failed` means that a remapping failed at any time in the life of the GPU; it does not go away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from checks.passive._gpus import component, has_gpus, look, unread
from checks.passive._memory import looked_at, numbers
from hma.check import Check, Nvml
from hma.gpu import Gpu, GpuReadings, Rows
from hma.model import NodeFacts, Observation, Status

PENDING = "ROW-REMAP-PENDING"
FAILED = "ROW-REMAP-FAILED"
LOW = "ROW-REMAP-LOW"
MANY = "ROW-REMAP-MANY"


@dataclass(frozen=True, slots=True)
class Options:
    """`many`: rows remapped for uncorrected errors in the life of a GPU from which they are reported (DCGM's limit: 512)."""

    many: int = 512


def observe(sample: GpuReadings, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return what is wrong with the spare rows of each GPU."""
    found = look(sample, node, PENDING, "rows", lambda gpu: gpu.rows)
    yield from unread(found, PENDING, "rows")
    yield from _cut(sample)
    said = (one for gpu, rows in found.parts for one in _of(gpu, rows, max(1, options.many)))
    # The good word is that no remapping failed: XID 64 waits for it.
    yield from looked_at(found, FAILED, said, "no row waits to be remapped")


def _cut(sample: GpuReadings) -> Iterator[Observation]:
    """Yield the GPUs that MIG keeps from being looked at."""
    for gpu in sample.gpus:
        if gpu.code == 0 and gpu.mig and gpu.rows is None and "rows" not in gpu.errors:
            yield Observation(PENDING, component(gpu), Status.UNKNOWN, "not told of a GPU with MIG instances")


def _of(gpu: Gpu, rows: Rows, many: int) -> Iterator[Observation]:
    place = component(gpu)
    remapped = f"remapped rows: {rows.uncorrected} for uncorrected errors, {rows.corrected} for corrected ones"
    attrs = (("uncorrected", str(rows.uncorrected)), ("corrected", str(rows.corrected)))
    if rows.pending:
        detail = "a row waits for a reset to be remapped"
        yield Observation(PENDING, place, Status.DEGRADED, detail, f"pending; {remapped}", attrs=attrs)
    if rows.failed:
        detail = "a row could not be remapped"
        yield Observation(FAILED, place, Status.FAILED, detail, f"failure occurred; {remapped}", attrs=attrs)
    if rows.uncorrected >= many:
        detail = f"{rows.uncorrected} rows remapped for uncorrected errors, {many} are many"
        yield Observation(MANY, place, Status.DEGRADED, detail, remapped, attrs=attrs)
    if rows.banks_none or rows.banks_low:
        banks = numbers(
            all=rows.banks_max,
            many=rows.banks_high,
            some=rows.banks_partial,
            few=rows.banks_low,
            none=rows.banks_none,
        )
        detail = f"{rows.banks_none or 0} banks of memory have no spare row left, {rows.banks_low or 0} have few"
        yield Observation(LOW, place, Status.DEGRADED, detail, f"banks by spare rows: {banks}", attrs=attrs)


CHECK = Check(
    name="row_remap",
    title="Remapped rows of GPU memory",
    source=Nvml(),
    observe=observe,
    codes=frozenset({PENDING, FAILED, LOW, MANY}),
    applies=has_gpus,
    needs="NVIDIA GPUs that remap rows (A100 and later)",
    options=Options(),
    complete=True,
    optional=True,
)
