"""A simulated node whose driver library does as a test says: the compiled stand-in, read by the real probe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hma.cli.nvml_stand_in import EVENTS, STATE, XID, NvmlState, build, tell_event
from hma.cli.nvml_values import DRIVERS, healthy
from tests.agent_run import Node, Running

SETTLED = {"checks.gpu_count_nvml.settle": "0s"}
"""The node was made a moment ago, so its driver cannot have been up for long."""


class GpuNode(Node):
    """A node with a driver. `nvml` is its state; `tell` lets an event happen."""

    def __init__(
        self,
        place: Path,
        library: Path,
        instance_type: str = "p5.48xlarge",
        driver: str = "580",
        programs: Mapping[str, Path] | None = None,
    ) -> None:
        super().__init__(place, instance_type, programs)
        (place / "driver").mkdir()
        self.nvml = NvmlState(place / "driver" / "state", healthy(instance_type, driver))
        self.events = place / "events"
        os.mkfifo(self.events)
        self.settings |= {"nvml.library": str(library), **SETTLED}
        self.environ = {STATE: str(self.nvml.path), EVENTS: str(self.events)}

    def start(self, **environ: str) -> Running:
        """Start an agent."""
        return super().start(**self.environ, **environ)

    def tell(self, gpu: int, number: int) -> None:
        """Let an XID happen on a GPU, as the driver tells it to the library."""
        tell_event(self.events, gpu, XID, number)


def library(folder: Path, driver: str = "580") -> Path:
    """Return the library of a driver, compiled into `folder`."""
    return build(folder, missing=DRIVERS[driver].missing)
