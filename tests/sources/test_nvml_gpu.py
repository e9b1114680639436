"""The probe on a real driver with real GPUs, where there are some: what it says must be whole, and agree with nvidia-smi."""

from __future__ import annotations

import subprocess

import pytest

from hma.gpu import GpuReadings
from tests.sources.probe_run import Running

pytestmark = pytest.mark.needs("gpu", "nvidia-smi")


def test_every_gpu_answers_and_is_the_one_that_nvidia_smi_lists() -> None:
    with Running("-m", "hma.sources.nvml_probe", "--root", "/") as probe:
        said = probe.next(GpuReadings, lambda reading: reading.driver.state == "up" and reading.gpus)
        assert probe.end() == 0
    argv = ["nvidia-smi", "--query-gpu=pci.bus_id,uuid,name", "--format=csv,noheader"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.lower().splitlines()
    told = [f"0000{gpu.pci}.0, {gpu.uuid}, {gpu.name}".lower() for gpu in said.gpus]
    assert told == listed
    for gpu in said.gpus:
        assert (gpu.code, gpu.errors) == (0, {})
        assert gpu.heat is not None
        assert gpu.heat.gpu_c is not None
        assert 5 < gpu.heat.gpu_c < 110
        assert gpu.power is not None
        assert gpu.pcie is not None
