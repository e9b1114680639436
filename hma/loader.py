"""Finds the checks: ours by walking `checks.passive`, those of other packages by the entry-point group `hma.checks`.

Rules of this file:
- Whatever is wrong with a check costs that check and one line (`broken`), never the agent or another check.
- Nothing of a check is trusted until `_unfit` has looked at it: the runner and the configuration rely on what it lets through.
- Entry points are read by hand, because `importlib.metadata` imports `email` to read what else a package says of itself:
  3 MiB that would stay in the agent's process. Folders are looked through, eggs (zip files) are not.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple, get_args

import checks.passive
from hma.check import AnyCheck, Check, KernelLog, Source
from hma.guard_time import Overrun, arm, limited

GROUP = "hma.checks"
IMPORT_LIMIT_S = 2.0
_MAX_BYTES = 65_536
_YEAR_S = 366 * 86_400.0
_TARGET = re.compile(r"(?P<module>[\w.]+)\s*(?::\s*(?P<attribute>[\w.]+)\s*)?(?:\[.*\]\s*)?")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MEND = "mend or remove that package"

Broken = Callable[[str], None]


class BrokenCheck(Exception):
    """A check cannot be used; the text is for a person."""


class Entry(NamedTuple):
    """One line of a package's entry points: which package says that the check `name` is found at `target`."""

    package: str
    name: str
    target: str


def find_checks(broken: Broken | None = None) -> tuple[AnyCheck, ...]:
    """Return every usable check, by name; `broken` is told of each other one in one line.

    Without `broken` the first such line is raised as BrokenCheck: nobody would hear of it.
    """
    tell = broken or _raise
    found: dict[str, tuple[AnyCheck, str]] = {}
    for candidate, origin in (*_ours(tell), *_others(tell)):
        reason = _unfit(candidate)
        if not reason and candidate.name in found:
            reason = f"the name {candidate.name} is taken by {found[candidate.name][1]}"
        if reason:
            tell(f"{origin}: {reason}; {_MEND}")
            continue
        found[candidate.name] = (candidate, origin)
    return tuple(check for _, (check, _) in sorted(found.items()))


def _raise(text: str) -> None:
    raise BrokenCheck(text)


# -- ours -------------------------------------------------------------------------------------------------------------


def _ours(tell: Broken) -> Iterator[tuple[Any, str]]:
    for info in pkgutil.iter_modules(checks.passive.__path__, "checks.passive."):
        if info.name.rpartition(".")[2].startswith("_"):
            continue
        origin = f"hma: check {info.name}"
        # One torn file of ours leaves the node with the other checks instead of with none.
        for module in _tried(partial(importlib.import_module, info.name), origin, tell):
            candidates = getattr(module, "CHECKS", None) or (getattr(module, "CHECK", None),)
            yield from ((candidate, origin) for candidate in candidates)


# -- other packages' --------------------------------------------------------------------------------------------------


def _others(tell: Broken) -> Iterator[tuple[Any, str]]:
    for entry in find_entries(sys.path):
        origin = f"{entry.package}: check {entry.name} ({entry.target})"
        for loaded in _tried(partial(_load, entry.target), origin, tell):
            yield loaded, origin


def find_entries(paths: Iterable[str]) -> Iterator[Entry]:
    """Return the entries of our group below `paths` (as in sys.path), the first of several packages of one name only."""
    seen: set[str] = set()
    for place in paths:
        try:
            folders = sorted(item for item in Path(place or ".").iterdir() if item.suffix in (".dist-info", ".egg-info"))
        except OSError:
            continue
        for folder in folders:
            package = re.sub(r"[-_.]+", "-", folder.stem.partition("-")[0]).lower()
            if package not in seen:
                seen.add(package)
                yield from _entries_of(package, folder / "entry_points.txt")


def _entries_of(package: str, path: Path) -> Iterator[Entry]:
    """Return the entries of one package; one that cannot be read has none, as most packages have."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == GROUP and line and line[0] not in "#;":
            name, _, target = line.partition("=")
            yield Entry(package, name.strip(), target.strip())


def _load(target: str) -> object:
    place = _TARGET.fullmatch(target)
    if place is None:
        raise ValueError("is not written as module:NAME")
    module = importlib.import_module(place["module"])
    return reduce(getattr, (place["attribute"] or "").split(".") if place["attribute"] else (), module)


def _tried(load: Callable[[], object], origin: str, tell: Broken) -> tuple[object, ...]:
    """Return what `load` returned, alone in a tuple, or nothing once the reason is told."""
    try:
        arm()
        return (limited(IMPORT_LIMIT_S, load),)
    except Overrun:
        reason = f"not done within {IMPORT_LIMIT_S:g} s"
    except KeyboardInterrupt:
        raise
    except BaseException as err:  # noqa: BLE001 (what an import of somebody else's raises is anything)
        reason = " ".join(f"{type(err).__name__}: {err}".split())[:300].rstrip(":")
    tell(f"{origin}: cannot be imported: {reason}; {_MEND}")
    return ()


# -- is it one? -------------------------------------------------------------------------------------------------------


def _unfit(candidate: object) -> str:
    """Return what keeps `candidate` from being run as a check, "" for nothing."""
    if not isinstance(candidate, Check):
        return f"is no hma.check.Check but {type(candidate).__name__}"
    check: Any = candidate  # its fields may hold anything: a dataclass does not look
    if not isinstance(check.name, str) or not _NAME.fullmatch(check.name):
        return f"its name {str(check.name)[:60]!r} is not lower-case letters, digits and _"
    if reason := _unfit_source(check.source):
        return reason
    if not isinstance(check.codes, frozenset) or not check.codes or not all(isinstance(code, str) for code in check.codes):
        return "its codes are not a frozenset of at least one text"
    if not (callable(check.observe) and callable(check.applies)):
        return "its observe or applies cannot be called"
    if not all(isinstance(span, int | float) and 0 < span <= _YEAR_S for span in (check.interval_s, check.timeout_s)):
        return "its interval_s or timeout_s is not a number of seconds above 0"
    if not dataclasses.is_dataclass(check.options) or isinstance(check.options, type):
        return "its options are not an instance of a dataclass"
    return ""


def _unfit_source(source: Any) -> str:
    if not isinstance(source, get_args(Source)):
        return f"its source is none that the agent reads but {type(source).__name__}"
    if isinstance(source, KernelLog):
        try:
            return "" if isinstance(re.compile(source.pattern).pattern, bytes) else "the pattern of its source is not bytes"
        except (TypeError, re.error, RecursionError, OverflowError) as err:
            return f"the pattern of its source cannot be used: {err}"
    words = getattr(source, "argv", getattr(source, "globs", ("",)))
    if not isinstance(words, tuple) or not words or not all(isinstance(word, str) for word in words):
        return "its source is not described by a tuple of texts"
    return ""
