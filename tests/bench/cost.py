"""What the agent costs: idle, beside a workload, with a program that hangs, and over time."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hma.cli.demo_command import OF_THIS_MACHINE
from tests.agent_run import Node, Running
from tests.bench.measure import Figure, children_usage, limit, plain, quantiles, usage
from tests.bench.speed import GPUS, node, xids
from tests.gpu_node import GpuNode, library

KERNEL_THREADS = 2_500
MEMORY = Path("/dev/shm")


def footprint(seconds: float = 300.0) -> list[Figure]:
    """Return memory, processor time and wakeups of an agent on a whole p5.48xlarge where nothing happens."""
    with p5() as one, one.start() as agent:
        agent.wait_for("agent_ready")
        time.sleep(15)
        pid = agent.process.pid
        before, (_, children_before) = usage(pid), children_usage(pid)
        time.sleep(seconds)
        after, (children_pss, children_after) = usage(pid), children_usage(pid)
        agent.terminate()
    hours = seconds / 3600
    return [
        limit(f"idle {seconds:.0f} s: resident, agent", after.rss_mib, 32, "MiB", 1),
        plain("idle: anonymous, agent", f"{after.anon_mib:.1f} MiB"),
        limit("idle: PSS, agent and children", after.pss_mib + children_pss, 56, "MiB", 1),
        limit("idle: processor time of the agent", (after.cpu_s - before.cpu_s) / hours, 0.7, "s/h"),
        plain("idle: processor time of its children", f"{(children_after - children_before) / hours:.2f} s/h"),
        limit("idle: wakeups", (after.wakeups - before.wakeups) / seconds, 0.5, "/s"),
        plain("idle: threads, descriptors", f"{after.threads}, {after.fds}"),
    ]


@contextmanager
def p5() -> Iterator[Node]:
    """Give a simulated p5.48xlarge with every check on; its root is in memory, as /proc and /sys are on a node."""
    from hma.cli.stand_ins import install

    with (
        tempfile.TemporaryDirectory(prefix="hma-bench-") as place,
        tempfile.TemporaryDirectory(prefix="hma-bench-", dir=MEMORY if MEMORY.is_dir() else None) as memory,
    ):
        one = GpuNode(Path(place) / "node", library(Path(place)))
        one.root = Path(shutil.move(one.root, memory))
        for name in OF_THIS_MACHINE:
            del one.settings[f"checks.{name}.enabled"]
        _crowd(one.root)
        programs = one.config.parent / "bin"
        for name, path in install(programs, "p5.48xlarge").items():
            one.settings[f"commands.{name}"] = str(path)
        yield one


def _crowd(root: Path) -> None:
    """Add the kernel threads that 192 processors bring along: the process table is read whole."""
    like = (root / "proc/14/stat").read_text()
    for pid in range(10_000, 10_000 + KERNEL_THREADS):
        place = root / f"proc/{pid}"
        place.mkdir()
        (place / "stat").write_text(f"{pid} {like.partition(' ')[2]}")


def duplicates() -> list[Figure]:
    """Return what a repeated line, a restart and old lines do: one event each, counted."""
    with node() as one:
        with one.start() as agent:
            agent.wait_for("agent_ready")
            code, _, line = xids()[0]
            for _ in range(1000):
                one.kernel_log.write(line)
            agent.wait_for("fault_active", code=code)
            count = _count(one, code)
            agent.kill()
        events = [record for record in agent.records if record["msg"] == "fault_active"]
        with one.start() as again:
            again.wait_for("agent_ready")
            time.sleep(1)
            after = _count(one, code)
            again.terminate()
        events += [record for record in again.records if record["msg"] == "fault_active"]
    return [
        limit("the same XID 1,000 times, then kill -9: events", len({record["event_id"] for record in events}), 1, "events", 0),
        limit("count of the fault, off by", abs(count - 1000), 0, "lines", 0),
        limit("count after the restart, off by", abs(after - 1000), 0, "lines", 0),
    ]


def _count(one: Node, code: str) -> int:
    end = time.monotonic() + 20
    count = -1
    while time.monotonic() < end and count != 1000:
        faults = json.loads(one.hma("status", "--json").stdout)["faults"]
        count = next((fault["count"] for fault in faults if fault["code"] == code), 0)
    return count


def workload(seconds: float = 20.0) -> list[Figure]:
    """Return how much slower a program on every core becomes beside the agent, and the agent's latency meanwhile."""
    alone = _hog(seconds)
    with p5() as one, one.start() as agent:
        agent.wait_for("agent_ready")
        time.sleep(2)
        beside, took = _hog(seconds, agent, one)
        agent.terminate()
    p50, p99, worst = quantiles(took)
    return [
        plain("workload on every core, work done alone", f"{alone[0]:.0f} rounds"),
        limit("workload beside the agent: slower by", (1 - beside / alone[0]) * 100, 0.5, "%"),
        plain("kernel log -> event beside it, p50", f"{p50:.2f} ms"),
        limit("kernel log -> event beside it, p99", p99, 50, "ms"),
        plain("kernel log -> event beside it, worst", f"{worst:.2f} ms"),
    ]


def _hog(seconds: float, agent: Running | None = None, one: Node | None = None) -> tuple[float, list[float]]:
    """Keep every core busy for `seconds`; return the rounds done, and latencies of faults meanwhile."""
    with multiprocessing.Pool() as pool:
        size = multiprocessing.cpu_count()
        busy = pool.map_async(_spin, [seconds] * size, chunksize=1)
        took: list[float] = []
        if agent is not None and one is not None:
            for code, component, line in xids()[: int(seconds * 4)]:
                time.sleep(0.2)
                began = time.monotonic()
                one.kernel_log.write(line)
                took.append(agent.arrival_of("fault_active", code=code, component=component) - began)
        return float(sum(busy.get())), took


def _spin(seconds: float) -> int:
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        sum(range(10_000))
        rounds += 1
    return rounds


def hung(rounds: int = 20) -> list[Figure]:
    """Return what a program that never answers costs the rest."""
    from hma.cli.stand_ins import set_state

    with p5() as one:
        set_state(one.config.parent / "bin", "hang")
        one.config.write_text("checks: {nvidia_smi: {interval: 2s, timeout: 1s}, gpu_count_smi: {interval: 2s, timeout: 1s}}\n")
        with one.start() as agent:
            agent.wait_for("agent_ready")
            before = usage(agent.process.pid)
            time.sleep(2 * rounds)
            row = {check["check"]: check for check in json.loads(one.hma("status", "--json").stdout)["checks"]}["nvidia_smi"]
            after = usage(agent.process.pid)
            one.kernel_log.write(f"NVRM: Xid (PCI:{GPUS[0]}): 79, GPU has fallen off the bus.")
            agent.wait_for("fault_active", code="XID-79")
            began = time.monotonic()
            agent.terminate()
            ended = time.monotonic() - began
    return [
        limit(f"{rounds} hangs: the check's status is known after", row["duration_s"], 2.0, "s"),
        limit("descriptors more", after.fds - before.fds, 0, "", 0),
        limit("memory more", after.rss_mib - before.rss_mib, 1, "MiB"),
        limit("stop with a hung program", ended, 2, "s"),
    ]


def soak(seconds: float = 300.0) -> list[Figure]:
    """Return what grows while things happen all the time."""
    with p5() as one, one.start() as agent:
        agent.wait_for("agent_ready")
        pid, end = agent.process.pid, time.monotonic() + seconds
        # Each of the faults keeps its newest sightings; growth counts from when all of them have as many as they may.
        _stir(one, time.monotonic() + min(150.0, seconds / 2))
        before = usage(pid)
        began = time.monotonic()
        _stir(one, end)
        after, hours = usage(pid), (time.monotonic() - began) / 3600
        agent.terminate()
    return [
        plain(f"soak {seconds:.0f} s: growth", f"{after.rss_mib - before.rss_mib:.2f} MiB"),
        plain("soak: growth an hour", f"{(after.rss_mib - before.rss_mib) / hours:.1f} MiB/h"),
        limit("soak: descriptors more", after.fds - before.fds, 0, "", 0),
    ]


def _stir(one: Node, end: float) -> None:
    number = 0
    faults = xids()
    while time.monotonic() < end:
        number += 1
        one.kernel_log.write(
            faults[number % len(faults)][2], "eth0: link is up", Path(one.root / "proc/uptime").read_text().strip()
        )
        time.sleep(0.05)
