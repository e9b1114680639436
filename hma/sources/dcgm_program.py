"""DCGM through its program dcgmi, where there are no bindings that can be used.

Rules of this file:
- One run at a time, with a time limit and a cap on what it may print. One that does not end after SIGKILL (state D) is kept in
  mind, and no other is started as long as it is there.
- They stay in our process group and end with us: whoever kills the probe kills them.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from hma.gpu import DcgmGpu, DcgmIncident
from hma.sources import dcgm_cli, dcgm_route
from hma.sources.dcgm_route import Told, Trouble, state_of
from hma.sources.probe import Worker, boottime

RUN_S = 20.0
KILLED_S = 1.0
OUTPUT_MAX = 1_048_576
LINE_MAX = 4_096
POLL_S = 60.0
"""A run costs more than a call: it loads the library and connects each time."""
ALL_GPUS = "0"
"""The group that every host engine makes of all GPUs."""
LETTERLESS = frozenset({"Driver", "SM", "ConnectX"})
"""Watches that `dcgmi health -s a` does not mean, in one version or another."""
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)

T = TypeVar("T")


class Program:
    """The route through dcgmi; see hma.sources.dcgm_route.Route."""

    name = "dcgmi"
    poll_s = POLL_S

    def __init__(self, path: str, address: str, run_s: float = RUN_S) -> None:
        self.version = ""
        self._path = path
        self._address = address
        self._run_s = run_s
        self._out: subprocess.Popen[bytes] | None = None
        self._gpus: tuple[DcgmGpu, ...] = ()
        self._listener: _Listener | None = None

    def open(self, worker: Worker) -> None:
        """Switch on the watches that are off."""
        if not self.version:
            self.version = dcgm_cli.version(self._run(worker, "--version"))
        on = self._read(worker, dcgm_cli.watched, "health", "-g", ALL_GPUS, "-f", "-j")
        missing = {name for name, state in on.items() if not state} - LETTERLESS
        # `-s a` replaces what is on by all that it knows: where more than that is on, it would take something away.
        if missing and not any(on.get(name) for name in LETTERLESS):
            self._run(worker, "health", "-g", ALL_GPUS, "-s", "a")

    def gpus(self, worker: Worker) -> tuple[DcgmGpu, ...]:
        """Return the GPUs of `dcgmi discovery`."""
        self._gpus = self._read(worker, dcgm_cli.discovered, "discovery", "-l")
        return self._gpus

    def listen(self, worker: Worker, gpus: Sequence[DcgmGpu], told: Callable[[Told], None]) -> str:  # noqa: ARG002  (a route)
        """Set our policy where nobody has set one, and read the violations that `dcgmi policy --reg` prints."""
        note = ""
        condition = self._read(worker, dcgm_cli.policy, "policy", "-g", ALL_GPUS, "--get", "-v", "-j")
        if condition not in (0, dcgm_route.OURS):
            note = dcgm_route.foreign(condition)
        if not condition:
            limits = ("-M", str(dcgm_route.MAX_PAGES), "-T", str(dcgm_route.MAX_TEMPERATURE_C))
            self._run(worker, "policy", "-g", ALL_GPUS, "--set", "0,0", *limits, "-e", "-p", "-n", "-x")
        if self._listener is not None and not self._listener.gone():
            raise Trouble("failed", 0, f"dcgmi policy --reg (pid {self._listener.pid}) does not end")
        self._listener = _Listener(self._start(worker, "policy", "-g", ALL_GPUS, "--reg"), told)
        return note

    def deaf(self) -> str:
        """Return why `dcgmi policy --reg` is no longer heard, "" while it is."""
        if self._listener is None:
            return "dcgmi policy --reg does not run"
        return self._listener.ended

    def health(self, worker: Worker) -> tuple[DcgmIncident, ...]:
        """Return the incidents of `dcgmi health`."""
        gpus = self._gpus
        return self._read(worker, lambda text: dcgm_cli.incidents(text, gpus), "health", "-g", ALL_GPUS, "-c", "-j")

    def close(self, worker: Worker) -> None:  # noqa: ARG002  (a route)
        """End what runs."""
        for process in (self._out, self._listener.process if self._listener else None):
            if process is not None and process.poll() is None:
                process.kill()

    # -- runs ----------------------------------------------------------------------------------------------------------

    def _read(self, worker: Worker, parse: Callable[[str], T], *arguments: str) -> T:
        text = self._run(worker, *arguments)
        try:
            return parse(text)
        except dcgm_cli.CliError as err:
            raise Trouble("failed", 0, str(err)) from err

    def _run(self, worker: Worker, *arguments: str) -> str:
        """Return what a run prints; raises Trouble where it fails or does not end in time."""
        out = self._out
        if out is not None and out.poll() is None:
            raise Trouble("hung", 0, f"dcgmi (pid {out.pid}) does not end")
        process = self._out = self._start(worker, *arguments)
        worker.about = arguments[0]
        try:
            text = worker.wait_for(self._run_s + KILLED_S, self._finish, process, arguments[0])
        finally:
            worker.about = ""
        if process.returncode:
            code = dcgm_cli.returned(process.returncode)
            said = dcgm_cli.complaint(text) or f"dcgmi {arguments[0]} ended with {process.returncode}"
            raise Trouble(state_of(code), code, said)
        return text

    def _start(self, worker: Worker, *arguments: str) -> subprocess.Popen[bytes]:
        host = () if arguments == ("--version",) else ("--host", self._address)
        argv = (self._path, arguments[0], *host, *arguments[1:])
        try:
            return worker.ask(_started, argv)
        except OSError as err:
            raise Trouble("failed", 0, f"{self._path}: {err.strerror or err}") from err

    def _finish(self, process: subprocess.Popen[bytes], what: str) -> str:
        assert process.stdout is not None
        until = time.monotonic() + self._run_s
        said = bytearray()
        problem = ""
        fd = process.stdout.fileno()
        while not problem:
            if not select.select((fd,), (), (), max(0.0, until - time.monotonic()))[0]:
                problem = f"dcgmi {what}: no end within {self._run_s:g} s"
                break
            piece = os.read(fd, 65_536)
            if not piece:
                break
            said += piece
            problem = f"dcgmi {what}: more than {OUTPUT_MAX} bytes" if len(said) > OUTPUT_MAX else ""
        if problem:
            process.kill()
        process.stdout.close()
        try:
            process.wait(max(KILLED_S, 0.0 if problem else until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            raise Trouble("hung", 0, problem or f"dcgmi {what}: does not end") from None
        if problem:
            raise Trouble("hung" if "no end" in problem else "failed", 0, problem)
        return said.decode("utf-8", "replace")


class _Listener:
    """Reads a running `dcgmi policy --reg` in a thread of its own."""

    def __init__(self, process: subprocess.Popen[bytes], told: Callable[[Told], None]) -> None:
        self.process = process
        self.pid = process.pid
        self.ended = ""
        self._told = told
        threading.Thread(target=self._read, name="policy", daemon=True).start()

    def gone(self) -> bool:
        """Kill it if it still runs, and return whether it has ended."""
        if self.process.poll() is None:
            self.process.kill()
            try:
                self.process.wait(KILLED_S)
            except subprocess.TimeoutExpired:
                return False
        return True

    def _read(self) -> None:
        assert self.process.stdout is not None
        violations = dcgm_cli.Violations()
        last = ""
        while line := self.process.stdout.readline(LINE_MAX):
            last = line.decode("utf-8", "replace").strip() or last
            told = violations.read(last, boottime())
            if told is not None:
                self._told(told)
        self.process.stdout.close()
        self.ended = f"dcgmi policy --reg has ended; it last said: {last[:160]}"


def _started(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=_end_with_us,  # noqa: PLW1509  (one call of the C library, looked up before)
    )


def _end_with_us() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
