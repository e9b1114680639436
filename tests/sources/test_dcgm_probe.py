"""The probe of DCGM as a real child, with stand-ins of the bindings and of dcgmi on a host engine that is a file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hma.cli import dcgm_stand_in
from hma.cli.dcgm_stand_in import DcgmState
from hma.gpu import DcgmEngine, DcgmIncident, DcgmViolation, DcgmViolations
from hma.samples import Blind
from tests.sources.running_dcgm import BINDINGS, DBE_ON_1, EVERY, HOT_0, LATEST_S, ROUTES, Running, alive, children

GPUS = dcgm_stand_in.gpus(["0000:53:00", "0000:64:00", "0000:75:00"])


@pytest.fixture
def engine(tmp_path: Path) -> DcgmState:
    """Return a host engine with three healthy GPUs."""
    state = DcgmState(tmp_path / "engine")
    state.set(gpus=GPUS)
    return state


@pytest.fixture
def run(engine: DcgmState) -> Iterator[Callable[..., Running]]:
    """Give what starts a probe with some arguments; all are ended."""
    started: list[Running] = []

    def begin(*arguments: str) -> Running:
        started.append(Running(engine, *arguments))
        return started[-1]

    yield begin
    for one in started:
        one.close()


@pytest.fixture
def start(run: Callable[..., Running], tmp_path: Path) -> Callable[..., Running]:
    """Give what starts a probe with a route of a version."""

    def begin(route: str, version: str, *more: str) -> Running:
        bindings, program = dcgm_stand_in.install(tmp_path / version, version)
        chosen = ("--bindings", str(bindings)) if route == "bindings" else ("--dcgmi", str(program))
        return run(*chosen, *more)

    return begin


Start = Callable[..., Running]
every_route = pytest.mark.parametrize(("route", "version"), ROUTES)


# -- what is healthy, and what is not ---------------------------------------------------------------------------------


@every_route
def test_tells_health_and_gpus_and_that_it_listens(start: Start, engine: DcgmState, route: str, version: str) -> None:
    probe = start(route, version, "--address", "127.0.0.1:5555")
    said = probe.health()
    assert said.engine == DcgmEngine("up", route, version=version, address="127.0.0.1:5555")
    assert [(gpu.gpu_id, gpu.pci) for gpu in said.gpus] == [(0, "0000:53:00"), (1, "0000:64:00"), (2, "0000:75:00")]
    assert said.incidents == ()
    probe.listening()
    assert probe.end() == (0, "")


@every_route
def test_incidents_are_told_when_they_come_and_when_they_go(start: Start, engine: DcgmState, route: str, version: str) -> None:
    probe = start(route, version)
    probe.state("up")
    engine.set(incidents=[HOT_0, DBE_ON_1])
    code = {"bindings": (10, 4), "dcgmi": (None, None)}[route]
    assert probe.health(lambda one: one.incidents).incidents == (
        DcgmIncident(0x80, "warn", code[0], HOT_0["msg"], 1, 0),
        DcgmIncident(0x10, "fail", code[1], DBE_ON_1["msg"], 1, 1),
    )
    engine.set(incidents=[])
    assert probe.health(lambda one: not one.incidents).engine.state == "up"


@pytest.mark.parametrize("version", BINDINGS)
def test_a_path_is_connected_to_as_one(start: Start, version: str) -> None:
    assert start("bindings", version, "--address", "unix:///run/nv-hostengine.sock").health().engine.state == "up"


@every_route
def test_each_violation_is_told_at_once(start: Start, engine: DcgmState, route: str, version: str) -> None:
    probe = start(route, version)
    probe.listening()
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    kinds = ((0x40, 79, 0), (0x1, 3, 0), (0x2, 4, 0), (0x4, 61, 0), (0x8, 101, 0), (0x20, 5, 409))
    for condition, value, field in kinds:
        engine.violate(condition, 1, value, field)
    told = probe.violations(len(kinds))
    place = "0000:64:00" if route == "bindings" else ""
    wanted = [DcgmViolation(condition, float(value), 0.0, place, field) for condition, value, field in kinds]
    if route == "dcgmi":  # it prints the place of the error, and no count
        wanted[1] = wanted[1]._replace(value=1.0)
    assert sorted(told) == sorted(wanted)
    spoken = [one.at for said in probe.said if isinstance(said, DcgmViolations) for one in said.violations]
    assert all(before <= at <= time.clock_gettime(time.CLOCK_BOOTTIME) for at in spoken)


@pytest.mark.parametrize("version", BINDINGS)
def test_a_count_that_stands_is_told_once_and_an_xid_each_time(start: Start, engine: DcgmState, version: str) -> None:
    probe = start("bindings", version)
    probe.listening()
    for condition, gpu, value in ((0x2, 0, 7), (0x2, 0, 7), (0x2, 1, 7), (0x2, 0, 8), (0x40, 0, 31), (0x40, 0, 31)):
        engine.violate(condition, gpu, value)
    told = sorted((one.condition, one.gpu[5:7], one.value) for one in probe.violations(5))
    assert told == [(0x2, "53", 7), (0x2, "53", 8), (0x2, "64", 7), (0x40, "53", 31), (0x40, "53", 31)]


# -- others use the host engine, too ----------------------------------------------------------------------------------


@every_route
def test_sets_a_policy_that_only_tells_where_there_is_none(start: Start, engine: DcgmState, route: str, version: str) -> None:
    probe = start(route, version)
    probe.listening()
    policy = engine.was_set()["policy"]
    assert (policy["condition"], policy["pages"], policy["temperature"]) == (0x6F, 60, 100)
    assert policy.get("action", 0) == policy.get("validation", 0) == 0


@every_route
def test_leaves_the_policy_of_others_and_says_what_it_lacks(start: Start, engine: DcgmState, route: str, version: str) -> None:
    engine.set(policy={"condition": 0x40 | 0x10})
    probe = start(route, version)
    assert (
        probe.health().engine.text == "somebody else has set the policy: no word of DBE, PCIe, retired pages, thermal, NVLink"
    )
    probe.listening()
    engine.violate(0x20, 0, 9, 409)
    engine.violate(0x40, 0, 79)
    assert [one.condition for one in probe.violations(1)] == [0x40]
    assert engine.was_set()["policy"] == {"condition": 0x40 | 0x10}


@pytest.mark.parametrize("version", BINDINGS)
@pytest.mark.parametrize("on", [0, 0x11, EVERY])
def test_health_watches_are_only_added(start: Start, engine: DcgmState, version: str, on: int) -> None:
    engine.set(systems=on)
    assert start("bindings", version).health().engine.state == "up"
    assert engine.was_set()["systems"] == EVERY


@pytest.mark.parametrize(("on", "then"), [(0, 0xDD3), (0x11, 0xDD3), (0x211, None), (0xFFF, None)])
def test_dcgmi_does_not_switch_off_what_it_has_no_letter_for(
    start: Start, engine: DcgmState, on: int, then: int | None
) -> None:
    engine.set(systems=on)
    start("dcgmi", "3.3.9").listening()
    # None: nobody has set any, so that those that were on are.
    assert engine.was_set().get("systems", on) == (on if then is None else then)


# -- the host engine goes, comes, refuses, hangs ----------------------------------------------------------------------


@every_route
def test_nothing_that_ever_listened_is_exit_code_69(start: Start, engine: DcgmState, route: str, version: str) -> None:
    engine.set(connect=-21)
    code, words = start(route, version).ended()
    assert (code, words.startswith("no DCGM host engine at localhost:5555: ")) == (69, True)


@every_route
def test_nothing_listens_any_more_and_then_something_does(start: Start, engine: DcgmState, route: str, version: str) -> None:
    probe = start(route, version)
    probe.listening()
    engine.set(connect=-21, boot=1)
    said = probe.state("no_engine")
    assert (said.engine.state, said.engine.code, said.engine.route) == ("no_engine", -21, route)
    assert any("localhost:5555" in one.text for one in probe.said if isinstance(one, Blind))
    engine.set(connect=0)
    probe.state("up")


@every_route
def test_a_restarted_host_engine_is_set_up_again(start: Start, engine: DcgmState, route: str, version: str) -> None:
    probe = start(route, version)
    probe.listening()
    engine.set(boot=1)
    probe.blind()
    probe.listening()
    assert engine.was_set()["boot"] == 1
    assert engine.was_set()["policy"]["condition"] == 0x6F
    engine.violate(0x40, 2, 119)
    assert probe.violations(1)[0].value == 119


@pytest.mark.parametrize(
    ("call", "code", "state"),
    [
        ("dcgmInit", -3, "failed"),
        ("connect", -12, "failed"),
        ("dcgmHealthGet", -11, "hung"),
        ("dcgmHealthSet", -6, "failed"),
        ("dcgmHealthCheck", -14, "failed"),
        ("dcgmHealthCheck", -11, "hung"),
        ("dcgmHealthCheck", -21, "no_engine"),
        ("dcgmGetAllSupportedDevices", -56, "failed"),
    ],
)
def test_an_error_is_told_by_its_number(start: Start, engine: DcgmState, call: str, code: int, state: str) -> None:
    engine.set(**({"connect": code} if call == "connect" else {"codes": {call: code}}))
    probe = start("bindings", "4.6.0")
    said = probe.health()
    assert (said.engine.state, said.engine.code, said.incidents) == (state, code, ())
    engine.set(connect=0, codes={})
    probe.state("up")


@pytest.mark.parametrize("version", BINDINGS)
def test_without_policies_health_is_told_all_the_same(start: Start, engine: DcgmState, version: str) -> None:
    engine.set(codes={"dcgmPolicySet": -6})
    probe = start("bindings", version)
    assert "Feature not supported" in probe.blind()
    assert probe.health().engine.state == "up"
    engine.set(codes={})
    probe.listening()


def test_attributes_that_cannot_be_had_cost_the_address_only(start: Start, engine: DcgmState) -> None:
    engine.set(codes={"dcgmGetDeviceAttributes": -18})
    said = start("bindings", "4.6.0").health()
    assert (said.engine.state, [gpu.pci for gpu in said.gpus]) == ("up", ["", "", ""])


def test_gpus_that_come_later_are_found(start: Start, engine: DcgmState) -> None:
    engine.set(gpus=[])
    probe = start("bindings", "4.6.0")
    assert probe.health().gpus == ()
    engine.set(gpus=GPUS)
    assert len(probe.health(lambda one: one.gpus).gpus) == 3


@pytest.mark.parametrize("version", ["3.3.9", "4.6.0"])
@pytest.mark.parametrize("call", ["dcgmHealthCheck", "dcgmPolicyGet", "dcgmGetAllSupportedDevices"])
def test_a_call_that_hangs_is_told_and_can_be_left(start: Start, engine: DcgmState, version: str, call: str) -> None:
    engine.set(hang=[call])
    probe = start("bindings", version)
    assert call in probe.state("hung").engine.text
    assert call in probe.blind()
    assert probe.end() == (0, "")


@pytest.mark.parametrize(
    ("version", "call"), [("3.3.9", "dcgmConnect_v2"), ("4.6.0", "dcgmConnect_v3"), ("4.2.3", "dcgmHealthSet")]
)
def test_a_call_that_may_take_long_can_be_left_as_well(start: Start, engine: DcgmState, version: str, call: str) -> None:
    engine.set(hang=[call])
    assert start("bindings", version).end() == (0, "")


def test_what_hung_and_came_back_is_told_as_well(start: Start, engine: DcgmState) -> None:
    engine.set(hang=["dcgmHealthCheck"])
    probe = start("bindings", "4.6.0")
    probe.state("hung")
    probe.blind()
    engine.set(hang=[])
    probe.state("up")
    probe.listening()


# -- dcgmi ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3.3.9", "4.6.0"])
def test_a_dcgmi_that_hangs_is_ended_and_told(start: Start, engine: DcgmState, version: str) -> None:
    engine.set(hang=["health"])
    probe = start("dcgmi", version, "--run", "1")
    assert "no end within 1 s" in probe.state("hung").engine.text
    engine.set(hang=[])
    probe.state("up")


def test_no_second_dcgmi_while_one_is_out(start: Start, engine: DcgmState) -> None:
    engine.set(hang=["health"])
    probe = start("dcgmi", "4.6.0", "--run", "0.6")
    most = 0
    for _ in range(3):
        probe.state("hung")
        most = max(most, len(children(probe.child.pid, "health")))
    assert most <= 1


def test_endless_output_is_cut(start: Start, engine: DcgmState) -> None:
    engine.set(prints={"discovery": "7 GPUs found.\n" * 200_000})
    probe = start("dcgmi", "4.6.0")
    said = probe.state("failed")
    assert "more than 1048576 bytes" in said.engine.text
    assert children(probe.child.pid, "discovery") == []


@pytest.mark.parametrize("garbage", ["", "\x00\x01\x02", "{", '{"body": 7}', "no words that are known", "é" * 1000])
def test_garbage_is_no_health(start: Start, engine: DcgmState, garbage: str) -> None:
    engine.set(prints={"health": garbage})
    probe = start("dcgmi", "4.6.0")
    assert probe.state("failed").incidents == ()
    engine.set(prints={})
    probe.state("up")


def test_an_exit_code_is_the_number_of_an_error(start: Start, engine: DcgmState) -> None:
    engine.set(prints={"discovery": "Error: Cannot get GPU list from remote node. Return: Timeout"}, exits={"discovery": 245})
    said = start("dcgmi", "4.6.0").state("hung")
    assert (said.engine.code, said.engine.text.startswith("Error: Cannot get GPU list")) == (-11, True)


def test_the_one_that_listens_is_started_again(start: Start, engine: DcgmState) -> None:
    probe = start("dcgmi", "4.6.0")
    probe.listening()
    (listener,) = children(probe.child.pid, "--reg")
    os.kill(listener, signal.SIGKILL)
    assert "policy --reg has ended" in probe.blind()
    probe.listening()
    assert len(children(probe.child.pid, "--reg")) == 1


@pytest.mark.parametrize("way", ["end of input", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_behind(start: Start, way: str) -> None:
    probe = start("dcgmi", "4.6.0")
    probe.listening()
    (listener,) = children(probe.child.pid, "--reg")
    if way == "end of input":
        assert probe.end() == (0, "")
    else:
        probe.child.send_signal(getattr(signal, way))
        assert probe.ended()[0] == {"SIGTERM": 0, "SIGKILL": -9}[way]
    end = time.monotonic() + LATEST_S
    while alive(listener) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(listener)


# -- what is installed ------------------------------------------------------------------------------------------------


def test_nothing_installed_is_exit_code_69(run: Start, tmp_path: Path) -> None:
    code, words = run("--bindings", str(tmp_path / "none")).ended()
    assert code == 69
    assert words.startswith("DCGM is not installed: no dcgmi; ")
    assert f"{tmp_path / 'none'}: no bindings" in words
    assert words.count("\n") == 1


def test_bindings_without_their_library_are_not_installed(start: Start, engine: DcgmState) -> None:
    engine.set(library=False)
    code, words = start("bindings", "4.6.0").ended()
    assert (code, "DCGM library could not be found" in words) == (69, True)


def test_bindings_without_their_library_give_way_to_dcgmi(start: Start, engine: DcgmState, tmp_path: Path) -> None:
    engine.set(library=False)
    _, program = dcgm_stand_in.install(tmp_path / "program", "4.6.0")
    probe = start("bindings", "4.6.0", "--dcgmi", str(program))
    assert probe.health().engine.route == "dcgmi"


def test_broken_bindings_are_named(run: Start, tmp_path: Path) -> None:
    (tmp_path / "dcgm_structs.py").write_text("import logger\n", encoding="utf-8")
    (tmp_path / "dcgm_agent.py").touch()
    code, words = run("--bindings", str(tmp_path)).ended()
    assert (code, "No module named 'logger'" in words) == (69, True)


def test_bindings_of_an_unknown_shape_fail_and_do_not_end_the_probe(run: Start, tmp_path: Path) -> None:
    bindings, _ = dcgm_stand_in.install(tmp_path, "4.6.0")
    with (bindings / "dcgm_agent.py").open("a", encoding="utf-8") as file:
        file.write("del dcgmHealthCheck\n")
    probe = run("--bindings", str(bindings))
    assert "dcgmHealthCheck" in probe.state("failed").engine.text
    assert probe.end() == (0, "")


def test_the_folder_of_the_bindings_stays_as_it_is(start: Start, tmp_path: Path) -> None:
    start("bindings", "4.6.0").health()
    assert sorted(path.name for path in (tmp_path / "4.6.0" / "bindings").iterdir()) == ["dcgm_agent.py", "dcgm_structs.py"]


@pytest.mark.parametrize("arguments", [("--embedded",), ("--address",), ("host:5555",)])
def test_a_wrong_command_line_is_told(run: Start, arguments: tuple[str, ...]) -> None:
    code, words = run(*arguments).ended()
    assert code == os.EX_USAGE
    assert "not one of --address VALUE" in words
