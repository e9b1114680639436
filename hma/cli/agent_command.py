"""`hma agent`: takes the lock of the node, then runs the agent in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType

from hma.agent import Agent
from hma.check import Command
from hma.cli.common import OK, CliError, overrides, same_places, settings_of
from hma.loop import boottime
from hma.reporting.api import ApiError
from hma.settings import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes: nothing."""


def run(args: argparse.Namespace) -> int:
    """Run the agent until it is told to stop."""
    # Until the agent has handlers of its own: nothing is held yet that could be lost.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.stdout = sys.stderr  # what a check of another package prints must not stand between the records
    settings = settings_of(args)
    validate = Command((sys.executable, "-m", "hma.cli.main", "config", "validate", *same_places(args)))
    reread = partial(load_settings, args.config, overrides(args))
    with locked(settings.config.run_dir):
        try:
            Agent(settings, process_start(), validate, reread).run()
        except ApiError as err:
            raise CliError(str(err)) from err
    # All is saved and closed. The interpreter would wait for every thread that a check has started, and let a second SIGTERM
    # kill it on its last way.
    os._exit(OK)


def _leave(signum: int, frame: FrameType | None) -> None:
    # No exception: it may come in the import of a check, where exceptions cost only that check.
    os._exit(OK)


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the lock of the node's one agent. The kernel lets go of it however we end, and no child inherits it."""
    try:
        run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(run_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as err:
        raise _unusable(run_dir, err) from err
    try:
        _take(fd, run_dir)
        yield
    finally:
        os.close(fd)


def _take(fd: int, run_dir: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        raise CliError(f"{run_dir}: another agent (pid {holder}) watches this node; stop it, or set another run_dir") from None
    except OSError as err:  # a file system without locks
        raise _unusable(run_dir, err) from err
    with contextlib.suppress(OSError):  # full: the lock holds all the same, and only its message lacks our number
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def _unusable(run_dir: Path, err: OSError) -> CliError:
    if isinstance(err, FileExistsError | NotADirectoryError | IsADirectoryError):
        return CliError(f"{run_dir}: cannot be used: {err.filename} is in the way ({err.strerror}); remove it, or set run_dir")
    return CliError(f"{run_dir}: cannot be used: {err.strerror}; create it for user id {os.geteuid()}, or set run_dir")


def process_start() -> float:
    """Return the boottime second at which this process began (10 ms exact), for the time from start to first verdict."""
    try:
        # proc(5): field 22, and the name in field 2 may hold blanks.
        after_name = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return boottime()
