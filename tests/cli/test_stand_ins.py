"""The stand-ins print what the real programs print, and the real checks make of it what they make of those."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from checks.passive import disk_space, gpu_count_smi, nvidia_smi
from hma.check import Check, Command, NoOptions, Output
from hma.cli.simulated_node import LAYOUTS, build
from hma.cli.stand_ins import DF, SMI, STATES, install, set_state
from hma.loader import find_checks
from hma.model import NodeFacts, Status
from hma.sources.node import read_node

DATA = Path(__file__).parents[1] / "data/nvidia-smi"
TYPE = "p5.48xlarge"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    install(folder, TYPE)
    return folder


@pytest.fixture
def node(tmp_path: Path) -> NodeFacts:
    build(tmp_path / "node", TYPE)
    return read_node(tmp_path / "node")


def ran(program: Path, *arguments: str) -> Output:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=20)
    return Output(done.returncode, done.stdout, done.stderr)


def seen(check: Check[Output, NoOptions], output: Output, node: NodeFacts) -> set[tuple[str, str]]:
    return {(o.code, o.component) for o in check.observe(output, node, NoOptions()) if o.status is Status.FAILED}


# -- as the real one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "captured", "code"),
    [
        ("healthy", "535.261.03-eight-gpus.txt", 0),
        ("lost 3", "535.261.03-handle-lost.txt", 15),
        ("lost 0000:86:00", "535.261.03-handle-lost.txt", 15),
        ("lost 0000:86:00.0", "535.261.03-handle-lost.txt", 15),
        ("missing 3", "535.261.03-handle-permission.txt", 0),
        ("no-driver", "535.261.03-no-driver.txt", 9),
    ],
)
def test_prints_to_the_byte_what_the_real_program_prints(programs: Path, state: str, captured: str, code: int) -> None:
    set_state(programs, state)
    assert ran(programs / "nvidia-smi", *SMI) == Output(code, (DATA / captured).read_text(), "")


def test_address_of_a_lost_gpu_is_in_upper_case(programs: Path) -> None:
    set_state(programs, "lost 0000:b9:00")
    assert "for GPU0000:B9:00.0: GPU is lost.  Reboot" in ran(programs / "nvidia-smi", *SMI).stdout


@pytest.mark.parametrize("state", ["lost 8", "missing 0000:11:00"])
def test_a_gpu_that_is_not_there_is_an_error(programs: Path, state: str) -> None:
    set_state(programs, state)
    assert ran(programs / "nvidia-smi", *SMI).returncode == 2


# -- through the real checks ------------------------------------------------------------------------------------------


def test_every_program_that_a_check_runs_is_there_and_answers_its_call(programs: Path, node: NodeFacts) -> None:
    asked = [c for c in find_checks() if isinstance(c.source, Command) and c.applies(node)]
    assert {"nvidia_smi", "disk_space"} <= {check.name for check in asked}
    for check in asked:
        assert isinstance(check.source, Command)
        output = ran(programs / check.source.argv[0], *check.source.argv[1:])
        assert (check.name, output.returncode, output.stderr) == (check.name, 0, "")
        found = list(check.observe(output, node, check.options))
        assert found, f"{check.name} sees nothing at all"
        assert {o.status for o in found} == {Status.OK}, check.name


def test_calls_are_those_of_the_checks() -> None:
    assert ("nvidia-smi", *SMI) == nvidia_smi.QUERY.argv
    assert isinstance(disk_space.CHECK.source, Command)
    assert ("df", *DF) == disk_space.CHECK.source.argv


@pytest.mark.parametrize(
    ("state", "smi", "count"),
    [
        ("healthy", set(), set()),
        ("lost 0000:97:00", {("SMI-GPU-LOST", "gpu:0000:97:00")}, set()),
        ("missing 4", set(), {("GPU-COUNT-SMI", "node")}),
        ("no-driver", {("SMI-NO-DRIVER", "host")}, set()),
    ],
)
def test_checks_see_what_the_state_says(
    programs: Path, node: NodeFacts, state: str, smi: set[tuple[str, str]], count: set[tuple[str, str]]
) -> None:
    set_state(programs, state)
    output = ran(programs / "nvidia-smi", *SMI)
    assert seen(nvidia_smi.CHECK, output, node) == smi
    assert seen(gpu_count_smi.CHECK, output, node) == count


@pytest.mark.parametrize("instance_type", sorted(LAYOUTS))
def test_lists_the_gpus_of_the_layout(tmp_path: Path, instance_type: str) -> None:
    build(tmp_path / "node", instance_type)
    node = read_node(tmp_path / "node")
    programs = install(tmp_path / "bin", f"ml.{instance_type}")
    assert ("nvidia-smi" in programs) == bool(node.gpus)
    if node.gpus:
        listed = nvidia_smi.parse(ran(programs["nvidia-smi"], *SMI)).rows
        assert [row.component for row in listed] == [f"gpu:{gpu.address[:-2]}" for gpu in node.gpus]


# -- answers that do not come -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def start(programs: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [str(programs / "nvidia-smi"), *SMI]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True) as child:
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def test_a_hang_survives_sigterm_and_not_sigkill(programs: Path) -> None:
    set_state(programs, "hang")
    with start(programs) as child:
        wait_for_trap(child.pid)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.killpg(child.pid, number)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL


@pytest.mark.slow
def test_a_hang_ends_with_its_folder(programs: Path) -> None:
    set_state(programs, "hang")
    with start(programs) as child:
        wait_for_trap(child.pid)
        (programs / "nvidia-smi").unlink()
        assert child.wait(20) == 1


def test_a_block_lasts_until_somebody_reads(programs: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    set_state(programs, f"blocked {pipe}")
    with start(programs) as child:
        wait_for_trap(child.pid)
        child.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
        assert pipe.read_text() == "\n"
        assert child.wait(10) == 1


def wait_for_trap(pid: int) -> None:
    """Return once process `pid` ignores SIGTERM."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        if ignored & 1 << (signal.SIGTERM - 1):
            return
        time.sleep(0.005)
    raise AssertionError("it never ignored SIGTERM")


# -- what is asked wrongly --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["nvidia-smi", "df"])
@pytest.mark.parametrize("arguments", [(), ("-L",), ("--query-gpu=index", "--format=csv")])
def test_a_call_that_no_check_makes_is_refused(programs: Path, program: str, arguments: tuple[str, ...]) -> None:
    output = ran(programs / program, *arguments)
    assert (output.returncode, output.stdout) == (2, "")
    assert output.stderr.startswith(f"stand-in for {program}: it knows one call only: --")


@pytest.mark.parametrize("state", ["", "broken", "healthy now", "lost", "lost ", "hang\n", "blocked /a\nhealthy"])
def test_a_state_that_does_not_exist_is_refused_and_changes_nothing(programs: Path, state: str) -> None:
    with pytest.raises(ValueError, match=r"no such state; known are healthy, lost GPU, .*blocked PATH"):
        set_state(programs, state)
    assert (programs / "state").read_text() == "healthy\n"


def test_every_state_is_described() -> None:
    assert all(STATES.values())
    assert {state.partition(" ")[0] for state in STATES} == {"healthy", "lost", "missing", "no-driver", "hang", "blocked"}
