"""The events of the driver library, as they happen: the second thread of the NVML probe.

Rules of this file:
- A GPU that fails is left out of the set: it would make the wait return at once for ever, and deafen us to the others.
- The wait is long: the library is woken by the event, not by the time. Its end is a sign of life now and then.
- What happens between the end of one set and the beginning of the next is lost here; the kernel log tells it as well.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from hma.gpu import GpuEvent, GpuEvents
from hma.sources.nvml_ask import CANNOT_TELL, Library, Refused, pci_address
from hma.sources.probe import Call, Probe, Worker, blind, boottime, doubled, line

XID = 0x8
WANTED = 0x1 | 0x2 | XID | 0xFE00
"""Corrected and uncorrected ECC errors, XIDs, and of newer drivers: ECC storm, retirement of memory, poison, GPU unavailable,
recovery action."""
TIMEOUT = 10
NO_EVENTS = 0
"""No error of NVML: there is nothing to register for."""
WAIT_S = 15.0
SAY_S = 55.0
MOST = 64
RETRY_S = 1.0
RETRY_MAX_S = 60.0
AGAIN_S = 300.0
"""After this long a GPU that was left out is tried again."""
NO_INSTANCE = 0xFFFF_FFFF


class Session:
    """What the two threads share: whether the library is up, and how often its GPUs have changed."""

    def __init__(self) -> None:
        self.up = False
        self.changes = 0


class Ear(NamedTuple):
    """A GPU that is listened to."""

    number: int
    pci: str
    uuid: str


class Listener:
    """`work` runs in its own thread; `heard` is called after each batch of events."""

    def __init__(self, nvml: Any, probe: Probe, session: Session, heard: Callable[[], None]) -> None:
        self._nvml = nvml
        self._probe = probe
        self._session = session
        self._heard = heard
        self._deaf: frozenset[int] = frozenset()
        self._said = 0.0
        self._failures = 0

    def work(self, worker: Worker) -> None:
        """Listen for as long as the library is up."""
        library = Library(self._nvml, worker)
        while not worker.leaving:
            if not self._session.up:
                worker.sleep(WAIT_S)
                continue
            try:
                self._listen(library)
            except Refused as err:
                self._recover(library, err)

    def hung(self, call: Call, seconds: float) -> str:
        """Return the line for a call that does not come back."""
        return blind("GpuEvents", f"{call.name} has not come back for {seconds:.0f} s")

    # -- one set ------------------------------------------------------------------------------------------------------

    def _listen(self, library: Library) -> None:
        events = library.ask("nvmlEventSetCreate")
        try:
            ears = self._register(library, events)
            self._say(GpuEvents())
            self._wait(library, events, ears)
        finally:
            try:
                library.ask("nvmlEventSetFree", events)
            except Refused:
                pass  # it belongs to a driver that is gone

    def _register(self, library: Library, events: Any) -> dict[int | None, Ear]:
        ears: dict[int | None, Ear] = {}
        trouble = Refused(NO_EVENTS, "no GPU of this node supports events")
        for number in range(library.ask("nvmlDeviceGetCount")):
            if number in self._deaf:
                continue
            try:
                device = library.ask("nvmlDeviceGetHandleByIndex", number)
                kinds = library.ask("nvmlDeviceGetSupportedEventTypes", device) & WANTED
                if kinds:
                    library.ask("nvmlDeviceRegisterEvents", device, kinds, events)
                    ears[_address(device)] = Ear(number, *_named(library, device))
            except Refused as err:
                if err.code not in CANNOT_TELL:
                    trouble = err
                    self._deaf |= {number}
        if not ears:
            raise trouble
        return ears

    def _wait(self, library: Library, events: Any, ears: dict[int | None, Ear]) -> None:
        changes, began = self._session.changes, time.monotonic()
        while not library.worker.leaving and self._session.up and changes == self._session.changes:
            found = self._next(library, events, ears)
            self._failures = 0
            if found:
                self._say(GpuEvents(tuple(found)))
                self._heard()
            elif library.worker.hung_before() or time.monotonic() - self._said >= SAY_S:
                self._say(GpuEvents())
            if self._deaf and time.monotonic() - began > AGAIN_S:
                self._deaf = frozenset()
                return
        if changes != self._session.changes:
            self._deaf = frozenset()

    def _next(self, library: Library, events: Any, ears: dict[int | None, Ear]) -> list[GpuEvent]:
        """Return the events that came, none after a while without any."""
        found: list[GpuEvent] = []
        try:
            while len(found) < MOST:
                wait_s = 0.0 if found else WAIT_S
                data = library.wait_for(wait_s, "nvmlEventSetWait_v2", events, int(1000 * wait_s))
                found.append(_event(data, ears.get(_address(data.device), Ear(-1, "", ""))))
        except Refused as err:
            if err.code != TIMEOUT and not found:
                raise
        return found

    # -- when it cannot -----------------------------------------------------------------------------------------------

    def _recover(self, library: Library, err: Refused) -> None:
        """Leave out the GPUs that fail and begin anew; at once the first time, then more and more slowly."""
        failing = self._failing(library)
        if failing - self._deaf:
            self._deaf |= failing
            return
        self._failures += 1
        if self._failures == 2 or time.monotonic() - self._said >= SAY_S:
            # GPUs that have no events (a slice of one, say) are nothing that could be mended.
            self._probe.say(blind("GpuEvents", str(err), told=err.code == NO_EVENTS))
            self._said = time.monotonic()
        library.worker.sleep(doubled(RETRY_S, self._failures - 1, RETRY_MAX_S))
        self._deaf = failing

    def _failing(self, library: Library) -> frozenset[int]:
        try:
            count = library.ask("nvmlDeviceGetCount")
        except Refused:
            return frozenset()
        return frozenset(number for number in range(count) if not _answers(library, number))

    def _say(self, events: GpuEvents) -> None:
        self._probe.say(line(events))
        self._said = time.monotonic()


def _answers(library: Library, number: int) -> bool:
    try:
        library.ask("nvmlDeviceGetTemperature", library.ask("nvmlDeviceGetHandleByIndex", number), 0)
    except Refused as err:
        return err.code in CANNOT_TELL
    return True


def _event(data: Any, ear: Ear) -> GpuEvent:
    gi, ci = int(data.gpuInstanceId), int(data.computeInstanceId)
    return GpuEvent(
        *(ear.pci, int(data.eventType), int(data.eventData), boottime(), ear.uuid),
        gi=None if gi == NO_INSTANCE else gi,
        ci=None if ci == NO_INSTANCE else ci,
    )


def _named(library: Library, device: Any) -> tuple[str, str]:
    pci = pci_address(library.ask("nvmlDeviceGetPciInfo", device).busId)
    try:
        return pci, library.ask("nvmlDeviceGetUUID", device)
    except Refused:
        return pci, ""


def _address(device: Any) -> int | None:
    return ctypes.cast(device, ctypes.c_void_p).value
