"""Parse one value of a configuration file by the type its field has.

Rules of this file:
- A parser takes a node of the tree and returns the value, or raises Unfit with what is wrong and the mend.
- Units stand in the value, not in the key: `hold_s` is written `hold: 60s`, `max_bytes` is written `max_size: 256MiB`.
- Only `true` and `false` are booleans; `1:30`, `010`, `1_000`, `.5` and `nan` are no numbers.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hma.yamlread import NOWHERE, Fields, Node, Place, Problems, Scalar, Sequence, choice, nearest, quote

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
D = TypeVar("D", bound="DataclassInstance")
Parser = Callable[[Node], T]

CODE = re.compile(r"[A-Z][A-Z0-9]*(-[A-Z0-9_]+)*")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,30})?) ?(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?(B|KiB|MiB|GiB|TiB)")
_INT = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_UNIT_S = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3_600), "d": Decimal(86_400)}
_UNIT_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
MAX_DURATION_S = 3_650 * 86_400.0


class Fault(NamedTuple):
    """One thing wrong inside a value; `at` is the part of it (`[2]`)."""

    place: Place
    at: str
    text: str
    mend: str


class Unfit(Exception):
    """A value that its field cannot take."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults

    @classmethod
    def because(cls, node: Node, text: str, mend: str) -> Unfit:
        """Return the refusal of `node` as a whole."""
        return cls(Fault(node.place, "", text, mend))


# -- scalars ----------------------------------------------------------------------------------------------------------


def text_of(node: Node, what: str, mend: str) -> str:
    """Return the text of a scalar that should be `what`."""
    if isinstance(node, Scalar) and not node.null:
        return node.text.strip()
    if isinstance(node, Scalar):
        raise Unfit.because(node, "has no value", f"{mend}, or remove the key")
    raise Unfit.because(node, f"is a {'list' if isinstance(node, Sequence) else 'mapping'}, not {what}", mend)


def duration(node: Node) -> float:
    """Return seconds."""
    what, mend = "a duration", "write a number and a unit (ms, s, m, h, d), as in 30s"
    text = text_of(node, what, mend)
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Unfit.because(node, f"{quote(text)} is not {what}", mend)
    seconds = float(Decimal(match[1]) * _UNIT_S[match[2]])
    if seconds > MAX_DURATION_S:
        raise Unfit.because(node, f"{quote(text)} is longer than ten years", "write a shorter time")
    return seconds


def size(node: Node) -> int:
    """Return bytes."""
    what, mend = "a size", "write a number and a unit (B, KiB, MiB, GiB, TiB), as in 256MiB"
    text = text_of(node, what, mend)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Unfit.because(node, f"{quote(text)} is not {what}", mend)
    return int(Decimal(match[1]) * _UNIT_BYTES[match[2]])


def boolean(node: Node) -> bool:
    """Return the truth of `true` or `false`; no other word (YAML 1.1 has eight) is taken."""
    what, mend = "a yes-or-no value", "write true or false"
    text = text_of(node, what, mend)
    if text not in ("true", "false"):
        raise Unfit.because(node, f"{quote(text)} is not {what}", mend)
    return text == "true"


def integer(node: Node) -> int:
    """Return a decimal whole number."""
    what, mend = "a whole number", "write decimal digits without leading zeros, as in 8"
    text = text_of(node, what, mend)
    if not _INT.fullmatch(text):
        raise Unfit.because(node, f"{quote(text)} is not {what}", mend)
    return int(text)


def number(node: Node) -> float:
    """Return a decimal number."""
    what, mend = "a number", "write a decimal number, as in 0.9"
    text = text_of(node, what, mend)
    if not _FLOAT.fullmatch(text) or not math.isfinite(float(text)):
        raise Unfit.because(node, f"{quote(text)} is not {what}", mend)
    return float(text)


def word(node: Node) -> str:
    """Return a text of one line; an empty one must be written as "" (two quotes)."""
    text = text_of(node, "a text", 'write a text, or "" for none')
    if not text.isprintable():
        raise Unfit.because(node, f"{quote(text)} has a line break or a control character", "write it on one line")
    return text


def prose(node: Node) -> str:
    """Return sentences, folded onto one line."""
    return " ".join(word_or_lines(node).split())


def word_or_lines(node: Node) -> str:
    """Return a text that may hold line breaks, but no other control character."""
    text = text_of(node, "a text", "write a text")
    if not text.replace("\n", "").isprintable():
        raise Unfit.because(node, f"{quote(text)} has a control character", "remove it")
    return text


def path(node: Node) -> Path:
    """Return an absolute path."""
    what, mend = "an absolute path", "write a path that begins with /"
    text = text_of(node, what, mend)
    if not text.startswith("/") or not text.isprintable() or len(text) > 4_000:
        raise Unfit.because(node, f"{quote(text)} is not {what}", mend)
    return Path(text)


def code(node: Node) -> str:
    """Return the name of a code (`XID-79`)."""
    what, mend = "a code", "write words in capitals joined by -, as in XID-79"
    text = text_of(node, what, mend)
    if not CODE.fullmatch(text):
        raise Unfit.because(node, f"{quote(text)} is not {what}", mend)
    return sys.intern(text)  # the same few hundred, named thousands of times


def matching(pattern: str, what: str, mend: str) -> Parser[str]:
    """Return a parser of texts that match `pattern` as a whole."""
    compiled = re.compile(pattern)

    def parse(node: Node) -> str:
        text = text_of(node, what, mend)
        if not compiled.fullmatch(text):
            raise Unfit.because(node, f"{quote(text)} is not {what}", mend)
        return text

    return parse


# -- parsers made of parsers ------------------------------------------------------------------------------------------


def one_of(words: Iterable[str]) -> Parser[str]:
    """Return a parser of one of the fixed `words`."""
    known = tuple(words)
    listed = ", ".join(known)

    def parse(node: Node) -> str:
        text = text_of(node, "a word", f"write one of {listed}")
        if text not in known:
            near = nearest(text, known)
            mend = f"did you mean {near}? ({listed})" if near else f"write one of {listed}"
            raise Unfit.because(node, f"{quote(text)} is not known here", mend)
        return text

    return parse


E_ = TypeVar("E_", bound=enum.Enum)


def member_of(kind: type[E_]) -> Parser[E_]:
    """Return a parser of the values of an enumeration."""
    words = one_of(str(member.value) for member in kind)
    return lambda node: next(member for member in kind if str(member.value) == words(node))


def many(item: Parser[T]) -> Parser[tuple[T, ...]]:
    """Return a parser of a list; one value alone is a list of one."""

    def parse(node: Node) -> tuple[T, ...]:
        if not isinstance(node, Sequence):
            return (item(node),)
        values: list[T] = []
        faults: list[Fault] = []
        for index, child in enumerate(node.items):
            try:
                values.append(item(child))
            except Unfit as err:
                faults += [fault._replace(at=f"[{index}]{fault.at}") for fault in err.faults]
        if faults:
            raise Unfit(*faults)
        return tuple(values)

    return parse


def unless_null(inner: Parser[T]) -> Parser[T | None]:
    """Return a parser that takes `null` as None."""
    return lambda node: None if isinstance(node, Scalar) and node.null else inner(node)


def between(inner: Parser[T], name: str, least: Any = None, most: Any = None) -> Parser[T]:
    """Return a parser that refuses values of the field `name` below `least` or above `most`."""

    def parse(node: Node) -> T:
        value = inner(node)
        compared: Any = least if value is None else value
        if least is not None and compared < least:
            raise Unfit.because(
                node, f"{quote(text_of(node, '', ''))} is too small", f"write {number_words(least, name)} or more"
            )
        if most is not None and value > most:
            raise Unfit.because(
                node, f"{quote(text_of(node, '', ''))} is too large", f"write {number_words(most, name)} or less"
            )
        return inner(node)

    return parse


def by_type(kind: Any, name: str) -> Parser[Any]:
    """Return the parser for a field of type `kind`; the unit in its `name` (`_s`, `_bytes`) chooses among numbers."""
    if kind is float:
        return duration if name.endswith("_s") else number
    if kind is int:
        return size if name.endswith("_bytes") else integer
    plain: dict[Any, Parser[Any]] = {bool: boolean, str: word, Path: path}
    if kind in plain:
        return plain[kind]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return one_of(args)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return many(by_type(args[0], name))
    if origin in (typing.Union, types.UnionType) and len(args) == 2 and args[1] is type(None):
        return unless_null(by_type(args[0], name))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return member_of(kind)
    raise TypeError(f"{name}: an option cannot have the type {kind}")


# -- numbers as people write them -------------------------------------------------------------------------------------


def number_words(value: float, name: str) -> str:
    """Return a number as people write it in the field `name`, whose unit (`_s`, `_bytes`) decides."""
    if name.endswith("_s"):
        return duration_words(value)
    if name.endswith("_bytes"):
        return size_words(int(value))
    return repr(value)


def duration_words(seconds: float) -> str:
    """Return a duration as people write it, in the largest unit that needs no fraction (`90s`, `5m`, `7d`)."""
    exact = Decimal(repr(seconds))
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if exact and exact % length == 0:
            return f"{int(exact) // length}{unit}"
    in_ms = exact * 1000
    if not exact or in_ms % 1:
        return f"{exact.normalize():f}s"
    return f"{int(in_ms)}ms"


def size_words(count: int) -> str:
    """Return a size as people write it, in the largest binary unit that needs no fraction."""
    for unit, length in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count and count % length == 0:
            return f"{count // length}{unit}"
    return f"{count}B"


# -- mappings ---------------------------------------------------------------------------------------------------------


def key_of(name: str) -> str:
    """Return the key that people write for the field `name`: the unit stands in the value."""
    if name.endswith("_bytes"):
        return f"{name.removesuffix('_bytes')}_size"
    return name.removesuffix("_s")


class Section:
    """One mapping while it is read: every key is asked for once, and `done` reports those nobody asked for."""

    def __init__(self, node: Node | None, key: str, problems: Problems) -> None:
        if node is not None and not isinstance(node, Fields) and not (isinstance(node, Scalar) and node.null):
            problems.add(node.place, key, "must be a mapping", "write `key: value` lines below it")
        self.node = node if isinstance(node, Fields) else Fields({}, node.place if node else NOWHERE)
        self.key = key
        self.problems = problems
        self._asked: set[str] = set()

    def child(self, key: str) -> Section:
        """Return the mapping under `key`, empty where there is none."""
        self._asked.add(key)
        return Section(self.node.entries.get(key), self.path(key), self.problems)

    def read(self, key: str, parse: Parser[T], default: T) -> T:
        """Return the value of `key`, or `default` where it is absent or wrong (and reported)."""
        self._asked.add(key)
        node = self.node.entries.get(key)
        return default if node is None else self.parse(node, key, parse, default)

    def parse(self, node: Node, key: str, parse: Parser[T], default: T) -> T:
        """Return the value of `node`, or `default` where it is wrong (and reported under `key`)."""
        try:
            return parse(node)
        except Unfit as err:
            for fault in err.faults:
                self.problems.add(fault.place, f"{self.path(key)}{fault.at}", fault.text, fault.mend)
        return default

    def refuse(self, key: str, text: str, mend: str) -> None:
        """Report something wrong about the value of `key`."""
        self.problems.add(self.node.place_of(key), self.path(key) if key else self.key, text, mend)

    def done(self, also: Collection[str] = ()) -> None:
        """Report the keys that nobody asked for; `also` = keys asked for elsewhere."""
        known = {*self._asked, *also}
        for key in self.node.entries:
            if key not in known:
                self.refuse(key, "is not a known key", choice(key, known, self.problems, f"known: {listing(known)}"))

    def path(self, key: str) -> str:
        """Return the dotted name of `key` in the file."""
        return f"{self.key}.{key}" if self.key else key


def listing(words: Collection[str]) -> str:
    """Return `words` in order for a message, cut where there are many."""
    known = sorted(words)
    return ", ".join(known[:20]) + (" ..." if len(known) > 20 else "")


def read_fields(base: D, section: Section, skip: Collection[str] = ()) -> D:
    """Return the dataclass value `base` with the fields that `section` gives.

    `field(metadata={"least": 1.0, "most": 100.0})` bounds a number. Raises TypeError for a type that no parser reads.
    """
    hints = typing.get_type_hints(type(base))
    given: dict[str, Any] = {}
    for spec in dataclasses.fields(base):
        if spec.name not in skip:
            parse = _bounded(by_type(hints[spec.name], spec.name), spec.name, spec.metadata)
            given[spec.name] = section.read(key_of(spec.name), parse, getattr(base, spec.name))
    try:
        return dataclasses.replace(base, **given)
    except Exception as err:  # noqa: BLE001  (`__post_init__` of another package's check: it may raise anything)
        section.refuse("", f"cannot be used: {err}", "mend the values below it")
        return base


def _bounded(parse: Parser[Any], name: str, bounds: Mapping[str, Any]) -> Parser[Any]:
    least, most = bounds.get("least"), bounds.get("most")
    return parse if least is None and most is None else between(parse, name, least, most)
