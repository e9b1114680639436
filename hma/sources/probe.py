"""What the children that read a driver library for the agent share: their lines, their threads, and how they leave.

Rules of this file:
- The main thread touches no library. It watches standard input (its end is the agent's), SIGTERM and how long calls are out.
- Libraries are called by worker threads, each call with a mark on it (`Worker.ask`). One that does not come back is told by the
  main thread, once and then every minute; the other workers go on.
- A line is one write under one lock. The main thread waits neither for that lock nor for a full pipe.
- It leaves by `os._exit`: what hangs in the kernel cannot be waited for, and must not be.
- Resident memory is paid on every node: no dataclasses, no argparse. Lines leave out what is at its default.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeVar

HUNG_S = 10.0
"""A call that is out for longer than this (and than what it is allowed to take) hangs."""
AGAIN_S = 60.0
GRACE_S = 0.3
SWITCH_S = 0.0005
"""For how long a thread that computes may keep one waiting that has something to say."""
SOON_S = 1.0
DOUBLINGS = 32
"""Beyond the longest wait, and far from where a float overflows."""
UNAVAILABLE = os.EX_UNAVAILABLE
MOST_FDS = 4_096

P = ParamSpec("P")
T = TypeVar("T")


# -- lines ------------------------------------------------------------------------------------------------------------


def line(sample: tuple[Any, ...]) -> str:
    """Return the line for a sample (a NamedTuple of hma.gpu), without its end; `hma.samples.read_probe_line` reads it."""
    return json.dumps({type(sample).__name__: _plain(sample)}, separators=(",", ":"))


def blind(of: str, text: str, *, told: bool = False) -> str:
    """Return the line that says why there is no sample of the type `of`; `told` where another sample says so as a fault."""
    return json.dumps({"blind": {"of": of, "text": text, **({"told": True} if told else {})}}, separators=(",", ":"))


def same(of: str) -> str:
    """Return the line that says that a sample of the type `of` would be the last one again, but for jitter."""
    return json.dumps({"same": {"of": of}}, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if type(value) in _ATOMS:
        return value
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    names: tuple[str, ...] | None = getattr(value, "_fields", None)
    if names is None:
        return [_plain(item) for item in value]
    default = value._field_defaults.get
    return {
        n: v if type(v) in _ATOMS else _plain(v) for n, v in zip(names, value, strict=True) if v is not default(n, _NOTHING)
    }


_ATOMS = frozenset({str, int, float, bool, type(None)})
_NOTHING = object()


# -- workers ----------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call of a library that is out: its name, what it asks about (a GPU, or ""), since when (monotonic seconds), and for
    how long it may be out before it is suspect."""

    name: str
    about: str
    since: float
    allowed_s: float


_Mark = tuple[Callable[..., Any], str, float, float]
"""A Call before anybody asks for it: there are hundreds in a reading."""


def _call(mark: _Mark) -> Call:
    return Call(getattr(mark[0], "__name__", "a call"), *mark[1:])


class Worker:
    """A thread that calls a library. `work` runs in it, from the start to the end of the process, and returns when `leaving`;
    `hung` gives the line to print while a call is out for too long."""

    def __init__(self, probe: Probe, work: Callable[[Worker], None], hung: Callable[[Call, float], str]) -> None:
        self.hung = hung
        self.about = ""
        self.told: tuple[_Mark, float] | None = None
        self.mark: _Mark | None = None
        self._probe = probe
        self._work = work
        self._bell = threading.Event()
        self.thread = threading.Thread(target=self._run, name=work.__name__, daemon=True)

    @property
    def call(self) -> Call | None:
        """Return the call that is out."""
        mark = self.mark
        return None if mark is None else _call(mark)

    @property
    def leaving(self) -> bool:
        """Return whether the process is about to end."""
        return self._probe.leaving

    def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a call of the library returns; `about` says what it asks about."""
        return self._marked(0.0, call, *args, **kwargs)

    def wait_for(self, allowed_s: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `ask`, for a call that may well take `allowed_s` seconds."""
        return self._marked(allowed_s, call, *args, **kwargs)

    def sleep(self, seconds: float) -> bool:
        """Wait until the time is over, somebody rings, or the process is about to end; return whether somebody rang."""
        rung = not self.leaving and self._bell.wait(max(0.0, seconds))
        self._bell.clear()
        return rung

    def ring(self) -> None:
        """End its sleep, or its next one."""
        self._bell.set()

    def hung_before(self) -> bool:
        """Return whether a call was told to hang since the last time this was asked."""
        told, self.told = self.told, None
        return told is not None

    def _marked(self, allowed_s: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.mark = (call, self.about, time.monotonic(), allowed_s)
        try:
            return call(*args, **kwargs)
        finally:
            self.mark = None

    def _run(self) -> None:
        try:
            self._work(self)
        except BaseException as err:  # noqa: BLE001  (a thread that dies unseen would leave a silent probe)
            self._probe.crash(err)


# -- the process ------------------------------------------------------------------------------------------------------


class Probe:
    """The process: `say` prints from any thread, `run` stays in the main thread until it is time to leave."""

    def __init__(self, hung_after_s: float = HUNG_S) -> None:
        self.leaving = False
        self.workers: list[Worker] = []
        self._hung_after_s = hung_after_s
        self._lock = threading.Lock()
        self._wake_out, self._wake_in = os.pipe()
        for end in (self._wake_out, self._wake_in):
            os.set_blocking(end, False)

    def say(self, text: str) -> None:
        """Print one line; where nobody listens any more, the process ends."""
        with self._lock:
            self._write(text)

    def run(self, *workers: Worker) -> NoReturn:
        """Start the workers and watch over them; ends the process."""
        self.workers = list(workers)
        sys.setswitchinterval(SWITCH_S)
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.leave())
        for worker in workers:
            worker.thread.start()
        self._watch()
        self._leave()

    def leave(self) -> None:
        """Have the process end soon; for any thread."""
        self.leaving = True
        try:
            os.write(self._wake_in, b"x")
        except OSError:
            pass  # full: it is awake

    def start_over(self, name: str, value: str) -> NoReturn:
        """Become a new process in the place of this one, with the option `name` set to `value`; for a worker.

        A library that has lost its driver is not to be trusted to forget all about it. No line is cut, and the agent sees
        nothing but a pause.
        """
        with self._lock:
            # Closed by execv and not before: it waits for threads that hang in the driver, and until then the lock is ours.
            for fd in range(3, MOST_FDS):
                with contextlib.suppress(OSError):
                    os.set_inheritable(fd, False)
            argv = sys.orig_argv[1:]
            if name in argv:
                del argv[argv.index(name) : argv.index(name) + 2]
            os.execv(sys.executable, [sys.executable, *argv, name, value])  # noqa: S606  (no shell is the point)

    def give_up(self, why: str) -> NoReturn:
        """End the process: what it reads is not here; for a worker."""
        _complain(why)
        os._exit(UNAVAILABLE)

    def crash(self, err: BaseException) -> NoReturn:
        """End the process with one line that says what went wrong; the agent shows it and starts a new one."""
        where = err.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f" ({Path(where.tb_frame.f_code.co_filename).name}, line {where.tb_lineno})" if where else ""
        _complain(f"{type(err).__name__}: {str(err)[:160]}{place}")
        os._exit(1)

    # -- the main thread -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(1, 0)  # tells by itself when the reader has gone
        poll.register(self._wake_out, select.POLLIN)
        while not self.leaving:
            for fd, what in poll.poll(1000 * self._look()):
                if fd == 1 or (fd == 0 and (what & select.POLLNVAL or not _more(0))):
                    return
                if fd == self._wake_out:
                    _more(fd)

    def _look(self) -> float:
        """Tell of calls that hang; return the seconds until the next look."""
        now = time.monotonic()
        return max(0.05, min((self._look_at(worker, now) for worker in self.workers), default=self._hung_after_s))

    def _look_at(self, worker: Worker, now: float) -> float:
        mark = worker.mark
        if mark is None:
            return self._hung_after_s
        told, call = worker.told, _call(mark)
        due = told[1] + AGAIN_S if told and told[0] is mark else call.since + call.allowed_s + self._hung_after_s
        if now < due:
            return due - now
        if not self._say_now(worker.hung(call, now - call.since)):
            return SOON_S
        worker.told = (mark, now)
        return AGAIN_S

    def _say_now(self, text: str) -> bool:
        """Print a line where that can be done at once."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            room = select.poll()
            room.register(1, select.POLLOUT)
            if not room.poll(0):
                return False
            self._write(text)
            return True
        finally:
            self._lock.release()

    def _write(self, text: str) -> None:
        rest = text.encode() + b"\n"
        try:
            while rest:
                rest = rest[os.write(1, rest) :]
        except OSError:  # the pipe has no reader any more
            self.leave()

    def _leave(self) -> NoReturn:
        self.leaving = True
        for worker in self.workers:
            worker.ring()
        end = time.monotonic() + GRACE_S
        for worker in self.workers:
            call = worker.call
            if call is None or not call.allowed_s:
                worker.thread.join(max(0.0, end - time.monotonic()))
        os._exit(0)


def doubled(first_s: float, times: int, most_s: float) -> float:
    """Return a wait of `first_s` seconds after it was doubled so many times, however many: at most `most_s`."""
    return min(most_s, first_s * (1 << min(times, DOUBLINGS)))


def boottime() -> float:
    """Return the seconds since boot, as all samples count them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def options(arguments: Sequence[str], known: Sequence[str]) -> Mapping[str, str]:
    """Return the pairs `--name value` of a command line by name; ends the process where it holds anything else."""
    found = dict(zip(arguments[::2], arguments[1::2], strict=False))
    wrong = [name for name in found if name not in known]
    if wrong or len(arguments) % 2:
        _complain(f"{(wrong or arguments[-1:])[0]}: not one of {', '.join(f'{name} VALUE' for name in known)}")
        sys.exit(os.EX_USAGE)
    return found


def name_process(name: str) -> None:
    """Be called `name` (at most 15 bytes) in the process table."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name)
    except OSError:
        pass  # a name is a courtesy


def unavailable(why: str) -> NoReturn:
    """End the process: what it reads is not installed here."""
    _complain(why)
    sys.exit(UNAVAILABLE)


def _complain(text: str) -> None:
    try:
        os.write(2, text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass  # nobody reads it


def _more(fd: int) -> bool:
    """Read what is there; return False at the end."""
    try:
        return bool(os.read(fd, 4_096))
    except BlockingIOError:
        return True
    except OSError:
        return False
