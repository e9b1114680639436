"""The agent on a node whose driver answers, loses a GPU, hangs in the kernel or comes late, and whose probe crashes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hma.cli.simulated_node import unplug
from tests.agent_run import XID_79, Record, until
from tests.gpu_node import GpuNode, library
from tests.sources.stuck import NEEDS, frozen, state

GPU = "0000:97:00"
NUMBER = 4
FAST_ASK = "nvmlDeviceGetTemperature"
"""What the probe asks each GPU every few seconds to see whether it answers."""
COMPONENT = f"gpu:{GPU}"
pytestmark = pytest.mark.needs("gcc")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def node(tmp_path: Path, driver: Path) -> GpuNode:
    return GpuNode(tmp_path / "node", driver)


def checks_of(node: GpuNode) -> dict[str, Record]:
    rows: list[Record] = json.loads(node.hma("status", "--json").stdout)["checks"]
    return {row["check"]: row for row in rows}


def probes_of(agent: int) -> list[int]:
    """Return the process ids of the NVML probes that an agent started."""
    children = [int(pid) for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()]
    return [pid for pid in children if b"nvml_probe" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_every_check_on_the_library_looks_and_finds_a_healthy_node_healthy(node: GpuNode) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        rows = until(lambda: (r := checks_of(node)) and r["ecc"]["status"] != "waiting" and r, "a reading")
        told = {name: rows[name]["status"] for name in rows if rows[name]["status"] not in ("ok", "disabled")}
        assert set(told.values()) == {"not applicable"}
        assert agent.terminate() == 0
    assert {record["msg"] for record in agent.records} == {"agent_started", "verdict_changed", "agent_ready", "agent_stopping"}


def test_gpu_that_the_driver_lost_confirms_what_the_kernel_said_and_the_node_is_to_be_replaced(node: GpuNode) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        node.kernel_log.write(XID_79)
        agent.wait_for("fault_active", code="XID-79", component=COMPONENT)
        node.nvml.set(f"gpu.{NUMBER}.code", 15)
        confirmed = agent.wait_for("fault_confirmed", code="XID-79")
        agent.wait_for("fault_active", code="NVML-GPU-LOST", component=COMPONENT)
        verdict = agent.wait_for("verdict_changed", action="replace")
        assert confirmed["component"] == COMPONENT
        assert verdict["schedulable"] is False
        assert agent.terminate() == 0


def test_xid_told_by_the_library_alone_is_the_same_fault(node: GpuNode) -> None:
    node.kernel_log.path.unlink()
    with node.start() as agent:
        agent.wait_for("agent_ready")
        until(lambda: checks_of(node)["nvml_events"]["status"] == "ok", "the probe to listen")
        node.tell(NUMBER, 119)
        fault = agent.wait_for("fault_active", code="XID-119", component=COMPONENT)
        assert fault["check"] == "nvml_events"
        agent.wait_for("verdict_changed", schedulable=False)
        assert agent.terminate() == 0


def test_one_xid_told_by_both_routes_is_one_event(node: GpuNode) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        until(lambda: checks_of(node)["nvml_events"]["status"] == "ok", "the probe to listen")
        node.kernel_log.write("NVRM: Xid (PCI:0000:97:00): 119, pid=1240, name=python3, Timeout after 6s of waiting for RPC")
        node.tell(NUMBER, 119)
        agent.wait_for("fault_active", code="XID-119")
        faults = until(
            lambda: [f for f in json.loads(node.hma("status", "--json").stdout)["faults"] if len(f.get("routes", ())) == 2],
            "both routes to be told",
        )
        assert [(fault["code"], fault["count"]) for fault in faults] == [("XID-119", 1)]
        assert sorted(faults[0]["routes"]) == ["nvml_events", "xid"]
        assert agent.terminate() == 0


def test_count_that_two_routes_agree_on_reboots_within_fifteen_seconds(node: GpuNode) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        until(lambda: checks_of(node)["gpu_count_nvml"]["status"] == "ok", "a first count")
        unplug(node.root, f"{GPU}.0")
        node.nvml.set(f"gpu.{NUMBER}.absent", 1)
        agent.wait_for("fault_active", code="GPU-COUNT-NVML")
        agent.wait_for("verdict_changed", action="reboot", limit_s=30.0)
        assert agent.terminate() == 0


def test_probe_that_is_killed_is_started_again_and_blinds_nobody_for_long(node: GpuNode) -> None:
    with node.start() as agent:
        agent.wait_for("agent_ready")
        (first,) = until(lambda: probes_of(agent.process.pid), "the probe")
        until(lambda: checks_of(node)["ecc"]["status"] == "ok", "a reading")
        os.kill(first, signal.SIGKILL)
        until(lambda: probes_of(agent.process.pid) not in ([], [first]), "a new probe")
        until(lambda: checks_of(node)["ecc"]["status"] == "ok", "a new reading")
        node.nvml.set(f"gpu.{NUMBER}.code", 15)
        agent.wait_for("fault_active", code="NVML-GPU-LOST")
        assert agent.terminate() == 0


def test_driver_that_comes_up_later_is_found(node: GpuNode) -> None:
    node.nvml.set("init", 9)
    with node.start() as agent:
        agent.wait_for("agent_ready")
        until(lambda: "NVML-NO-DRIVER" in checks_of(node)["nvml_driver"]["reason"], "the driver to be missed")
        assert checks_of(node)["ecc"]["status"] == "unknown"
        node.nvml.set("init", 0)
        until(lambda: checks_of(node)["ecc"]["status"] == "ok", "the driver to be found", 40.0)
        assert agent.terminate() == 0


@pytest.fixture
def hung(node: GpuNode, tmp_path: Path) -> Iterator[GpuNode]:
    """Give a node whose driver puts who asks its GPU 4 to sleep in the kernel (state D), from the start on."""
    with frozen(tmp_path) as disk:
        node.nvml.update({"hang": FAST_ASK, "hang_gpu": NUMBER, "hang_path": f"{disk.place}/driver"})
        node.config.write_text("checks: {memory_pressure: {interval: 1s}}\n")
        yield node


@pytest.mark.slow
@pytest.mark.needs(*NEEDS)
def test_driver_that_hangs_in_the_kernel_costs_its_checks_and_nothing_else(hung: GpuNode) -> None:
    with hung.start() as agent:
        agent.wait_for("agent_ready")
        (probe,) = until(lambda: probes_of(agent.process.pid), "the probe")
        until(lambda: "D" in thread_states(probe), "a thread of the probe to be stuck")
        reason = until(lambda: "HUNG" in (r := checks_of(hung)["nvml_driver"]["reason"]) and r, "the hang to be told", 40.0)
        assert FAST_ASK in reason
        before, began = checks_of(hung)["memory_pressure"]["runs"], time.monotonic()
        time.sleep(5)
        runs, took = checks_of(hung)["memory_pressure"]["runs"] - before, time.monotonic() - began
        assert abs(runs - took) <= 2, "another check lost its rhythm"
        hung.kernel_log.write(XID_79)
        agent.wait_for("fault_active", code="XID-79")
        asked = time.monotonic()
        assert agent.terminate() == 0
        assert time.monotonic() - asked < 2
        assert "D" in thread_states(probe)


@pytest.mark.slow
@pytest.mark.needs(*NEEDS)
def test_killed_agent_leaves_a_hung_probe_and_the_next_one_begins_at_once_without_another(hung: GpuNode) -> None:
    with hung.start() as agent:
        agent.wait_for("agent_ready")
        (probe,) = until(lambda: probes_of(agent.process.pid), "the probe")
        until(lambda: "D" in thread_states(probe), "a thread of the probe to be stuck")
        agent.kill()
    began = time.monotonic()
    with hung.start() as again:
        again.wait_for("agent_ready")
        assert time.monotonic() - began < 5, "it waited for what the dead one left"
        hung.kernel_log.write(XID_79)
        again.wait_for("fault_active", code="XID-79")
        reason = until(lambda: "HUNG" in (r := checks_of(hung)["nvml_driver"]["reason"]) and r, "the hang to be told", 40.0)
        assert str(probe) in reason, "it must say who hangs"
        (new,) = probes_of(again.process.pid)
        assert "D" not in thread_states(new), "one more process got stuck in the driver"
        assert again.terminate() == 0


def thread_states(pid: int) -> list[str]:
    """Return the state letters of the threads of a process."""
    try:
        return [state(int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
