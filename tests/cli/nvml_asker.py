"""A child that asks the stand-in through the real nvidia-ml-py: one Python expression a line, one answer a line."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from hma.cli.nvml_stand_in import NvmlState, environ
from tests.agent_run import PATIENCE_S

PROGRAM = r"""
import json, sys, time
import pynvml as N
from ctypes import byref, c_uint, c_ulonglong

def gpu(index):
    return N.nvmlDeviceGetHandleByIndex(index)

def field(index, *fields):
    members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
    values = N.nvmlDeviceGetFieldValues(gpu(index), list(fields))
    return [v.nvmlReturn and f"code {v.nvmlReturn}" or getattr(v.value, members[v.valueType]) for v in values]

def members(struct):
    told = {name: getattr(struct, name) for name, *_ in struct._fields_ if name not in ("version", "pciDeviceId")}
    return {name: list(value) if hasattr(value, "_length_") else value for name, value in told.items()}

def filled(function, struct, index=0):
    function(gpu(index), byref(struct))
    return members(struct)

def symbol(name, *arguments):
    code = N._nvmlGetFunctionPointer(name)(*arguments)
    if code:
        raise N.NVMLError(code)

def listen(*registered):
    global events
    events = N.nvmlEventSetCreate()
    for index, types in registered:
        N.nvmlDeviceRegisterEvents(gpu(index), types, events)

def wait(timeout_ms=20_000):
    told = N.nvmlEventSetWait(events, timeout_ms)
    return [N.nvmlDeviceGetIndex(told.device), told.eventType, told.eventData, told.gpuInstanceId, told.computeInstanceId]

for line in sys.stdin:
    try:
        answer = ["is", eval(line)]
    except N.NVMLError as err:
        answer = ["code", err.value]
    print(json.dumps(answer, default=lambda value: value.decode()), flush=True)
"""


class Asker:
    """The child. `ask` returns the value of an expression; an NVML error is `code N`."""

    def __init__(self, library: Path, state: NvmlState, events: Path | None = None) -> None:
        variables = {**os.environ, **environ(library, state.path, events)}
        argv = [sys.executable, "-c", PROGRAM]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, expression: str) -> None:
        """Send an expression."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Return the next answer; one that does not come fails the test."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE_S + 10)[0], "no answer"
        kind, value = json.loads(self.process.stdout.readline())
        return value if kind == "is" else f"code {value}"

    def ask(self, expression: str) -> Any:
        """Return the value of an expression."""
        self.say(expression)
        return self.answer()
