"""DCGM through the Python bindings that its package installs: versions 3 and 4, always to a host engine that runs already.

Rules of this file:
- Only the modules dcgm_structs and dcgm_agent. pydcgm imports all the others, one of which needs a module (`logger`) that
  packages since 4.4 lack (NVIDIA/DCGM issue 262), and the destructor of its DcgmGroup clears the policy of all GPUs.
- Never embedded: an address is always given. What is set lasts as long as our connection (policies: as the host engine).
- A violation arrives in a thread of DCGM: it is copied and the thread let go. The C callback is kept as long as the connection.
- Nothing is written into the folder of the bindings, not even bytecode.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hma.gpu import DcgmGpu, DcgmIncident
from hma.sources import dcgm_route
from hma.sources.dcgm_route import DBE, NVLINK, PAGES, PCI, POWER, THERMAL, XID, Told, Trouble, state_of
from hma.sources.probe import Worker, boottime

PLACES = (Path("/usr/share/datacenter-gpu-manager-4/bindings/python3"), Path("/usr/local/dcgm/bindings/python3"))
MODULES = ("dcgm_structs", "dcgm_agent")
CONNECT_MS = 5_000
CONNECT_S = 10.0
UPDATE_S = 30.0
"""Setting watches and registering wait for a round of updates of all fields."""
POLL_S = 30.0
"""Health watches are updated every 30 s."""
WARN, FAIL = 10, 20

T = TypeVar("T")


class Modules(NamedTuple):
    """The bindings, loaded with their library."""

    structs: Any
    agent: Any
    folder: Path


def load(given: Path | None, places: Sequence[Path] = PLACES) -> Modules | str:
    """Return the first bindings whose library can be loaded, or why there are none."""
    reasons = []
    for folder in (*([given] if given else []), *places):
        found = _load(folder)
        if isinstance(found, Modules):
            return found
        reasons.append(f"{folder}: {found}")
    return "; ".join(reasons)


def _load(folder: Path) -> Modules | str:
    if not (folder / "dcgm_agent.py").is_file():
        return "no bindings"
    sys.dont_write_bytecode = True
    sys.path.append(str(folder))
    try:
        structs, agent = (importlib.import_module(name) for name in MODULES)
        structs._dcgmInit()  # noqa: SLF001  (this loads the library, and has no other name)
        return Modules(structs, agent, folder)
    except Exception as err:  # noqa: BLE001  (code of others, of any version: whatever it raises, it cannot be used)
        for name in [name for name in sys.modules if name.startswith("dcgm")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return f"{type(err).__name__}: {str(err)[:120]}"
    finally:
        sys.path.remove(str(folder))


class Bindings:
    """The route through the bindings; see hma.sources.dcgm_route.Route."""

    name = "bindings"
    poll_s = POLL_S

    def __init__(self, modules: Modules, address: str) -> None:
        self.version = ""
        self._structs = modules.structs
        self._agent = modules.agent
        self._address = address
        self._handle: Any = None
        self._kept: list[Any] = []
        self._groups: dict[int, Any] = {}

    def open(self, worker: Worker) -> None:
        """Connect, and watch the health of all GPUs."""
        self._groups.clear()
        self._call(worker, "dcgmInit")
        self._handle = self._fitting(lambda: worker.wait_for(CONNECT_S, self._connect))
        self.version = self._version(worker)
        everything = self._structs.DCGM_GROUP_ALL_GPUS
        on = self._call(worker, "dcgmHealthGet", self._handle, everything)
        # Set even where all are on: the fields behind a watch are sampled as long as somebody's connection who set it.
        wanted = (on | self._structs.DCGM_HEALTH_WATCH_ALL) & 0xFFFFFFFF
        self._call(worker, "dcgmHealthSet", self._handle, everything, wanted, allowed_s=UPDATE_S)

    def gpus(self, worker: Worker) -> tuple[DcgmGpu, ...]:
        """Return the GPUs that DCGM supports, with the address of those that tell one."""
        numbers = self._call(worker, "dcgmGetAllSupportedDevices", self._handle)
        return tuple(self._gpu(worker, int(number)) for number in numbers)

    def listen(self, worker: Worker, gpus: Sequence[DcgmGpu], told: Callable[[Told], None]) -> str:
        """Set our policy where nobody has set one, and be told what violates what is set."""
        note = ""
        condition = self._policy(worker, len(gpus))
        if condition not in (0, dcgm_route.OURS):
            note = dcgm_route.foreign(condition)
        if not condition:
            self._set_policy(worker)
            condition = dcgm_route.OURS
        if hasattr(self._agent, "dcgmPolicyRegister_v2"):
            self._register(worker, condition, told)
        else:
            self._register_each(worker, condition, gpus, told)
        return note

    def deaf(self) -> str:
        """Return "": a connection that is lost shows in `health`."""
        return ""

    def health(self, worker: Worker) -> tuple[DcgmIncident, ...]:
        """Return the incidents of all watches."""
        group = self._structs.DCGM_GROUP_ALL_GPUS
        response = self._call(worker, "dcgmHealthCheck", self._handle, group)
        return self._fitting(lambda: tuple(_incidents(response)))

    def close(self, worker: Worker) -> None:
        """Disconnect; what the host engine did for us ends with that."""
        handle, self._handle = self._handle, None
        if handle is not None:
            try:
                self._call(worker, "dcgmDisconnect", handle)
            except Trouble:
                pass  # it is gone

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _call(self, worker: Worker, name: str, *args: Any, allowed_s: float = 0.0) -> Any:
        """Return what a function of dcgm_agent does; raises Trouble."""
        return self._fitting(lambda: worker.wait_for(allowed_s, getattr(self._agent, name), *args))

    def _fitting(self, look: Callable[[], T]) -> T:
        """Return what `look` does; whatever the bindings raise becomes Trouble."""
        try:
            return look()
        except self._structs.DCGMError as err:
            raise Trouble(state_of(err.value), err.value, str(err)[:200]) from err
        except (AttributeError, TypeError, ValueError, ctypes.ArgumentError) as err:
            raise Trouble("failed", 0, f"bindings that we do not know: {type(err).__name__}: {str(err)[:160]}") from err

    def _connect(self) -> Any:
        path = self._address.removeprefix("unix://")
        unix = path != self._address
        if hasattr(self._agent, "dcgmConnect_v3"):
            third = self._structs.c_dcgmConnectV3Params_v1()
            third.version = self._structs.c_dcgmConnectV3Params_version
            third.timeoutMs = CONNECT_MS
            return self._agent.dcgmConnect_v3(self._address if unix else f"tcp://{path}", third)
        second = self._structs.c_dcgmConnectV2Params_v2()
        second.version = self._structs.c_dcgmConnectV2Params_version
        second.timeoutMs = CONNECT_MS
        second.addressIsUnixSocket = int(unix)
        return self._agent.dcgmConnect_v2(path, second)

    def _version(self, worker: Worker) -> str:
        """Return the version of the library, which is what the bindings tell; "" where they do not."""
        try:
            said = str(self._call(worker, "dcgmVersionInfo").rawBuildInfoString)
        except (Trouble, AttributeError):
            return ""
        return said.partition("version:")[2].partition(";")[0]

    def _gpu(self, worker: Worker, number: int) -> DcgmGpu:
        worker.about = str(number)
        try:
            about = self._call(worker, "dcgmGetDeviceAttributes", self._handle, number).identifiers
            return DcgmGpu(number, dcgm_route.pci_address(str(about.pciBusId)), str(about.uuid))
        except (Trouble, AttributeError):
            return DcgmGpu(number)
        finally:
            worker.about = ""

    # -- policy --------------------------------------------------------------------------------------------------------

    def _policy(self, worker: Worker, count: int) -> int:
        """Return the conditions that are set for any GPU."""
        group = self._structs.DCGM_GROUP_ALL_GPUS
        policies = self._call(worker, "dcgmPolicyGet", self._handle, group, count, None)
        condition = 0
        for policy in policies:
            condition |= int(policy.condition)
        return condition

    def _set_policy(self, worker: Worker) -> None:
        policy = self._structs.c_dcgmPolicy_v1()
        policy.version = self._structs.dcgmPolicy_version1
        policy.condition = dcgm_route.OURS
        policy.mode = 1  # manual; action, isolation, validation and response stay 0: tell, and do nothing
        for index in range(len(policy.parms)):
            policy.parms[index].val.boolean = bool(dcgm_route.OURS >> index & 1)
        for index, most in ((2, dcgm_route.MAX_PAGES), (3, dcgm_route.MAX_TEMPERATURE_C)):
            policy.parms[index].tag = 1
            policy.parms[index].val.llval = most
        group = self._structs.DCGM_GROUP_ALL_GPUS
        self._call(worker, "dcgmPolicySet", self._handle, group, policy, None)

    def _register(self, worker: Worker, condition: int, told: Callable[[Told], None]) -> None:
        kind = self._structs.c_dcgmPolicyCallbackResponse_v2

        def violated(response: int, data: int) -> int:
            told(_told(ctypes.cast(response, ctypes.POINTER(kind)).contents))
            return 0

        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64)(violated)
        self._kept.append(callback)
        group = self._structs.DCGM_GROUP_ALL_GPUS
        arguments = (self._handle, group, condition, callback, None)
        self._call(worker, "dcgmPolicyRegister_v2", *arguments, allowed_s=UPDATE_S)

    def _register_each(self, worker: Worker, condition: int, gpus: Sequence[DcgmGpu], told: Callable[[Told], None]) -> None:
        """Register for each GPU apart: before DCGM 4 a violation does not say whose it is."""
        for gpu in gpus:
            group = self._group(worker, gpu.gpu_id)
            callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(self._violated_by(gpu.gpu_id, told))
            self._kept.append(callback)
            # Both callbacks are called for each violation: one is enough.
            arguments = (self._handle, group, condition, callback, None)
            self._call(worker, "dcgmPolicyRegister", *arguments, allowed_s=UPDATE_S)

    def _group(self, worker: Worker, gpu: int) -> Any:
        """Return a group of this GPU alone; it ends with our connection."""
        if gpu not in self._groups:
            empty = self._structs.DCGM_GROUP_EMPTY
            group = self._call(worker, "dcgmGroupCreate", self._handle, empty, f"hma-{gpu}")
            self._call(worker, "dcgmGroupAddDevice", self._handle, group, gpu)
            self._groups[gpu] = group
        return self._groups[gpu]

    def _violated_by(self, gpu: int, told: Callable[[Told], None]) -> Callable[[int], int]:
        kind = self._structs.c_dcgmPolicyCallbackResponse_v1

        def violated(response: int) -> int:
            told(_told(ctypes.cast(response, ctypes.POINTER(kind)).contents)._replace(gpu=gpu))
            return 0

        return violated


def _incidents(response: Any) -> Iterator[DcgmIncident]:
    for index in range(min(int(response.incidentCount), dcgm_route.INCIDENTS_MAX)):
        found = response.incidents[index]
        health = "fail" if found.health >= FAIL else "warn"
        message = str(found.error.msg)[: dcgm_route.MESSAGE_MAX]
        about = found.entityInfo
        if found.health >= WARN:
            yield DcgmIncident(
                int(found.system), health, int(found.error.code), message, int(about.entityGroupId), int(about.entityId)
            )


def _told(response: Any) -> Told:
    """Return the violation in a dcgmPolicyCallbackResponse_t of either version."""
    condition, now = int(response.condition), boottime()
    gpu = int(getattr(response, "gpuId", -1))
    value, field, counted = 0.0, 0, True
    if condition == DBE:
        value = response.val.dbe.numerrors
    elif condition == PCI:
        value = response.val.pci.counter
    elif condition == PAGES:
        value = response.val.mpr.sbepages + response.val.mpr.dbepages
    elif condition == NVLINK:
        value, field = response.val.nvlink.counter, int(response.val.nvlink.fieldId)
    else:
        counted = False
        said = {THERMAL: ("thermal", "thermalViolation"), POWER: ("power", "powerViolation"), XID: ("xid", "errnum")}
        if condition in said:
            part, name = said[condition]
            value = getattr(getattr(response.val, part), name)
    return Told(condition, float(value), now, gpu, field, counted)
