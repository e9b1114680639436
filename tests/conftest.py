"""What every test room shares: skips that say what is missing, and a run in which nothing that could run was skipped.

Rules of this file:
- `@pytest.mark.needs("root", "fsfreeze")` skips with one line that names the mend.
- With HMA_NO_SKIP=1 (CI sets it) a skip is a failure, unless its reason begins with one of `ALLOWED`: what no machine of
  this kind could have run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator

import hypothesis
import pytest

from hma.guard_time import arm

arm()  # what looks at kernel lines is under a limit of time, as in the agent; unarmed, SIGALRM would end the run

ALLOWED = ("no hardware:", "not possible here:")

PACKAGES = {"fsfreeze": "util-linux", "losetup": "mount", "mkfs.ext4": "e2fsprogs", "ip": "iproute2", "ps": "procps"}
"""Debian package of a program, where it is not called like it."""

hypothesis.settings.register_profile("hma", deadline=None, derandomize="CI" in os.environ, print_blob=True)
hypothesis.settings.load_profile("hma")


def lacks_root() -> str:
    """Return why a test that needs root cannot run, or nothing."""
    return "" if os.geteuid() == 0 else "needs root: run it with sudo"


def lacks_kmsg() -> str:
    """Return why the kernel log cannot be read and written, or nothing."""
    if os.access("/dev/kmsg", os.R_OK | os.W_OK):
        return ""
    if os.geteuid() == 0:
        return "not possible here: /dev/kmsg is absent or closed to this container"
    return "needs read and write access to /dev/kmsg: run it with sudo"


def lacks_gpu() -> str:
    """Return why a test on a real GPU cannot run, or nothing."""
    try:
        # Not whether it exists: NVIDIA's library, run by root, makes the node on machines that have no driver.
        os.close(os.open("/dev/nvidiactl", os.O_RDWR))
    except OSError:
        return "no hardware: an NVIDIA GPU with its driver"
    return ""


LACKS: dict[str, Callable[[], str]] = {"root": lacks_root, "kmsg": lacks_kmsg, "gpu": lacks_gpu}


def lacks(what: str) -> str:
    """Return why this machine cannot serve a test that needs `what`, or nothing."""
    if what in LACKS:
        return LACKS[what]()
    if shutil.which(what, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return ""
    return f"needs {what}: apt-get install {PACKAGES.get(what, what)}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what `needs` something that is not here."""
    for marker in item.iter_markers("needs"):
        for what in marker.args:
            if reason := lacks(what):
                pytest.skip(reason)


def forbidden_skip(outcome: str, longrepr: object) -> str:
    """Return why a skip is a failure of this run, or nothing."""
    if outcome != "skipped" or os.environ.get("HMA_NO_SKIP") != "1" or not isinstance(longrepr, tuple):
        return ""
    reason = str(longrepr[2]).removeprefix("Skipped: ")
    if reason.startswith(ALLOWED):
        return ""
    return f"skipped ({reason}), and this run (HMA_NO_SKIP=1) allows only reasons that begin with: {', '.join(ALLOWED)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a forbidden skip of a test into its failure."""
    report = yield
    if not hasattr(report, "wasxfail") and (why := forbidden_skip(report.outcome, report.longrepr)):
        report.outcome, report.longrepr = "failed", f"{item.nodeid}: {why}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a forbidden skip of a whole module into an error."""
    report = yield
    if why := forbidden_skip(report.outcome, report.longrepr):
        report.outcome, report.longrepr = "failed", f"{collector.nodeid}: {why}"
    return report
