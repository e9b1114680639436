"""The text of kernel files below the node's root.

Rules of this file:
- Only for procfs and sysfs, which answer from memory. Nothing here can wait for a pipe or a device: what is no regular file
  is not even opened (opening a watchdog or a tape does something).
- Patterns are relative to the root, and so are the names in the answer. `*`, `?` and `[...]` match within one part of a path;
  hidden names only where the pattern begins with a dot. A pattern that matches nothing is no error: the check decides.
- A file that goes away while it is read is absent; one that cannot be read is under `errors`, and so is one cut at `max_bytes`.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from hma.check import Files, SourceError, Tree

MOST_FILES = 5_000
_MAGIC = re.compile(r"[*?[]")
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESRCH)


def read_files(source: Files, root: Path) -> Tree:
    """Return what matches below `root`; raises SourceError where there is no such root, or a pattern is none."""
    try:
        base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as err:
        raise SourceError(f"{root}: {err.strerror}; `node.root` in the configuration names where the node's / is") from err
    files: dict[str, str] = {}
    errors: dict[str, str] = {}
    try:
        for path in _matches(source.globs, base, errors):
            _read(base, path, source.max_bytes, files, errors)
            if len(files) > MOST_FILES:
                raise SourceError(f"{' '.join(source.globs)}: matches more than {MOST_FILES} files")
    finally:
        os.close(base)
    return Tree(files, errors)


def _matches(globs: tuple[str, ...], base: int, errors: dict[str, str]) -> Iterator[str]:
    """Yield every path that some pattern may match, each once."""
    known: set[str] = set()
    names = cache(partial(_names, base, errors))
    for pattern in globs:
        parts = tuple(pattern.split("/"))
        if not all(parts) or ".." in parts:
            raise SourceError(f"{pattern!r}: not a path below the node's root, such as sys/block/*/stat")
        for path in _expand("", parts, names):
            if path not in known:
                known.add(path)
                yield path


def _expand(above: str, parts: tuple[str, ...], names: Callable[[str], tuple[str, ...]]) -> Iterator[str]:
    for place, part in enumerate(parts):
        if not _MAGIC.search(part):
            above = f"{above}/{part}" if above else part
            continue
        matches = _matcher(part)
        for name in names(above or "."):
            if matches(name) and (part[0] == "." or name[0] != "."):
                yield from _expand(f"{above}/{name}" if above else name, parts[place + 1 :], names)
        return
    yield above


def _names(base: int, errors: dict[str, str], folder: str) -> tuple[str, ...]:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base)
    except OSError as err:
        _note(folder, err, errors)
        return ()
    try:
        return tuple(sorted(os.listdir(fd)))  # noqa: PTH208  (of a descriptor)
    except OSError as err:
        _note(folder, err, errors)
        return ()
    finally:
        os.close(fd)


@cache
def _matcher(part: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(part)).match


def _read(base: int, path: str, max_bytes: int, files: dict[str, str], errors: dict[str, str]) -> None:
    try:
        if not stat.S_ISREG(os.stat(path, dir_fd=base).st_mode):
            errors[path] = "not a regular file"
            return
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=base)
    except OSError as err:
        _note(path, err, errors)
        return
    try:
        raw = _content(fd, max_bytes + 1)
    except OSError as err:
        _note(path, err, errors)
        return
    finally:
        os.close(fd)
    if len(raw) > max_bytes:
        errors[path] = f"longer than {max_bytes} bytes: cut"
    files[path] = raw[:max_bytes].decode("utf-8", "backslashreplace")


def _content(fd: int, most: int) -> bytes:
    """Return what `fd` holds, up to `most` bytes; procfs hands out a page or a record at a time."""
    raw = os.read(fd, most)
    piece = raw
    while piece and len(raw) < most:
        piece = os.read(fd, most - len(raw))
        raw += piece
    return raw


def _note(path: str, err: OSError, errors: dict[str, str]) -> None:
    if err.errno not in _GONE:
        errors[path] = err.strerror or str(err)
