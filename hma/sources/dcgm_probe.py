"""Asks a running DCGM host engine for the agent, in a child that it can abandon: `python -m hma.sources.dcgm_probe`.

    --address HOST:PORT | unix:///path   the host engine (localhost:5555)
    --bindings DIR                       where its Python bindings lie; without it, where DCGM 4 and 3 install them
    --dcgmi PATH                         the program to use where there are no bindings; without it, searched in PATH
    --poll, --retry, --hung-after, --run SECONDS
                                         instead of the route's own, RETRY_S, HUNG_S and RUN_S

Rules of this file:
- It prints DcgmHealth when it changes, else once a minute, and DcgmViolations as they come, an empty one as a sign of life.
- A count that was told is not told again: many versions of DCGM take a policy for violated at every look (every 10 s) as long
  as a counter is above zero, not when it grows.
- A host engine that is gone, one that does not answer and one that refuses are states of DcgmHealth; then nothing is known of
  violations.
- What is not installed (neither usable bindings nor dcgmi) is exit code 69, and so is a host engine that was not there from the
  start: many images bring DCGM along and never start it, and a process that waits for it would be there for nothing.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from hma.gpu import DcgmEngine, DcgmGpu, DcgmHealth, DcgmIncident, DcgmViolation, DcgmViolations
from hma.sources import dcgm_bindings
from hma.sources.dcgm_program import RUN_S, Program
from hma.sources.dcgm_route import VIOLATIONS_MAX, Route, Told, Trouble
from hma.sources.probe import HUNG_S, Call, Probe, Worker, blind, line, name_process, options, unavailable

ADDRESS = "localhost:5555"
OPTIONS = ("--address", "--bindings", "--dcgmi", "--poll", "--retry", "--hung-after", "--run")
AGAIN_S = 60.0
"""A line at least this often."""
RETRY_S = 5.0
RETRY_MAX_S = 60.0
"""Until the next try to reach the host engine: doubling."""
SEEN_MAX = 10_000


class Watch:
    """The two threads: one asks for the health, the other tells the violations as they come."""

    def __init__(self, probe: Probe, route: Route, address: str, poll_s: float, retry_s: float) -> None:
        self._probe = probe
        self._route = route
        self._address = address
        self._poll_s = poll_s
        self._retry_s = self._wait_s = retry_s
        self._greet = self._reached = False
        self._said: DcgmHealth | None = None
        self._said_at = 0.0
        self._gpus: tuple[DcgmGpu, ...] = ()
        self._note = ""
        self._deaf = "no host engine has been reached yet"
        self._told: deque[Told] = deque(maxlen=VIOLATIONS_MAX)
        self._seen: set[tuple[int, int, int, float]] = set()
        self.asker = Worker(probe, self._ask, self._hung)
        self.teller = Worker(probe, self._tell, self._hung)

    # -- health --------------------------------------------------------------------------------------------------------

    def _ask(self, worker: Worker) -> None:
        while not worker.leaving:
            try:
                self._begin(worker)
                self._stay(worker)
            except Trouble as err:
                if err.state == "no_engine" and not self._reached:
                    self._probe.give_up(f"no DCGM host engine at {self._address}: {err}")
                self._hush(f"{self._address}: {err}")
                self._say(DcgmHealth(self._engine(err.state, err.code, str(err)), self._gpus))
            self._route.close(worker)
            if not worker.leaving:
                worker.sleep(self._wait_s)
                self._wait_s = min(RETRY_MAX_S, 2 * self._wait_s)

    def _begin(self, worker: Worker) -> None:
        """Reach the host engine, and listen to it."""
        self._note = ""
        self._seen.clear()
        self._route.open(worker)
        self._reached = True
        self._gpus = self._route.gpus(worker)
        self._listen(worker)

    def _stay(self, worker: Worker) -> None:
        """Ask until that fails."""
        while not worker.leaving:
            incidents = self._route.health(worker)
            self._wait_s = self._retry_s
            forced = worker.hung_before()
            self._show(incidents, forced)
            if forced:
                self._greet_again()
            if not self._gpus:  # a host engine that starts before the driver is up
                self._gpus = self._route.gpus(worker)
            if not self._deaf and self._route.deaf():
                self._hush(self._route.deaf())
            elif self._deaf:
                self._listen(worker)
            worker.sleep(self._poll_s)

    def _listen(self, worker: Worker) -> None:
        try:
            self._note = self._route.listen(worker, self._gpus, self._violated)
        except Trouble as err:
            if err.state != "failed":
                raise
            self._hush(f"violations are not told: {err}")
            return
        self._deaf = ""
        self._greet_again()

    def _greet_again(self) -> None:
        """Have it said at once that violations are being listened to."""
        self._greet = True
        self.teller.ring()

    def _show(self, incidents: tuple[DcgmIncident, ...], forced: bool) -> None:
        said = DcgmHealth(self._engine("up", 0, self._note), self._gpus, incidents)
        if forced or said != self._said or time.monotonic() - self._said_at >= AGAIN_S:
            self._say(said)

    def _say(self, health: DcgmHealth) -> None:
        self._said, self._said_at = health, time.monotonic()
        self._probe.say(line(health))

    def _engine(self, state: str, code: int = 0, text: str = "") -> DcgmEngine:
        return DcgmEngine(state, self._route.name, code, text, self._route.version, self._address)

    # -- violations ----------------------------------------------------------------------------------------------------

    def _violated(self, told: Told) -> None:
        """Take a violation; called in a thread of others, which must not wait."""
        self._told.append(told)
        self.teller.ring()

    def _tell(self, worker: Worker) -> None:
        due = 0.0
        while not worker.leaving:
            fresh = tuple(self._fresh())
            now = time.monotonic()
            if fresh or (not self._deaf and (self._greet or now >= due)):
                self._greet = False
                self._probe.say(line(DcgmViolations(fresh)))
                due = now + AGAIN_S
            worker.sleep(AGAIN_S if self._deaf else due - now)

    def _fresh(self) -> list[DcgmViolation]:
        places: Mapping[int, str] = {gpu.gpu_id: gpu.pci for gpu in self._gpus}
        fresh = []
        while self._told:
            told = self._told.popleft()
            key = (told.condition, told.gpu, told.field, told.value)
            if told.counted:
                if key in self._seen:
                    continue
                if len(self._seen) >= SEEN_MAX:
                    self._seen.clear()
                self._seen.add(key)
            fresh.append(DcgmViolation(told.condition, told.value, told.at, places.get(told.gpu, ""), told.field))
        return fresh

    def _hush(self, why: str) -> None:
        """Say that violations are no longer heard, once a try."""
        self._deaf = why
        self._probe.say(blind("DcgmViolations", why))

    def _hung(self, call: Call, out_s: float) -> str:
        """Return the lines on a call that does not come back."""
        what = f"{call.name.lstrip('_')} {call.about}".strip()
        text = f"{what} has not come back for {out_s:.0f} s"
        health = line(DcgmHealth(self._engine("hung", 0, text), self._gpus))
        return f"{health}\n{blind('DcgmViolations', text)}"


def main(arguments: Sequence[str]) -> NoReturn:
    """Run until the agent goes away."""
    given = options(arguments, OPTIONS)
    name_process("hma-dcgm")
    address = given.get("--address", ADDRESS)
    route = _route(given, address)
    probe = Probe(float(given.get("--hung-after", HUNG_S)))
    poll_s = float(given.get("--poll", route.poll_s))
    watch = Watch(probe, route, address, poll_s, float(given.get("--retry", RETRY_S)))
    probe.run(watch.asker, watch.teller)


def _route(given: Mapping[str, str], address: str) -> Route:
    """Return the way to DCGM here; ends the process where there is none."""
    folder = given.get("--bindings")
    modules = dcgm_bindings.load(Path(folder) if folder else None)
    if not isinstance(modules, str):
        return dcgm_bindings.Bindings(modules, address)
    program = given.get("--dcgmi") or shutil.which("dcgmi")
    if not (program and shutil.which(program)):
        unavailable(f"DCGM is not installed: no dcgmi{f' at {program}' if program else ''}; {modules}")
    return Program(program, address, float(given.get("--run", RUN_S)))


if __name__ == "__main__":
    main(sys.argv[1:])
