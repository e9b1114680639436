"""Every story of `hma demo` is played by the real agent and ends as it must; one that does not is told as such."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hma.check import Dcgm, DcgmEvents, Nvml, NvmlEvents
from hma.cli.beats import Await, Kernel, Scenario
from hma.cli.demo_command import INSTANCE_TYPE, play
from hma.cli.demo_devices import Devices
from hma.cli.scenarios import SCENARIOS
from hma.loader import find_checks
from tests.agent_run import HMA, until

NEEDS = {True: (pytest.mark.needs("gcc"),), False: ()}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [pytest.param(one, id=one.name, marks=NEEDS[one.needs_library]) for one in SCENARIOS])
def test_story_ends_as_it_must(scenario: Scenario) -> None:
    done = subprocess.run([*HMA, "demo", scenario.name], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it ends as it must" in done.stdout
    assert f"hma explain {scenario.explain}" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ends": {"action": "reboot"}}, "it must end with {'action': 'reboot'}"),
        ({"beats": (Await("fault_active", {}, 0.5),)}, "the agent did not say fault_active within 0.5 s"),
        ({"beats": (Kernel("nothing of note"),), "ends": {"schedulable": False}}, "it must end with"),
        ({"because": ("XID-13",)}, "it must end because of XID-13, and ends because of XID-13, XID-31"),
    ],
)
def test_story_that_ends_otherwise_is_a_failure(
    changes: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = replace(next(one for one in SCENARIOS if one.name == "user-error"), **changes)  # type: ignore[arg-type]
    assert play(scenario) == 1
    assert said in capsys.readouterr().out


def test_without_a_name_the_stories_are_listed() -> None:
    done = subprocess.run([*HMA, "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert [one.name for one in SCENARIOS if one.name not in done.stdout] == []


def test_unknown_story_is_one_line() -> None:
    done = subprocess.run([*HMA, "demo", "flod"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "hma: flod: no such story; did you mean flood?\n")


def test_places_of_a_node_mean_nothing_to_a_story_and_are_refused() -> None:
    done = subprocess.run([*HMA, "demo", "flood", "--config", "/x"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "unrecognized arguments: --config /x" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("story", "moment"),
    [
        ("user-error", "agent_ready"),
        pytest.param("driver-hangs", "fault_active     NVML-HUNG", marks=pytest.mark.needs("gcc")),
        pytest.param("dcgm", "DCGM-POLICY-DBE", marks=pytest.mark.needs("gcc")),
    ],
)
def test_story_that_is_ended_leaves_nothing_behind(tmp_path: Path, story: str, moment: str) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*HMA, "demo", story], stdout=subprocess.PIPE, text=True, env=environ) as playing:
        assert playing.stdout is not None
        until(lambda: moment in str(playing.stdout.readline() if playing.stdout else ""), moment, 60.0)
        assert list(tmp_path.iterdir()) != []
        playing.terminate()
        playing.stdout.read()
    assert playing.returncode == 128 + 15
    assert list(tmp_path.iterdir()) == []


# -- without a compiler -----------------------------------------------------------------------------------------------


@pytest.fixture
def without_compiler(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which the programs of the stand-ins are found, and no compiler."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sleep").symlink_to(shutil.which("sleep") or "")
    return {**os.environ, "PATH": str(programs)}


@pytest.mark.slow
def test_without_a_compiler_all_other_stories_are_played_without_the_driver_library(without_compiler: dict[str, str]) -> None:
    argv = [*HMA, "demo", "all"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=200, env=without_compiler)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    first, second, *rest = done.stdout.splitlines()
    assert first.startswith("The checks that ask the driver library are switched off: no C compiler for ")
    assert first.endswith(": apt-get install gcc libc6-dev")
    left_out = [one.name for one in SCENARIOS if one.needs_library]
    assert second == f"Left out are the stories that need it: {', '.join(left_out)}"
    assert [line for line in rest if "driver      left out: " in line] != []
    assert done.stdout.count("it ends as it must") == len(SCENARIOS) - len(left_out)


def test_without_a_compiler_a_story_about_the_driver_library_is_refused_in_one_line(without_compiler: dict[str, str]) -> None:
    argv = [*HMA, "demo", "row-remap"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=without_compiler)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "hma: row-remap: this story needs the driver library; no C compiler for the stand-in of libnvidia-ml.so.1: "
        "apt-get install gcc libc6-dev\n"
    )


@pytest.mark.parametrize("with_dcgm", [False, True])
def test_what_is_not_part_of_a_story_is_never_asked_of_this_machine(tmp_path: Path, with_dcgm: bool) -> None:
    devices = Devices(tmp_path, INSTANCE_TYPE, None, with_dcgm=with_dcgm)
    asked = {check.name: check.source for check in find_checks() if check.name not in devices.off}
    left = {type(source) for source in asked.values()} & {Nvml, NvmlEvents, Dcgm, DcgmEvents}
    assert left == ({Dcgm, DcgmEvents} if with_dcgm else set())
    assert ("dcgm" in devices.settings) == with_dcgm
    assert "nvml" not in devices.settings
    devices.close()
