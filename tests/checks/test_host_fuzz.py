"""100,000 mutated kernel lines through every host check that reads the kernel log: no exception, and none that takes long.

The time is measured and printed (`pytest -s`), and bounded only so far that a regular expression that explodes breaks it.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator

import pytest

from checks.passive import hung_task, io_errors, mce, oom, oops, pcie_aer
from hma.check import Check, KernelLine, KernelLog, Lines, NoOptions
from hma.model import Status
from tests.checks.kernel_lines import NODE, cases

FILES = ("host-hung.txt", "host-oops.txt", "host-oom.txt", "host-io.txt", "host-mce.txt", "host-aer.txt")
KEPT = [case.text for name in FILES for case in cases(name)]
CHECKS: tuple[Check[Lines, NoOptions], ...] = tuple(m.CHECK for m in (hung_task, oops, oom, io_errors, mce, pcie_aer))
PATTERNS = {check.name: re.compile(check.source.pattern) for check in CHECKS if isinstance(check.source, KernelLog)}
LINES = 100_000
BATCH = 50
FILL = (
    " ",
    "0",
    "f",
    "(",
    ")",
    ":",
    ",",
    "a:1 ",
    "[#1]",
    "error ",
    "on ",
    " page:0x1",
    ",task=",
    "\\x0a",
    "\\xff",
    "QID 1 timeout, ",
    "in ",
)


def mutated(rng: random.Random) -> str:
    text = rng.choice(KEPT)
    for _ in range(rng.randint(0, 4)):
        at = rng.randint(0, len(text))
        to = min(len(text), at + rng.randint(0, 12))
        kind = rng.randint(0, 5)
        if kind == 0:
            text = text[:at]
        elif kind == 1:
            text = text[:at] + text[to:]
        elif kind == 2:
            text = text[:at] + chr(rng.randint(32, 126)) + text[to:]
        elif kind == 3:
            text = text[:at] + rng.choice(FILL) * rng.randint(1, 40) + text[at:]
        elif kind == 4:
            other = rng.choice(KEPT)
            text = text[:at] + other[rng.randint(0, len(other)) :]
        else:
            text += text[at:to] * rng.randint(1, 200)
    return text[:8_192]


def batches(seed: int) -> Iterator[Lines]:
    rng = random.Random(seed)
    for first in range(0, LINES, BATCH):
        yield Lines(tuple(KernelLine(n, n / 100, rng.randint(0, 7), mutated(rng)) for n in range(first, first + BATCH)))


def test_mutated_lines_break_nothing() -> None:
    slowest, seen = (0.0, ""), 0
    for batch in batches(seed=20_250_101):
        for check in CHECKS:
            begun = time.thread_time()
            for observation in check.observe(batch, NODE, check.options):
                seen += 1
                assert observation.code in check.codes
                assert observation.status in (Status.DEGRADED, Status.FAILED)
                assert re.fullmatch(r"[a-z]+:\S+|host", observation.component), observation
                assert observation.evidence
                assert observation.at is not None
            slowest = max(slowest, (time.thread_time() - begun, check.name))
    print(f"\n{LINES} lines, {seen} observations; slowest batch of {BATCH}: {slowest[0] * 1e3:.2f} ms ({slowest[1]})")
    assert seen > LINES / 20
    assert slowest[0] < 1.0


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_pattern_lets_through_every_line_that_the_check_knows(check: Check[Lines, NoOptions]) -> None:
    """`pattern` is a necessary condition: a line that it drops must be one that `observe` says nothing about."""
    dropped = [text for text in KEPT if not PATTERNS[check.name].search(text.encode())]
    lines = tuple(KernelLine(n, float(n), 4, text) for n, text in enumerate(dropped))
    assert list(check.observe(Lines(lines), NODE, check.options)) == []


ADVERSE = [
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=" + ",oom_memcg=/a,task_memcg=/b,task=c" * 200,
    "Memory cgroup out of memory: Killed process 1 (" + ") (" * 2_500,
    "INFO: task " + ":1 blocked for more than " * 300,
    "EDAC MC0: 1 UE " + "on a (page:0x1 " * 500,
    "EDAC MC0: 1 UE on " + " (" * 4_000,
    "BTRFS error (device a): bdev " + " errs: " * 1_000,
    "XFS (a): " + "Shutting down filesyste" * 300,
    "nvme nvme0: I/O 1 " + "QID 1 timeout, " * 500,
    "EXT4-fs error (device " + "a" * 8_000,
    "Oops: " + "a " * 4_000,
    "general protection fault" + ", a" * 2_600,
    "a" * 64 + " 0000:00:00.0: PCIe Bus Error: severity=Corrected, type=" + "a " * 4_000,
    "rcu: INFO: rcu_" + "a" * 8_000,
    "BUG: workqueue lockup - pool cpus=0 " + " stuck for 1s " * 500,
    "BUG: KASAN: " + "a in " * 1_600,
    "Memory failure: 0x1: recovery action for " + ": A" * 2_600,
]


@pytest.mark.parametrize("text", ADVERSE, ids=lambda text: text[:40])
def test_line_made_to_be_slow_is_not(text: str) -> None:
    for check in CHECKS:
        begun = time.thread_time()
        list(check.observe(Lines((KernelLine(1, 1.0, 4, text[:8_192]),)), NODE, check.options))
        assert time.thread_time() - begun < 0.5
