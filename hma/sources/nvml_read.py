"""One GPU as the driver library tells it: `hma.gpu.Gpu`.

Rules of this file:
- A part is None where nothing of it can be told. One function a part; each value that can be missing alone is asked for alone.
- A GPU that is lost (15) is asked nothing more in this reading. One that needs a reset (16) is asked for its recovery action.
- What does not change is asked once; what can be had as a field comes in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hma.gpu import Clocks, Ecc, Fabric, Gpu, GpuProcess, Heat, Inforom, Pages, Pcie, Power, Repair, Rows
from hma.sources import nvml_processes
from hma.sources.nvml_ask import CANNOT_TELL, CORRUPTED_INFOROM, RESET_REQUIRED, Field, Questions, Refused
from hma.sources.nvml_links import read_links

RECOVERY_ACTION = Field(230, 0, "recovery_action")
RETIRED_CORRECTED, RETIRED_UNCORRECTED, RETIRED_PENDING = (Field(number, 0, "pages") for number in (29, 30, 31))
SINCE_580 = 580
CLOCKS = tuple(Field(number, 0, "clocks") for number in (74, 75, 269, 270, 271))
MEMORY_TEMPERATURE = Field(82, 0, "heat")
FIELDS = (RECOVERY_ACTION, RETIRED_CORRECTED, RETIRED_UNCORRECTED, RETIRED_PENDING, *CLOCKS, MEMORY_TEMPERATURE)

CORRECTED, UNCORRECTED = 0, 1
VOLATILE, AGGREGATE = 0, 1
SHUTDOWN, SLOWDOWN, MEMORY_MAX, GPU_MAX = 0, 1, 2, 3

N = TypeVar("N", bound=tuple[Any, ...])


class Round(NamedTuple):
    """What a reading is made with: the node's root, the boottime, whether the InfoROM is to be looked at, and the driver's
    branch (580 of 580.95.05; 0 = not known)."""

    root: Path
    now: float
    inforom: bool = False
    branch: int = 0


class Identity(NamedTuple):
    """What a GPU is called."""

    number: int
    pci: str
    uuid: str = ""
    serial: str = ""
    name: str = ""


def read_gpu(ask: Questions, who: Identity, this: Round) -> Gpu:
    """Return the GPU; never raises for what it refuses."""
    try:
        heat = _heat(ask)
        trouble = _trouble(ask) if "heat" in ask.errors else None
        if trouble is None:
            return _whole(ask, who, this, heat)
    except Refused as err:
        trouble = err
    action = _last_word(ask) if trouble.code == RESET_REQUIRED else None
    return Gpu(*who, code=trouble.code, text=str(trouble), recovery_action=action)


def identify(ask: Questions, number: int, pci: str) -> Identity:
    """Return what the GPU is called, as far as it can be read."""

    def text(name: str) -> str:
        try:
            return ask.once("name", name) or ""
        except Refused:
            return ""

    return Identity(number, pci, *(text(f"nvmlDeviceGet{what}") for what in ("UUID", "Serial", "Name")))


def _trouble(ask: Questions) -> Refused | None:
    """Return why the GPU does not answer, None where it does: its temperature alone is no proof."""
    try:
        ask.library.ask("nvmlDeviceGetPowerUsage", ask.handle)
    except Refused as err:
        if err.code not in CANNOT_TELL:
            return err
    return None


def _last_word(ask: Questions) -> int | None:
    try:
        return ask.fields((RECOVERY_ACTION,)).get(RECOVERY_ACTION)
    except Refused:
        return None


def _whole(ask: Questions, who: Identity, this: Round, heat: Heat | None) -> Gpu:
    fields = ask.fields(FIELDS)
    mig = ask.about("mig", "nvmlDeviceGetMigMode") or (None, None)
    gsp = ask.about("gsp", "nvmlDeviceGetGspFirmwareMode") or (None, None)
    memory = _memory(ask)
    return Gpu(
        *who,
        vbios=ask.once("vbios", "nvmlDeviceGetVbiosVersion") or "",
        persistence=_truth(ask.about("persistence", "nvmlDeviceGetPersistenceMode")),
        mig=_truth(mig[0]),
        mig_pending=_truth(mig[1]),
        gsp=_truth(gsp[0]),
        gsp_default=_truth(gsp[1]),
        recovery_action=fields.get(RECOVERY_ACTION),
        memory_used_bytes=memory and int(memory.used),
        memory_total_bytes=memory and int(memory.total),
        ecc=_ecc(ask),
        rows=_rows(ask),
        pages=_some(Pages(*_pages(fields))),
        repair=_repair(ask),
        clocks=_clocks(ask, fields, this.branch),
        heat=_some((heat or Heat())._replace(memory_c=fields.get(MEMORY_TEMPERATURE))),
        power=_power(ask),
        links=read_links(ask),
        pcie=_pcie(ask),
        fabric=_fabric(ask),
        inforom=_inforom(ask, this),
        processes=_processes(ask, this),
        errors=ask.errors,
    )


# -- parts ------------------------------------------------------------------------------------------------------------


def _heat(ask: Questions) -> Heat | None:
    def threshold(number: int) -> int | None:
        value: int | None = ask.once("heat", "nvmlDeviceGetTemperatureThreshold", number)
        return value or None  # 0 where a newer GPU has only relative limits

    gpu_c = ask.about("heat", "nvmlDeviceGetTemperature", 0)
    if gpu_c is None and "heat" in ask.errors:
        return None
    if gpu_c is None:  # CUDA 14 is to drop the function above
        gpu_c = ask.about("heat", "nvmlDeviceGetTemperatureV", 0)
    margin_c = ask.about("heat", "nvmlDeviceGetMarginTemperature")
    limits = {"slowdown_c": SLOWDOWN, "shutdown_c": SHUTDOWN, "memory_max_c": MEMORY_MAX, "gpu_max_c": GPU_MAX}
    return _some(Heat(gpu_c, None, margin_c, **{name: threshold(number) for name, number in limits.items()}))


def _ecc(ask: Questions) -> Ecc | None:
    mode = ask.about("ecc", "nvmlDeviceGetEccMode") or (None, None)
    counts = (
        ask.about("ecc", "nvmlDeviceGetTotalEccErrors", kind, since)
        for since in (VOLATILE, AGGREGATE)
        for kind in (CORRECTED, UNCORRECTED)
    )
    sram = ask.filled("ecc", "nvmlDeviceGetSramEccErrorStatus", "c_nvmlEccSramErrorStatus_v1_t")
    exceeded = None if sram is None else bool(sram.bThresholdExceeded)
    return _some(Ecc(_truth(mode[0]), _truth(mode[1]), *counts)._replace(sram_threshold=exceeded))


def _rows(ask: Questions) -> Rows | None:
    rows = ask.about("rows", "nvmlDeviceGetRemappedRows")
    if rows is None:
        return None
    banks = ask.about("rows", "nvmlDeviceGetRowRemapperHistogram")
    left = (None,) * 5 if banks is None else (banks.max, banks.high, banks.partial, banks.low, banks.none)
    return Rows(rows[0], rows[1], bool(rows[2]), bool(rows[3]), *left)


def _pages(fields: Mapping[Field, int]) -> tuple[int | None, int | None, bool | None]:
    return fields.get(RETIRED_CORRECTED), fields.get(RETIRED_UNCORRECTED), _truth(fields.get(RETIRED_PENDING))


def _repair(ask: Questions) -> Repair | None:
    waits = ask.about("repair", "nvmlDeviceGetRepairStatus") or (None, None)
    beyond = ask.about("repair", "nvmlDeviceGetUnrepairableMemoryFlag_v1")
    return _some(Repair(*(_truth(value) for value in (*waits, beyond))))


def _clocks(ask: Questions, fields: Mapping[Field, int], branch: int) -> Clocks | None:
    reasons = ask.first("clocks", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    # The numbers of the last three were given anew in 580: before, they mean power smoothing, or nothing.
    held = CLOCKS if branch >= SINCE_580 else CLOCKS[:2]
    return _some(Clocks(reasons, *(fields.get(field) for field in held)))


def _power(ask: Questions) -> Power | None:
    milliwatts = (
        ask.about("power", "nvmlDeviceGetPowerUsage"),
        ask.about("power", "nvmlDeviceGetEnforcedPowerLimit"),
        ask.once("power", "nvmlDeviceGetPowerManagementDefaultLimit"),
    )
    return _some(Power(*(None if value is None else value / 1000 for value in milliwatts)))


def _pcie(ask: Questions) -> Pcie | None:
    return _some(
        Pcie(
            ask.about("pcie", "nvmlDeviceGetCurrPcieLinkGeneration"),
            ask.about("pcie", "nvmlDeviceGetCurrPcieLinkWidth"),
            ask.once("pcie", "nvmlDeviceGetMaxPcieLinkGeneration"),
            ask.once("pcie", "nvmlDeviceGetMaxPcieLinkWidth"),
            ask.about("pcie", "nvmlDeviceGetPcieReplayCounter"),
        )
    )


def _fabric(ask: Questions) -> Fabric | None:
    info = _fabric_info(ask)
    if info is None:
        return None
    guid = bytes(info.clusterUuid).hex()
    cluster = "" if not int(guid, 16) else "-".join((guid[:8], guid[8:12], guid[12:16], guid[16:20], guid[20:]))
    mask, summary = getattr(info, "healthMask", None), getattr(info, "healthSummary", None)
    return Fabric(int(info.state), int(info.status), int(info.cliqueId), cluster, mask, summary)


def _fabric_info(ask: Questions) -> Any:
    """Return the newest version of this structure that the driver fills in; the first one has no health mask."""
    known = ask.memory.lasting.get("fabric")
    versions = (
        ("nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v3_t"),
        ("nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v2_t"),
        ("nvmlDeviceGetGpuFabricInfo", "c_nvmlGpuFabricInfo_t"),
    )
    for version in versions if known is None else (known,):
        info = ask.filled("fabric", *version)
        if info is not None:
            ask.memory.lasting["fabric"] = version
            return info
        if "fabric" in ask.errors:
            return None
    return None


def _inforom(ask: Questions, this: Round) -> Inforom | None:
    valid = _valid_inforom(ask) if this.inforom else None
    image = ask.once("inforom", "nvmlDeviceGetInforomImageVersion") or ""
    return None if valid is None and not image else Inforom(valid, image)


def _valid_inforom(ask: Questions) -> bool | None:
    try:
        ask.library.ask("nvmlDeviceValidateInforom", ask.handle)
        return True
    except Refused as err:
        if err.code == CORRUPTED_INFOROM:
            return False
        ask.refused("inforom", err)
        return None


def _memory(ask: Questions) -> Any:
    # Version 2 tells the driver's own share apart from what is in use.
    version = getattr(ask.library.nvml, "nvmlMemory_v2", None)
    memory = ask.about("memory_used_bytes", "nvmlDeviceGetMemoryInfo", version)
    return (
        ask.about("memory_used_bytes", "nvmlDeviceGetMemoryInfo")
        if memory is None and "memory_used_bytes" not in ask.errors
        else memory
    )


def _processes(ask: Questions, this: Round) -> tuple[GpuProcess, ...] | None:
    found = ask.first("processes", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
    if found is None:
        return None
    pids: Sequence[tuple[int, int | None]] = [(int(one.pid), one.usedGpuMemory) for one in found]
    look: Callable[..., tuple[GpuProcess, ...]] = _read_proc
    return ask.library.worker.ask(look, this, pids)


def _read_proc(this: Round, pids: Sequence[tuple[int, int | None]]) -> tuple[GpuProcess, ...]:
    return tuple(nvml_processes.process(this.root, pid, used, this.now) for pid, used in pids)


def _some(part: N) -> N | None:
    """Return a part that tells anything at all."""
    return part if any(value is not None for value in part) else None


def _truth(value: int | None) -> bool | None:
    return None if value is None else bool(value)
