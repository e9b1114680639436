"""The small second copy of what is true now, beside the database, and the moving aside of files that cannot be trusted.

Rules of this file:
- The copy is one JSON object `{"crc32": "…", "state": {…}}`, replaced atomically: what is read is whole or refused.
- Nothing is deleted that could be evidence: a damaged file is renamed to `<name>.corrupt-<UTC>`, the newest three are kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hma.codec import CodecError, decode, encode
from hma.journal_records import Cursor
from hma.model import Counter, Fault, FaultKey, Past, Verdict

COPY_NAME = "journal.snapshot.json"
KEPT_CORRUPT = 3
MAX_HISTORY = 500
_HEAD, _CRC_END, _TAIL = '{"crc32": "', '", "state": ', "}\n"


@dataclass(frozen=True, slots=True)
class Copy:
    """What the copy holds; `generation` grows with each change of it, so that the newer of database and copy is known."""

    generation: int
    utc: float
    identity: str = ""
    verdict: Verdict | None = None
    faults: tuple[Fault, ...] = ()
    history: tuple[Past, ...] = ()
    history_cut: bool = False
    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    counters: Mapping[FaultKey, Counter] = field(default_factory=dict)


class CopyError(Exception):
    """The copy is there and cannot be trusted."""


def write_copy(directory: Path, copy: Copy) -> None:
    """Replace the copy in `directory`, durably; raise `OSError`."""
    body = json.dumps(encode(copy), separators=(",", ":"))
    temporary = directory / f"{COPY_NAME}.new"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(f"{_HEAD}{zlib.crc32(body.encode()):08x}{_CRC_END}{body}{_TAIL}")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(directory / COPY_NAME)
    sync_directory(directory)


def read_copy(directory: Path) -> Copy | None:
    """Return the copy, None if there is none; raise `CopyError` if it is damaged, `OSError` if it cannot be read."""
    path = directory / COPY_NAME
    if path.exists() and not path.is_file():  # reading a pipe would never end
        raise CopyError("no regular file")
    try:
        text = path.read_bytes().decode("ascii")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise CopyError("not text") from None
    start = len(_HEAD) + 8 + len(_CRC_END)
    body = text[start : -len(_TAIL)]
    if text != f"{_HEAD}{zlib.crc32(body.encode()):08x}{_CRC_END}{body}{_TAIL}":
        raise CopyError("its checksum does not match")
    try:
        return decode(Copy, json.loads(body))
    except (CodecError, ValueError, RecursionError) as err:
        raise CopyError(str(err)) from None


def move_aside(path: Path, utc: float) -> Path:
    """Rename `path` to `<name>.corrupt-<UTC>`, drop the oldest beyond three, and return the new path."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(utc))
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    n = 1
    while target.exists():
        n += 1
        target = path.with_name(f"{path.name}.corrupt-{stamp}.{n}")
    path.rename(target)
    older = sorted(path.parent.glob(f"{path.name}.corrupt-*"), key=lambda p: p.name)
    for old in [p for p in older if p != target][: -(KEPT_CORRUPT - 1)]:
        with contextlib.suppress(OSError):
            old.unlink()
    return target


def sync_directory(directory: Path) -> None:
    """Make renames in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
