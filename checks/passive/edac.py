"""Memory errors since boot, as the memory controllers count them in sysfs: the route that no full kernel log can lose.

Rules of this file:
- The counters begin at zero with each boot (or load of the driver). One uncorrected error counts; corrected ones are wear, and
  count from `corrected` on.
- A node whose memory controllers the kernel does not show (every virtual machine) says nothing.
- `MEMORY-UE` is the code of the log line, too (`mce`): the same error told twice is one fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hma.check import Check, Files, Tree
from hma.model import NodeFacts, Observation, Status

MEMORY_UE = "MEMORY-UE"
MANY_CE = "MEMORY-CE-MANY"

_COUNT = re.compile(r"sys/devices/system/edac/mc/mc(?P<mc>\d{1,4})/(?P<kind>[cu]e)_count")


@dataclass(frozen=True, slots=True)
class Options:
    """`corrected`: corrected errors of one memory controller since boot from which they are reported."""

    corrected: int = 1_000


def observe(sample: Tree, node: NodeFacts, options: Options) -> Iterator[Observation]:
    """Return what each memory controller has counted."""
    for path in sorted(sample.files):
        found = _COUNT.fullmatch(path)
        text = sample.files[path].strip()
        if found is None or not text.isdecimal():
            continue
        count = int(text)
        uncorrected = found["kind"] == "ue"
        code, least, bad = (
            (MEMORY_UE, 1, Status.FAILED) if uncorrected else (MANY_CE, max(1, options.corrected), Status.DEGRADED)
        )
        status = bad if count >= least else Status.OK
        detail = f"{count} {'uncorrected' if uncorrected else 'corrected'} memory errors since boot"
        yield Observation(code, f"dimm:mc{int(found['mc'])}", status, detail, f"{path}: {text}", attrs=(("count", text),))


CHECK = Check(
    name="edac",
    title="Memory error counters",
    source=Files(("sys/devices/system/edac/mc/mc*/ue_count", "sys/devices/system/edac/mc/mc*/ce_count")),
    observe=observe,
    interval_s=300.0,  # the kernel log tells the same within milliseconds
    codes=frozenset({MEMORY_UE, MANY_CE}),
    options=Options(),
    needs="memory controllers that the kernel shows",
)
