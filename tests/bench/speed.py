"""From a kernel line to the printed event, from the start to the first verdict, and lines a second."""

from __future__ import annotations

import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hma.cli.simulated_node import LAYOUTS
from tests.agent_run import Node, Running, until
from tests.bench.measure import Figure, limit, plain, quantiles, usage

NUMBERS = (46, 48, 62, 64, 79, 95, 109, 110, 119, 120, 136, 140, 143, 158, 167)
GPUS = [address.rpartition(".")[0] for address in LAYOUTS["p5.48xlarge"][0].addresses]
NOISE = "audit: type=1400 audit(1790000000.123:42): apparmor=STATUS operation=profile_load name=cri-containerd.apparmor.d"
DEV_KMSG = Path("/dev/kmsg")
ROUNDS, FAULTS = 20, 6
Writer = Callable[[Node], tuple[Callable[[str], None], Callable[[], None]]]


@contextmanager
def node() -> Iterator[Node]:
    """Give a simulated node in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="hma-bench-") as place:
        yield Node(Path(place))


def xids() -> list[tuple[str, str, str]]:
    """Return code, component and line of faults that each become an event at once."""
    return [
        (f"XID-{n}", f"gpu:{gpu}", f"NVRM: Xid (PCI:{gpu}): {n}, pid=1240, name=python3, trouble")
        for n in NUMBERS
        for gpu in GPUS
    ]


def latency() -> list[Figure]:
    """Return the time from a line in the kernel log to the event on stdout, for a regular file and for a pipe."""
    figures: list[Figure] = []
    for kind, writer in (("file", _file_writer), ("pipe", _pipe_writer)):
        took = [seconds for _ in range(ROUNDS) for seconds in _few_faults(writer)]
        p50, p99, worst = quantiles(took)
        figures.append(plain(f"kernel log ({kind}) -> event, p50 of {len(took)}", f"{p50:.2f} ms"))
        figures.append(limit(f"kernel log ({kind}) -> event, p99", p99, 10.0, "ms"))
        figures.append(plain(f"kernel log ({kind}) -> event, worst", f"{worst:.2f} ms"))
    return figures


def _few_faults(writer: Writer) -> list[float]:
    """Return how long each fault took on a node that has none yet: a node with a hundred faults is no node any more."""
    with node() as one:
        write, close = writer(one)
        with one.start() as agent:
            agent.wait_for("agent_ready")
            time.sleep(0.3)
            took = [_one_fault(agent, write, *fault) for fault in random.sample(xids(), FAULTS)]
            agent.terminate()
        close()
    return took


def _one_fault(agent: Running, write: Callable[[str], None], code: str, component: str, line: str) -> float:
    # Not in step with any timer of the agent, and apart from the fault before.
    time.sleep(random.uniform(0.02, 0.08))
    began = time.monotonic()
    write(line)
    return agent.arrival_of("fault_active", code=code, component=component) - began


def _file_writer(one: Node) -> tuple[Callable[[str], None], Callable[[], None]]:
    return one.kernel_log.write, lambda: None


def _pipe_writer(one: Node) -> tuple[Callable[[str], None], Callable[[], None]]:
    one.kernel_log.path.unlink()
    os.mkfifo(one.kernel_log.path)
    fd = os.open(one.kernel_log.path, os.O_RDWR)
    return lambda line: _ignore(os.write(fd, one.kernel_log.record(line).encode())), lambda: os.close(fd)


def _ignore(_: object) -> None:
    return


def startup(rounds: int = 10) -> list[Figure]:
    """Return the time from the start of the process to the first verdict."""
    first, ready = [], []
    for _ in range(rounds):
        with node() as one, one.start() as agent:
            first.append(agent.arrival_of("agent_started") - agent.started)
            ready.append(agent.arrival_of("agent_ready") - agent.started)
            agent.terminate()
    return [
        plain("start -> first line, median", f"{quantiles(first)[0]:.0f} ms"),
        limit("start -> first verdict, median", quantiles(ready)[0], 500, "ms", 0),
        plain("start -> first verdict, worst", f"{quantiles(ready)[2]:.0f} ms"),
    ]


# -- throughput -------------------------------------------------------------------------------------------------------


def throughput(seconds: float = 5.0) -> list[Figure]:
    """Return lines a second without a loss through a pipe, and what a burst costs on the real kernel log."""
    figures: list[Figure] = []
    for rate in (2_000, 10_000, 30_000, 60_000):
        figures += _paced(rate, seconds)
    if os.access(DEV_KMSG, os.R_OK | os.W_OK):
        figures += _real(60_000, 2.0)
        figures += _real(0, 0.0)
    else:
        figures.append(plain("real kernel log", "not measured: no access to /dev/kmsg"))
    return figures


def _paced(rate: int, seconds: float) -> list[Figure]:
    with node() as one:
        write, close = _pipe_writer(one)
        with one.start() as agent:
            agent.wait_for("agent_ready")
            before = usage(agent.process.pid)
            total, marked, took = _pour(write, rate, seconds)
            log = until(lambda: (got := _log(one))["seen"] >= total and got, "every line seen")
            after = usage(agent.process.pid)
            found = sum(f["count"] for f in json.loads(one.hma("status", "--json").stdout)["faults"] if f["code"] == "XID-13")
            agent.terminate()
        close()
    each = (after.cpu_s - before.cpu_s) / total * 1e6
    name = f"{rate} lines/s through a pipe"
    return [
        plain(f"{name}: written", f"{total / took:.0f} /s"),
        limit(f"{name}: lost", total - log["seen"] + log["lost"], 0, "lines", 0),
        limit(f"{name}: marked lines missed", marked - found, 0, "lines", 0),
        limit(f"{name}: processor time a line", each, 8, "us"),
        limit(f"{name}: growth", after.rss_mib - before.rss_mib, 2, "MiB"),
    ]


def _pour(write: Callable[[str], None], rate: int, seconds: float) -> tuple[int, int, float]:
    """Write lines at `rate`, one in a hundred marked; return how many of both, and the seconds it took."""
    total, marked = int(rate * seconds), 0
    began = time.monotonic()
    for number in range(total):
        if number % 100 == 50:
            marked += 1
            write(f"NVRM: Xid (PCI:{GPUS[0]}): 13, pid={number}, name=python3, Graphics Exception: ESR 0x1={number}")
        else:
            write(NOISE)
        if rate and number % 200 == 0:
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
    return total, marked, time.monotonic() - began


def _log(one: Node) -> dict[str, int]:
    body: dict[str, int] = json.loads(one.hma("status", "--json").stdout or '{"kernel_log": {"seen": -1}}')["kernel_log"]
    return body


def _real(rate: int, seconds: float) -> list[Figure]:
    """Pour into the real kernel log: seen and lost must add up to what was written."""
    printk = Path("/proc/sys/kernel/printk_devkmsg")
    before = printk.read_text()
    total = int(rate * seconds) or 100_000
    with node() as one:
        one.kernel_log.path = DEV_KMSG
        try:
            printk.write_text("on\n")
            with one.start() as agent:
                agent.wait_for("agent_ready")
                base = _log(one)
                pouring = threading.Thread(target=_pour_real, args=(total, rate))
                pouring.start()
                pouring.join()
                log = until(
                    lambda: (got := _log(one))["seen"] + got["lost"] - base["seen"] - base["lost"] >= total and got, "all"
                )
                agent.terminate()
        finally:
            printk.write_text(before)
    seen, lost = log["seen"] - base["seen"], log["lost"] - base["lost"]
    name = f"{rate} lines/s in /dev/kmsg" if rate else f"burst of {total} lines in /dev/kmsg"
    figures = [plain(f"{name}: seen, lost (counted)", f"{seen}, {lost}")]
    if rate:
        figures.append(limit(f"{name}: lost", lost, 0, "lines", 0))
    return figures


def _pour_real(total: int, rate: int) -> None:
    with open(DEV_KMSG, "wb", buffering=0) as kmsg:
        began = time.monotonic()
        for number in range(total):
            kmsg.write(f"<7>hma-bench {number} {NOISE}\n".encode())
            if rate and number % 200 == 0:
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
