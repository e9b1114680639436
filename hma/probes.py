"""Probes: the children that read driver libraries for the agent, and which source each of them serves.

Rules of this file:
- One child per library, whatever many checks want of it; it prints the lines of `hma.samples`.
- The agent only knows how to start it. What it loads can crash, hang and leak without the agent.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from hma.check import Dcgm, DcgmEvents, Nvml, NvmlEvents, Stream
from hma.config import Config

ROOT = str(Path(__file__).parents[1])
CODE = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from runpy import run_module; run_module(sys.argv.pop(1), None, '__main__', True)"
)
"""Runs a module of the very package that runs now, wherever it lies; what it needs of others is found as the agent finds it."""
PROBED = (Nvml, NvmlEvents, Dcgm, DcgmEvents)
Probed = Nvml | NvmlEvents | Dcgm | DcgmEvents
SAMPLES: Mapping[type, str] = MappingProxyType(
    {Nvml: "GpuReadings", NvmlEvents: "GpuEvents", Dcgm: "DcgmHealth", DcgmEvents: "DcgmViolations"}
)
"""The name of the sample type that each source gives."""
SILENCE_S = 150.0
"""A probe prints at least once a minute."""

Probes = Mapping[type, Stream]


def probes_of(config: Config, lock: str = "--lock") -> Probes:
    """Return the child to start for each kind of source; `lock="--peek"` beside an agent, whose probe has the driver."""
    nvml = _child(
        *("nvml", "--root", str(config.node.root), lock, str(config.run_dir / "nvml.lock")),
        *_option("--library", config.nvml.library),
    )
    dcgm = _child(
        *("dcgm", "--address", config.dcgm.address),
        *_option("--bindings", config.dcgm.bindings),
        *_option("--dcgmi", config.commands.get("dcgmi")),
    )
    return {Nvml: nvml, NvmlEvents: nvml, Dcgm: dcgm, DcgmEvents: dcgm}


def _child(name: str, *arguments: str) -> Stream:
    argv = (sys.executable, "-P", "-X", "utf8", "-c", CODE, ROOT, f"hma.sources.{name}_probe", *arguments)
    return Stream(argv, silence_s=SILENCE_S, max_line=1_048_576, name=f"{name} probe")


def _option(name: str, value: object) -> tuple[str, ...]:
    return () if value is None else (name, str(value))
