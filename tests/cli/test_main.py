"""What a person gets for a mistake: one clear line each (what, where, the mend), all at once, and exit code 3."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.agent_run import HMA, XID_79, Node, until


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "1: is not YAML: a bracket opened here is not closed"),
        ("kernel_lg: /dev/kmsg", "1: kernel_lg: is not a known key; did you mean kernel_log?"),
        ("checks: {xidd: {interval: 5s}}", "1: checks.xidd: is not a check on this node; did you mean xid?"),
        ("journal: {keep: 30}", '1: journal.keep: "30" is not a duration; write a number and a unit'),
        ("checks: {disk_space: {interval: 1 fortnight}}", '1: checks.disk_space.interval: "1 fortnight" is not a duration'),
        ("record: trace.jsonl", '1: record: "trace.jsonl" is not an absolute path'),
        ("checks: {xid: {interval: 10s}}", "1: checks.xid.interval: has no meaning: this check is told, and does not ask"),
        ("catalogue: /nowhere/catalogue.yaml", "/nowhere/catalogue.yaml: does not exist"),
    ],
)
@pytest.mark.parametrize("command", ["agent", "check", "config validate"])
def test_mistake_in_the_configuration_is_one_line_and_exit_code_3(node: Node, command: str, text: str, said: str) -> None:
    node.config.write_text(f"{text}\n")
    done = node.hma(command)
    assert (done.returncode, done.stdout) == (3, "")
    assert said in done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("hma: ")] == []
    assert "Traceback" not in done.stderr


def test_all_mistakes_of_all_files_are_told_at_once(node: Node, tmp_path: Path) -> None:
    rows = tmp_path / "rows.yaml"
    rows.write_text("XID-79: {hold: soon}\nXID-999: {title: never seen, action: reboot}\n")
    node.config.write_text(f"catalogue: {rows}\njournal: {{max_size: big}}\nchecks: {{xidd: {{}}}}\n")
    done = node.hma("config validate")
    told = "\n".join(sorted(done.stderr.splitlines()))
    assert done.returncode == 3
    for said in (
        f"{rows}:1: XID-79.hold:",
        f"{rows}:2: XID-999",
        f"{node.config}:2: journal.max_size:",
        f"{node.config}:3: checks.xidd:",
    ):
        assert said in told


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["check", "xidd"], "xidd: no such check; did you mean xid?"),
        (["check", "--jsn"], "unrecognized arguments: --jsn"),
        (["events", "--since", "yesterday"], '--since yesterday: "yesterday" is not a duration'),
        (["events", "--limit", "0"], "--limit 0: not a number of events"),
        (["replay", "/nowhere"], "/nowhere: cannot be read: No such file or directory"),
        (["explain", "XID-79x"], "no journal at"),
        (["agent", "--set", "kernel_log"], "--set kernel_log: not of the form KEY=VALUE"),
        (["config"], "the following arguments are required: what"),
    ],
)
def test_mistake_on_the_command_line(node: Node, argv: list[str], said: str) -> None:
    done = node.hma(argv[0], *argv[1:])
    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_config_shown_is_a_config_that_loads_to_the_same(node: Node, tmp_path: Path) -> None:
    shown = node.hma("config show").stdout
    node.config = tmp_path / "again.yaml"
    node.config.write_text(shown)
    assert node.hma("config show").stdout == shown
    assert "kernel_log: " in shown


def test_check_runs_once_and_says_so_by_its_exit_code(node: Node) -> None:
    healthy = node.hma("check", "xid", "gpu_count_pci")
    node.kernel_log.write(XID_79)
    failed = node.hma("check", "xid")
    node.kernel_log.path.unlink()
    blind = node.hma("check", "xid")
    assert (healthy.returncode, failed.returncode, blind.returncode) == (0, 1, 2), healthy.stderr + failed.stderr + blind.stderr
    assert "XID-79 gpu:0000:97:00" in failed.stdout
    assert not node.state_dir.exists()


@pytest.mark.parametrize(
    ("name", "said"), [("nvml_events", "the driver does not answer (no_library)"), ("dcgm_policy", "DCGM is not installed")]
)
def test_check_waits_for_what_only_tells_until_it_can_listen_or_not(node: Node, name: str, said: str) -> None:
    assert said in node.hma("check", name).stdout


@pytest.mark.parametrize("place", ["run", "run/agent.lock"])
def test_what_is_in_the_way_of_the_run_directory_is_named(node: Node, place: str) -> None:
    node.run_dir = node.state_dir.parent / "run"
    if place == "run":
        node.run_dir.touch()
    else:
        (node.run_dir / "agent.lock").mkdir(parents=True)
    done = node.hma("agent")
    assert done.returncode == 3
    assert f"{node.state_dir.parent / place} is in the way" in done.stderr
    assert "; remove it, or set run_dir\n" in done.stderr


@pytest.mark.parametrize("place", ["state", "state/journal.lock"])
def test_what_is_in_the_way_of_the_journal_is_named_and_costs_only_the_journal(node: Node, place: str) -> None:
    way = node.state_dir.parent / place
    if place == "state":
        way.touch()
    else:
        way.mkdir(parents=True)
    with node.start() as agent:
        lost = agent.wait_for("journal_lost")
        agent.wait_for("agent_ready")
        assert agent.terminate() == 0
    assert f"{way} is in the way" in lost["note"]


def test_trace_that_cannot_be_written_is_told_by_status(node: Node) -> None:
    node.settings["record"] = "/"
    with node.start() as agent:
        agent.wait_for("agent_ready")
        told = until(lambda: said if "trace " in (said := node.hma("status").stdout) else "", "the trouble")
        agent.terminate()
    assert "trace / cannot be written: Is a directory; it ends here\n" in told


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["config show", "config validate", "check kernel_limits --json", "demo"])
def test_output_that_cannot_be_written_is_one_line_and_exit_code_3(node: Node, command: str, unbuffered: str) -> None:
    argv = [*HMA, *command.split(), *(("--config", str(node.config)) if command != "demo" else ())]
    with open("/dev/full", "w", encoding="ascii") as full:
        environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (3, "hma: standard output: No space left on device\n")


@pytest.mark.parametrize(("closed", "printed"), [("<&-", True), (">&-", False), ("2>&-", True), ("<&- >&- 2>&-", False)])
def test_closed_standard_streams_do_no_harm(node: Node, closed: str, printed: bool) -> None:
    shown = shlex.join([*HMA, "config", "show", "--config", str(node.config)])
    done = subprocess.run(["bash", "-c", f"{shown} {closed}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == printed


@pytest.mark.parametrize(
    ("argv", "said"), [([], "COMMAND"), (["chek"], "invalid choice: 'chek'"), (["--frob"], "unrecognized")]
)
def test_no_command_or_an_unknown_one_prints_how_to_use_it(argv: list[str], said: str) -> None:
    done = subprocess.run([*HMA, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert said in done.stdout + done.stderr
    assert "usage: hma" in done.stdout + done.stderr
