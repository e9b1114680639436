"""Events of the stand-in for the driver library, and calls of it that do not come back."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hma.cli.frozen_disk import frozen_disk, thaw
from hma.cli.nvml_stand_in import XID, NvmlState, StandInError, build, tell_event
from hma.cli.nvml_values import healthy
from tests.agent_run import until
from tests.cli.nvml_asker import Asker
from tests.sources.stuck import NEEDS
from tests.sources.stuck import state as process_state

pytestmark = pytest.mark.needs("gcc")
NOTHING = 0xFFFFFFFF


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def state(tmp_path: Path) -> NvmlState:
    return NvmlState(tmp_path / "state", healthy("p5.48xlarge", "615"))


@pytest.fixture
def asker(library: Path, state: NvmlState) -> Iterator[Asker]:
    with Asker(library, state) as asker:
        yield asker


@pytest.fixture
def ready(asker: Asker) -> Asker:
    assert asker.ask("N.nvmlInit()") is None
    return asker


# -- events -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    os.mkfifo(tmp_path / "events/pipe")
    return tmp_path / "events/pipe"


@pytest.fixture
def listener(library: Path, state: NvmlState, pipe: Path) -> Iterator[Asker]:
    with Asker(library, state, pipe) as asker:
        asker.ask("N.nvmlInit()")
        yield asker


def test_event_reaches_who_registered_for_it(listener: Asker, pipe: Path) -> None:
    assert listener.ask("listen((3, 8), (5, 1 | 2))") is None
    tell_event(pipe, 2, XID, 79)  # no such registration: another GPU, another type
    tell_event(pipe, 3, 0x2, 1)
    tell_event(pipe, 3, XID, 79)
    tell_event(pipe, 5, 0x2, 4)
    tell_event(pipe, 3, XID, 94, (1, 0))
    assert listener.ask("wait()") == [3, 8, 79, NOTHING, NOTHING]
    assert listener.ask("wait()") == [5, 2, 4, NOTHING, NOTHING]
    assert listener.ask("wait()") == [3, 8, 94, 1, 0]
    assert listener.ask("wait(0)") == "code 10"


def test_event_ends_a_wait(listener: Asker, pipe: Path) -> None:
    listener.ask("listen((3, 8))")
    listener.say("wait()")
    tell_event(pipe, 3, XID, 48)
    assert listener.answer() == [3, 8, 48, NOTHING, NOTHING]


def test_a_file_of_events_is_read_from_its_beginning_and_as_it_grows(library: Path, state: NvmlState, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("3 0x8 79\n")
    with Asker(library, state, tmp_path / "file") as asker:
        asker.ask("N.nvmlInit()")
        asker.ask("listen((3, 8))")
        assert asker.ask("wait()")[2] == 79
        asker.say("wait()")
        tell_event(tmp_path / "file", 3, XID, 48)
        assert asker.answer()[2] == 48


def test_a_set_with_a_lost_gpu_fails_at_once_each_time_and_one_without_it_listens_on(
    listener: Asker, state: NvmlState, pipe: Path
) -> None:
    listener.ask("listen((3, 8), (5, 8))")
    listener.say("wait()")
    state.set("gpu.3.code", 15)
    assert [listener.answer(), listener.ask("wait()"), listener.ask("wait()")] == ["code 15"] * 3
    assert listener.ask("listen((3, 8))") == "code 15"
    listener.ask("listen((5, 8))")
    tell_event(pipe, 5, XID, 79)
    assert listener.ask("wait()") == [5, 8, 79, NOTHING, NOTHING]


def test_a_freed_set_is_none(listener: Asker) -> None:
    listener.ask("listen((3, 8))")
    assert listener.ask("N.nvmlEventSetFree(events)") is None
    assert listener.ask("wait(0)") == "code 2"
    assert listener.ask("N.nvmlEventSetFree(events)") == "code 2"


def test_signals_end_no_wait(listener: Asker) -> None:
    listener.ask("[globals().update(signal=__import__('signal'), came=[]), listen((3, 8))]")
    listener.ask(
        "[signal.signal(signal.SIGALRM, lambda *_: came.append(1)), signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)][1:]"
    )
    listener.ask("globals().update(begin=time.monotonic())")
    assert listener.ask("wait(300)") == "code 10"
    assert listener.ask("[time.monotonic() - begin >= 0.3, len(came) > 0]") == [True, True]


def test_nobody_listens(pipe: Path) -> None:
    with pytest.raises(StandInError, match="nobody takes events here"):
        tell_event(pipe, 3, XID, 79)


# -- hanging ----------------------------------------------------------------------------------------------------------


def blocks_signals(pid: int) -> bool:
    """Return whether the main thread of `pid` blocks SIGTERM, as one that hangs does."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigBlk:")[2].split()[0], 16) & 1 << (signal.SIGTERM - 1))


@pytest.mark.parametrize(
    ("name", "expression", "answer"),
    [
        ("nvmlInit_v2", "N.nvmlInit()", None),
        ("nvmlDeviceGetTemperature", "N.nvmlDeviceGetTemperature(gpu(3), 0)", 31),
        ("nvmlDeviceGetCount_v2, nvmlDeviceGetName", "N.nvmlDeviceGetName(gpu(3))", "NVIDIA H100 80GB HBM3"),
        ("nvmlDeviceGetHandleByIndex_v2", "N.nvmlDeviceGetIndex(gpu(3))", 3),
        ("nvmlEventSetWait_v2", "[listen((3, 8)), wait(0)]", "code 10"),
    ],
)
def test_a_hang_lasts_until_the_state_says_otherwise(
    asker: Asker, state: NvmlState, name: str, expression: str, answer: Any
) -> None:
    if "Init" not in name:
        asker.ask("N.nvmlInit()")
    state.update({"hang": name, **({"hang_gpu": 3} if "gpu(3)" in expression else {})})
    asker.say(expression)
    until(lambda: blocks_signals(asker.process.pid), "the hang")
    state.drop("hang", "hang_gpu")
    assert asker.answer() == answer


def test_a_hang_survives_sigterm_and_not_sigkill(ready: Asker, state: NvmlState) -> None:
    state.set("hang", "nvmlDeviceGetTemperature")
    ready.say("N.nvmlDeviceGetTemperature(gpu(3), 0)")
    until(lambda: blocks_signals(ready.process.pid), "the hang")
    ready.process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        ready.process.wait(0.2)
    ready.process.kill()
    assert ready.process.wait(10) == -signal.SIGKILL


def test_a_hang_ends_with_its_state(ready: Asker, state: NvmlState) -> None:
    state.set("hang", "nvmlDeviceGetTemperature")
    ready.say("N.nvmlDeviceGetTemperature(gpu(3), 0)")
    until(lambda: blocks_signals(ready.process.pid), "the hang")
    state.path.unlink()
    assert ready.process.wait(10) == 70


def test_only_one_gpu_and_one_thread_hangs(ready: Asker, state: NvmlState) -> None:
    state.update({"hang": "nvmlDeviceGetTemperature", "hang_gpu": 3})
    ready.ask("globals().update(threading=__import__('threading'), told=[])")
    ready.ask(
        "globals().update(t=threading.Thread(target=lambda: told.append(N.nvmlDeviceGetTemperature(gpu(3), 0)), daemon=True))"
    )
    ready.ask("t.start()")
    assert ready.ask("[N.nvmlDeviceGetTemperature(gpu(2), 0), N.nvmlDeviceGetName(gpu(3)), told, t.is_alive()]") == [
        *(31, "NVIDIA H100 80GB HBM3", [], True)
    ]
    state.drop("hang", "hang_gpu")
    assert ready.ask("[t.join(), told]") == [None, [31]]


@pytest.mark.needs(*NEEDS)
def test_a_hang_on_a_frozen_disk_is_uninterruptible(ready: Asker, state: NvmlState, tmp_path: Path) -> None:
    with frozen_disk(tmp_path / "disk") as place:
        state.update({"hang": "nvmlDeviceGetTemperature", "hang_path": str(place / "file")})
        ready.say("N.nvmlDeviceGetTemperature(gpu(3), 0)")
        until(lambda: process_state(ready.process.pid) == "D", "state D")
        ready.process.kill()
        assert process_state(ready.process.pid) == "D"
        thaw(place)
        assert ready.process.wait(10) == -signal.SIGKILL


@pytest.mark.needs(*NEEDS)
def test_a_call_goes_on_when_the_disk_is_thawed(ready: Asker, state: NvmlState, tmp_path: Path) -> None:
    with frozen_disk(tmp_path / "disk") as place:
        state.update({"hang": "nvmlDeviceGetTemperature", "hang_path": str(place / "file")})
        ready.say("N.nvmlDeviceGetTemperature(gpu(3), 0)")
        until(lambda: process_state(ready.process.pid) == "D", "state D")
        thaw(place)
        assert ready.answer() == 31
