"""Files as read on Linux 6.8; counts set by hand."""

import pytest

from checks.passive.kernel_limits import CHECK, FILE_NR, LOAD, PID_MAX, THREADS_MAX, Options
from hma.check import Tree
from hma.model import Observation, Status
from tests.checks.kernel_lines import NODE

FILES = {
    LOAD: "8.12 8.05 7.97 9/1807 1241\n",
    PID_MAX: "4194304\n",
    THREADS_MAX: "16512345\n",
    FILE_NR: "14208\t0\t9223372036854775807\n",
}


def observe(errors: dict[str, str] | None = None, full: float = 0.9, **files: str | None) -> dict[str, Observation]:
    names = {"load": LOAD, "pid_max": PID_MAX, "threads_max": THREADS_MAX, "file_nr": FILE_NR}
    changed = {**FILES, **{names[key]: text for key, text in files.items()}}
    tree = Tree({path: text for path, text in changed.items() if text is not None}, errors or {})
    return {seen.code: seen for seen in CHECK.observe(tree, NODE, Options(full))}


@pytest.mark.parametrize(
    ("load", "pid_max", "threads_max", "full", "status"),
    [
        ("8.12 8.05 7.97 9/1807 1241\n", "4194304\n", "16512345\n", 0.9, Status.OK),
        ("8.12 8.05 7.97 9/29490 1241\n", "32768\n", "16512345\n", 0.9, Status.OK),
        ("8.12 8.05 7.97 9/29492 1241\n", "32768\n", "16512345\n", 0.9, Status.DEGRADED),
        ("8.12 8.05 7.97 9/29492 1241\n", "4194304\n", "32768\n", 0.9, Status.DEGRADED),
        ("8.12 8.05 7.97 9/20000 1241\n", "32768\n", "16512345\n", 0.5, Status.DEGRADED),
    ],
)
def test_threads_against_the_smaller_limit(load: str, pid_max: str, threads_max: str, full: float, status: Status) -> None:
    assert observe(load=load, pid_max=pid_max, threads_max=threads_max, full=full)["PIDS-FULL"].status is status


@pytest.mark.parametrize(
    ("file_nr", "status"),
    [
        ("14208\t0\t9223372036854775807\n", Status.OK),
        ("89999\t0\t100000\n", Status.OK),
        ("90000\t0\t100000\n", Status.DEGRADED),
        ("5\t0\t0\n", Status.OK),
    ],
)
def test_open_files_against_the_limit(file_nr: str, status: Status) -> None:
    assert observe(file_nr=file_nr)["FILES-FULL"].status is status


def test_limit_that_cannot_be_read_is_unknown_and_the_other_is_not() -> None:
    seen = observe(errors={LOAD: "Permission denied"}, load=None)
    assert (seen["PIDS-FULL"].status, seen["FILES-FULL"].status) == (Status.UNKNOWN, Status.OK)
    assert "Permission denied" in seen["PIDS-FULL"].detail


def test_one_limit_is_enough() -> None:
    assert observe(threads_max=None)["PIDS-FULL"].status is Status.OK


@pytest.mark.parametrize("text", ["", "x", "1 2 3 4/x 5\n"])
def test_rubbish_is_unknown(text: str) -> None:
    seen = observe(load=text, file_nr=text)
    assert {o.status for o in seen.values()} == {Status.UNKNOWN}
