"""GPUs that the driver could not start: what the kernel log says when a GPU is on the bus and missing everywhere else.

The driver tells it at every try, once with its own code numbers and once without; a program that asks again and again makes it
try again and again. `osinit.c` of NVIDIA/open-gpu-kernel-modules; older drivers name a device number and no address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from checks.passive._gpus import NODE, has_gpus
from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import NodeFacts, Observation, Status

CODE = "GPU-INIT-FAILED"
_LINE = re.compile(
    r"NVRM: (?:GPU (?P<domain>[0-9a-fA-F]{4,8}):(?P<bus>[0-9a-fA-F]{2}):(?P<device>[0-9a-fA-F]{2})\.[0-7]: )?"
    r"(?:RmInitAdapter failed! \((?P<why>0x[0-9a-fA-F]{1,8}:0x[0-9a-fA-F]{1,8}:\d{1,6})\)|rm_init_adapter failed\b.{0,60})\s*",
    re.ASCII,
)


def observe(sample: Lines, node: NodeFacts, options: NoOptions) -> Iterator[Observation]:
    """Return one observation for each line that says so."""
    for line in sample.lines:
        found = _LINE.fullmatch(line.text)
        if found is not None:
            yield _failed(line, found)


def _failed(line: KernelLine, found: re.Match[str]) -> Observation:
    place = NODE
    if found["domain"]:
        place = f"gpu:{int(found['domain'], 16):04x}:{found['bus']}:{found['device']}".lower()
    why = f" ({found['why']})" if found["why"] else ""
    attrs = (("init_error", found["why"]),) if found["why"] else ()
    detail = f"the driver could not start the GPU{why}"
    return Observation(CODE, place, Status.FAILED, detail, line.text, at=line.at, attrs=attrs)


CHECK = Check(
    name="gpu_init",
    title="GPUs that the NVIDIA driver could not start, in the kernel log",
    source=KernelLog(rb"NVRM: .{0,40}(?:RmInitAdapter failed! |rm_init_adapter failed)"),
    observe=observe,
    codes=frozenset({CODE}),
    applies=has_gpus,
    needs="NVIDIA GPUs",
)
