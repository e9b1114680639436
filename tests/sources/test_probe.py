"""What probes share: their lines, and a probe of no library at all as a real child."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hma.gpu import (
    DcgmEngine,
    DcgmHealth,
    DcgmIncident,
    Ecc,
    Gpu,
    GpuEvent,
    GpuEvents,
    GpuProcess,
    GpuReadings,
    Link,
    NvmlDriver,
    Power,
)
from hma.samples import Blind, probe_line, read_probe_line
from hma.sources.probe import blind, doubled, line
from tests.sources.probe_run import Running

GPU = Gpu(
    3,
    "0000:9b:00",
    persistence=False,
    recovery_action=0,
    ecc=Ecc(True, True, 0, 2),
    power=Power(0.0, 700.0),
    links=(Link(0, True, crc=0), Link(1, False)),
    processes=(GpuProcess(4711, comm="träin"),),
    errors={"pcie": "nvmlX: Unknown Error (999)"},
)
SAMPLES: list[Any] = [
    GpuEvents(),
    GpuEvents((GpuEvent("0000:9b:00", 8, 79, 12.5, gi=0),)),
    GpuReadings(NvmlDriver("no_library", 12, "no such file")),
    GpuReadings(NvmlDriver("up", gpu_count=0), (GPU, Gpu(4, "", code=15))),
    DcgmHealth(DcgmEngine("up", "bindings"), incidents=(DcgmIncident(1, "fail", None, 'say "no"', 1, 0),)),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_a_line_is_read_as_the_sample_it_was(sample: Any) -> None:
    assert read_probe_line(line(sample)) == read_probe_line(probe_line(sample)) == sample


def test_a_line_leaves_out_what_need_not_be_said() -> None:
    assert line(GpuReadings(NvmlDriver("up", gpu_count=0))) == '{"GpuReadings":{"driver":{"state":"up","gpu_count":0}}}'
    assert len(line(SAMPLES[3])) < len(probe_line(SAMPLES[3])) / 3


def test_a_false_is_not_taken_for_a_zero_that_need_not_be_said() -> None:
    said = read_probe_line(line(GpuReadings(NvmlDriver("up"), (GPU,))))
    assert isinstance(said, GpuReadings)
    assert said.gpus[0].persistence is False
    assert said.gpus[0].recovery_action == 0


def test_blindness_is_read_as_such() -> None:
    assert read_probe_line(blind("GpuEvents", "no GPU")) == Blind("GpuEvents", "no GPU")


@pytest.mark.parametrize(("times", "wait_s"), [(0, 2.0), (1, 4.0), (5, 60.0), (100_000, 60.0)])
def test_a_wait_is_doubled_for_as_long_as_anything_may_fail(times: int, wait_s: float) -> None:
    assert doubled(2.0, times, 60.0) == wait_s


# -- a child ----------------------------------------------------------------------------------------------------------

PROBE = """
import os, sys, time
from hma.sources.probe import Probe, Worker, name_process, options, unavailable

given = options(sys.argv[1:], ("--hung-after", "--do", "--again"))
do = given["--do"]
probe = Probe(float(given.get("--hung-after", 10)))
name_process("hma-toy")

def slow(seconds):
    time.sleep(seconds)

def work(worker):
    worker.about = "the disk"
    if do == "crash":
        raise LookupError("no\\tmore")
    if do == "over" and "--again" not in given:
        os.set_inheritable(os.open("/dev/zero", os.O_RDONLY), True)  # as a library may leave it
        probe.start_over("--again", "yes")
    if do == "flood":
        while True:
            probe.say("x" * 1000)
    if do == "hang":
        worker.ask(slow, 1000)
    if do == "back":
        worker.ask(slow, 1)
        probe.say(f"back {worker.hung_before()} {worker.hung_before()}")
    if do == "patience":
        worker.wait_for(1000, slow, 1)
    probe.say(f"here {os.getpid()}")
    while not worker.leaving:
        worker.sleep(1000)

def beat(worker):
    while not worker.leaving:
        worker.sleep(0.1)
        if do == "hang":
            probe.say("beat")

def hung(call, seconds):
    return f"hung {call.name} {call.about}"

if do == "absent":
    unavailable("the toy is not installed")
probe.run(Worker(probe, work, hung), Worker(probe, beat, hung))
"""


@pytest.fixture
def toy(tmp_path: Path) -> str:
    """Give the path of a probe of nothing."""
    path = tmp_path / "toy.py"
    path.write_text(PROBE)
    return str(path)


@pytest.mark.parametrize("do", ["sit", "hang"])
@pytest.mark.parametrize("by", ["EOF", "SIGTERM"])
def test_leaves_when_asked_whatever_it_is_doing(toy: str, by: str, do: str) -> None:
    with Running(toy, "--do", do, "--hung-after", "0.2") as probe:
        assert probe.line().startswith("here " if do == "sit" else ("beat", "hung"))
        assert probe.end(by) == 0


def test_leaves_when_nobody_reads_it_any_more(toy: str) -> None:
    with unread(toy, "--do", "sit") as probe:
        assert probe.stdout is not None
        assert probe.stdout.readline() == f"here {probe.pid}\n".encode()
        probe.stdout.close()
        assert probe.wait(30) == 0


def test_leaves_with_its_pipe_full(toy: str) -> None:
    with unread(toy, "--do", "flood") as probe:
        while _pending(probe) < 60_000:
            time.sleep(0.01)
        assert probe.stdin is not None
        probe.stdin.close()
        assert probe.wait(30) == 0


@contextlib.contextmanager
def unread(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a child whose lines nobody reads."""
    argv = [sys.executable, *arguments]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


def _pending(child: subprocess.Popen[bytes]) -> int:
    """Return how many bytes nobody has read yet."""
    assert child.stdout is not None
    return int.from_bytes(fcntl.ioctl(child.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_call_that_hangs_is_told_once_while_the_others_go_on(toy: str) -> None:
    with Running(toy, "--do", "hang", "--hung-after", "0.3") as probe:
        said = [probe.line() for _ in range(15)]
        assert said.count("hung slow the disk") == 1
        assert said[-1] == "beat"


def test_a_call_that_comes_back_is_known_to_have_hung(toy: str) -> None:
    with Running(toy, "--do", "back", "--hung-after", "0.2") as probe:
        assert probe.line() == "hung slow the disk"
        assert probe.line() == "back True False"


def test_a_call_that_may_take_long_is_given_its_time(toy: str) -> None:
    with Running(toy, "--do", "patience", "--hung-after", "0.2") as probe:
        assert probe.line() == f"here {probe.process.pid}"


def test_a_worker_that_dies_ends_the_process_with_one_line(toy: str) -> None:
    with Running(toy, "--do", "crash") as probe:
        assert probe.complaint().startswith("LookupError: no\tmore (toy.py, line ")
        assert probe.process.returncode == 1


def test_starts_over_as_the_same_process(toy: str) -> None:
    with Running(toy, "--do", "over") as probe:
        assert probe.line() == f"here {probe.process.pid}"
        assert Path(f"/proc/{probe.process.pid}/cmdline").read_text().endswith("--do\0over\0--again\0yes\0")
        assert Path("/dev/zero") not in [fd.readlink() for fd in Path(f"/proc/{probe.process.pid}/fd").iterdir()]
        assert probe.end() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--do", "absent"), 69, "the toy is not installed\n"),
        (("--do",), 64, "--do: not one of --hung-after VALUE, --do VALUE, --again VALUE\n"),
        (("--do", "sit", "--dont", "1"), 64, "--dont: not one of --hung-after VALUE, --do VALUE, --again VALUE\n"),
    ],
)
def test_says_in_one_line_why_it_does_not_start(toy: str, arguments: tuple[str, ...], code: int, said: str) -> None:
    with Running(toy, *arguments) as probe:
        assert probe.complaint() == said
        assert probe.process.returncode == code


def test_is_called_by_its_name(toy: str) -> None:
    with Running(toy, "--do", "sit") as probe:
        probe.line()
        assert Path(f"/proc/{probe.process.pid}/comm").read_text() == "hma-toy\n"


def test_sleeps_while_nothing_happens(toy: str) -> None:
    """The main thread looks every `hung_after` seconds, not more often: wake-ups are counted on every node."""
    with Running(toy, "--do", "sit") as probe:
        probe.line()
        time.sleep(0.2)
        status = Path(f"/proc/{probe.process.pid}/status")
        before = _switches(status)
        time.sleep(1)
        assert _switches(status) - before <= 1


def _switches(status: Path) -> int:
    row = next(row for row in status.read_text().splitlines() if row.startswith("voluntary_ctxt_switches"))
    return int(row.split()[1])
