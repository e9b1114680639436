"""What the driver library says of a healthy node: the state of `nvml_stand_in` for an instance type and a driver.

Where the values are from:
- names, power limits and PCIe widths: as others read them on live, healthy instances; addresses of GPUs: `simulated_node`;
  UUIDs, serial numbers, temperature and power: as the stand-in for nvidia-smi has them, which makes them up;
- of H100: memory, T.Limit offsets and margin, banks, VBIOS and InfoROM versions, PCI ids, PCIe, fabric, recovery action: a
  published `nvidia-smi -q` of a host with eight H100 80GB HBM3, driver 565.57.01;
- which functions a driver lacks: the exports of the real libnvidia-ml 535.261.03 and 550.163.01 of Debian, and NVML's change
  log for those after; which field numbers and events it knows: the change log;
- made up: everything else, above all thresholds and banks of A10G, A100 and B200, bit error rates, and the mask of events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hma.cli.simulated_node import LAYOUTS
from hma.instance_types import canonical

MIB = 1_048_576

Values = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Driver:
    """A branch of the driver: its version, functions and field numbers it does not know yet, the events it can tell, and the
    newest nvmlGpuFabricInfo structure."""

    version: str
    nvml: str
    missing: tuple[str, ...]
    fields_end: int
    events: int
    fabric_version: int = 3


_SINCE_590 = ("nvmlDeviceGetUnrepairableMemoryFlag_v1",)
_SINCE_580 = ("nvmlDeviceGetRemappedRows_v2", "nvmlDeviceGetRepairStatus", *_SINCE_590)
_SINCE_565 = ("nvmlDeviceGetMarginTemperature", "nvmlDeviceGetTemperatureV", *_SINCE_580)
DRIVERS: Mapping[str, Driver] = MappingProxyType(
    {
        "535": Driver("535.261.03", "12.535.261.03", ("nvmlDeviceGetGpuFabricInfoV", *_SINCE_565), 197, 0x1F),
        "550": Driver("550.163.01", "12.550.163.01", _SINCE_565, 200, 0x1F, fabric_version=2),
        "580": Driver("580.95.05", "13.580.95.05", _SINCE_590, 274, 0xFE1F),
        "615": Driver("615.71.09", "13.615.71.09", (), 308, 0xFE1F),
    }
)
"""By branch. `missing` is for `nvml_stand_in.build`; all else stands in the state."""

_EVERY: Values = {
    "persistence": 1,
    "pstate": 0,
    "ecc.enabled": 1,
    "ecc.pending": 1,
    **{f"ecc.{since}.{kind}{place}": 0 for since in ("volatile", "aggregate") for kind in ("corrected", "uncorrected")
       for place in ("", ".dram", ".sram")},
    "remap.corrected": 0,
    "remap.uncorrected": 0,
    "remap.pending": 0,
    "remap.failed": 0,
    "recovery_action": 0,
    "clocks.reasons": 0x1,
    "clocks.supported": 0x1FF,
    **{f"clocks.{why}_ns": 0 for why in ("power", "thermal", "sw_thermal", "hw_thermal", "hw_brake")},
    "temperature": 31,
    "power_mw": 69120,
    "pcie.replays": 0,
    "inforom.valid": 1,
    "memory.used": 1 * MIB,
    "processes": "",
}  # fmt: skip

_SXM: Values = {
    "mig.current": 0,
    "mig.pending": 0,
    "sram.threshold": 0,
    "temperature_memory": 36,
    "pcie.width": 16,
    "pcie.max_width": 16,
}
_REPAIR: Values = {"repair.channel_pending": 0, "repair.tpc_pending": 0, "repair.unrepairable": 0}
_GSP: Values = {"gsp.enabled": 1, "gsp.default": 1}
_FABRIC: Values = {
    "fabric.state": 3,
    "fabric.status": 0,
    "fabric.clique": 0,
    "fabric.cluster": "00000000-0000-0000-0000-000000000000",
    "fabric.health_mask": 0,
    "fabric.summary": 0,
}
_LIMITS: Values = {"margin": 57, "tlimit.shutdown": -8, "tlimit.slowdown": -2, "tlimit.memory_max": 0, "tlimit.gpu_max": 0}


def _links(count: int, version: int, speed_mbps: int, *counters: str) -> Values:
    told = {"state": 1, "version": version, "speed_mbps": speed_mbps, **dict.fromkeys(counters, 0)}
    return {"nvlink.count": count, **{f"nvlink.*.{name}": value for name, value in told.items()}}


def _power(watts: int) -> Values:
    return {"power_limit_mw": watts * 1000, "power_default_mw": watts * 1000}


def _pcie(generation: int) -> Values:
    return dict.fromkeys(("pcie.generation", "pcie.max_generation", "pcie.gpu_max_generation"), generation)


_UP_TO_4 = ("crc_flit", "crc_data", "replay", "recovery", "ecc")
_FROM_5 = (
    "recovery_ok",
    "recovery_failed",
    "recovery_events",
    "receive_errors",
    "integrity_errors",
    "effective_errors",
    "symbol_errors",
)

H100: Values = {
    **_EVERY, **_SXM, **_REPAIR, **_GSP, **_FABRIC, **_LIMITS, **_power(700), **_pcie(5), **_links(18, 6, 26562, *_UP_TO_4),
    "name": "NVIDIA H100 80GB HBM3",
    "architecture": 9,
    "vbios": "96.00.74.00.01",
    "inforom.image": "G520.0200.00.05",
    "pci.device": 0x233010DE,
    "pci.subsystem": 0x16C110DE,
    "memory.total": 81559 * MIB,
    "memory.reserved": 454 * MIB,
    "remap.banks_max": 2560,
}  # fmt: skip
A100: Values = {
    **_EVERY, **_SXM, **_power(400), **_pcie(4), **_links(12, 4, 25000, *_UP_TO_4),
    "name": "NVIDIA A100-SXM4-40GB",
    "architecture": 7,
    "vbios": "92.00.45.00.03",
    "inforom.image": "G506.0200.00.04",
    "pci.device": 0x20B010DE,
    "pci.subsystem": 0x144E10DE,
    "memory.total": 40960 * MIB,
    "memory.reserved": 570 * MIB,
    "remap.banks_max": 640,
    "threshold.shutdown": 92,
    "threshold.slowdown": 89,
    "threshold.memory_max": 95,
    "threshold.gpu_max": 85,
}  # fmt: skip
A10G: Values = {
    # Without work its link falls back to the first generation; eight lanes are all this instance type gives it.
    **_EVERY, **_GSP, **_power(300), **_pcie(4), "pcie.generation": 1, "pcie.width": 8, "pcie.max_width": 16,
    "name": "NVIDIA A10G",
    "architecture": 7,
    "vbios": "94.02.75.00.01",
    "inforom.image": "G133.0205.00.05",
    "pci.device": 0x223710DE,
    "pci.subsystem": 0x152F10DE,
    "memory.total": 23028 * MIB,
    "memory.reserved": 490 * MIB,
    "remap.banks_max": 192,
    "threshold.shutdown": 98,
    "threshold.slowdown": 95,
    "threshold.gpu_max": 88,
}  # fmt: skip
B200: Values = {
    **_EVERY, **_SXM, **_REPAIR, **_GSP, **_FABRIC, **_LIMITS, "tlimit.slowdown": -3, **_power(1000), **_pcie(5),
    **_links(18, 7, 53125, *_FROM_5),
    # Mantissa 15 and exponent 255: no error was ever counted.
    "nvlink.*.effective_ber": 15 << 8 | 255,
    "nvlink.*.symbol_ber": 15 << 8 | 255,
    "name": "NVIDIA B200",
    "architecture": 10,
    "vbios": "97.00.82.00.18",
    "inforom.image": "G525.0225.00.05",
    "pci.device": 0x290110DE,
    "pci.subsystem": 0x199910DE,
    "memory.total": 183359 * MIB,
    "memory.reserved": 712 * MIB,
    "remap.banks_max": 4096,
}  # fmt: skip

_NO_LAYOUT = tuple(f"0000:{bus}:00.0" for bus in ("53", "64", "75", "86", "97", "a8", "b9", "ca"))
_MODELS: Mapping[str, tuple[Values, tuple[str, ...]]] = MappingProxyType(
    {
        "p5.48xlarge": (H100, ()),
        "g5.12xlarge": (A10G, ()),
        "p4d.24xlarge": (A100, _NO_LAYOUT),
        "p6-b200.48xlarge": (B200, _NO_LAYOUT),
    }
)
"""The GPU of each type, and made-up addresses where `simulated_node` has none."""


def healthy(instance_type: str, driver: str = "580") -> dict[str, str | int]:
    """Return the state of a healthy node whose driver has been up for a while without work; raises ValueError for a type or a
    driver that is not known here."""
    name, branch = canonical(instance_type), DRIVERS.get(driver)
    if name not in _MODELS:
        raise ValueError(f"{instance_type}: no values for its GPUs; known are {', '.join(sorted(_MODELS))}")
    if branch is None:
        raise ValueError(f"driver {driver}: not known; known are {', '.join(DRIVERS)}")
    model, made_up = _MODELS[name]
    addresses = made_up or _addresses(name)
    state: dict[str, str | int] = {
        "driver": branch.version,
        "nvml": branch.nvml,
        "gpus": len(addresses),
        "fields_end": branch.fields_end,
        "fabric_version": branch.fabric_version,
        "gpu.*.events": f"{branch.events:#x}",
    }
    state.update({f"gpu.*.{key}": value for key, value in model.items()})
    for number, address in enumerate(addresses):
        state[f"gpu.{number}.pci"] = f"0000{address.upper()}"
        state[f"gpu.{number}.uuid"] = f"GPU-509665ad-b600-ac93-3616-d754b23d636{number:x}"
        state[f"gpu.{number}.serial"] = 1650124014240 + number
        state[f"gpu.{number}.minor"] = number
    return state


def _addresses(name: str) -> tuple[str, ...]:
    return next(group.addresses for group in LAYOUTS[name] if group.vendor == "10de" and group.pci_class.startswith("03"))
