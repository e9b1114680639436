"""Every story of `hma demo` is played by the real agent and ends as it must; one that does not is told as such."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hma.cli.demo_command import play
from hma.cli.scenarios import SCENARIOS, Await, Kernel, Scenario
from tests.agent_run import HMA, until


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
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
    ],
)
def test_story_that_ends_otherwise_is_a_failure(
    changes: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = replace(SCENARIOS[1], **changes)  # type: ignore[arg-type]
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
def test_story_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*HMA, "demo", "user-error"], stdout=subprocess.PIPE, text=True, env=environ) as playing:
        assert playing.stdout is not None
        until(lambda: "agent_ready" in str(playing.stdout.readline() if playing.stdout else ""), "the agent of the story")
        assert list(tmp_path.iterdir()) != []
        playing.terminate()
        playing.stdout.read()
    assert playing.returncode == 128 + 15
    assert list(tmp_path.iterdir()) == []
