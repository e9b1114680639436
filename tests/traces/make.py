"""Plays classes of faults on a real agent and keeps what it recorded: `python -m tests.traces.make [NAME…]` (all of them).

It takes minutes: the probe reads all of every GPU once a minute only. ORIGIN.md beside it says what a trace is worth.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.traces.plays import PLAYS
from tests.traces.stage import Workshop, stage, workshop

HERE = Path(__file__).parent
PLAIN, PACKED = ".jsonl", ".jsonl.gz"
PLAIN_MAX = 40_000
"""A longer trace is packed."""
AT_ONCE = 3


def main(names: Sequence[str]) -> int:
    """Make the traces of these names, of all where none is named; return the exit code."""
    unknown = sorted(set(names) - set(PLAYS))
    if unknown:
        sys.stderr.write(f"no such play: {', '.join(unknown)}; known are {', '.join(sorted(PLAYS))}\n")
        return 2
    wanted = names or sorted(PLAYS)
    with tempfile.TemporaryDirectory(prefix="hma-library-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        shop = workshop(Path(folder), {PLAYS[name].driver for name in wanted})
        failed = sum(pool.map(partial(_make, shop), wanted))
    return 1 if failed else 0


def _make(shop: Workshop, name: str) -> bool:
    """Make one trace; return whether that failed."""
    play = PLAYS[name]
    try:
        with stage(shop, play.instance_type, play.driver, play.stood_in) as on:
            for step in play.steps:
                step(on)
            text = on.end()
    except AssertionError as err:
        sys.stderr.write(f"{name}: {err}\n")
        return True
    print(f"{name}: {keep(name, text)} bytes", flush=True)
    return False


def keep(name: str, text: str) -> int:
    """Write a trace in place of the one there was, and return its size on the disk."""
    for ending in (PLAIN, PACKED):
        (HERE / f"{name}{ending}").unlink(missing_ok=True)
    data = text.encode()
    path = HERE / f"{name}{PLAIN}"
    if len(data) > PLAIN_MAX:
        # Without a time in it: the same trace is the same file.
        data, path = gzip.compress(data, mtime=0), HERE / f"{name}{PACKED}"
    path.write_bytes(data)
    return len(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
