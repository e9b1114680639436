"""Starts a program so that nothing about it can hold the agent up: plain fork, own session, its end told by a pidfd.

Rules of this file:
- vfork and posix_spawn stop the parent until the program's file has been read, and `subprocess` then waits for a pipe. On a
  disk that is gone both mean for ever. fork costs more (0.5 ms of the agent's time from 30 MiB, against 0.1 ms), and only
  the child meets the disk: it searches PATH, too.
- Until it executes, the child is a copy of the agent. It blocks signals until the handlers are gone (they write to a descriptor
  that it shares with the agent, which would take them for its own), and closes all descriptors: one that hangs there would keep
  the agent's lock and port for ever.
- A group is killed before its leader is reaped: until then nobody else can get the number.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from hma.check import NotInstalled, SourceError
from hma.loop import Loop, Timer
from hma.sources.processes import runs_in_group, standing

KEPT = ("HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "TZ")
"""Variables that a child gets from the agent, besides PATH and its own (HMA_*): no proxies, no credentials."""
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
VENDORS = ("/usr/local/nvidia/bin", "/opt/aws/neuron/bin", "/opt/amazon/efa/bin")
"""Searched after PATH: where accelerator tools are installed, and which no service manager has in its PATH."""
NULL = -1
LOST = -999
MOST_FDS = 4_096
"""The agent holds well under a hundred descriptors, and the lowest free one is always taken."""
POLL_S = 0.1
PR_SET_PDEATHSIG = 1

_HANDLED = (
    *(
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGCHLD,
    ),
    *(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores, and what is ignored stays so across exec
)
_libc = ctypes.CDLL(None)


class Child:
    """A program that was started. Its pipes do not block; whoever holds it reads them, waits for `watch` and then reaps."""

    __slots__ = ("_asked", "_loop", "_pidfd", "_poll", "_report", "pid", "stderr", "stdout")

    def __init__(self, asked: str, pid: int, stdout: int, stderr: int, report: int) -> None:
        self._asked = asked
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self._report = report
        self._pidfd = NULL
        self._poll: Timer | None = None
        self._loop: Loop | None = None

    def watch(self, loop: Loop, ended: Callable[[], None]) -> None:
        """Call `ended` from the loop when the program has ended; it then waits, unreaped, for `reap`."""
        self._loop = loop
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (OSError, AttributeError):  # a kernel before 5.3, a Python built for one, no descriptor left
            self._look(ended)
            return
        loop.add_reader(self._pidfd, ended)

    def signal(self, number: int) -> None:
        """Send `number` to the whole group; harmless when all of it is gone. Never after `reap`."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            with suppress(OSError):  # not yet in a session of its own
                os.kill(self.pid, number)
        except PermissionError:
            pass  # all of it runs as somebody else by now (a setuid program): its time limit then ends in "left behind"

    def reap(self) -> int | None:
        """Return how it ended (negative: by that signal, LOST: nobody knows), None while it has not; stop watching it then."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else took it
            self._unwatch()
            return LOST
        if not pid:
            return None
        self._unwatch()
        return os.waitstatus_to_exitcode(status)

    def refusal(self) -> SourceError | None:
        """Return why the program could not be executed, None where it was (or where that is still open)."""
        try:
            told = os.read(self._report, 4_096)
        except OSError:
            return None
        return _refusal(self._asked, told.decode("utf-8", "backslashreplace")) if told else None

    @property
    def standing(self) -> str:
        """Return what it is doing, in words."""
        return f"{standing(self.pid)}{' (its program file cannot be read)' if self.unread else ''}"

    @property
    def unread(self) -> bool:
        """Return whether it still waits for the program's file: the disk below that does not answer."""
        try:
            os.read(self._report, 1)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def group_lives(self) -> bool:
        """Return whether somebody of its group still runs, after the leader was reaped."""
        try:
            # As init of a container we inherit what a leader leaves, and nobody else reaps it.
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return runs_in_group(self.pid)  # the signal counts zombies, and an init that never reaps would keep them for ever

    def wait(self, wait_s: float) -> None:
        """Wait at most `wait_s` for its end: only for an agent that is ending itself."""
        import select

        if self._pidfd != NULL:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(wait_s * 1000)

    def close(self) -> None:
        """Close the pipes; watching goes on."""
        for fd in (self.stdout, self.stderr, self._report):
            if fd != NULL:
                if self._loop is not None:
                    self._loop.remove_reader(fd)
                os.close(fd)
        self.stdout = self.stderr = self._report = NULL

    def forget(self) -> None:
        """Close everything; a child that still lives is no longer ours to reap."""
        self.close()
        self._unwatch()

    def _look(self, ended: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            found = True
        if found:
            ended()
        else:
            self._poll = self._loop.call_later(POLL_S, lambda: self._look(ended))

    def _unwatch(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
        if self._pidfd != NULL and self._loop is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = NULL


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of children: few variables, messages in English."""
    kept = {name: value for name, value in environ.items() if name in KEPT or name.startswith("HMA_")}
    return {**kept, "PATH": environ.get("PATH") or os.pathsep.join(FOLDERS), "LC_ALL": "C"}


def launch(argv: tuple[str, ...], programs: Mapping[str, str], environ: Mapping[str, str], stdin: int = NULL) -> Child:
    """Start `argv` and return at once; `programs` names absolute paths to use instead of a search. Raises SourceError.

    That the program is not there is found by the child; ask `refusal` when it has ended. `stdin` is a descriptor that the
    child gets, and that the caller closes; without it there is nothing to read.
    """
    if not argv or not argv[0] or any("\0" in word for word in argv):
        raise SourceError(f"{argv!r}: no command line")
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # inherited; the kernel would reap, and the number be anybody's
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    places = _places(argv[0], programs, environ)
    ends: list[int] = []
    parent = os.getpid()
    try:
        for _ in range(3):
            ends += os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                _become(places, argv, environ, (stdin, ends[1], ends[3], ends[5]), parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError as err:
        for fd in ends:
            os.close(fd)
        raise SourceError(f"{argv[0]}: cannot start a process: {err.strerror}") from err
    for fd in ends[1::2]:
        os.close(fd)
    for fd in ends[0::2]:
        os.set_blocking(fd, False)
    return Child(argv[0], pid, ends[0], ends[2], ends[4])


def _places(name: str, programs: Mapping[str, str], environ: Mapping[str, str]) -> tuple[str, ...]:
    if name in programs:
        return (programs[name],)
    if "/" in name:
        return (name,)
    path = environ.get("PATH", "").split(os.pathsep)
    return tuple(f"{folder}/{name}" for folder in (*path, *VENDORS) if folder.startswith("/"))


def _become(
    places: tuple[str, ...], argv: tuple[str, ...], environ: Mapping[str, str], fds: tuple[int, ...], parent: int
) -> None:
    """Turn the forked copy of the agent into the program; never returns."""
    try:
        os.setsid()
        # Whoever kills the agent (-9) ends its children. Not inherited by what they start, and nothing ends state D.
        _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            return
        stdin, stdout, stderr, report = fds
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.dup2(stdin if stdin != NULL else os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(report, 3, inheritable=False)
        os.closerange(4, MOST_FDS)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.write(3, _execute(places, argv, environ).encode("utf-8", "backslashreplace"))
    finally:
        os._exit(127)


def _execute(places: tuple[str, ...], argv: tuple[str, ...], environ: Mapping[str, str]) -> str:
    """Return only where no place could be executed: `<errno> <1 where that file exists> <path>`."""
    told = f"{errno.ENOENT} 0 {places[0] if len(places) == 1 else ''}"
    for place in places:
        try:
            os.execve(place, argv, environ)  # noqa: S606  (no shell, on purpose)
        except OSError as err:
            # ENOENT of a file that is there: its interpreter, or its loader, is not.
            there = err.errno not in (errno.ENOENT, errno.ENOTDIR) or Path(place).exists()
            if there:
                told = f"{err.errno} 1 {place}"
    return told


def _refusal(asked: str, told: str) -> SourceError:
    number, there, place = told.split(" ", 2)
    if there == "0" and place not in ("", asked):
        return SourceError(f"{place}: not there, though `commands.{asked}` in the configuration names it; mend the path")
    if there == "0":
        mend = "" if place else f", or name its path in the configuration (commands: {{{asked}: /path/to/{asked}}})"
        return NotInstalled(f"{asked}: not {'there' if place else 'found in PATH'}; install it{mend}")
    meant = {
        errno.ENOENT: "is there, but the interpreter or loader that it names is not; install it again",
        errno.EACCES: "this user may not execute it (its permissions, or a file system mounted noexec)",
        errno.ENOEXEC: "is no program for this machine, or a script whose first line is not #!/path",
    }
    return SourceError(f"{place}: {meant.get(int(number)) or f'cannot be executed: {os.strerror(int(number))}'}")
