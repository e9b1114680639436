"""Pages of GPU memory taken out of use for good (GPUs before A100): what waits, how many there are, how fast they come.

Rules of this file:
- The list in the InfoROM has 64 places. DCGM gives a GPU up from 63 pages on, as NVIDIA's field diagnostic does, and from
  more than 15 pages for uncorrected errors where more than one of them came within a week.
- So the counter is of pages for uncorrected errors beyond the first 15; the week, and how many, stand in the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from checks.passive._gpus import component, has_gpus, look, unread
from checks.passive._memory import looked_at
from hma.check import Check, Nvml
from hma.gpu import Gpu, GpuReadings, Pages
from hma.model import NodeFacts, Observation, Status

PENDING = "PAGES-PENDING"
FULL = "PAGES-FULL"
UNCORRECTED = "PAGES-DBE"

NOTHING = Pages()
PLACES = 64


@dataclass(frozen=True, slots=True)
class Options:
    """`full`: retired pages from which a GPU counts as worn out; `tolerated`: pages for uncorrected errors that any GPU may
    collect in its life before it matters how fast they come."""

    full: int = 63
    tolerated: int = 15


def observe(sample: GpuReadings, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return what is wrong with the pages of each GPU, and how many uncorrected ones there are beyond those tolerated."""
    found = look(sample, node, PENDING, "pages", _part)
    yield from unread(found, PENDING, "pages")
    said = (one for gpu, pages in found.parts for one in _of(gpu, pages, options))
    yield from looked_at(found, PENDING, said, "no page waits to be retired")


def _part(gpu: Gpu) -> Pages | None:
    return gpu.pages if gpu.pages != NOTHING else None


def _of(gpu: Gpu, pages: Pages, options: Options) -> Iterator[Observation]:
    place = component(gpu)
    total = (pages.corrected or 0) + (pages.uncorrected or 0)
    evidence = f"retired pages: {pages.uncorrected or 0} for uncorrected errors, {pages.corrected or 0} for corrected ones"
    attrs = (("uncorrected", str(pages.uncorrected or 0)), ("corrected", str(pages.corrected or 0)))
    if pages.pending:
        detail = "a page waits for the driver to be loaded again to be retired"
        yield Observation(PENDING, place, Status.DEGRADED, detail, f"pending; {evidence}", attrs=attrs)
    if total >= max(1, options.full):
        detail = f"{total} retired pages, there is room for {PLACES}"
        yield Observation(FULL, place, Status.FAILED, detail, evidence, attrs=attrs)
    if pages.uncorrected is not None:
        beyond = max(0, pages.uncorrected - options.tolerated)
        detail = f"{pages.uncorrected} pages retired for uncorrected errors"
        yield Observation(UNCORRECTED, place, Status.OK, detail, evidence, attrs=attrs, counter=beyond)


CHECK = Check(
    name="retired_pages",
    title="Retired pages of GPU memory",
    source=Nvml(),
    observe=observe,
    codes=frozenset({PENDING, FULL, UNCORRECTED}),
    applies=has_gpus,
    needs="NVIDIA GPUs that retire pages (before A100)",
    options=Options(),
    complete=True,
    optional=True,
)
