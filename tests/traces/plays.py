"""Every class of fault, as it is played: what happens to the node, one row a trace.

Kernel lines have the formats of the driver (see tests/data/kernel/ORIGIN.md), with the addresses of the simulated node. The
texts of recovery actions from 5 on are made up: the number before them is what counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hma.cli.nvml_values import Values
from tests.traces.stage import (
    Step,
    begin,
    begin_blind,
    configured,
    files,
    kernel,
    nvml,
    reading,
    sees,
    set_dcgm,
    smi,
    starts,
    unplugged,
    violated,
    xid,
)

GPU = 4
"""The one that things happen to: 0000:97:00 on p5."""
B200 = "p6-b200.48xlarge"
NO_LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
"""Where Debian has it, and this node does not."""
LOST, RESET_REQUIRED = 15, 16
IDLE = 0x1
HW_SLOWDOWN, HW_THERMAL, POWER_BRAKE = 0x8, 0x40, 0x80
"""Of the mask of clock event reasons."""


class Play(NamedTuple):
    """One class of faults: the steps, the node they happen on, and what stands in on it (`smi`, `dcgm`; `layout`: the type
    whose devices it has, where its own are not known)."""

    steps: tuple[Step, ...]
    instance_type: str = "p5.48xlarge"
    driver: str = "580"
    stood_in: Mapping[str, str] = MappingProxyType({})


def _play(*steps: Step) -> Play:
    """Let things happen while the agent looks."""
    return Play((begin, *steps))


def _found(values: Values, *steps: Step) -> Play:
    """Let the GPU be so already when the agent starts."""
    return Play((nvml({f"gpu.{GPU}.{key}": value for key, value in values.items()}), begin, *steps))


def _down(values: Values) -> Play:
    """Let the driver not come up."""
    return Play((nvml(values), begin_blind))


def _of(play: Play, *, instance_type: str = "p5.48xlarge", driver: str = "580", **stood_in: str) -> Play:
    return play._replace(instance_type=instance_type, driver=driver, stood_in=stood_in)


def gpu(values: Values) -> Step:
    """Change what the driver says of the GPU."""
    return nvml({f"gpu.{GPU}.{key}": value for key, value in values.items()})


def _line(number: int, text: str, where: str = "PCI:0000:97:00") -> str:
    return f"NVRM: Xid ({where}): {number}, {text}"


BY = "pid=1240, name=python3, "
UNNAMED = "pid='<unknown>', name=<unknown>, "
OFF_BUS = _line(79, f"{UNNAMED}GPU has fallen off the bus.")
DBE = _line(48, f"{BY}An uncorrectable double bit error (DBE) has been detected on GPU (00).")
GSP = "Timeout after 6s of waiting for RPC response from GPU4 GSP! Expected function 76 (GSP_RM_CONTROL) (0x20803032 0x58c)."
NOTHING = " 0x00000000"
RECOVERY = (
    "None",
    "GPU Reset Required",
    "Node Reboot Required",
    "Drain P2P",
    "Drain and Reset",
    "Recover IMEX Domain",
    "Bus Reset",
    "System Reboot",
    "Something New",
)


def _nvlink(registers: str) -> str:
    return _line(74, f"{UNNAMED}NVLink: fatal error detected on link 14({registers})")


def _recovery(was: int, is_: int) -> str:
    return _line(154, f"GPU recovery action changed from {was:#x} ({RECOVERY[was]}) to {is_:#x} ({RECOVERY[is_]})")


def _sxid(text: str) -> str:
    return f"nvidia-nvswitch1: SXid (PCI:0000:cc:00.0): {text}"


OFF_THE_LIST = (
    unplugged("0000:97:00.0"),
    sees('"gpu_count_pci"(?!.*\\\\n9700)'),
    sees('"judged":.*"health":"degraded"'),
)
"""The bus does not show the GPU any more, and that has been so for as long as it takes to count."""


_GONE: dict[str, Play] = {
    "xid-79-and-nvml-lost": _play(xid(GPU, 79, OFF_BUS), gpu({"code": LOST}), sees(f'"code":{LOST}\\b')),
    "xid-79-and-smi-lost": _of(
        Play(
            (
                configured("nvml.library", NO_LIBRARY),
                smi("lost 0000:97:00.0"),
                starts("GPU is lost"),
                kernel(OFF_BUS),
                sees("bus"),
            )
        ),
        smi="",
    ),
    "xid-79-alone": Play((configured("nvml.library", NO_LIBRARY), begin_blind, kernel(OFF_BUS), sees("off the bus"))),
    "xid-79-and-nvml-well": _play(xid(GPU, 79, OFF_BUS), sees('"GpuReadings"')),
    "off-the-bus-without-xid": _play(
        kernel("NVRM: GPU 0000:97:00.0: GPU has fallen off the bus."), gpu({"code": LOST}), sees(f'"code":{LOST}\\b')
    ),
    "nvml-lost-alone": _play(gpu({"code": LOST}), sees(f'"code":{LOST}\\b')),
    "nvml-requires-reset": _play(gpu({"code": RESET_REQUIRED}), sees(f'"code":{RESET_REQUIRED}\\b')),
    "nvml-unknown-error": _play(gpu({"code": 999}), sees('"code":999\\b')),
    "count-7-by-nvml-and-pci": _play(*OFF_THE_LIST, gpu({"absent": 1}), sees('"gpu_count":7')),
    "count-7-by-smi-and-pci": _of(
        Play(
            (
                configured("nvml.library", NO_LIBRARY),
                smi("missing 0000:97:00.0"),
                starts('"gpu_count_smi"'),
                *OFF_THE_LIST,
            )
        ),
        smi="",
    ),
    "count-7-by-nvml-alone": _play(gpu({"absent": 1}), sees('"gpu_count":7')),
    "count-0-while-settling": Play((nvml({"gpus": 0}), starts('"gpu_count":0'), nvml({"gpus": 8}), sees('"gpu_count":8'))),
}

_DRIVER: dict[str, Play] = {
    "driver-hung": _play(nvml({"hang": "nvmlDeviceGetTemperature", "hang_gpu": GPU}), sees('"hung"')),
    "driver-hung-and-xid-119": _play(
        kernel(_line(119, f"pid=1240590, name=python3, {GSP}")),
        nvml({"hang": "nvmlDeviceGetTemperature", "hang_gpu": GPU}),
        sees('"hung"'),
    ),
    "driver-not-loaded": _down({"init": 9}),
    "driver-mismatch": _down({"init": 18}),
    "driver-no-permission": _down({"init": 4}),
    "driver-no-library": Play((configured("nvml.library", NO_LIBRARY), begin_blind)),
    "driver-reloaded": _play(
        nvml({"init": 9, "code": 9}), sees('"no_driver"'), nvml({"init": 0, "code": 0}), sees('"state":"up"')
    ),
}

_MEMORY: dict[str, Play] = {
    "ecc-contained": _play(
        gpu({"ecc.volatile.uncorrected": 1, "ecc.volatile.uncorrected.dram": 1}),
        xid(GPU, 94, _line(94, f"{BY}Contained: SM (0x1). RST: No, D-RST: No")),
        sees('"volatile_uncorrected":1'),
    ),
    "ecc-contained-in-mig-instance": _play(
        kernel(_line(94, f"{BY}Contained ECC error.", "PCI:0000:97:00 GPU-I:05 GPU-CI:00")), sees("GPU-I")
    ),
    "ecc-uncontained": _play(
        gpu({"ecc.volatile.uncorrected": 3, "ecc.volatile.uncorrected.dram": 3, "recovery_action": 1}),
        xid(GPU, 95, _line(95, f"{BY}Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No")),
        sees('"volatile_uncorrected":3'),
    ),
    "ecc-double-bit-then-remapped": _play(
        gpu({"ecc.volatile.uncorrected": 1, "ecc.volatile.uncorrected.dram": 1, "remap.uncorrected": 1, "remap.pending": 1}),
        xid(GPU, 48, DBE),
        xid(GPU, 63, _line(63, f"{BY}Row Remapper: New row marked for remapping, reset gpu to activate.")),
        sees('"pending":true'),
    ),
    "ecc-remapping-failed": _play(
        gpu({"ecc.volatile.uncorrected": 1, "ecc.volatile.uncorrected.dram": 1, "remap.failed": 1}),
        xid(GPU, 64, _line(64, f"{BY}Row Remapper: Fatal error, unable to remap row.")),
        sees('"failed":true'),
    ),
    "ecc-xid-64-and-nothing-failed": _play(
        xid(GPU, 64, _line(64, f"{BY}Row Remapper: Fatal error, unable to remap row.")), sees('"failed":false')
    ),
    "ecc-sram-threshold": _found({"sram.threshold": 1}),
    "remapping-pending-alone": _found({"remap.uncorrected": 1, "remap.pending": 1}),
    "repair-pending": _found({"repair.channel_pending": 1}),
    "memory-unrepairable": _of(_found({"repair.unrepairable": 1}), driver="615"),
    "ecc-corrected-many": _play(gpu({"ecc.volatile.corrected": 5000, "ecc.volatile.corrected.dram": 5000}), reading),
    "inforom-corrupt": _found({"inforom.valid": 0}, begin),
}

_USERS: dict[str, Play] = {
    "user-errors": _play(
        xid(GPU, 13, _line(13, f"{BY}Graphics SM Warp Exception on (GPC 10, TPC 1, SM 1): Out Of Range Address")),
        xid(GPU, 31, _line(31, f"{BY}Ch 00000007, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted")),
        xid(GPU, 43, _line(43, f"{BY}Ch 00000008")),
        xid(GPU, 45, _line(45, f"{BY}Ch 00000001")),
    ),
    "user-errors-of-two-processes": _play(
        *(kernel(_line(31, f"pid={pid}, name=python3, Ch 00000007, intr 00000000. MMU Fault")) for pid in (1240, 1311)),
        sees("pid=1311"),
    ),
    "xid-unknown": _play(xid(GPU, 999, _line(999, f"{BY}something new"))),
    "xid-79-injected": _play(kernel(OFF_BUS, facility=1), xid(GPU, 43, _line(43, f"{BY}Ch 00000008"))),
    "xid-79-in-a-process-name": _play(xid(GPU, 43, _line(43, "pid=1240, name=NVRM: Xid (PCI:, 0000:53:00): 79, Ch 00000008"))),
    "process-left": Play(
        (
            files(
                {
                    "proc/4711/stat": f"4711 (python3) Z 1 4711 4711 0 -1 4194560 {'0 ' * 12}900 {'0 ' * 30}\n",
                    "proc/4711/comm": "python3\n",
                    "proc/4711/cgroup": "0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0\n",
                }
            ),
            gpu({"processes": "4711:8589934592", "memory.used": 8589934592}),
            begin,
        )
    ),
}

_FIRMWARE: dict[str, Play] = {
    "gsp-timeout-seen-by-a-monitor": _play(
        xid(GPU, 119, _line(119, f"pid=1240590, name=hma-nvml, {GSP}")), sees('"GpuReadings"')
    ),
    "gsp-timeout-and-reset-required": _play(
        xid(GPU, 119, _line(119, f"pid=1240590, name=python3, {GSP}")),
        gpu({"code": RESET_REQUIRED}),
        sees(f'"code":{RESET_REQUIRED}\\b'),
    ),
    **{
        f"recovery-{number}-by-xid-154": _play(
            gpu({"recovery_action": number}), xid(GPU, 154, _recovery(0, number)), sees(f'"recovery_action":{number}')
        )
        for number in range(1, len(RECOVERY))
    },
    "recovery-taken-back": _play(
        gpu({"recovery_action": 1}),
        xid(GPU, 154, _recovery(0, 1)),
        sees('"recovery_action":1'),
        gpu({"recovery_action": 0}),
        xid(GPU, 154, _recovery(1, 0)),
        sees('"recovery_action":0'),
    ),
    **{f"recovery-{number}-by-poll": _found({"recovery_action": number}) for number in range(1, len(RECOVERY))},
}

_NVLINK: dict[str, Play] = {
    **{
        f"nvlink-{name}": _play(gpu({"nvlink.14.state": 0}), xid(GPU, 74, _nvlink(registers)), sees('"up":false'))
        for name, registers in {
            "mechanical": "0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0",
            "signal": "0x200000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0",
            "parity": "0x0, 0x0, 0x1, 0x0, 0x0, 0x0, 0x0",
        }.items()
    },
    "nvlink-signal-and-link-up": _play(xid(GPU, 74, _nvlink("0x200000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0")), sees('"GpuReadings"')),
    "nvlink-down-alone": _found({"nvlink.14.state": 0}),
    "nvlink-crc": _play(gpu({"nvlink.5.crc_flit": 20_000}), reading),
    "nvlink-5-needs-reset": _of(
        _play(
            gpu({"nvlink.9.state": 0}),
            xid(
                GPU,
                149,
                _line(149, f"NETIR_LINK_EVT  Fatal   XC0 i0 Link 09 (0x025525c6{NOTHING * 5})"),
            ),
            sees('"up":false'),
        ),
        instance_type=B200,
        layout="p5.48xlarge",
    ),
    "nvlink-5-nonfatal": _of(
        _play(
            xid(
                GPU,
                145,
                _line(
                    145,
                    f"{BY}RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x00000001{NOTHING * 3})",
                ),
            ),
        ),
        instance_type=B200,
        layout="p5.48xlarge",
    ),
    "nvlink-5-follow-154": _of(
        _play(
            gpu({"recovery_action": 1}),
            xid(
                GPU,
                145,
                _line(145, f"RLW_SRC_TRACK Nonfatal XC1 i0 Link 12 (0x040988e2 0x00000008{NOTHING * 4})"),
            ),
            xid(GPU, 154, _recovery(0, 1)),
            sees('"recovery_action":1'),
        ),
        instance_type=B200,
        layout="p5.48xlarge",
    ),
    "nvswitch-fatal": _play(
        kernel(
            _sxid("20034, Fatal, Link 30 LTSSM Fault Up"),
            _sxid("20034, Severity 1 Engine instance 62 Sub-engine instance 00"),
            _sxid("20034, Data {0x10000000, 0x10000000, 0x00000000, 0x10000000, 0x80003e00}"),
        ),
        sees("Data"),
    ),
    "nvswitch-not-fatal": _play(kernel(_sxid("12028, Non-fatal, Link 32 egress non-posted PRIV error (First)")), sees("12028")),
    "nvswitch-host-interface": _play(kernel(_sxid("10003, Fatal, HOST_unhandled_interrupt")), sees("10003")),
    "fabric-manager-down": Play((files({"usr/bin/nv-fabricmanager": "", "proc/driver/nvidia-nvswitch/devices": ""}), begin)),
    "fabric-failed": Play((nvml({"gpu.*.fabric.status": 999}), begin)),
    "fabric-not-started": Play((nvml({"gpu.*.fabric.state": 2}), begin)),
}

_SLOW: dict[str, Play] = {
    "clocks-held-by-heat": _play(gpu({"clocks.reasons": HW_SLOWDOWN | HW_THERMAL}), sees('"reasons":72')),
    "clocks-held-by-power-brake": _play(gpu({"clocks.reasons": HW_SLOWDOWN | POWER_BRAKE}), sees('"reasons":136')),
    "clocks-held-for-a-moment": _play(
        gpu({"clocks.reasons": HW_SLOWDOWN | HW_THERMAL}),
        sees('"reasons":72'),
        gpu({"clocks.reasons": IDLE}),
        sees('"GpuReadings".*"reasons":1,'),
    ),
    "clocks-flapping": _play(
        gpu({"clocks.hw_thermal_ns": 45_000_000_000}), reading, gpu({"clocks.hw_thermal_ns": 90_000_000_000}), reading
    ),
    "temperature-at-slowdown": _found({"temperature": 88, "margin": -3}),
    "power-limit-low": _found({"power_limit_mw": 350_000}),
    "pcie-width-below-type": _found({"pcie.width": 8}),
    "pcie-width-of-type": _of(Play((begin,)), instance_type="g5.12xlarge", smi=""),
    "pcie-replays": _play(gpu({"pcie.replays": 1_000}), reading),
    "persistence-off": Play((nvml({"gpu.*.persistence": 0}), begin)),
    "mig-pending": _found({"mig.pending": 1}),
}

DBE_INCIDENT = {
    "system": 0x10,
    "health": 20,
    "code": 4,
    "msg": "Detected 2 volatile double-bit ECC errors",
    "group": 1,
    "entity": GPU,
}
_DCGM: dict[str, Play] = {
    "dcgm-policy-dbe": _of(_play(violated(0x1, GPU, 2), sees('"violations":\\[{')), dcgm=""),
    "dcgm-policy-xid": _of(_play(violated(0x40, GPU, 79), sees('"violations":\\[{')), dcgm=""),
    "dcgm-health-memory": _of(
        Play(
            (
                set_dcgm(incidents=[DBE_INCIDENT]),
                starts('"GpuReadings":', '"incidents":\\[{'),
            )
        ),
        dcgm="",
    ),
    "dcgm-engine-hung": _of(Play((set_dcgm(hang=["dcgmHealthCheck"]), begin, sees('"hung"'))), dcgm=""),
    "dcgm-engine-ended": _of(
        Play((starts('"GpuReadings":', '"DcgmHealth":'), set_dcgm(connect=-21, boot=1), sees('"no_engine"'))), dcgm=""
    ),
    "dcgm-engine-never-there": _of(Play((set_dcgm(connect=-21), starts('"GpuReadings":', '"GpuEvents":'))), dcgm=""),
}

_WELL: dict[str, Play] = {
    "healthy-p5": _of(Play((starts('"GpuReadings":', '"GpuEvents":', '"DcgmHealth":'),)), smi="", dcgm=""),
    "healthy-p5-driver-535": _of(Play((begin,)), driver="535"),
    "healthy-b200": _of(Play((begin,)), instance_type=B200, layout="p5.48xlarge"),
}

PLAYS: Mapping[str, Play] = MappingProxyType(
    {**_GONE, **_DRIVER, **_MEMORY, **_USERS, **_FIRMWARE, **_NVLINK, **_SLOW, **_DCGM, **_WELL}
)
"""By the name of the trace."""
