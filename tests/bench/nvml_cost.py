"""What the NVML probe costs on a p5.48xlarge, against the stand-in driver: `python -m tests.bench.nvml_cost`.

The stand-in answers each call in a few microseconds (a lock, a stat); a real driver adds its own time in the kernel to each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hma.cli.nvml_stand_in import NvmlState, build, environ
from hma.cli.nvml_values import healthy
from tests.bench.measure import Figure, machine, plain, show

ROUNDS = 200
TICKS_HOUR, READINGS_HOUR = 720, 60


def in_the_probe(library: str) -> None:
    """Print seconds of processor time for 1,000 fast looks and 1,000 whole readings; runs in a process of its own."""
    import pynvml

    from hma.sources.nvml_ask import Library
    from hma.sources.nvml_events import Session
    from hma.sources.nvml_probe import Poller, Settings
    from hma.sources.probe import Probe, Worker

    class Silent(Probe):
        def say(self, text: str) -> None:
            assert text

    poller = Poller(pynvml, Silent(), Session(), Settings(Path("/"), library))
    worker = Worker(Silent(), poller.work, poller.hung)
    asked = Library(pynvml, worker)
    assert poller._open(asked)
    poller._tick(asked)
    poller._opened = poller._printed = 2.0**40  # not due: a tick is a fast look and no more
    looks = _cpu(lambda: poller._tick(asked))
    readings = _cpu(lambda: poller._print(asked, 0.0))
    print(looks, readings)


def _cpu(call: Callable[[], None]) -> float:
    call()
    began = time.process_time()
    for _ in range(ROUNDS):
        call()
    return (time.process_time() - began) * 1000 / ROUNDS


def costs() -> list[Figure]:
    """Return processor time of the probe for 8 GPUs, and its memory."""
    with tempfile.TemporaryDirectory(prefix="hma-bench-") as folder:
        library = build(Path(folder, "lib"))
        state = NvmlState(Path(folder, "state"), healthy("p5.48xlarge"))
        env = {**os.environ, **environ(library, state.path)}
        argv = [sys.executable, "-m", "tests.bench.nvml_cost", str(library)]
        said = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
        looks, readings = map(float, said.split())
        idle, resident = _idle(library, env, 60.0)
    hour = looks * TICKS_HOUR / 1000 + readings * READINGS_HOUR / 1000
    return [
        plain("NVML probe, 8 GPUs: 1,000 fast looks", f"{looks:.2f} CPU-s"),
        plain("NVML probe, 8 GPUs: 1,000 whole readings", f"{readings:.2f} CPU-s"),
        plain("NVML probe, 8 GPUs: both, reckoned for an hour", f"{hour:.2f} CPU-s/h"),
        plain("NVML probe, 8 GPUs: idle for 60 s, measured", f"{idle:.2f} CPU-s/h"),
        plain("NVML probe: PSS", f"{resident:.1f} MiB"),
    ]


def _idle(library: Path, env: dict[str, str], seconds: float) -> tuple[float, float]:
    """Return the processor time per hour of a probe where nothing happens, and its PSS."""
    argv = [sys.executable, "-m", "hma.sources.nvml_probe", "--root", "/", "--library", str(library)]
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        while '"GpuReadings"' not in child.stdout.readline():
            pass
        before = _used(child.pid)
        time.sleep(seconds)
        after = _used(child.pid)
        pss = next(row for row in Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines() if row.startswith("Pss:"))
        child.stdin.close()
    return (after - before) * 3600 / seconds, int(pss.split()[1]) / 1024


def _used(pid: int) -> float:
    """Return the processor time of a process so far, to the microsecond (schedstat counts nanoseconds per thread)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


if __name__ == "__main__":
    if sys.argv[1:]:
        in_the_probe(sys.argv[1])
        sys.exit()
    print(machine())
    show("NVML probe", costs())
