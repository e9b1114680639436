"""The driver library and the DCGM host engine of a story: the stand-ins of both, and what happens to them.

Rules of this file:
- Without a library nothing is made of it, and the checks that ask it are switched off: this machine may have a real one.
- DCGM is there in the stories that tell of it, and switched off in the others, for the same reason.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from hma.check import Dcgm as DcgmSource
from hma.check import DcgmEvents, NvmlEvents
from hma.check import Nvml as NvmlSource
from hma.cli import dcgm_stand_in, nvml_stand_in
from hma.cli.beats import Dcgm, DcgmViolation, DeviceBeat, NvmlBack, NvmlEvent, NvmlHang
from hma.cli.dcgm_stand_in import DcgmState
from hma.cli.frozen_disk import frozen_disk, thaw, why_not
from hma.cli.nvml_stand_in import NvmlState, StandInError, tell_event
from hma.cli.nvml_values import DRIVERS, healthy
from hma.cli.simulated_node import LAYOUTS
from hma.loader import find_checks

DRIVER = "580"
DCGM_VERSION = "4.2.3"
LISTEN_S = 10.0
_HANG = ("hang", "hang_gpu", "hang_path")


def library(folder: Path) -> Path:
    """Return the stand-in of the driver library, compiled into `folder`; raises StandInError where that cannot be done."""
    return nvml_stand_in.build(folder, missing=DRIVERS[DRIVER].missing)


class Devices:
    """What the agent asks of the GPUs, besides the programs: `settings` are its keys of the configuration, `environ` is for its
    environment, `off` are the checks that have nothing to ask."""

    def __init__(self, place: Path, instance_type: str, library: Path | None, *, with_dcgm: bool) -> None:
        self.settings: dict[str, str] = {}
        self.environ: dict[str, str] = {}
        self._place = place
        self._events = place / "driver-events"
        self._frozen: Path | None = None
        self._ends = contextlib.ExitStack()
        self._nvml = self._driver(instance_type, library) if library is not None else None
        self._dcgm = self._host_engine(instance_type) if with_dcgm else None
        lacking = (*(() if self._nvml else (NvmlSource, NvmlEvents)), *(() if self._dcgm else (DcgmSource, DcgmEvents)))
        self.off = tuple(check.name for check in find_checks(lambda _: None) if isinstance(check.source, lacking))

    @property
    def has_library(self) -> bool:
        """Whether the driver library is there."""
        return self._nvml is not None

    def close(self) -> None:
        """Let go whatever hangs."""
        self._ends.close()

    def play(self, beat: DeviceBeat) -> str:
        """Let it happen; return it in words."""
        if isinstance(beat, Dcgm | DcgmViolation):
            return self._to_dcgm(beat)
        if self._nvml is None:
            return "left out: there is no driver library in this story"
        if isinstance(beat, NvmlEvent):
            return self._tell(beat)
        if isinstance(beat, NvmlHang):
            return self._hang(beat, self._nvml)
        if isinstance(beat, NvmlBack):
            self._nvml.drop(*_HANG)
            if self._frozen is not None:
                thaw(self._frozen)
            return "from now on: every call comes back"
        self._nvml.update(beat.changes)
        return f"from now on: {beat.words}"

    # -- the driver library --------------------------------------------------------------------------------------------

    def _driver(self, instance_type: str, library: Path) -> NvmlState:
        folder = self._place / "driver"  # the library watches it
        folder.mkdir()
        state = NvmlState(folder / "state", healthy(instance_type, DRIVER))
        os.mkfifo(self._events)
        self.settings["nvml"] = f"{{library: {library}}}"
        self.environ |= {nvml_stand_in.STATE: str(state.path), nvml_stand_in.EVENTS: str(self._events)}
        return state

    def _tell(self, event: NvmlEvent) -> str:
        until = time.monotonic() + LISTEN_S
        while True:
            try:
                tell_event(self._events, event.gpu, nvml_stand_in.XID, event.xid)
                return f"event: XID {event.xid} on GPU {event.gpu}"
            except StandInError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _hang(self, beat: NvmlHang, nvml: NvmlState) -> str:
        keys: dict[str, str | int] = {"hang": beat.function, "hang_gpu": beat.gpu}
        words = f"from now on: {beat.function} does not come back for GPU {beat.gpu}"
        if why := why_not():
            nvml.update(keys)
            return f"{words}; state D for real is not to be had: {why}"
        self._frozen = self._ends.enter_context(frozen_disk(self._place / "driver-disk"))
        nvml.update({**keys, "hang_path": f"{self._frozen}/file"})
        return f"{words}, and sleeps in state D for real (a frozen disk)"

    # -- DCGM ----------------------------------------------------------------------------------------------------------

    def _host_engine(self, instance_type: str) -> DcgmState:
        folder = self._place / "dcgm"
        bindings, _ = dcgm_stand_in.install(folder, DCGM_VERSION)
        state = DcgmState(folder / "engine")
        state.set(gpus=dcgm_stand_in.gpus(_addresses(instance_type)))
        self.settings["dcgm"] = f"{{bindings: {bindings}}}"
        self.environ[dcgm_stand_in.STATE] = str(state.path)
        return state

    def _to_dcgm(self, beat: Dcgm | DcgmViolation) -> str:
        assert self._dcgm is not None, "a story that tells of DCGM has one"
        if isinstance(beat, Dcgm):
            self._dcgm.set(**beat.keys)
            return f"from now on: {beat.words}"
        self._dcgm.violate(beat.condition, beat.gpu, beat.value)
        return f"notifies: {beat.words}"


def _addresses(instance_type: str) -> tuple[str, ...]:
    groups = (group for group in LAYOUTS[instance_type] if group.vendor == "10de" and group.pci_class.startswith("03"))
    return tuple(address.removesuffix(".0") for group in groups for address in group.addresses)


def who(beat: DeviceBeat) -> str:
    """Return who speaks."""
    return "dcgm" if isinstance(beat, Dcgm | DcgmViolation) else "driver"
