"""A stand-in for the driver library: a compiled `libnvidia-ml.so.1` that answers, fails and hangs as a text file says.

`hma demo`, the tests and the benchmarks let the real nvidia-ml-py load it. Its C source lies beside this file.

Rules of this file:
- Which values there are and what they are is all in the state file: `key = value` a line, `#` comments. The library reads it
  again at the next call after it was replaced. What it does not tell is "not supported", as on a GPU that has no such thing.
- The library finds it by HMA_NVML_STAND_IN, and the pipe or file of events by HMA_NVML_STAND_IN_EVENTS.
- The folder of the state file is watched: keep files that change all the time out of it.

Keys (numbers decimal or 0x…; `*` for a GPU or a link means every one, the nearer key wins):
- `init`, `code`: what nvmlInit, and every call after it, returns (9 driver not loaded, 18 mismatch, 4 permission, …);
  `driver`, `nvml`: versions; `gpus`: how many; `count_code`: what asking for that returns.
- `gpu.3.code`: what every call on GPU 3 returns (15 lost, 16 reset required, …); `gpu.3.handle_code`: what asking for its
  handle returns; `gpu.3.absent = 1`: the driver does not know it, those after it move up.
- `gpu.3.VALUE`: one value; `gpu.3.VALUE.code`: what the call, or the field, that gives it returns (0: it answers though the
  GPU does not). `gpu.3.nvlink.5.VALUE`: one of a link. Values have the names that `nvml_values` and the C source use.
- `gpu.3.processes = 4711:1073741824 4712:-`: process ids with a compute context, and the bytes each uses (`-` = cannot tell).
- `fields_end`: the first field number that this driver does not know; `field.230.type`: another NVML_VALUE_TYPE for a field;
  `fabric_version`: the newest nvmlGpuFabricInfo structure it knows.
- `hang`: names of functions that do not come back while this line is there; `hang_gpu`: only when they ask this GPU. Only
  SIGKILL ends such a sleeper before, or the end of the state file (then the whole process ends). `hang_path`: instead they
  write to this file, once: on a frozen disk that is state D, which not even SIGKILL ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

SONAME = "libnvidia-ml.so.1"
STATE = "HMA_NVML_STAND_IN"
EVENTS = "HMA_NVML_STAND_IN_EVENTS"
XID = 0x8
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread")
_HERE = Path(__file__).parent

Value = str | int


class StandInError(Exception):
    """The stand-in cannot be had or told something; one line says why, and the mend where there is one."""


def build(folder: Path, *, missing: Iterable[str] = ()) -> Path:
    """Compile the library into `folder`, without the functions that are `missing`, and return its path."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise StandInError("no C compiler for the stand-in of libnvidia-ml.so.1: apt-get install gcc libc6-dev")
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / SONAME
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        exports, made = Path(scratch, "exports"), Path(scratch, SONAME)
        # An exact name comes before a pattern: these symbols are not there for who loads the library.
        exports.write_text(f"{{ global: nvml*; local: {' '.join(f'{name};' for name in missing)} *; }};\n")
        argv = [compiler, *FLAGS, f"-Wl,-soname,{SONAME}", f"-Wl,--version-script={exports}", "-o", str(made)]
        argv += sorted(map(str, _HERE.glob("nvml_stand_in*.c")))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StandInError(f"{compiler}: cannot compile the stand-in: {done.stderr.strip()[:500]}")
        made.replace(library)
    return library


class NvmlState:
    """The state file at `path`: what stands there already, changed key by key; each change replaces the file whole."""

    def __init__(self, path: Path, values: Mapping[str, Value] | None = None) -> None:
        self.path = path
        self._written = 0
        self._values = read_values(path) if values is None and path.exists() else {}
        if values is not None:
            self.replace(values)

    @property
    def values(self) -> Mapping[str, str]:
        """What the file says."""
        return dict(self._values)

    def set(self, key: str, value: Value) -> None:
        """Set one key."""
        self.update({key: value})

    def update(self, values: Mapping[str, Value]) -> None:
        """Set some keys at once."""
        self.replace({**self._values, **values})

    def drop(self, *keys: str) -> None:
        """Take some keys out; those that are not there do not matter."""
        self.replace({key: value for key, value in self._values.items() if key not in keys})

    def replace(self, values: Mapping[str, Value]) -> None:
        """Write a whole new state."""
        self._values = {key: _text(key, value) for key, value in values.items()}
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.write_text("".join(f"{key} = {value}\n" for key, value in self._values.items()))
        # Two files of one size, inode and tick of the clock would be one to the library.
        self._written = max(self._written + 1, time.time_ns())
        os.utime(fresh, ns=(self._written, self._written))
        fresh.replace(self.path)


def read_values(path: Path) -> dict[str, str]:
    """Return the keys and values of a state file."""
    lines = (line.partition("=") for line in path.read_text().splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {key.strip(): value.strip() for key, _, value in lines}


def tell_event(path: Path, gpu: int, kind: int, data: int, instance: tuple[int, int] | None = None) -> None:
    """Let an event happen on a GPU (in the MIG `instance`, GI and CI): `tell_event(pipe, 3, XID, 79)`.

    Raises StandInError when `path` is a named pipe that nobody listens to: the event would never have been.
    """
    text = " ".join(map(str, (gpu, kind, data, *(instance or ()))))
    try:
        with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK), "wb", buffering=0) as pipe:
            pipe.write(f"{text}\n".encode())
    except OSError as err:
        raise StandInError(f"{path}: nobody takes events here ({err.strerror})") from err


def environ(library: Path, state: Path, events: Path | None = None) -> dict[str, str]:
    """Return the variables by which a program finds the library instead of the real one, its state, and its events."""
    found = {"LD_LIBRARY_PATH": str(library.parent), STATE: str(state)}
    return found if events is None else {**found, EVENTS: str(events)}


def _text(key: str, value: Value) -> str:
    text = str(value)
    if not key or any(sign in key for sign in "=#\n ") or "\n" in text:
        raise StandInError(f"{key!r} = {text!r}: a key is one word, a value one line")
    return text
