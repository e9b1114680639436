"""The stand-in for dcgm_agent: the functions that the probe calls, with the signatures of DCGM 3 and 4."""

# Names of functions and parameters are those of the bindings, used or not.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, addressof, c_int, c_uint64, c_void_p, cast
from typing import Any, NamedTuple

from hma.cli.dcgm_stand_in import engine, structs
from hma.cli.dcgm_stand_in.engine import Violation


class Handle(NamedTuple):
    """A connection, to the host engine as it was started then."""

    boot: int


def names(version: str) -> Mapping[str, Any]:
    """Return what the module dcgm_agent of a version holds."""
    agent = _Agent(version)
    wanted = (
        *("dcgmInit", "dcgmConnect_v2", "dcgmDisconnect", "dcgmGetAllSupportedDevices", "dcgmGetDeviceAttributes"),
        *("dcgmVersionInfo", "dcgmHealthGet", "dcgmHealthSet", "dcgmHealthCheck", "dcgmPolicyGet", "dcgmPolicySet"),
        *(("dcgmPolicyRegister", "dcgmGroupCreate", "dcgmGroupAddDevice") if version < "4" else ("dcgmPolicyRegister_v2",)),
        *(() if version < "4.5" else ("dcgmConnect_v3",)),
    )
    return {name: getattr(agent, name) for name in wanted}


def _checked(code: int) -> int:
    if code:
        raise structs.DCGMError(code)
    return code


class _Agent:
    def __init__(self, version: str) -> None:
        self._version = version
        self._groups: dict[int, list[int]] = {}

    def dcgmInit(self) -> int:
        return _checked(engine.answer("dcgmInit"))

    def dcgmConnect_v2(self, ip_address: str, connectParams: structs.ConnectV2) -> Handle:
        assert connectParams.version
        assert connectParams.timeoutMs
        assert connectParams.addressIsUnixSocket == ip_address.startswith("/")
        return self._connected("dcgmConnect_v2")

    def dcgmConnect_v3(self, connection_string: str, connectParams: structs.ConnectV3) -> Handle:
        assert connectParams.version
        assert connectParams.timeoutMs
        assert connection_string.startswith(("tcp://", "unix:///"))
        return self._connected("dcgmConnect_v3")

    def _connected(self, name: str) -> Handle:
        _checked(engine.answer(name))
        _checked(int(engine.state().get("connect", 0)))
        return Handle(int(engine.state().get("boot", 0)))

    def dcgmDisconnect(self, dcgm_handle: Handle) -> int:
        return _checked(engine.answer("dcgmDisconnect", dcgm_handle.boot))

    def dcgmVersionInfo(self) -> structs.VersionInfo:
        _checked(engine.answer("dcgmVersionInfo"))
        said = f"version:{self._version};arch:x86_64;buildtype:Release;commit:0;branch:rel_dcgm".encode()
        return structs.VersionInfo(version=2, rawBuildInfoString=said)

    def dcgmGetAllSupportedDevices(self, dcgm_handle: Handle) -> list[int]:
        _checked(engine.answer("dcgmGetAllSupportedDevices", dcgm_handle.boot))
        return [int(gpu["id"]) for gpu in engine.state().get("gpus", ())]

    def dcgmGetDeviceAttributes(self, dcgm_handle: Handle, gpuId: int) -> structs.Attributes:
        _checked(engine.answer("dcgmGetDeviceAttributes", dcgm_handle.boot))
        found = [gpu for gpu in engine.state().get("gpus", ()) if gpu["id"] == gpuId]
        _checked(0 if found else -1)
        identifiers = structs.Identifiers(pciBusId=found[0]["pci"].encode(), uuid=found[0]["uuid"].encode())
        return structs.Attributes(identifiers=identifiers)

    # -- health --------------------------------------------------------------------------------------------------------

    def dcgmHealthGet(self, dcgm_handle: Handle, groupId: int) -> int:
        _checked(engine.answer("dcgmHealthGet", dcgm_handle.boot))
        systems = int(engine.current()["systems"])
        return systems - (1 << 32) if systems >> 31 else systems  # it is a c_int32

    def dcgmHealthSet(self, dcgm_handle: Handle, groupId: int, systems: int) -> int:
        _checked(engine.answer("dcgmHealthSet", dcgm_handle.boot))
        engine.change(systems=systems)
        return 0

    def dcgmHealthCheck(self, dcgm_handle: Handle, groupId: int) -> structs.HealthV4 | structs.HealthV5:
        _checked(engine.answer("dcgmHealthCheck", dcgm_handle.boot))
        _checked(0 if engine.current()["systems"] else -14)
        response = structs.HealthV4() if self._version < "4" else structs.HealthV5()
        for n, one in enumerate(engine.state().get("incidents", ())):
            response.incidents[n] = structs.Incident(
                system=one["system"],
                health=one["health"],
                error=structs.ErrorDetail(msg=one["msg"].encode(), code=one["code"]),
                entityInfo=structs.EntityPair(entityGroupId=one["group"], entityId=one["entity"]),
            )
            response.incidentCount = n + 1
            response.overallHealth = max(response.overallHealth, one["health"])
        return response

    # -- policy --------------------------------------------------------------------------------------------------------

    def dcgmPolicyGet(self, dcgm_handle: Handle, group_id: int, count: int, status_handle: None) -> list[structs.Policy]:
        _checked(engine.answer("dcgmPolicyGet", dcgm_handle.boot))
        _checked(0 if count else -1)
        return [structs.Policy(condition=engine.current()["policy"]["condition"]) for _ in range(count)]

    def dcgmPolicySet(self, dcgm_handle: Handle, group_id: int, policy: structs.Policy, status_handle: None) -> int:
        assert policy.version
        _checked(engine.answer("dcgmPolicySet", dcgm_handle.boot))
        told = {"condition": policy.condition, "action": policy.action, "validation": policy.validation}
        limits = {"pages": policy.parms[2].val.llval, "temperature": policy.parms[3].val.llval}
        engine.change(policy=told | limits)
        return 0

    def dcgmGroupCreate(self, dcgm_handle: Handle, type: int, groupName: str) -> int:  # noqa: A002  (its name)
        _checked(engine.answer("dcgmGroupCreate", dcgm_handle.boot))
        number = len(self._groups) + 2
        self._groups[number] = []
        return number

    def dcgmGroupAddDevice(self, dcgm_handle: Handle, group_id: int, gpu_id: int) -> int:
        _checked(engine.answer("dcgmGroupAddDevice", dcgm_handle.boot))
        self._groups[group_id].append(gpu_id)
        return 0

    def dcgmPolicyRegister(
        self, dcgm_handle: Handle, groupId: int, condition: int, beginCallback: Any, finishCallback: Any
    ) -> int:
        _checked(engine.answer("dcgmPolicyRegister", dcgm_handle.boot))
        gpus = self._groups[groupId]
        addresses = [_address(callback) for callback in (beginCallback, finishCallback) if callback is not None]

        def call(violation: Violation) -> None:
            if violation.gpu not in gpus:
                return
            response = structs.CallbackV1(version=1, condition=violation.condition)
            _fill(response.val, violation)
            for address in addresses:
                CFUNCTYPE(c_int, c_void_p)(address)(addressof(response))

        return _listen(dcgm_handle, condition, call)

    def dcgmPolicyRegister_v2(self, dcgm_handle: Handle, groupId: int, condition: int, callback: Any, userData: None) -> int:
        _checked(engine.answer("dcgmPolicyRegister_v2", dcgm_handle.boot))
        address = _address(callback)

        def call(violation: Violation) -> None:
            response = structs.CallbackV2(version=2, condition=violation.condition, gpuId=violation.gpu)
            _fill(response.val, violation)
            CFUNCTYPE(c_int, c_void_p, c_uint64)(address)(addressof(response), 0)

        return _listen(dcgm_handle, condition, call)


def _listen(handle: Handle, condition: int, call: Callable[[Violation], None]) -> int:
    """Call back from a thread, as libdcgm does, what is both registered and set."""
    violations = engine.Violations(handle.boot)

    def told() -> None:
        for violation in violations:
            if violation.condition & condition & int(engine.current()["policy"]["condition"]):
                call(violation)

    threading.Thread(target=told, daemon=True).start()
    return 0


def _address(callback: Any) -> int:
    """Return all that libdcgm gets to know of a callback: it does not keep it alive."""
    return int(cast(callback, c_void_p).value or 0)


def _fill(val: structs.Violated, violation: Violation) -> None:
    value = violation.value
    if violation.condition == 0x1:
        val.dbe.location, val.dbe.numerrors = 2, value
    elif violation.condition == 0x2:
        val.pci.counter = value
    elif violation.condition == 0x4:
        val.mpr.sbepages, val.mpr.dbepages = value - 1, 1
    elif violation.condition == 0x8:
        val.thermal.thermalViolation = value
    elif violation.condition == 0x10:
        val.power.powerViolation = value
    elif violation.condition == 0x20:
        val.nvlink.fieldId, val.nvlink.counter = violation.field, value
    else:
        val.xid.errnum = value
