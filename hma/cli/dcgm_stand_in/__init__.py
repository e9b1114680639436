"""A stand-in for DCGM: Python bindings and a `dcgmi` of versions 3 and 4, on a host engine that is a JSON file.

`hma demo` and the tests let the real probe load and run them.

Rules of this package:
- Names, signatures, structures and printed layouts are those of NVIDIA/DCGM (testing/python3 and dcgmi, 3.1, 3.3 and 4.0 to
  4.6); the code is ours, the values are made up. They know the calls that the probe makes, and refuse any other.
- The file is found by HMA_DCGM_STAND_IN and read again at each call. What clients set stands in `FILE.set`, and is forgotten
  when the host engine is "restarted" (another `boot`); violations are lines of `FILE.violations`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

STATE = "HMA_DCGM_STAND_IN"
ROOT = Path(__file__).parents[3]
_MODULE = """# Written by hma (hma/cli/dcgm_stand_in).
from hma.cli.dcgm_stand_in import {module}

globals().update({module}.names({version!r}))
"""
_PROGRAM = """#!/bin/sh
# Written by hma (hma/cli/dcgm_stand_in).
PYTHONPATH={root} exec {python} -m hma.cli.dcgm_stand_in.dcgmi {version} "$@"
"""


class DcgmState:
    """The host engine: a file that is replaced whole. Keys that are not set are as in a healthy one.

    - `boot`: a number that is another one when it was restarted; `connect`: what connecting returns (-21 nothing listens, -12
      another version); `library`: false where libdcgm cannot be loaded.
    - `codes`: what a function, by its name in dcgm_agent, returns; `hang`: functions that do not come back. For dcgmi the name
      is its first word: `hang` as before, `prints` (what it prints instead) and `exits` (with what it ends then).
    - `gpus` (`{id, pci, uuid}`), `systems` (watches that are on), `policy` (`{condition}` that somebody has set) and
      `incidents` (`{system, health, code, msg, group, entity}`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str, Any] = {}

    def set(self, **keys: Any) -> None:
        """Change some keys; the others stay."""
        self._keys.update(keys)
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps(self._keys), encoding="utf-8")
        beside.replace(self.path)

    def violate(self, condition: int, gpu: int, value: int, field: int = 0) -> None:
        """Have a policy violated; told to those who have registered for it."""
        with Path(f"{self.path}.violations").open("a", encoding="utf-8") as file:
            file.write(f"{condition} {gpu} {value} {field}\n")

    def was_set(self) -> Mapping[str, Any]:
        """Return what clients have set since the start: `systems`, `policy`, and whether any has `registered`."""
        try:
            found: Mapping[str, Any] = json.loads(Path(f"{self.path}.set").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found


def gpus(addresses: Iterable[str]) -> list[Mapping[str, Any]]:
    """Return the key `gpus` for GPUs at these addresses (`0000:53:00`)."""
    return [
        {"id": n, "pci": f"0000{address.upper()}.0", "uuid": f"GPU-509665ad-b600-ac93-3616-d754b23d636{n:x}"}
        for n, address in enumerate(addresses)
    ]


def install(folder: Path, version: str) -> tuple[Path, Path]:
    """Write bindings and a dcgmi of `version` (`3.3.9`, `4.6.0`) below `folder`; return where both are."""
    bindings = folder / "bindings"
    bindings.mkdir(parents=True, exist_ok=True)
    for name, module in (("dcgm_structs", "structs"), ("dcgm_agent", "agent")):
        text = _MODULE.format(module=module, version=version)
        (bindings / f"{name}.py").write_text(text, encoding="utf-8")
    program = folder / "dcgmi"
    program.write_text(_PROGRAM.format(root=quote(str(ROOT)), python=quote(sys.executable), version=version), encoding="utf-8")
    program.chmod(0o755)
    return bindings, program
