"""The stand-in for dcgm_structs: constants, errors and the structures that the probe uses, in the layouts of DCGM 3 and 4."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import (
    Structure,
    Union,
    c_bool,
    c_char,
    c_double,
    c_int,
    c_int64,
    c_longlong,
    c_uint,
    c_uint32,
    c_ushort,
    c_void_p,
    sizeof,
)
from typing import Any, ClassVar

from hma.cli.dcgm_stand_in import engine

WORDS = {
    -1: "Bad parameter passed to function",
    -3: "Generic unspecified error",
    -6: "Feature not supported",
    -11: "Timeout",
    -12: "API version mismatch",
    -14: "No data is available",
    -21: "The connection to the host engine is not valid any longer",
    -25: "DCGM library could not be found",
    -56: "NVML couldn't be loaded on this system",
}


class DCGMError(Exception):
    """What the bindings raise; `value` is the dcgmReturn_t."""

    def __init__(self, value: int) -> None:
        super().__init__(WORDS.get(value, f"DCGM Error with code {value}"))
        self.value = value


class _Text(Structure):
    """Gives texts as str, as the structures of the real bindings do."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return value.decode("utf-8") if isinstance(value, bytes) else value


class ConnectV2(_Text):
    """c_dcgmConnectV2Params_v2."""

    _fields_: ClassVar = [
        ("version", c_uint),
        ("persistAfterDisconnect", c_uint),
        ("timeoutMs", c_uint),
        ("addressIsUnixSocket", c_uint),
    ]


class ConnectV3(_Text):
    """c_dcgmConnectV3Params_v1."""

    _fields_: ClassVar = [("version", c_uint), ("persistAfterDisconnect", c_uint), ("timeoutMs", c_uint)]


class Identifiers(_Text):
    """c_dcgmDeviceIdentifiers_v1, as far as it is used."""

    _fields_: ClassVar = [("version", c_uint), ("pciBusId", c_char * 256), ("uuid", c_char * 256)]


class Attributes(_Text):
    """c_dcgmDeviceAttributes_v2 and _v3, as far as they are used."""

    _fields_: ClassVar = [("version", c_uint), ("identifiers", Identifiers)]


class VersionInfo(_Text):
    """c_dcgmVersionInfo_v2."""

    _fields_: ClassVar = [("version", c_uint32), ("rawBuildInfoString", c_char * 512)]


class EntityPair(_Text):
    """c_dcgmGroupEntityPair_t."""

    _fields_: ClassVar = [("entityGroupId", c_uint32), ("entityId", c_uint32)]


class ErrorDetail(_Text):
    """c_dcgmDiagErrorDetail_t."""

    _fields_: ClassVar = [("msg", c_char * 1024), ("code", c_uint)]


class Incident(_Text):
    """c_dcgmIncidentInfo_t."""

    _fields_: ClassVar = [("system", c_uint), ("health", c_uint32), ("error", ErrorDetail), ("entityInfo", EntityPair)]


class HealthV4(_Text):
    """c_dcgmHealthResponse_v4: DCGM 2 and 3."""

    _fields_: ClassVar = [
        ("version", c_uint32),
        ("overallHealth", c_uint32),
        ("incidentCount", c_uint32),
        ("incidents", Incident * 64),
    ]


class HealthV5(_Text):
    """c_dcgmHealthResponse_v5: DCGM 4."""

    _fields_: ClassVar = [
        ("version", c_uint32),
        ("overallHealth", c_uint32),
        ("incidentCount", c_uint32),
        ("incidents", Incident * 1024),
    ]


class ParmValue(Union):
    """c_dcgmPolicyConditionParmTypes_t."""

    _fields_: ClassVar = [("boolean", c_bool), ("llval", c_longlong)]


class Parm(_Text):
    """c_dcgmPolicyConditionParms_t."""

    _fields_: ClassVar = [("tag", c_uint), ("val", ParmValue)]


class Policy(_Text):
    """c_dcgmPolicy_v1."""

    _fields_: ClassVar = [
        *((name, c_uint) for name in ("version", "condition", "mode", "isolation", "action", "validation", "response")),
        ("parms", Parm * 7),
    ]


class _Pci(_Text):
    _fields_: ClassVar = [("timestamp", c_longlong), ("counter", c_uint)]


class _Dbe(_Text):
    _fields_: ClassVar = [("timestamp", c_longlong), ("location", c_int), ("numerrors", c_uint)]


class _Pages(_Text):
    _fields_: ClassVar = [("timestamp", c_longlong), ("sbepages", c_uint), ("dbepages", c_uint)]


class _Thermal(_Text):
    _fields_: ClassVar = [("timestamp", c_longlong), ("thermalViolation", c_uint)]


class _Power(_Text):
    _fields_: ClassVar = [("timestamp", c_longlong), ("powerViolation", c_uint)]


class _Nvlink(_Text):
    _fields_: ClassVar = [("timestamp", c_longlong), ("fieldId", c_ushort), ("counter", c_uint)]


class _Xid(_Text):
    _fields_: ClassVar = [("timestamp", c_longlong), ("errnum", c_uint)]


class Violated(Union):
    """The union in the responses to a policy callback."""

    _fields_: ClassVar = [
        ("dbe", _Dbe),
        ("pci", _Pci),
        ("mpr", _Pages),
        ("thermal", _Thermal),
        ("power", _Power),
        ("nvlink", _Nvlink),
        ("xid", _Xid),
    ]


class CallbackV1(_Text):
    """c_dcgmPolicyCallbackResponse_v1: before DCGM 4."""

    _fields_: ClassVar = [("version", c_uint), ("condition", c_int), ("val", Violated)]


class CallbackV2(_Text):
    """c_dcgmPolicyCallbackResponse_v2: DCGM 4."""

    _fields_: ClassVar = [("version", c_uint), ("condition", c_int), ("val", Violated), ("gpuId", c_uint)]


class HealthSet(_Text):
    """c_dcgmHealthSetParams_v2."""

    _fields_: ClassVar = [
        ("version", c_uint32),
        ("groupId", c_void_p),
        ("systems", c_uint32),
        ("updateInterval", c_int64),
        ("maxKeepAge", c_double),
    ]


def names(version: str) -> Mapping[str, Any]:
    """Return what the module dcgm_structs of a version holds."""
    common = {
        "DCGMError": DCGMError,
        "DCGM_GROUP_ALL_GPUS": 0x7FFFFFFF,
        "DCGM_GROUP_EMPTY": 1,
        "DCGM_HEALTH_WATCH_ALL": 0xFFFFFFFF,
        "c_dcgmConnectV2Params_v2": ConnectV2,
        "c_dcgmConnectV2Params_version": _versioned(ConnectV2, 2),
        "c_dcgmHealthSetParams_v2": HealthSet,
        "c_dcgmPolicy_v1": Policy,
        "dcgmPolicy_version1": _versioned(Policy, 1),
        "_dcgmInit": _init,
    }
    if version < "4":
        return common | {"c_dcgmHealthResponse_v4": HealthV4, "c_dcgmPolicyCallbackResponse_v1": CallbackV1}
    fourth = {"c_dcgmHealthResponse_v5": HealthV5, "c_dcgmPolicyCallbackResponse_v2": CallbackV2}
    if version < "4.5":
        return common | fourth
    third = {"c_dcgmConnectV3Params_v1": ConnectV3, "c_dcgmConnectV3Params_version": _versioned(ConnectV3, 1)}
    return common | fourth | third


def _versioned(kind: type[Structure], version: int) -> int:
    return sizeof(kind) | version << 24


def _init(folder: str | None = None) -> None:
    if not engine.state().get("library", True):
        raise DCGMError(-25)
