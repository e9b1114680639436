"""Read YAML that people write: a small tree of text with the place of every value, and problems that name the mend.

Rules of this file:
- Scalars stay text; the field that asks for a value parses it. So YAML 1.1 has no say: `on`, `010` and `1:30` are text.
- The tree is built from parser events, not with `compose`: depth, number and alias expansion are limited while reading,
  and no tag is ever resolved.
- What a person did wrong is a `Problem`, one line each, and all of them are collected before anything is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MAX_BYTES = 1 << 20
MAX_DEPTH = 24
MAX_NODES = 100_000
"""Values in one file, those that aliases repeat included."""
MAX_PROBLEMS = 100

NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Place(NamedTuple):
    """Where something stands; line and column count from 1, 0 = not in a file's text."""

    file: str
    line: int = 0
    column: int = 0


NOWHERE = Place("")


class Problem(NamedTuple):
    """One thing a person has to mend."""

    file: str
    line: int
    key: str
    text: str
    mend: str = ""

    def __str__(self) -> str:
        """Return the one line that people read."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        line = ": ".join(part for part in (where, self.key, self.text) if part)
        return printable(f"{line}; {self.mend}" if self.mend else line)


class Problems:
    """All problems found so far; past MAX_PROBLEMS they are only counted."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._more = 0

    def add(self, place: Place, key: str, text: str, mend: str = "") -> None:
        """Take down one problem."""
        if self.full:
            self._more += 1
            return
        problem = Problem(place.file, place.line, key, text, mend)
        # An alias is read once for every place that uses it.
        if problem not in self._found:
            self._found.append(problem)

    @property
    def full(self) -> bool:
        """Return whether further problems are only counted (and not worth a suggestion)."""
        return len(self._found) >= MAX_PROBLEMS

    def raise_if_any(self) -> None:
        """Raise ConfigError if anything was found."""
        if self._found:
            raise ConfigError(tuple(self), self._more)

    def __iter__(self) -> Iterator[Problem]:
        return iter(sorted(self._found, key=lambda p: (p.file, p.line)))

    def __len__(self) -> int:
        return len(self._found)


class ConfigError(Exception):
    """What people wrote cannot be used; `str` is one line per problem, ready to print."""

    def __init__(self, problems: tuple[Problem, ...], more: int = 0) -> None:
        super().__init__(problems, more)
        self.problems = problems
        self.more = more

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        if self.more:
            lines.append(f"... and {self.more} more of these; mend the first ones and try again")
        return "\n".join(lines)


# -- the tree ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text; `null` for an unquoted nothing, `~` or `null`. Two scalars are equal wherever they stand."""

    text: str
    null: bool = False
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of values."""

    items: tuple[Node, ...]
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Fields:
    """Keys and values, in file order; `places` tells where each key stands."""

    entries: Mapping[str, Node]
    place: Place = field(default=NOWHERE, compare=False)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False)

    def place_of(self, key: str) -> Place:
        """Return where `key` stands, or the mapping itself when it is not there."""
        return self.places.get(key, self.place)


Node = Scalar | Sequence | Fields


def read_yaml(path: Path, problems: Problems) -> Node | None:
    """Return the tree of the file at `path`, as far as it can be read; None for an empty file.

    Raises FileNotFoundError, so that the caller can tell a file that is absent from one that is wrong.
    """
    try:
        data = _read(path)
    except OSError as err:
        if isinstance(err, FileNotFoundError):
            raise
        problems.add(Place(str(path)), "", *_cannot_read(err))
        return None
    if len(data) > MAX_BYTES:
        problems.add(Place(str(path)), "", f"is larger than {MAX_BYTES >> 20} MiB", "name the right file")
        return None
    return parse_yaml(data, str(path), problems)


def parse_yaml(data: bytes, file: str, problems: Problems) -> Node | None:
    """Return the tree of `data`, as far as it can be read; None when it is empty."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        problems.add(Place(file, line), "", "is not UTF-8 text", "name a YAML file, saved as UTF-8")
        return None
    import yaml  # 20 ms and 2 MiB: paid only where there is a file to read

    try:
        return _Builder(text, file, problems).build()
    except _Refused as err:
        problems.add(err.place, err.key, err.text, err.mend)
    except yaml.MarkedYAMLError as err:
        problems.add(*_in_plain_words(err, text, file))
    except yaml.YAMLError:
        # yaml.reader.ReaderError: a character that YAML forbids; it has an offset, counted differently by each reader.
        problems.add(_forbidden(text, file), "", "has a control character, which YAML forbids", "name a YAML text file")
    return None


def _read(path: Path) -> bytes:
    # O_NONBLOCK: a FIFO named by mistake must not hang the start.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        if not stat.S_ISREG(mode):
            raise _NotAFileError
        return file.read(MAX_BYTES + 1)


class _NotAFileError(OSError):
    """A device, a pipe or a socket."""


def _cannot_read(err: OSError) -> tuple[str, str]:
    if isinstance(err, IsADirectoryError):
        return "is a directory", "name the YAML file in it"
    if isinstance(err, _NotAFileError):
        return "is not a regular file", "name a YAML file"
    if isinstance(err, PermissionError):
        return "cannot be read: permission denied", f"make it readable for the user that runs hma (uid {os.geteuid()})"
    return f"cannot be read: {err.strerror or err}", "mend the path or the disk"


def _in_plain_words(err: Any, text: str, file: str) -> tuple[Place, str, str, str]:
    context, problem = str(err.context or ""), str(err.problem)
    # What was left open is found missing at the end of the file; its beginning is what people look for.
    opened = "flow" in context or "quoted scalar" in context
    mark = (err.context_mark if opened else err.problem_mark) or err.problem_mark or err.context_mark
    last = max(1, len(text.splitlines()))
    place = Place(file, min(mark.line + 1, last), mark.column + 1) if mark else Place(file)
    line = text.split("\n")[place.line - 1 : place.line]
    words, mend = (f"{context}, {problem}" if context else problem), "look at this line and at the one above"
    if "flow node" in context:
        words = "a value is missing: a bracket is not closed, or a comma stands where a value must"
        mend = "close the bracket, or remove the comma"
    elif "flow" in context:
        words, mend = "a bracket opened here is not closed, or a comma is missing in it", "close the bracket"
    elif "quoted scalar" in context:
        words, mend = "a quote opened here is not closed", "close the quote"
    elif "mapping values are not allowed" in problem:
        words, mend = "a second `: ` in one value, or a wrong indentation", "put the value in quotes, or indent it rightly"
    elif "start any token" in problem and "\t" in "".join(line):
        words, mend = "a tab where blanks must be", "indent with blanks"
    return place, "", f"is not YAML: {words}", mend


def _forbidden(text: str, file: str) -> Place:
    for index, char in enumerate(text):
        if not char.isprintable() and char not in "\n\r\t\x85\ufeff\u2028\u2029" and ord(char) < 0xA0:
            return Place(file, text.count("\n", 0, index) + 1)
    return Place(file)


# -- from events to the tree ------------------------------------------------------------------------------------------


class _Refused(Exception):
    """Well-formed YAML that we do not read."""

    def __init__(self, place: Place, key: str, text: str, mend: str) -> None:
        super().__init__(text)
        self.place, self.key, self.text, self.mend = place, key, text, mend


class _Builder:
    """Turns the events of one file into a tree; the recursion is bounded by MAX_DEPTH."""

    def __init__(self, text: str, file: str, problems: Problems) -> None:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        self._next = loader.get_event
        self._yaml: Any = yaml
        self._file = file
        self._problems = problems
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._nodes = 0
        self._keys: list[str] = []

    def build(self) -> Node | None:
        """Return the tree of the only document."""
        end = self._yaml.StreamEndEvent
        self._next()
        if isinstance(self._next(), end):
            return None
        root = self._node(self._next(), 0)
        self._next()
        after = self._next()
        if not isinstance(after, end):
            self._problem(self._place(after), "starts a second document", "keep one document in a file, remove the `---`")
        return None if isinstance(root, Scalar) and root.null else root

    def _node(self, event: Any, depth: int) -> Node:
        place = self._place(event)
        kind = type(event)
        if kind is self._yaml.AliasEvent:
            return self._alias(event, place)
        if event.tag is not None:
            self._problem(place, f"has the tag {quote(event.tag)}", "remove the tag; values are plain text here")
        before = self._nodes
        self._count(1, place)
        if kind is self._yaml.ScalarEvent:
            null = event.implicit[0] and event.value in NULLS
            node: Node = Scalar("" if null else event.value, null, place)
        elif depth >= MAX_DEPTH:
            raise self._refused(place, f"is nested deeper than {MAX_DEPTH} levels", "mend the brackets or the indentation")
        elif kind is self._yaml.SequenceStartEvent:
            node = self._sequence(place, depth)
        else:
            node = self._fields(place, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._nodes - before)
        return node

    def _alias(self, event: Any, place: Place) -> Node:
        if event.anchor not in self._anchors:
            raise self._refused(place, f"uses *{event.anchor}, which is not set before", f"set it with &{event.anchor} above")
        node, size = self._anchors[event.anchor]
        self._count(size, place)
        return node

    def _sequence(self, place: Place, depth: int) -> Sequence:
        end, items = self._yaml.SequenceEndEvent, []
        event = self._next()
        while type(event) is not end:
            items.append(self._node(event, depth + 1))
            event = self._next()
        return Sequence(tuple(items), place)

    def _fields(self, place: Place, depth: int) -> Fields:
        end = self._yaml.MappingEndEvent
        entries: dict[str, Node] = {}
        places: dict[str, Place] = {}
        event = self._next()
        while type(event) is not end:
            at = self._place(event)
            key = self._key(self._node(event, depth + 1), at)
            self._keys.append(key)
            if key in entries:
                self._problem(at, f"is written twice (first in line {places[key].line})", "keep one of them")
            node = self._node(self._next(), depth + 1)
            entries.setdefault(key, node)
            places.setdefault(key, at)
            self._keys.pop()
            event = self._next()
        return Fields(entries, place, places)

    def _key(self, key: Node, place: Place) -> str:
        if not isinstance(key, Scalar) or key.null:
            raise self._refused(place, "has a key that is not a word", "write `key: value`")
        if key.text == "<<":
            raise self._refused(place, "uses the merge key <<", "write the keys out")
        return key.text

    def _count(self, size: int, place: Place) -> None:
        self._nodes += size
        if self._nodes > MAX_NODES:
            raise self._refused(place, f"holds more than {MAX_NODES} values, aliases included", "name the right file")

    def _problem(self, place: Place, text: str, mend: str) -> None:
        self._problems.add(place, ".".join(self._keys), text, mend)

    def _refused(self, place: Place, text: str, mend: str) -> _Refused:
        return _Refused(place, ".".join(self._keys), text, mend)

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1)


# -- words ------------------------------------------------------------------------------------------------------------


def quote(text: str, limit: int = 60) -> str:
    """Return `text` in quotes on one line, shortened when long."""
    return f'"{printable(text if len(text) <= limit else text[: limit - 3] + "...")}"'


def printable(text: str) -> str:
    """Return `text` with every character that could break a line or a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, known: Collection[str]) -> str:
    """Return the word of `known` that `word` was probably meant to be, or ""."""
    import difflib

    if len(word) > 64:
        return ""
    folded = {name.lower(): name for name in sorted(known)}
    found = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else ""


def choice(word: str, known: Collection[str], problems: Problems, otherwise: str) -> str:
    """Return the mend for an unknown `word`: the near name when there is one, else `otherwise`."""
    near = "" if problems.full else nearest(word, known)
    return f"did you mean {near}?" if near else otherwise
