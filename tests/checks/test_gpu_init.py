"""Lines of drivers that could not start a GPU, as people posted them.

NVIDIA/gpu-operator issue 1146 (one GPU of a worker node), NVIDIA/open-gpu-kernel-modules issue 789 (550.144.03) and others;
without an address as drivers before 390 print it.
"""

from __future__ import annotations

import re

import pytest

from checks.passive.gpu_init import CHECK, CODE
from hma.check import KernelLine, KernelLog, Lines, NoOptions
from hma.model import NodeFacts, Status
from tests.checks.gpu_samples import NO_GPU, P5

CASES = [
    ("NVRM: GPU 0000:0a:00.0: RmInitAdapter failed! (0x24:0x72:1568)", "gpu:0000:0a:00", "0x24:0x72:1568"),
    ("NVRM: GPU 0000:0a:00.0: rm_init_adapter failed, device minor number 5", "gpu:0000:0a:00", ""),
    ("NVRM: GPU 0000:98:00.0: RmInitAdapter failed! (0x62:0x65:1792)", "gpu:0000:98:00", "0x62:0x65:1792"),
    ("NVRM: GPU 0001:00:00.0: RmInitAdapter failed! (0x63:0x55:2344)", "gpu:0001:00:00", "0x63:0x55:2344"),
    ("NVRM: GPU 0000:D8:00.0: RmInitAdapter failed! (0x26:0xffff:1227)", "gpu:0000:d8:00", "0x26:0xffff:1227"),
    ("NVRM: RmInitAdapter failed! (0x26:0xffff:1227)", "node", "0x26:0xffff:1227"),
    ("NVRM: rm_init_adapter failed for device bearing minor number 0", "node", ""),
]
OTHERS = [
    "NVRM: GPU 0000:0a:00.0: rm_init_adapter succeeded",
    "NVRM: RmInitAdapter: Cannot initialize GSP firmware RM",
    "NVRM: RmInitAdapter: osInitNvMapping failed, bailing out of RmInitAdapter",
    "NVRM: Xid (PCI:0000:0a:00): 13, pid=1, name=RmInitAdapter failed! (0x1:0x1:1), x",
    "audit: NVRM: GPU 0000:0a:00.0: RmInitAdapter failed! (0x24:0x72:1568)",
    "NVRM: GPU 0000:0a:00.0: RmInitAdapter failed! (0x24:0x72:1568), says a tenant",
]


def lines(*texts: str) -> Lines:
    return Lines(tuple(KernelLine(number, 5.0 + number, 3, text) for number, text in enumerate(texts)))


@pytest.mark.parametrize(("text", "component", "why"), CASES)
def test_line_names_the_gpu_and_the_drivers_numbers(text: str, component: str, why: str) -> None:
    (seen,) = CHECK.observe(lines(text), P5, NoOptions())
    assert (seen.code, seen.component, seen.status, seen.at, seen.evidence) == (CODE, component, Status.FAILED, 5.0, text)
    assert dict(seen.attrs).get("init_error", "") == why


@pytest.mark.parametrize("text", OTHERS)
def test_other_lines_say_nothing(text: str) -> None:
    assert list(CHECK.observe(lines(text), P5, NoOptions())) == []


def test_every_line_matches_the_pattern_that_lets_lines_in() -> None:
    assert isinstance(CHECK.source, KernelLog)
    for text, *_ in CASES:
        assert re.search(CHECK.source.pattern, text.encode())


@pytest.mark.parametrize(("node", "applies"), [(P5, True), (NO_GPU, False)])
def test_nodes_without_gpus_are_left_alone(node: NodeFacts, applies: bool) -> None:
    assert CHECK.applies(node) is applies
