"""The host engine of the stand-in, as its clients see it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hma.cli.dcgm_stand_in import STATE

NOT_CONNECTED = -21
LOOK_S = 0.02


class Violation(NamedTuple):
    """A line of the file of violations."""

    condition: int
    gpu: int
    value: int
    field: int


def path() -> Path:
    """Return the file of the host engine."""
    return Path(os.environ[STATE])


def state() -> Mapping[str, Any]:
    """Return its keys."""
    found: Mapping[str, Any] = json.loads(path().read_text(encoding="utf-8"))
    return found


def answer(name: str, boot: int | None = None) -> int:
    """Return what a call returns (a dcgmReturn_t), or do not return at all; `boot` is that of the connection."""
    while name in state().get("hang", ()):
        time.sleep(LOOK_S)
    if boot is not None and (boot != state().get("boot", 0) or state().get("connect", 0)):
        return NOT_CONNECTED
    return int(state().get("codes", {}).get(name, 0))


def current() -> dict[str, Any]:
    """Return what is set in the host engine since its start: `systems`, `policy` (by what clients and `state` have set)."""
    now = state()
    fresh = {"boot": now.get("boot", 0), "systems": now.get("systems", 0), "policy": now.get("policy", {"condition": 0})}
    try:
        found: dict[str, Any] = json.loads(Path(f"{path()}.set").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return fresh
    return found if found["boot"] == fresh["boot"] else fresh


def change(**keys: Any) -> None:
    """Set something in the host engine."""
    with Path(f"{path()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = current() | keys
        beside = Path(f"{path()}.set.new")
        beside.write_text(json.dumps(found), encoding="utf-8")
        beside.replace(f"{path()}.set")


class Violations:
    """The violations from now on, as long as the host engine is not restarted."""

    def __init__(self, boot: int) -> None:
        self._boot = boot
        source = Path(f"{path()}.violations")
        source.touch()
        self._begin = source.stat().st_size
        change(registered=True)

    def __iter__(self) -> Iterator[Violation]:
        with Path(f"{path()}.violations").open(encoding="utf-8") as file:
            file.seek(self._begin)
            while answer("violations", self._boot) == 0:
                line = file.readline()
                if line:
                    yield Violation(*(int(word) for word in line.split()))
                else:
                    time.sleep(LOOK_S)
