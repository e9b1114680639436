"""SIGHUP, where more than the agent's own file changes: other packages, programs, and a file that is written at that moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent_run import PATIENCE_S, Node, Running, until

FAN = """
from hma.check import Check, Stream
from hma.model import Observation, Status

CHECK = Check(
    name="fan", title="Fans", source=Stream(("fan-watch",)), codes=frozenset({"FAN"}),
    observe=lambda sample, node, options: [Observation("FAN", "host", Status.OK, sample.lines[-1])],
)
"""
RACE = """
import sys
from pathlib import Path
from hma.agent import Agent
from hma.check import Command
from hma.loop import boottime
from hma.settings import load_settings

file, given = Path(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:])
settings = load_settings(file, given)
Agent(settings, boottime(), Command(("true",)), lambda: load_settings(file, given)).run()
"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def package(folder: Path, name: str, target: str) -> None:
    """Install a package with one entry point, as far as the agent looks at it."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "entry_points.txt").write_text(f"[hma.checks]\n{name} = {target}\n")


def script(path: Path, word: str) -> Path:
    """Write a program that says its number and `word`, and stays."""
    path.write_text(f'#!/bin/sh\necho "$$ {word}"\nexec sleep 600\n')
    path.chmod(0o755)
    return path


def fan(node: Node) -> list[str]:
    """Return what the fan's check says: number and word of the program that runs."""
    rows = json.loads(node.hma("status", "--json").stdout)["checks"]
    return next(str(row["reason"]).split() for row in rows if row["check"] == "fan")


def test_program_of_a_stream_is_another_one_after_a_reload(node: Node, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    package(packages, "fan", "fanwatch:CHECK")
    (packages / "fanwatch.py").write_text(FAN)
    old, new = script(tmp_path / "old", "old"), script(tmp_path / "new", "new")
    node.config.write_text(f"commands: {{fan-watch: {old}}}\n")
    with node.start(PYTHONPATH=f"{packages}:{os.environ.get('PYTHONPATH', '')}") as agent:
        agent.wait_for("agent_ready")
        until(lambda: fan(node)[1:] == ["old"], "the first program")
        node.config.write_text(f"commands: {{fan-watch: {new}}}\n")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("config_reloaded")
        os.kill(int(fan(node)[0]), signal.SIGKILL)
        until(lambda: fan(node)[1:] == ["new"], "the second program")
        assert agent.terminate() == 0


def test_check_that_is_broken_since_is_told_at_a_reload_once(node: Node, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    with node.start(PYTHONPATH=f"{packages}:{os.environ.get('PYTHONPATH', '')}") as agent:
        agent.wait_for("agent_ready")
        package(packages, "torn", "nowhere_at_all:CHECK")
        for _ in range(2):
            agent.process.send_signal(signal.SIGHUP)
            agent.wait_for("config_reloaded")
        assert agent.terminate() == 0
    (told,) = [record["note"] for record in agent.records if record["msg"] == "check_problem"]
    assert told.startswith("torn: check torn (nowhere_at_all:CHECK): cannot be imported")


def test_file_that_is_spoilt_after_it_was_looked_at_does_not_end_the_agent(node: Node) -> None:
    node.run_dir.mkdir()
    given = {"state_dir": node.state_dir, "run_dir": node.run_dir, "node.root": node.root, "kernel_log": node.kernel_log.path}
    words = [f"{key}={value}" for key, value in {**node.settings, **given}.items()]
    with Running([sys.executable, "-c", RACE, str(node.config), *words], {}) as agent:
        agent.wait_for("agent_ready")
        node.config.write_text("kernel_lg: /dev/kmsg\n")
        agent.process.send_signal(signal.SIGHUP)
        rejected = agent.wait_for("config_rejected")
        assert agent.terminate() == 0
    assert "kernel_lg: is not a known key" in rejected["note"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminal_that_lacks_a_character_gets_it_escaped(node: Node, encoding: str) -> None:
    pressure = node.root / "proc/1/mountinfo"
    pressure.write_text("23 1 259:1 / /data\u20ac rw shared:1 - ext4 /dev/x ro\n")
    argv = [sys.executable, "-m", "hma.cli.main", "check", "--json", "mounts", *node.options()]
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(argv, env=environ, capture_output=True, check=False, timeout=3 * PATIENCE_S)
    assert (done.returncode, done.stderr) == (1, b"")
    assert rb"fs:/data\u20ac" in done.stdout
