"""Questions to the driver library, each with its mark, and what a refusal means.

Rules of this file:
- Return codes are told apart by number: pynvml words some of them in its own way, and has no words for others.
- "Cannot tell" (not supported, function or field not there) is None. Another refusal is None as well and is noted under the
  name of the part that it concerns; a GPU that is lost or needs a reset ends the questions to it.
- A field has a return code of its own; old drivers refuse the fields that they do not know one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import byref
from typing import Any, NamedTuple

from hma.sources.probe import Worker

INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_FUNCTION = 13
CORRUPTED_INFOROM = 14
LOST = 15
RESET_REQUIRED = 16
CANNOT_TELL = frozenset({NOT_SUPPORTED, NO_FUNCTION, 21, 22, 25, 26})
"""Besides the above: no data, no ECC on a vGPU, another version of the structure, deprecated."""
GONE = frozenset({LOST, RESET_REQUIRED})
NO_TEXT = -1
"""No code of NVML: what it returned is not text."""

_SIGNED, _SIGNED_INT, _DOUBLE = 4, 5, 0


class Refused(Exception):
    """The library did not answer; `code` is its return code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Library:
    """The library as one worker thread calls it."""

    def __init__(self, nvml: Any, worker: Worker) -> None:
        self.nvml = nvml
        self.worker = worker

    def ask(self, name: str, *args: Any) -> Any:
        """Return what the function `name` of pynvml returns; raises Refused."""
        return self._call(None, name, args)

    def wait_for(self, allowed_s: float, name: str, *args: Any) -> Any:
        """Like `ask`, for a function that may take `allowed_s` seconds."""
        return self._call(allowed_s, name, args)

    def _call(self, allowed_s: float | None, name: str, args: tuple[Any, ...]) -> Any:
        call = getattr(self.nvml, name, None)
        if call is None:
            raise Refused(NO_FUNCTION, f"{name}: not in this pynvml")
        try:
            return self.worker.ask(call, *args) if allowed_s is None else self.worker.wait_for(allowed_s, call, *args)
        except self.nvml.NVMLError as err:
            raise Refused(int(err.value), f"{name}: {err} ({err.value})") from None
        except UnicodeDecodeError:
            raise Refused(NO_TEXT, f"{name}: what it returned is not text") from None


class Field(NamedTuple):
    """A field to ask for: its number, the link it is about, and the part of `hma.gpu.Gpu` that it belongs to."""

    number: int
    scope: int
    part: str


class Memory:
    """What is known of one GPU from earlier readings: what does not change, and what it does not support."""

    __slots__ = ("lasting", "old_link_counters", "unsupported")

    def __init__(self) -> None:
        self.lasting: dict[str, Any] = {}
        self.unsupported: set[Field] = set()
        self.old_link_counters = True

    def doubt(self) -> None:
        """Ask again for what was not supported: a GPU that was reset may have another mode now."""
        self.lasting = {name: value for name, value in self.lasting.items() if value is not None}
        self.unsupported.clear()
        self.old_link_counters = True


class Questions:
    """Questions to one GPU in one reading: `errors` gathers refusals, `memory` outlives the reading."""

    def __init__(self, library: Library, handle: Any, memory: Memory) -> None:
        self.library = library
        self.handle = handle
        self.memory = memory
        self.errors: dict[str, str] = {}

    def about(self, part: str, name: str, *args: Any) -> Any:
        """Return what `name` says of this GPU, None where it says nothing; raises Refused where the GPU is gone."""
        try:
            return self.library.ask(name, self.handle, *args)
        except Refused as err:
            self.refused(part, err)
            return None

    def once(self, part: str, name: str, *args: Any) -> Any:
        """Like `about`, for what does not change: asked until it has been answered once."""
        key = f"{name}{args}" if args else name
        lasting = self.memory.lasting
        if key in lasting:
            return lasting[key]
        try:
            lasting[key] = self.library.ask(name, self.handle, *args)
        except Refused as err:
            if err.code not in CANNOT_TELL:
                self.refused(part, err)
                return None
            lasting[key] = None
        return lasting[key]

    def first(self, part: str, *names: str) -> Any:
        """Return what the first of these functions that this driver has says."""
        for name in names:
            try:
                return self.library.ask(name, self.handle)
            except Refused as err:
                if err.code != NO_FUNCTION:
                    self.refused(part, err)
                    return None
        return None

    def filled(self, part: str, name: str, structure: str) -> Any:
        """Return the structure (a class of pynvml) as the function `name` filled it; None where there is none of it."""
        made = getattr(self.library.nvml, structure, None)
        if made is None:
            return None
        value = made()
        return value if self.about(part, name, byref(value)) is not None else None

    def fields(self, wanted: Sequence[Field]) -> Mapping[Field, int]:
        """Return the values of those fields that this GPU has, asked for in one call."""
        asked = [field for field in wanted if field not in self.memory.unsupported]
        if not asked:
            return {}
        try:
            answers = self.library.ask("nvmlDeviceGetFieldValues", self.handle, [(f.number, f.scope) for f in asked])
        except Refused as err:
            for part in {field.part for field in asked}:
                self.refused(part, err)
            return {}
        return {
            field: value for field, got in zip(asked, answers, strict=True) if (value := self._field(field, got)) is not None
        }

    def refused(self, part: str, err: Refused) -> None:
        """Note a refusal that concerns `part`; raise it again where the GPU is gone."""
        if err.code in GONE:
            raise err
        if err.code not in CANNOT_TELL:
            self.errors.setdefault(part, str(err))

    def _field(self, field: Field, got: Any) -> int | None:
        code = int(got.nvmlReturn)
        if code == 0:
            return field_value(got)
        if code in CANNOT_TELL or code == INVALID_ARGUMENT:
            self.memory.unsupported.add(field)
        else:
            self.refused(field.part, Refused(code, f"field {field.number}: NVML error {code}"))
        return None


def field_value(got: Any) -> int:
    """Return the number of a field, from the member of the union that its type names."""
    kind, value = int(got.valueType), got.value
    if kind == _SIGNED:
        return int(value.sllVal)
    if kind == _SIGNED_INT:
        return int(value.siVal)
    if kind == _DOUBLE:
        return int(value.dVal)
    narrow = {1: "uiVal", 6: "usVal"}.get(kind, "ullVal")
    return int(getattr(value, narrow))


def pci_address(bus_id: str) -> str:
    """Return `0000:9b:00` for `00000000:9B:00.0`."""
    domain, _, rest = bus_id.lower().rpartition(".")[0].partition(":")
    return f"{int(domain, 16):04x}:{rest}"
