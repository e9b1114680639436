"""From what the driver library tells to the verdict, and what asking it costs."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from hma.cli.simulated_node import unplug
from tests.agent_run import Running
from tests.bench.measure import Figure, limit, plain, quantiles, usage
from tests.bench.speed import GPUS, NUMBERS
from tests.gpu_node import GpuNode, library

ROUNDS, XIDS, LOSSES = 20, 6, 8


@contextmanager
def gpu_node(built: Path) -> Iterator[GpuNode]:
    """Give a simulated p5.48xlarge with a driver, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="hma-bench-") as place:
        yield GpuNode(Path(place) / "node", built)


def gpu(seconds: float = 300.0) -> list[Figure]:
    """Return how soon an XID, a lost GPU and a missing one are told, and the cost of the probe for eight GPUs."""
    with tempfile.TemporaryDirectory(prefix="hma-bench-") as place:
        built = library(Path(place))
        return [*_events(built), *_losses(built), *_counts(built), *_cost(built, seconds)]


def ready(one: GpuNode) -> Running:
    """Start an agent, and return it when it has had its first readings."""
    agent = one.start()
    agent.wait_for("agent_ready")
    time.sleep(2.0)
    return agent


def _events(built: Path) -> list[Figure]:
    told: list[float] = []
    judged: list[float] = []
    for _ in range(ROUNDS):
        with gpu_node(built) as one, ready(one) as agent:
            for number in random.sample(NUMBERS, XIDS):
                time.sleep(random.uniform(0.05, 0.2))
                gpu, began = random.randrange(len(GPUS)), time.monotonic()
                one.tell(gpu, number)
                told.append(agent.arrival_of("fault_active", code=f"XID-{number}", component=f"gpu:{GPUS[gpu]}") - began)
                if len(told) % XIDS == 1:  # the first of this node
                    judged.append(agent.arrival_of("verdict_changed") - began)
            agent.terminate()
    p50, p99, worst = quantiles(told)
    _, judged_p99, _ = quantiles(judged)
    return [
        plain(f"NVML event (XID) -> event, p50 of {len(told)}", f"{p50:.2f} ms"),
        limit("NVML event (XID) -> event, p99", p99, 10.0, "ms"),
        plain("NVML event (XID) -> event, worst", f"{worst:.2f} ms"),
        plain(f"NVML event (XID) -> changed verdict, p99 of {len(judged)}", f"{judged_p99:.2f} ms"),
    ]


def _losses(built: Path) -> list[Figure]:
    took = []
    for _ in range(LOSSES):
        with gpu_node(built) as one, ready(one) as agent:
            time.sleep(random.uniform(0.0, 5.0))
            began = time.monotonic()
            one.nvml.set("gpu.4.code", 15)
            took.append(agent.arrival_of("fault_active", code="NVML-GPU-LOST") - began)
            agent.terminate()
    return [limit(f"GPU lost -> told, worst of {len(took)}", max(took), 5.5, "s")]


def _counts(built: Path) -> list[Figure]:
    took = []
    for _ in range(LOSSES):
        with gpu_node(built) as one, ready(one) as agent:
            time.sleep(random.uniform(0.0, 5.0))
            began = time.monotonic()
            unplug(one.root, f"{GPUS[4]}.0")
            one.nvml.set("gpu.4.absent", 1)
            took.append(agent.arrival_of("verdict_changed", action="reboot", limit_s=60.0) - began)
            agent.terminate()
    return [limit(f"GPU missing by two routes -> verdict reboot, worst of {len(took)}", max(took), 15.0, "s")]


def _cost(built: Path, seconds: float) -> list[Figure]:
    with gpu_node(built) as one, ready(one) as agent:
        (probe,) = [
            child.pid for child in psutil.Process(agent.process.pid).children() if "nvml_probe" in " ".join(child.cmdline())
        ]
        time.sleep(10)
        before, agent_before = usage(probe), usage(agent.process.pid)
        time.sleep(seconds)
        after, agent_after = usage(probe), usage(agent.process.pid)
        agent.terminate()
    hours = seconds / 3600
    return [
        plain(f"probe of 8 GPUs, idle {seconds:.0f} s: processor time", f"{(after.cpu_s - before.cpu_s) / hours:.2f} s/h"),
        plain("probe of 8 GPUs: resident, PSS", f"{after.rss_mib:.1f} MiB, {after.pss_mib:.1f} MiB"),
        plain("probe of 8 GPUs: wakeups", f"{(after.wakeups - before.wakeups) / seconds:.2f} /s"),
        plain("agent meanwhile: processor time", f"{(agent_after.cpu_s - agent_before.cpu_s) / hours:.2f} s/h"),
    ]
