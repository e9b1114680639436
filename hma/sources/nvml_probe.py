"""The NVML probe, a child of the agent: `python -m hma.sources.nvml_probe --root / [--library PATH]`.

Rules of this file:
- Every tick it looks at the little that changes a verdict; all is read when that differs, when an event came, and every twelfth
  tick. Where nothing but jitter (degrees, watts) has changed since the last whole reading, one word says so.
- Without a driver it tries again every second tick, and says what is missing when that changes and at least every twelfth tick.
- A library that has lost its driver, or that does not list what the driver has, is left behind with its process
  (`Probe.start_over`): none is shut down and initialised again while the other thread is inside it.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from hma.gpu import Gpu, GpuReadings, NvmlDriver
from hma.sources.nvml_ask import CANNOT_TELL, Field, Library, Memory, Questions, Refused, pci_address
from hma.sources.nvml_calm import calm
from hma.sources.nvml_events import Listener, Session
from hma.sources.nvml_processes import FabricManagerWatch
from hma.sources.nvml_read import RECOVERY_ACTION, Round, identify, read_gpu
from hma.sources.probe import HUNG_S, Call, Probe, Worker, blind, boottime, doubled, line, name_process, options, same
from hma.sources.probe_lock import Lock

TICK_S = 5.0
TICKS_WHOLE = 12
TICKS_AGAIN = 120
TICKS_RETRY = 2
GAP_S = 1.0
"""Events cause no more than one whole reading in this time."""
RELIST_MOST_S = 3600.0
INFOROM_S = 3600.0
"""Its checksum is read from the board's flash memory."""
AGAIN_S = SETTLE_S = 60.0
INIT_TIMES = 6
"""The library may initialise for this many times as long as another call may take: GPUs without persistence mode start up."""

STATES = {12: "no_library", 13: "old_library", 9: "no_driver", 18: "mismatch", 4: "no_permission", 17: "no_permission"}
GONE_S = 2.0
"""For how long a probe of before may take to end."""
DRIVER_GONE = frozenset({1, 9})
DRIVER_DUBIOUS = frozenset({1, 9, 18, 999})

WATCHED = (
    *(Field(4, 0, "ecc"), Field(144, 0, "rows"), Field(145, 0, "rows")),
    *(Field(31, 0, "pages"), RECOVERY_ACTION),
)
"""Uncorrected errors since the driver was loaded, remapping pending and failed, page pending, recovery action."""
HELD_DOWN = 0x8 | 0x40 | 0x80
"""Clocks held down by the hardware, by its heat, by the power brake."""


class Known(NamedTuple):
    """A GPU in the driver's list: its handle (None where it is refused, `code` says with which code) and its address."""

    number: int
    handle: Any
    code: int
    text: str
    pci: str


class Settings(NamedTuple):
    """How to look: below which root, with which library (None = the loader finds it), for how long it may initialise, how
    often; `lost_at` is the boottime at which an earlier process saw the driver go, `relisted` how many of them started over
    for a GPU that was missing. `lock` is the file that says who has the driver; with `peek` it is looked at and not taken."""

    root: Path
    library: str | None = None
    init_s: float = INIT_TIMES * HUNG_S
    tick_s: float = TICK_S
    lost_at: float = 0.0
    relisted: int = 0
    lock: Path | None = None
    peek: bool = False


class Glance(NamedTuple):
    """What a tick sees of one GPU."""

    code: int
    reasons: int | None = None
    fields: tuple[int | None, ...] = ()


class Poller:
    """The first thread: initialises the library, looks, prints readings."""

    def __init__(self, nvml: Any, probe: Probe, session: Session, settings: Settings) -> None:
        self.nvml = nvml
        self.listener: Worker | None = None
        self._probe = probe
        self._session = session
        self._settings = settings
        self._lock = Lock(settings.lock)
        self._fabric = FabricManagerWatch(settings.root)
        self._driver = NvmlDriver("failed")
        self._known: tuple[Known, ...] = ()
        self._memories: dict[str, Memory] = {}
        self._glances: tuple[Glance, ...] | None = None
        self._rung = False
        self._dubious = 0
        self._opened = 0.0
        self._down = settings.lost_at
        """The last moment at which the driver was seen not to be up."""
        self._printed = self._inforom = self._whole = -INFOROM_S
        self._said: GpuReadings | None = None
        """The last whole reading that was printed, without its jitter."""

    def work(self, worker: Worker) -> None:
        """Look, tick by tick."""
        library = Library(self.nvml, worker)
        self._wait_for_others(worker)
        while not worker.leaving:
            if self._session.up or self._open(library):
                self._tick(library)
            self._sleep(worker)
        self._close(library)

    def hung(self, call: Call, seconds: float) -> str:
        """Return the line for a call that does not come back."""
        if not call.name.startswith("nvml"):  # our own reading of /proc, say: that is no fault of the driver
            return blind("GpuReadings", f"{call.name.lstrip('_')} has not come back for {seconds:.0f} s")
        self._lock.note(call.name, call.about, boottime() - seconds)
        driver = self._driver._replace(state="hung", code=0, text="", call=call.name, gpu=call.about, call_s=round(seconds, 1))
        return line(GpuReadings(driver))

    def _wait_for_others(self, worker: Worker) -> None:
        """Stay out of the driver for as long as a call of an earlier probe is stuck in it."""
        first = boottime()
        while not worker.leaving and not self._may_look():
            now, stuck = boottime(), self._lock.holder()
            if now - first >= GONE_S and (self._printed < first or now - self._printed >= AGAIN_S):
                since = stuck.since or first
                text = f"in a probe of before (pid {stuck.pid}) that does not end"
                driver = NvmlDriver("hung", text=text, call=stuck.call, gpu=stuck.gpu, call_s=round(now - since, 1))
                self._printed = now
                self._probe.say(line(GpuReadings(driver)))
                self._probe.say(blind("GpuEvents", "the driver does not answer (hung); see nvml_driver", told=True))
            worker.sleep(1.0)

    def _may_look(self) -> bool:
        if not self._settings.peek:
            return self._lock.take()
        return self._lock.free() or not self._lock.holder().call

    def _sleep(self, worker: Worker) -> None:
        """Sleep to the next point of the grid, where the node's timers meet; less where an event comes."""
        tick_s = self._settings.tick_s
        step_s = tick_s if self._session.up else TICKS_RETRY * tick_s
        now = boottime()
        self._rung = worker.sleep((now // step_s + 1) * step_s - now)
        if self._rung:  # a storm of events is no reason to read all the time
            worker.sleep(self._printed + min(GAP_S, tick_s) - boottime())

    def _due(self, now: float) -> bool:
        return now - self._printed >= (TICKS_WHOLE - 0.5) * self._settings.tick_s

    # -- the driver ---------------------------------------------------------------------------------------------------

    def _open(self, library: Library) -> bool:
        try:
            self._load(library)
            library.wait_for(self._settings.init_s, "nvmlInit")
            self._session.up = self._answered(library)
        except Refused as err:
            self._down = boottime()
            self._tell(NvmlDriver(STATES.get(err.code, "failed"), err.code, str(err)))
            return False
        if self.listener is not None:
            self.listener.ring()
        return True

    def _answered(self, library: Library) -> bool:
        """Note who answers; raises Refused, with the library shut down again, where nobody does."""
        try:
            count = library.ask("nvmlDeviceGetCount")
        except Refused:
            _quietly(library, "nvmlShutdown")
            raise
        self._opened = boottime()
        self._glances = None
        version, nvml_version = (_quietly(library, f"nvmlSystemGet{what}Version") for what in ("Driver", "NVML"))
        self._driver = NvmlDriver("up", version=version, nvml_version=nvml_version, gpu_count=count)
        return True

    def _load(self, library: Library) -> None:
        """Load the library from the path that the configuration names; otherwise the loader finds it."""
        if self._settings.library is None or self.nvml.nvmlLib is not None:
            return
        try:
            self.nvml.nvmlLib = library.worker.ask(ctypes.CDLL, self._settings.library)
        except OSError as err:
            raise Refused(12, str(err)) from None

    def _close(self, library: Library) -> None:
        """Shut the library down, unless the other thread is inside it."""
        if self._session.up and (self.listener is None or self.listener.call is None):
            self._session.up = False
            _quietly(library, "nvmlShutdown")

    def _tell(self, driver: NvmlDriver) -> None:
        """Print a reading without GPUs: where it says something new, and now and then."""
        now = boottime()
        self._said = None
        if driver != self._driver or self._due(now):
            self._driver, self._printed = driver, now
            self._probe.say(line(GpuReadings(driver)))
            if not self._session.up:
                self._probe.say(blind("GpuEvents", f"the driver does not answer ({driver.state}); see nvml_driver", told=True))

    def _up_s(self, now: float) -> float:
        """Return for how long the driver has been up: since its control device was made or we found it up, whichever is longer
        ago, but not from before it was seen down."""
        since = self._opened
        try:
            made = (self._settings.root / "dev/nvidiactl").stat().st_ctime
            since = min(since, now - (time.clock_gettime(time.CLOCK_REALTIME) - made))
        except OSError:
            pass  # a container that does not show it
        return round(now - max(since, self._down, 0.0), 1)

    def _lost(self) -> NoReturn:
        self._probe.start_over("--lost-at", f"{boottime():.1f}")

    def _relist(self, now: float) -> None:
        """Start over, more and more seldom, where the driver has GPUs that this library does not list.

        A library that was initialised while the GPUs were still coming up goes on with those that it found.
        """
        wait_s = doubled(TICKS_WHOLE * self._settings.tick_s, self._settings.relisted, RELIST_MOST_S)
        if now - self._opened < wait_s:
            return
        try:
            bound = len(list((self._settings.root / "proc/driver/nvidia/gpus").iterdir()))
        except OSError:
            return
        if bound > len(self._known):
            self._probe.start_over("--relisted", str(self._settings.relisted + 1))

    # -- one tick -----------------------------------------------------------------------------------------------------

    def _tick(self, library: Library) -> None:
        library.worker.about = ""
        try:
            count = library.ask("nvmlDeviceGetCount")
        except Refused as err:
            if err.code in DRIVER_GONE or self._dubious >= TICKS_RETRY:
                self._lost()
            self._dubious += 1
            self._tell(self._driver._replace(state=STATES.get(err.code, "failed"), code=err.code, text=str(err)))
            return
        self._list(library, count)
        glances = tuple(self._glance(library, known) for known in self._known)
        self._judge(glances)
        now = boottime()
        new = glances != self._glances or self._driver.state != "up"
        if library.worker.hung_before():
            self._said = None
        if self._said is None or new or self._rung or self._due(now):
            self._print(library, now)
            self._glances = glances

    def _judge(self, glances: tuple[Glance, ...]) -> None:
        """Leave this library behind where no GPU answers any more; have the other thread listen to those that do again."""
        before = glances if self._glances is None else self._glances
        if len(glances) != len(before) or any(old.code and not new.code for old, new in zip(before, glances, strict=True)):
            self._session.changes += 1
        bad = bool(glances) and all(glance.code in DRIVER_DUBIOUS for glance in glances)
        self._dubious = self._dubious + 1 if bad else 0
        if self._dubious > TICKS_RETRY and boottime() - self._opened > SETTLE_S:
            self._lost()

    def _list(self, library: Library, count: int) -> None:
        """Keep the list of GPUs: made anew when their number changes; a handle that was refused is asked for again."""
        before = self._known if len(self._known) == count else ()
        if not before or any(known.handle is None for known in before):
            self._known = tuple(self._know(library, number, before[number] if before else None) for number in range(count))

    def _know(self, library: Library, number: int, before: Known | None) -> Known:
        if before is not None and before.handle is not None:
            return before
        pci = before.pci if before else ""
        try:
            library.worker.about = pci
            handle = library.ask("nvmlDeviceGetHandleByIndex", number)
        except Refused as err:
            return Known(number, None, err.code, str(err), pci)
        try:
            pci = pci_address(library.ask("nvmlDeviceGetPciInfo", handle).busId)
        except Refused:
            pass  # its other answers will say why
        return Known(number, handle, 0, "", pci)

    def _glance(self, library: Library, known: Known) -> Glance:
        if known.handle is None:
            return Glance(known.code)
        library.worker.about = known.pci
        ask = Questions(library, known.handle, self._memory_of(known))
        try:
            library.ask("nvmlDeviceGetTemperature", known.handle, 0)
        except Refused as err:
            if err.code not in CANNOT_TELL:
                return Glance(err.code)
        try:
            reasons = ask.first("clocks", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
            values = ask.fields(WATCHED)
        except Refused as err:
            return Glance(err.code)
        return Glance(0, None if reasons is None else reasons & HELD_DOWN, tuple(values.get(field) for field in WATCHED))

    def _memory_of(self, known: Known) -> Memory:
        return self._memories.setdefault(known.pci, Memory()) if known.pci else Memory()

    # -- a whole reading ----------------------------------------------------------------------------------------------

    def _print(self, library: Library, now: float) -> None:
        self._relist(now)
        inforom = now - self._inforom >= INFOROM_S
        for memory in self._memories.values() if inforom else ():
            memory.doubt()
        branch = self._driver.version.partition(".")[0]
        this = Round(self._settings.root, now, inforom, int(branch) if branch.isdecimal() else 0)
        gpus = tuple(self._gpu(library, known, this) for known in self._known)
        library.worker.about = ""
        manager = library.worker.ask(self._fabric.find_fabric_manager)
        if inforom:
            self._inforom = now
        self._printed = now
        self._lock.clear()
        self._driver = self._driver._replace(state="up", code=0, text="", gpu_count=len(self._known), up_s=self._up_s(now))
        self._say(GpuReadings(self._driver, gpus, manager), now)

    def _say(self, reading: GpuReadings, now: float) -> None:
        """Print a whole reading, or, where it is the last one but for jitter, that it is."""
        said = calm(reading)
        if said == self._said and now - self._whole < (TICKS_AGAIN - 0.5) * self._settings.tick_s:
            self._probe.say(same("GpuReadings"))
            return
        self._said, self._whole = said, now
        self._probe.say(line(reading))

    def _gpu(self, library: Library, known: Known, this: Round) -> Gpu:
        if known.handle is None:
            return Gpu(known.number, known.pci, code=known.code, text=known.text)
        library.worker.about = known.pci
        ask = Questions(library, known.handle, self._memory_of(known))
        return read_gpu(ask, identify(ask, known.number, known.pci), this)


def _quietly(library: Library, name: str) -> str:
    """Return what a function without arguments says as text, "" where it says nothing."""
    try:
        return str(library.ask(name) or "")
    except Refused:
        return ""


def main(arguments: Sequence[str]) -> None:
    """Run until the agent is gone."""
    given = options(arguments, ("--root", "--library", "--hung-after", "--tick", "--lost-at", "--relisted", "--lock", "--peek"))
    try:
        import pynvml
    except ImportError as err:
        # Not "not applicable": it comes with hma, and the GPUs are there.
        sys.exit(f"nvidia-ml-py is not installed ({err}): pip install nvidia-ml-py")
    name_process("hma-nvml")
    hung_s = float(given.get("--hung-after", HUNG_S))
    settings = Settings(
        root=Path(given.get("--root", "/")),
        library=given.get("--library"),
        init_s=(INIT_TIMES - 1) * hung_s,
        tick_s=float(given.get("--tick", TICK_S)),
        lost_at=float(given.get("--lost-at", 0.0)),
        relisted=int(given.get("--relisted", 0)),
        lock=Path(place) if (place := given.get("--lock") or given.get("--peek")) else None,
        peek="--peek" in given,
    )
    probe, session = Probe(hung_s), Session()
    poller = Poller(pynvml, probe, session, settings)
    first = Worker(probe, poller.work, poller.hung)
    listener = Listener(pynvml, probe, session, first.ring)
    poller.listener = Worker(probe, listener.work, listener.hung)
    probe.run(first, poller.listener)


if __name__ == "__main__":
    main(sys.argv[1:])
