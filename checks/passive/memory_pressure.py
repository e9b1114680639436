"""Memory pressure: the share of time in which nothing on the node could run because all waited for memory.

Rules of this file:
- `full avg60` of PSI: in percent, over the last minute. A kernel without PSI, or with PSI switched off (`psi=1` turns it on),
  says nothing here.
- Format: Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hma.check import Check, Files, Tree
from hma.model import NodeFacts, Observation, Status

SOURCE = "proc/pressure/memory"
CODE = "MEMORY-PRESSURE"

_FULL = re.compile(r"^full avg10=(\d{1,3}\.\d{2}) avg60=(\d{1,3}\.\d{2}) avg300=(\d{1,3}\.\d{2}) total=\d+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Options:
    """`full`: percent of the last minute in which all waited for memory, from which the node is under pressure."""

    full: float = field(default=20.0, metadata={"least": 0.1, "most": 100.0})


def observe(sample: Tree, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return whether the node stands still for want of memory; nothing where the kernel does not measure it."""
    text = sample.files.get(SOURCE, "")
    found = _FULL.search(text)
    if found is None:
        return
    status = Status.DEGRADED if float(found[2]) >= options.full else Status.OK
    detail = f"everything waited for memory {found[2]} % of the last minute"
    yield Observation(CODE, "host", status, detail, found[0], attrs=(("full_avg60", found[2]),))


CHECK = Check(
    name="memory_pressure",
    title="Memory pressure",
    source=Files((SOURCE,)),
    observe=observe,
    codes=frozenset({CODE}),
    interval_s=60.0,
    options=Options(),
    needs="a kernel with PSI",
)
