r"""Records of the kernel log in the format of /dev/kmsg, `6,339,5140900,-;NVRM: loading ...`: cut and parsed.

Rules of this file:
- Format: Documentation/ABI/testing/dev-kmsg of the kernel. Level and facility in one number, sequence, microseconds, flags,
  perhaps fields that are yet to be invented, a semicolon, the text. Lines that begin with a blank belong to the record before.
- Text is printable ASCII, always. The kernel writes every other byte, and the backslash, as `\xNN`; the same is done to bytes
  that come raw through a pipe or a file. Nothing is decoded back: one record stays one line, so no process name that a tenant
  chose can begin a line, and what is shown to people is what `cat /dev/kmsg` shows.
"""

from __future__ import annotations

import re

MAX_RECORD = 8192
"""The kernel's CONSOLE_EXT_LOG_MAX; a read with less room fails with EINVAL and skips the record."""
MAX_TEXT = MAX_RECORD
MAX_LINE = 4 * MAX_RECORD
"""Raw bytes grow fourfold when they are escaped. Of a longer line the beginning is taken, the rest is dropped."""

HEAD = re.compile(rb"(\d{1,4}),(\d{1,18}),(\d{1,18})(?:,[^;\n]{0,256})?;")
"""Priority, sequence, microseconds. 18 digits: a sequence must fit the journal's signed 64 bits."""

_PLAIN = bytes(range(32, 127)) + b"\n"
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127) if code != ord("\n")}


def continues(line: bytes) -> bool:
    """Return whether a line without a head belongs to the record before (a dictionary line) or is empty."""
    return not line or line.startswith(b" ")


def escaped(raw: bytes) -> bytes:
    r"""Return `raw` with every byte but printable ASCII and the newline written as `\xNN`."""
    if not raw.translate(None, _PLAIN):
        return raw
    return raw.decode("ascii", "backslashreplace").translate(_CONTROL).encode("ascii")


def shown(text: bytes) -> str:
    r"""Return the text of a record as printable ASCII on one line."""
    return escaped(text[:MAX_TEXT]).decode("ascii").replace("\n", "\\x0a")


class Splitter:
    """Cuts a stream of bytes into lines, and keeps what is not yet complete."""

    def __init__(self) -> None:
        self._tail = b""
        self._skipping = False

    def feed(self, block: bytes) -> list[bytes]:
        """Return the lines completed by `block`, without their newlines, escaped."""
        lines = escaped(block).split(b"\n")
        lines[0] = self._tail + lines[0]
        self._tail = lines.pop()
        if self._skipping and lines:
            del lines[0]
            self._skipping = False
        if self._skipping:
            self._tail = b""
        elif len(self._tail) > MAX_LINE:
            lines.append(self._tail)
            self._tail = b""
            self._skipping = True
        return lines

    def rest(self) -> list[bytes]:
        """Return what was left without a newline: at the end of a stream it is a record like any other."""
        tail, self._tail, self._skipping = self._tail, b"", False
        return [tail] if tail else []
