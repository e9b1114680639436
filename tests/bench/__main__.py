"""`python -m tests.bench [NAME…]`: what the agent costs and how fast it is, beside its budget. Never a test."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.bench import cost, gpu, speed
from tests.bench.measure import Figure, machine, show

GROUPS: dict[str, Callable[..., list[Figure]]] = {
    "startup": speed.startup,
    "latency": speed.latency,
    "duplicates": cost.duplicates,
    "throughput": speed.throughput,
    "workload": cost.workload,
    "hung": cost.hung,
    "gpu": gpu.gpu,
    "footprint": cost.footprint,
    "soak": cost.soak,
}

TIMED = ("gpu", "footprint", "soak")


def main() -> int:
    """Measure; return 1 when a budget was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the agent beside its budget.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(GROUPS)} (default: all, ~15 minutes)"
    )
    parser.add_argument("--seconds", type=float, help="how long gpu, footprint and soak look (default: 300)")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in GROUPS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: not measured here; known: {', '.join(GROUPS)}")
    print(machine())
    kept = True
    for name in args.names or GROUPS:
        measure = GROUPS[name]
        kept &= show(name, measure(**({"seconds": args.seconds} if args.seconds and name in TIMED else {})))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
