"""Traces are read back to what was written, and what is none is refused with its place."""

from __future__ import annotations

import pytest

from hma.check import Clock, Feed, KernelLine, Lines, Output, Process, Sample, Table, Tree
from hma.engine.step import beginning
from hma.model import Instant, NodeFacts, Observation, PciDevice, Report, Status
from hma.trace import Judged, Seen, Start, TraceError, judged_line, read_trace, sample_line, start_line

AT = Instant(12.5, 1_790_000_000.25, "boot-1")
NODE = NodeFacts("n1", "boot-1", pci=(PciDevice("0000:97:00.0", "10de", "2330", "030200", "nvidia"),), sources={"pci": "sysfs"})
START = start_line(AT, NODE, beginning(AT))


@pytest.mark.parametrize(
    "sample",
    [
        Lines((KernelLine(7, 12.25, 4, 'NVRM: "Xid" \\ é\x7f'),)),
        Output(-9, "out\n", "", True),
        Tree({"proc/meminfo": "MemTotal: 1 kB\n"}, {"proc/x": "Permission denied"}),
        Table((Process(1, "a) (b", "D", 0, 5.5, "io_schedule"),)),
        Clock(True, -0.5, 16.0),
        Feed(("one", "two")),
    ],
)
def test_every_sample_comes_back(sample: Sample) -> None:
    blind = Report("other", (Observation("BLIND", "check:other", Status.UNKNOWN, "gone"),))
    own = Report("mine", (Observation("X", "host", Status.OK),))
    line = sample_line((own, blind), {"mine": sample})
    (entry,) = read_trace([f"{line}\n"], "t")
    assert entry == Seen({"mine": sample}, (blind,))


def test_sample_that_checks_share_is_written_once_and_comes_back_to_each() -> None:
    shared = Output(0, "a long list of GPUs", "")
    line = sample_line((), {"one": shared, "other": Output(1, "", ""), "more": shared})
    assert line.count("a long list of GPUs") == 1
    assert list(read_trace([f"{line}\n"], "t")) == [Seen({"one": shared, "other": Output(1, "", ""), "more": shared}, ())]


def test_trace_of_the_first_format_is_read() -> None:
    old = START.replace('"format":2', '"format":1')
    seen = '{"seen":{"samples":{"a":{"Feed":{"lines":["x"]}},"b":{"Feed":{"lines":["x"]}}},"reports":[]}}'
    _, entry = read_trace([f"{old}\n", f"{seen}\n"], "t")
    assert entry == Seen({"a": Feed(("x",)), "b": Feed(("x",))}, ())


@pytest.mark.parametrize("other", ["b", "c"])
def test_sample_that_is_that_of_a_check_not_read_before_is_no_trace(other: str) -> None:
    line = f'{{"seen":{{"samples":{{"a":{{"as":"{other}"}},"b":{{"Feed":{{"lines":[]}}}}}},"reports":[]}}}}\n'
    with pytest.raises(TraceError):
        list(read_trace([line], "t"))


def test_start_and_judgement_come_back() -> None:
    verdict = beginning(AT).verdict
    lines = [START, judged_line(AT, None), judged_line(AT, verdict)]
    assert list(read_trace((f"{line}\n" for line in lines), "t")) == [
        Start(AT, NODE, beginning(AT)),
        Judged(AT, None),
        Judged(AT, verdict),
    ]


@pytest.mark.parametrize(
    "line",
    [
        *("", "{", "[]", "7", "{}", '{"seen": {}}', '{"what": {}}'),
        *('{"start": {"format": 3}}', '{"judged": {"at": [1]}}', '{"a": 1, "b": 2}'),
    ],
)
def test_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(TraceError, match=r"trace.jsonl:2: not a line of a trace"):
        list(read_trace([f"{START}\n", f"{line}\n"], "trace.jsonl"))


def test_line_cut_short_by_a_crash_is_left_out() -> None:
    assert len(list(read_trace([f"{START}\n", START[:40]], "t"))) == 1
