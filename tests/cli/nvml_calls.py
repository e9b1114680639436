"""Every function of the stand-in: what the state must say, how it is asked through nvidia-ml-py, and what it answers."""

from __future__ import annotations

from typing import Any

from hma.cli.nvml_values import MIB


def numbered(prefix: str, *names: str) -> dict[str, int]:
    """Return a state in which every value is another."""
    return {f"gpu.0.{prefix}{name}": 11 + place for place, name in enumerate(names)}


SRAM = (
    *("aggregate_unc_parity", "aggregate_unc_sec_ded", "aggregate_cor", "volatile_unc_parity", "volatile_unc_sec_ded"),
    *("volatile_cor", "bucket_l2", "bucket_sm", "bucket_pcie", "bucket_mcu", "bucket_other", "threshold"),
)
ROWS = ("corrected", "corrected_inactive", "uncorrected", "uncorrected_inactive", "pending", "failed")
BANKS = ("banks_max", "banks_high", "banks_partial", "banks_low", "banks_none")
CLUSTER = "00112233-4455-6677-8899-aabbccddeeff"
FABRIC = {"gpu.0.fabric.status": 3, "gpu.0.fabric.clique": 7, "gpu.0.fabric.cluster": CLUSTER, "gpu.0.fabric.health_mask": 0x80}
FABRIC_TOLD = {"clusterUuid": list(bytes.fromhex(CLUSTER.replace("-", ""))), "status": 3, "cliqueId": 7, "state": 3}
PROCESSES = {"gpu.0.processes": "4711:1073741824 4712:-"}
FIFTH = {"gpu.0.nvlink.5.replay": 3, "gpu.0.nvlink.5.recovery": 4, "gpu.0.nvlink.5.crc_flit": 5, "gpu.0.nvlink.5.crc_data": 6}

CALLS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "nvmlInit_v2": ({}, "symbol('nvmlInit_v2')", None),
    "nvmlInitWithFlags": ({}, "N.nvmlInit()", None),
    "nvmlShutdown": ({}, "N.nvmlShutdown()", None),
    "nvmlErrorString": ({}, "N.nvmlErrorString(15)", "GPU is lost"),
    "nvmlSystemGetDriverVersion": ({}, "N.nvmlSystemGetDriverVersion()", "615.71.09"),
    "nvmlSystemGetNVMLVersion": ({}, "N.nvmlSystemGetNVMLVersion()", "13.615.71.09"),
    "nvmlDeviceGetCount_v2": ({}, "N.nvmlDeviceGetCount()", 8),
    "nvmlDeviceGetHandleByIndex_v2": ({}, "N.nvmlDeviceGetIndex(gpu(3))", 3),
    "nvmlDeviceGetHandleByPciBusId_v2": ({}, "N.nvmlDeviceGetIndex(N.nvmlDeviceGetHandleByPciBusId('0000:86:00.0'))", 3),
    "nvmlDeviceGetHandleByUUID": ({"gpu.4.uuid": "GPU-4"}, "N.nvmlDeviceGetIndex(N.nvmlDeviceGetHandleByUUID('GPU-4'))", 4),
    "nvmlDeviceGetIndex": ({}, "N.nvmlDeviceGetIndex(gpu(7))", 7),
    "nvmlDeviceGetMinorNumber": ({"gpu.0.minor": 9}, "N.nvmlDeviceGetMinorNumber(gpu(0))", 9),
    "nvmlDeviceGetPciInfo_v3": (
        {"gpu.0.pci": "0001:9b:02.3", "gpu.0.pci.subsystem": 0x16C110DE},
        "members(N.nvmlDeviceGetPciInfo(gpu(0)))",
        {
            "busIdLegacy": "0001:9B:02.3",
            "domain": 1,
            "bus": 0x9B,
            "device": 2,
            "pciSubSystemId": 0x16C110DE,
            "busId": "00000001:9B:02.3",
        },
    ),
    "nvmlDeviceGetUUID": ({}, "N.nvmlDeviceGetUUID(gpu(2))", "GPU-509665ad-b600-ac93-3616-d754b23d6362"),
    "nvmlDeviceGetSerial": ({}, "N.nvmlDeviceGetSerial(gpu(2))", "1650124014242"),
    "nvmlDeviceGetName": ({}, "N.nvmlDeviceGetName(gpu(2))", "NVIDIA H100 80GB HBM3"),
    "nvmlDeviceGetVbiosVersion": ({}, "N.nvmlDeviceGetVbiosVersion(gpu(0))", "96.00.74.00.01"),
    "nvmlDeviceGetInforomImageVersion": ({}, "N.nvmlDeviceGetInforomImageVersion(gpu(0))", "G520.0200.00.05"),
    "nvmlDeviceValidateInforom": ({"gpu.0.inforom.valid": 0}, "N.nvmlDeviceValidateInforom(gpu(0))", "code 14"),
    "nvmlDeviceGetArchitecture": ({}, "N.nvmlDeviceGetArchitecture(gpu(0))", 9),
    "nvmlDeviceGetPersistenceMode": ({}, "N.nvmlDeviceGetPersistenceMode(gpu(0))", 1),
    "nvmlDeviceGetPerformanceState": ({"gpu.0.pstate": 8}, "N.nvmlDeviceGetPerformanceState(gpu(0))", 8),
    "nvmlDeviceGetMigMode": (numbered("mig.", "current", "pending"), "N.nvmlDeviceGetMigMode(gpu(0))", [11, 12]),
    "nvmlDeviceGetGspFirmwareMode": (
        numbered("gsp.", "enabled", "default"),
        "N.nvmlDeviceGetGspFirmwareMode(gpu(0))",
        [11, 12],
    ),
    "nvmlDeviceGetEccMode": (numbered("ecc.", "enabled", "pending"), "N.nvmlDeviceGetEccMode(gpu(0))", [11, 12]),
    "nvmlDeviceGetTotalEccErrors": (
        numbered("ecc.", "volatile.corrected", "volatile.uncorrected", "aggregate.corrected", "aggregate.uncorrected"),
        "[N.nvmlDeviceGetTotalEccErrors(gpu(0), kind, since) for since in (0, 1) for kind in (0, 1)]",
        [11, 12, 13, 14],
    ),
    "nvmlDeviceGetMemoryErrorCounter": (
        numbered("ecc.aggregate.uncorrected.", "dram", "sram"),
        "[N.nvmlDeviceGetMemoryErrorCounter(gpu(0), 1, 1, place) for place in (2, 7)]",
        [11, 12],
    ),
    "nvmlDeviceGetSramEccErrorStatus": (
        numbered("sram.", *SRAM),
        "list(filled(N.nvmlDeviceGetSramEccErrorStatus, N.c_nvmlEccSramErrorStatus_v1_t()).values())",
        list(range(11, 23)),
    ),
    "nvmlDeviceGetRemappedRows": (numbered("remap.", *ROWS), "N.nvmlDeviceGetRemappedRows(gpu(0))", [11, 13, 15, 16]),
    "nvmlDeviceGetRemappedRows_v2": (
        numbered("remap.", *ROWS),
        "list(filled(N.nvmlDeviceGetRemappedRows_v2, N.c_nvmlRemappedRowsInfo_v2_t()).values())",
        [11, 12, 13, 14, 15, 16],
    ),
    "nvmlDeviceGetRowRemapperHistogram": (
        numbered("remap.", *BANKS),
        "members(N.nvmlDeviceGetRowRemapperHistogram(gpu(0)))",
        {"max": 11, "high": 12, "partial": 13, "low": 14, "none": 15},
    ),
    "nvmlDeviceGetRepairStatus": (
        numbered("repair.", "channel_pending", "tpc_pending"),
        "N.nvmlDeviceGetRepairStatus(gpu(0))",
        [11, 12],
    ),
    "nvmlDeviceGetUnrepairableMemoryFlag_v1": (
        {"gpu.0.repair.unrepairable": 1},
        "N.nvmlDeviceGetUnrepairableMemoryFlag_v1(gpu(0))",
        1,
    ),
    "nvmlDeviceGetRetiredPagesPendingStatus": (
        {"gpu.0.retired.pending": 1},
        "N.nvmlDeviceGetRetiredPagesPendingStatus(gpu(0))",
        1,
    ),
    "nvmlDeviceGetRetiredPages": (
        {"gpu.0.retired.corrected": 2, "gpu.0.retired.uncorrected": 0},
        "[len(N.nvmlDeviceGetRetiredPages(gpu(0), cause)) for cause in (0, 1)]",
        [2, 0],
    ),
    "nvmlDeviceGetRetiredPages_v2": (
        {"gpu.0.retired.uncorrected": 3},
        "[page['address'] for page in N.nvmlDeviceGetRetiredPages_v2(gpu(0), 1)]",
        [0x10000, 0x20000, 0x30000],
    ),
    "nvmlDeviceGetFieldValues": (
        {"gpu.0.recovery_action": 2, "gpu.0.nvlink.5.crc_flit": 9, "gpu.0.nvlink.5.state": 0},
        "field(0, 230, (163, 5), (163, 6), (165, 5), (165, 6), 38, 91, 193, 29)",
        [2, 9, 0, 0, 1, 9, 18, -8, "code 3"],
    ),
    "nvmlDeviceGetCurrentClocksEventReasons": (
        {"gpu.0.clocks.reasons": 0x4000000088},
        "N.nvmlDeviceGetCurrentClocksEventReasons(gpu(0))",
        0x4000000088,
    ),
    "nvmlDeviceGetCurrentClocksThrottleReasons": (
        {"gpu.0.clocks.reasons": 0x88},
        "N.nvmlDeviceGetCurrentClocksThrottleReasons(gpu(0))",
        0x88,
    ),
    "nvmlDeviceGetSupportedClocksEventReasons": ({}, "N.nvmlDeviceGetSupportedClocksEventReasons(gpu(0))", 0x1FF),
    "nvmlDeviceGetTemperature": ({"gpu.0.temperature": 91}, "N.nvmlDeviceGetTemperature(gpu(0), 0)", 91),
    "nvmlDeviceGetTemperatureV": ({"gpu.0.temperature": 92}, "N.nvmlDeviceGetTemperatureV(gpu(0), 0)", 92),
    "nvmlDeviceGetTemperatureThreshold": (
        numbered("threshold.", "shutdown", "slowdown", "memory_max", "gpu_max"),
        "[N.nvmlDeviceGetTemperatureThreshold(gpu(0), which) for which in range(4)]",
        [11, 12, 13, 14],
    ),
    "nvmlDeviceGetMarginTemperature": ({"gpu.0.margin": -4}, "N.nvmlDeviceGetMarginTemperature(gpu(0))", -4),
    "nvmlDeviceGetPowerUsage": ({}, "N.nvmlDeviceGetPowerUsage(gpu(0))", 69120),
    "nvmlDeviceGetEnforcedPowerLimit": ({"gpu.0.power_limit_mw": 1}, "N.nvmlDeviceGetEnforcedPowerLimit(gpu(0))", 1),
    "nvmlDeviceGetPowerManagementLimit": ({"gpu.0.power_limit_mw": 1}, "N.nvmlDeviceGetPowerManagementLimit(gpu(0))", 1),
    "nvmlDeviceGetPowerManagementDefaultLimit": ({}, "N.nvmlDeviceGetPowerManagementDefaultLimit(gpu(0))", 700_000),
    "nvmlDeviceGetNvLinkState": (
        {"gpu.0.nvlink.17.state": 0},
        "[N.nvmlDeviceGetNvLinkState(gpu(0), link) for link in (16, 17)]",
        [1, 0],
    ),
    "nvmlDeviceGetNvLinkVersion": ({}, "N.nvmlDeviceGetNvLinkVersion(gpu(0), 0)", 6),
    "nvmlDeviceGetNvLinkErrorCounter": (
        FIFTH,
        "[N.nvmlDeviceGetNvLinkErrorCounter(gpu(0), link, counter) for link in (5, 6) for counter in range(4)]",
        [3, 4, 5, 6, 0, 0, 0, 0],
    ),
    "nvmlDeviceGetCurrPcieLinkGeneration": ({"gpu.0.pcie.generation": 1}, "N.nvmlDeviceGetCurrPcieLinkGeneration(gpu(0))", 1),
    "nvmlDeviceGetCurrPcieLinkWidth": ({"gpu.0.pcie.width": 8}, "N.nvmlDeviceGetCurrPcieLinkWidth(gpu(0))", 8),
    "nvmlDeviceGetMaxPcieLinkGeneration": ({}, "N.nvmlDeviceGetMaxPcieLinkGeneration(gpu(0))", 5),
    "nvmlDeviceGetMaxPcieLinkWidth": ({}, "N.nvmlDeviceGetMaxPcieLinkWidth(gpu(0))", 16),
    "nvmlDeviceGetGpuMaxPcieLinkGeneration": ({}, "N.nvmlDeviceGetGpuMaxPcieLinkGeneration(gpu(0))", 5),
    "nvmlDeviceGetPcieReplayCounter": ({"gpu.0.pcie.replays": 12}, "N.nvmlDeviceGetPcieReplayCounter(gpu(0))", 12),
    "nvmlDeviceGetGpuFabricInfo": (
        FABRIC,
        "filled(N.nvmlDeviceGetGpuFabricInfo, N.c_nvmlGpuFabricInfo_t())",
        FABRIC_TOLD,
    ),
    "nvmlDeviceGetGpuFabricInfoV": (
        {**FABRIC, "gpu.0.fabric.summary": 2},
        "[filled(N.nvmlDeviceGetGpuFabricInfoV, s()) for s in (N.c_nvmlGpuFabricInfo_v2_t, N.c_nvmlGpuFabricInfo_v3_t)]",
        [{**FABRIC_TOLD, "healthMask": 0x80}, {**FABRIC_TOLD, "healthMask": 0x80, "healthSummary": 2}],
    ),
    "nvmlDeviceGetComputeRunningProcesses_v3": (
        PROCESSES,
        "[[p.pid, p.usedGpuMemory] for p in N.nvmlDeviceGetComputeRunningProcesses(gpu(0))]",
        [[4711, 1073741824], [4712, None]],
    ),
    "nvmlDeviceGetMemoryInfo": (
        {},
        "members(N.nvmlDeviceGetMemoryInfo(gpu(0)))",
        {"total": 81559 * MIB, "free": 81104 * MIB, "used": 455 * MIB},
    ),
    "nvmlDeviceGetMemoryInfo_v2": (
        {},
        "members(N.nvmlDeviceGetMemoryInfo(gpu(0), N.nvmlMemory_v2))",
        {"total": 81559 * MIB, "reserved": 454 * MIB, "free": 81104 * MIB, "used": 1 * MIB},
    ),
    "nvmlDeviceGetSupportedEventTypes": ({}, "N.nvmlDeviceGetSupportedEventTypes(gpu(0))", 0xFE1F),
    "nvmlEventSetCreate": ({}, "listen()", None),
    "nvmlDeviceRegisterEvents": ({}, "listen((0, 0x200 << 20))", "code 3"),
    "nvmlEventSetWait_v2": ({}, "[listen((0, 8)), wait(0)]", "code 10"),
    "nvmlEventSetFree": ({}, "N.nvmlEventSetFree(N.nvmlEventSetCreate())", None),
}
