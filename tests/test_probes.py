"""Which child serves which source, and with what it is started."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from hma.check import Dcgm, DcgmEvents, Nvml, NvmlEvents
from hma.config import Config, DcgmConfig, NodeConfig, NvmlConfig
from hma.probes import PROBED, SAMPLES, probes_of


def test_every_source_that_is_probed_has_a_child_and_a_sample() -> None:
    probes = probes_of(Config())
    assert set(probes) == set(PROBED) == set(SAMPLES)


def test_one_child_a_library() -> None:
    probes = probes_of(Config())
    assert probes[Nvml] == probes[NvmlEvents] != probes[Dcgm] == probes[DcgmEvents]


def test_children_are_programs_of_ours() -> None:
    for stream in probes_of(Config()).values():
        assert stream.argv[0] == sys.executable
        assert importlib.util.find_spec(stream.argv[7]) is not None


def test_what_people_set_reaches_the_child() -> None:
    config = Config(
        node=NodeConfig(root=Path("/host")),
        nvml=NvmlConfig(library=Path("/run/nvidia/driver/usr/lib64/libnvidia-ml.so.1")),
        dcgm=DcgmConfig(address="unix:///run/dcgm.sock", bindings=Path("/opt/dcgm")),
        commands={"dcgmi": "/opt/dcgm/dcgmi"},
    )
    probes = probes_of(config)
    assert probes[Nvml].argv[8:] == (
        *("--root", "/host", "--lock", "/run/hma/nvml.lock"),
        *("--library", "/run/nvidia/driver/usr/lib64/libnvidia-ml.so.1"),
    )
    assert probes[Dcgm].argv[8:] == (
        *("--address", "unix:///run/dcgm.sock"),
        *("--bindings", "/opt/dcgm", "--dcgmi", "/opt/dcgm/dcgmi"),
    )
