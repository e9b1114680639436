"""`kill -9` at any moment under a stream of kernel lines: no fault lost, none doubled, none healed."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

import pytest

from hma.check import Command
from hma.cli.simulated_node import LAYOUTS
from hma.journal import Journal
from hma.journal_records import Event
from hma.loader import find_checks
from tests.agent_run import Node, until

ROUNDS = 300
NUMBERS = (46, 48, 62, 79, 95, 109, 119, 120, 140, 143)
GPUS = [address.rpartition(".")[0] for address in LAYOUTS["p5.48xlarge"][0].addresses]


class Stream:
    """Writes XID lines and noise at a steady pace until stopped, and keeps count of what it wrote."""

    def __init__(self, node: Node, seed: int) -> None:
        self.written: Counter[tuple[str, str]] = Counter()
        self._node = node
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._over.wait(0.02):
            number, gpu = self._random.choice(NUMBERS), self._random.choice(GPUS)
            line = f"NVRM: Xid (PCI:{gpu}): {number}, pid={self._random.randrange(1, 9999)}, name=train, trouble"
            self._node.kernel_log.write("eth0: link is up", line, "cgroup: noise")
            self.written[(f"XID-{number}", f"gpu:{gpu}")] += 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_three_hundred_times_it_loses_doubles_and_heals_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.config.write_text("checks: {" + ", ".join(f"{name}: {{enabled: false}}" for name in PROGRAMS) + "}\n")
    chance = random.Random(79)
    told: Counter[tuple[str, str]] = Counter()
    with Stream(node, seed=13) as stream:
        for round_ in range(ROUNDS):
            with node.start() as agent:
                if round_ % 3 == 0:
                    agent.wait_for("agent_started")
                time.sleep(chance.uniform(0.0, 0.5))
                agent.kill()
            told.update((record["event_id"], record["msg"]) for record in agent.records)
            assert not [r for r in agent.records if r["msg"] in ("fault_resolved", "journal_lost")], round_
            assert not [r for r in agent.records if r["msg"] == "agent_ready" and round_ > 5 and r["health"] != "failed"], (
                round_
            )
    with node.start() as agent:
        agent.wait_for("agent_ready")
        until(lambda: _counts(node) == stream.written, f"the counts {_counts(node)} to be {stream.written}")
        agent.terminate()
    told.update((record["event_id"], record["msg"]) for record in agent.records)
    events = _events(node)
    active = Counter((event.code, event.component) for event in events if event.kind == "fault_active")
    assert active == dict.fromkeys(stream.written, 1)
    assert {event.id for event in events if event.kind.startswith(("fault_", "verdict_"))} <= {id_ for id_, _ in told}


PROGRAMS = [check.name for check in find_checks() if isinstance(check.source, Command)]
"""Checks that run programs, which here would only slow each start."""


def _counts(node: Node) -> dict[tuple[str, str], int]:
    faults = json.loads(node.hma("status", "--json").stdout)["faults"]
    return {(fault["code"], fault["component"]): fault["count"] for fault in faults if fault["code"].startswith("XID-")}


def _events(node: Node) -> tuple[Event, ...]:
    journal = Journal.open_readonly(node.state_dir / "journal.db")
    try:
        return journal.events(limit=100_000)
    finally:
        journal.close()
