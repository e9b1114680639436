"""What the checks of GPU memory share: how they say what they looked at.

One `ok` for the whole node says that there was something to look at, and what people read in `hma check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from checks.passive._gpus import NODE, Look
from hma.model import Observation, Status

T = TypeVar("T")


def looked_at(found: Look[T], code: str, said: Iterable[Observation], fine: str) -> Iterator[Observation]:
    """Yield what was seen, then one `ok` for the node: how many GPUs were looked at, and `fine` where nothing is wrong."""
    bad = set()
    for one in said:
        if one.status in (Status.DEGRADED, Status.FAILED):
            bad.add(one.component)
        yield one
    if found.parts:
        detail = f"{gpus(len(found.parts))}, {f'{len(bad)} not well' if bad else fine}"
        yield Observation(code, NODE, Status.OK, detail)


def gpus(count: int) -> str:
    """Return `1 GPU`, `8 GPUs`."""
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def numbers(**values: int | None) -> str:
    """Return the values that are there as evidence: `volatile_uncorrected 2, aggregate_uncorrected 5`."""
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
