"""Lines of a probe: what is printed is read back the same, and whatever else is on a line is refused in one sentence."""

from __future__ import annotations

import json

import pytest

from hma.check import Clock, Feed, KernelLine, Lines, Output, Sample, Table, Tree
from hma.gpu import (
    Clocks,
    DcgmEngine,
    DcgmGpu,
    DcgmHealth,
    DcgmIncident,
    DcgmViolation,
    DcgmViolations,
    Ecc,
    Gpu,
    GpuEvent,
    GpuEvents,
    GpuProcess,
    GpuReadings,
    Link,
    NvmlDriver,
)
from hma.samples import Blind, ProbeError, Same, probe_line, read_probe_line

GPU = Gpu(
    3,
    "0000:9b:00",
    code=0,
    persistence=True,
    ecc=Ecc(enabled=True, volatile_uncorrected=2),
    clocks=Clocks(reasons=0x48, hw_thermal_ns=12),
    links=(Link(0, up=True, crc=7), Link(1, up=False)),
    processes=(GpuProcess(1240, 1 << 30, "python3", "R", 1, 3.5, "slurm 17"),),
    errors={"power": "Unknown Error"},
)
SAMPLES: tuple[Sample, ...] = (
    GpuReadings(NvmlDriver("up", version="550.163.01", gpu_count=8, up_s=12.5), (GPU, Gpu(4, "", code=15, text="GPU is lost"))),
    GpuReadings(NvmlDriver("hung", call="nvmlDeviceGetTemperature", gpu="0000:9b:00", call_s=11.0)),
    GpuEvents(),
    GpuEvents((GpuEvent("0000:9b:00", 8, 79, 4.25), GpuEvent("0000:9b:00", 8, 43, 4.5, "GPU-x", 5, 0))),
    DcgmHealth(
        DcgmEngine("up", "bindings", version="4.2.3"), (DcgmGpu(0, "0000:9b:00"),), (DcgmIncident(2, "fail", 4, "DBE", 1, 0),)
    ),
    DcgmViolations((DcgmViolation(0x40, 79.0, 5.0, "0000:9b:00"),)),
    Lines((KernelLine(1, 2.0, 4, "NVRM: \\xff"),)),
    Output(9, "no driver\n", "", False),
    Tree({"proc/x": "1"}, {"proc/y": "denied"}),
    Table(()),
    Clock(True, 0.0, 0.1),
    Feed(("a", "b")),
)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_sample_is_read_back_as_it_was(sample: Sample) -> None:
    line = probe_line(sample)
    assert "\n" not in line
    assert line.isascii()
    assert read_probe_line(line) == sample


def test_blindness_is_read_back_as_it_was() -> None:
    assert read_probe_line(probe_line(Blind("GpuEvents", "no driver"))) == Blind("GpuEvents", "no driver")


def test_word_that_nothing_has_changed_is_read_back_as_it_was() -> None:
    assert read_probe_line(probe_line(Same("GpuReadings"))) == Same("GpuReadings")


def test_reading_of_an_older_probe_lacks_what_is_new() -> None:
    line = json.dumps({"GpuReadings": {"driver": {"state": "up"}, "gpus": [{"number": 0, "pci": "0000:9b:00"}]}})
    assert read_probe_line(line) == GpuReadings(NvmlDriver("up"), (Gpu(0, "0000:9b:00"),))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Traceback (most recent call last):",
        "null",
        "[]",
        "{}",
        '{"GpuReadings": {}}',
        '{"GpuReadings": {"driver": {"state": 3}}}',
        '{"GpuReadings": {"driver": {"state": "up"}, "gpus": [{"number": "x", "pci": ""}]}}',
        '{"Nothing": {}}',
        '{"GpuEvents": {}, "Feed": {}}',
        '{"blind": {}}',
        '{"blind": {"of": 1, "text": ""}}',
        "[" * 100_000,
        '{"GpuEvents": {"events": ' + "[" * 5_000 + "]" * 5_000 + "}}",
    ],
)
def test_line_that_is_no_reading_is_refused_in_one_sentence(line: str) -> None:
    with pytest.raises(ProbeError, match="printed what is no reading") as caught:
        read_probe_line(line)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
