"""The stand-in for the program dcgmi: `python -m hma.cli.dcgm_stand_in.dcgmi VERSION ARGUMENT…`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hma.cli.dcgm_stand_in import engine
from hma.cli.dcgm_stand_in.engine import NOT_CONNECTED, Violation

GENERIC = -3
_SYSTEMS = {
    0x1: ("PCIe", "PCIe system"),
    0x2: ("NVLINK", "NVLINK system"),
    0x10: ("Memory", "Memory system"),
    0x20: ("SM", "SM system"),
    0x40: ("InfoROM", "InfoROM system"),
    0x80: ("Thermal", "Thermal system"),
    0x100: ("Power", "Power system"),
    0x200: ("Driver", "Driver"),
    0x400: ("NvSwitch NF", "Internal error"),
    0x800: ("NvSwitch F", "Internal error"),
}
_EVERY = 0x1 | 0x2 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800
_HEALTH = {0: "Healthy", 10: "Warning", 20: "Failure"}
_GROUPS = {1: "GPU", 3: "NvSwitch"}
_CONDITIONS = {
    0x1: "Double-bit ECC errors",
    0x2: "PCI errors and replays",
    0x4: "Max retired pages threshold - {pages}",
    0x8: "Max temperature threshold - {temperature}",
    0x10: "Max power threshold - 250",
    0x20: "NVLink Errors",
    0x40: "XID error detected.",
}
_VIOLATED = {
    0x1: "A double-bit ECC error has violated policy manager values.\nDBE error count: 2",
    0x2: "A PCIe replay event has violated policy manager values.\nPCIe replay count: {0.value}",
    0x4: "The maximum number of retired pages has violated policy manager values.\nSBE page retirement count: 0\n"
    "DBE page retirement count: {0.value}",
    0x8: "The maximum thermal limit has violated policy manager values.\nTemperature: {0.value}",
    0x10: "The maximum power limit has violated policy manager values.\nPower: {0.value}",
    0x20: "NVLink Counter {0.field} has violated policy manager values.\nNVLink Counter value: {0.value}",
    0x40: "XID error {0.value} detected.",
}
_RULE = f"+{'-' * 8}+{'-' * 70}+"


def main(version: str, arguments: Sequence[str]) -> int:
    """Print what dcgmi prints; return its exit code."""
    if list(arguments) == ["--version"]:
        print(f"\ndcgmi  version: {version}\n")
        return 0
    word, host, address, *rest = arguments
    if host != "--host":
        return _refused(arguments)
    while word in engine.state().get("hang", ()):
        time.sleep(engine.LOOK_S)
    known = engine.state().get("prints", {})
    if word in known:
        print(known[word])
        return int(engine.state().get("exits", {}).get(word, 0))
    if engine.state().get("connect", 0):
        print(f"Error: unable to establish a connection to the specified host: {address}")
        print("Error: Unable to connect to host engine. Host engine connection invalid/disconnected.")
        return NOT_CONNECTED & 0xFF
    return _answer(version, [word, *rest])


def _answer(version: str, arguments: list[str]) -> int:
    group = ["-g", "0"]
    if arguments == ["discovery", "-l"]:
        print("\n".join(_discovery()))
    elif arguments == ["health", *group, "-f", "-j"]:
        print("Health monitor systems report")
        print(_json({name: {"value": _on(bit)} for bit, (name, _) in _SYSTEMS.items()}))
    elif arguments == ["health", *group, "-s", "a"]:
        engine.change(systems=_EVERY)
        print("Health monitor systems set successfully.")
    elif arguments == ["health", *group, "-c", "-j"]:
        return _health(version)
    elif arguments == ["policy", *group, "--get", "-v", "-j"]:
        _policies()
    elif arguments[:5] == ["policy", *group, "--set", "0,0"] and arguments[9:] == ["-e", "-p", "-n", "-x"]:
        named = dict(zip(arguments[5:9:2], arguments[6:9:2], strict=True))
        engine.change(policy={"condition": 0x6F, "pages": int(named["-M"]), "temperature": int(named["-T"])})
        print("Policy successfully set.")
    elif arguments == ["policy", *group, "--reg"]:
        return _register()
    else:
        return _refused(arguments)
    return 0


def _refused(arguments: Sequence[str]) -> int:
    print(f"stand-in for dcgmi: it does not know {' '.join(arguments)}", file=sys.stderr)
    return 2


def _json(body: Mapping[str, Any], *header: str) -> str:
    return json.dumps({"body": body} | ({"header": list(header)} if header else {}), indent=3)


def _on(bit: int) -> str:
    return "On" if engine.current()["systems"] & bit else "Off"


def _discovery() -> Iterator[str]:
    gpus = engine.state().get("gpus", ())
    yield f"{len(gpus)} GPU{'' if len(gpus) == 1 else 's'} found."
    yield from (_RULE, f"| GPU ID | {'Device Information':<68} |", _RULE)
    for gpu in gpus:
        yield f"| {gpu['id']:<6} | {'Name: NVIDIA H100 80GB HBM3':<68} |"
        yield f"|        | {'PCI Bus ID: ' + gpu['pci']:<68} |"
        yield f"|        | {'Device UUID: ' + gpu['uuid']:<68} |"
        yield _RULE
    yield from ("0 NvSwitches found.", "+-----------+", "| Switch ID |", "+-----------+", "+-----------+")


def _health(version: str) -> int:
    if not engine.current()["systems"]:
        print("Error: Health watches not enabled. Please enable watches. ")
        return GENERIC & 0xFF
    incidents: Sequence[Mapping[str, Any]] = engine.state().get("incidents", ())
    body: dict[str, Any] = {"Overall Health": {"value": _HEALTH[max((one["health"] for one in incidents), default=0)]}}
    for one in incidents:
        group = body.setdefault(_GROUPS[one["group"]], {"children": {}})
        # Up to 3.1 the key is the health, not the number of the GPU, and a single incident of a GPU is not told.
        old = version < "3.2"
        entity = group["children"].setdefault(str(one["health"] if old else one["entity"]), {"children": {"Errors": {}}})
        entity["value"] = _HEALTH[one["health"]]
        if old:
            entity["children"]["Errors"] = None
            continue
        errors = entity["children"]["Errors"].setdefault("children", {})
        entry = errors.setdefault(_SYSTEMS[one["system"]][1], {"overflow": []})
        entry["value"] = _HEALTH[one["health"]]
        entry["overflow"] += [one["msg"][begin : begin + 54] for begin in range(0, len(one["msg"]), 54)]
    print(_json(body, "Health Monitor Report"))
    return 0


def _policies() -> None:
    policy = {"pages": 10, "temperature": 100} | dict(engine.current()["policy"])
    words = [text.format(**policy) for bit, text in _CONDITIONS.items() if policy["condition"] & bit] or ["None"]
    print("Policy information")
    for gpu in engine.state().get("gpus", ()):
        entry = {"value": words[0]} | ({"overflow": words[1:]} if words[1:] else {})
        body = {"Action on violation": {"value": "None"}, "Violation conditions": entry}
        print(_json(body, "Policy Information", f"GPU ID: {gpu['id']}"))


def _register() -> int:
    print("Listening for violations.")
    for violation in engine.Violations(int(engine.state().get("boot", 0))):
        if violation.condition & int(engine.current()["policy"]["condition"]):
            _tell(violation)
    return 0


def _tell(violation: Violation) -> None:
    print("Timestamp: Tue Nov 25 07:24:18 2025")
    print(_VIOLATED[violation.condition].format(violation), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
