"""Read the catalogue: the rows that ship with hma, and the operator's file laid over them key by key.

Rules of this file:
- A row is `CODE: {key: value, ...}`; a key is the name of a field of `Policy` without its unit (`hold_s` is `hold: 60s`).
- Both files go through the same parsers, and every problem of both is collected before anything is refused.
- A row that cannot be used as written falls back to what ships; a new one is left out. Nothing here ends in a traceback.
- An override that makes `action` milder takes the shipped `again` with it: who asks for less is not surprised by a replacement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hma.catalogue import Catalogue, Confirm, End, Grows, Inhibit, Policy, Times
from hma.fields import (
    CODE,
    Fault,
    Parser,
    Section,
    Unfit,
    between,
    boolean,
    code,
    duration,
    integer,
    many,
    matching,
    member_of,
    number,
    one_of,
    prose,
    text_of,
    unless_null,
    word,
)
from hma.model import Action
from hma.yamlread import Fields, Node, Place, Problems, Scalar, choice, parse_yaml, quote, read_yaml

SHIPPED = Path(__file__).with_name("catalogue.yaml")
PIECE = 32
"""Lines of our own file that are read at once."""
NEEDED = ("title", "component", "ends", "source", "about")
"""What every row must say for itself."""
_UNSET = Policy("", "", "", ends=())


class _Reference(NamedTuple):
    """A code named in a row, and where."""

    place: Place
    key: str
    code: str


def load_catalogue(
    override: Path | None = None,
    known: Collection[str] | None = None,
    problems: Problems | None = None,
    *,
    shipped: Path = SHIPPED,
) -> Catalogue:
    """Return the shipped rows with those of `override` laid over them.

    `known` are the codes that some check emits: a row of `override` for any other is a problem; None = not known, none is
    refused for that. With `problems`, what is wrong is added there and the shipped row stands in; without it, ConfigError is
    raised with all of it.
    """
    found = Problems() if problems is None else problems
    reading = _Reading(found)
    for piece in _pieces_of(shipped, found):
        reading.take(piece)
    if override is not None:
        ours = None if known is None else {*reading.rows, *known}
        missing = ("does not exist", "create it, or remove `catalogue` from the configuration")
        reading.take(_rows_of(override, *missing, found), ours)
    reading.follow_references({*reading.rows, *(known or ())})
    if problems is None:
        found.raise_if_any()
    return Catalogue.of(list(reading.rows.values()))


def _pieces_of(path: Path, problems: Problems) -> Iterator[Fields]:
    """Yield our own file, whose rows are one line each, in pieces: the tree of all of it would cost memory for good."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as err:
        problems.add(Place(str(path)), "", f"is part of hma and cannot be read ({err.strerror})", "install hma again")
        return
    for start in range(0, len(lines), PIECE):
        # Behind as many empty lines as it had lines before it, so that places are those of the file.
        piece = b"\n" * start + b"\n".join(lines[start : start + PIECE])
        yield Section(parse_yaml(piece, str(path), problems), "", problems).node


def _rows_of(path: Path, missing: str, mend: str, problems: Problems) -> Fields:
    try:
        tree = read_yaml(path, problems)
    except FileNotFoundError:
        problems.add(Place(str(path)), "", missing, mend)
        tree = None
    # The section reports a file that is no mapping.
    return Section(tree, "", problems).node


class _Reading:
    """The rows read so far, and the codes that they name; lives for one call of `load_catalogue`."""

    def __init__(self, problems: Problems) -> None:
        self.rows: dict[str, Policy] = {}
        self._problems = problems
        self._references: list[_Reference] = []

    def take(self, file: Fields, known: Collection[str] | None = None) -> None:
        """Lay the rows of one file over those read before; `known` = codes that may have a row, None = any."""
        for name, node in file.entries.items():
            place = file.place_of(name)
            if not CODE.fullmatch(name):
                self._problems.add(place, name, "is not a code", "write words in capitals joined by -, as in XID-79")
                continue
            row = self._row(name, Section(node, name, self._problems), self.rows.get(name))
            if known is not None and name not in known and not (row and row.counts):
                mend = self._near(name, known, "remove it, or install the check that emits it")
                self._problems.add(place, name, "is a row for a code that no check emits", mend)
            elif row is not None:
                self.rows[name] = row

    def follow_references(self, codes: Collection[str]) -> None:
        """Report every code named in a row that is none of `codes`."""
        for place, key, name in self._references:
            if name not in codes:
                mend = self._near(name, codes, "remove it; docs/catalogue.md lists all codes")
                self._problems.add(place, key, f"{quote(name)} has no row in the catalogue", mend)
            elif key.endswith(".counts") and key != f"{name}.counts" and name in self.rows and self.rows[name].counts:
                mend = f"count {self.rows[name].counts} instead"
                self._problems.add(place, key, f"{name} is itself a row that counts, and is never observed", mend)

    def _near(self, name: str, codes: Collection[str], otherwise: str) -> str:
        return choice(name, codes, self._problems, otherwise)

    def _row(self, name: str, section: Section, base: Policy | None) -> Policy | None:
        given: dict[str, Any] = {}
        before = len(self._problems)
        for key, node in section.node.entries.items():
            spec = _KEYS.get(key)
            if spec is not None:
                given[spec.field] = section.read(key, spec.parse, getattr(base or _UNSET, spec.field))
                self._references += _named_codes(key, node, section.path(key))
        section.done(also=_KEYS)
        missing = [key for key in NEEDED if base is None and key not in section.node.entries]
        if missing:
            mend = "add them: a row says what it is, how it ends and who says so"
            section.refuse("", f"is a new row and lacks {', '.join(missing)}", mend)
        row = _laid_over(base or Policy(name, "", ""), given)
        _check_sense(row, given, section)
        return row if len(self._problems) == before and not self._problems.full else base


def _laid_over(base: Policy, given: dict[str, Any]) -> Policy:
    row = replace(base, **given)
    if "again" not in given and row.action.rank < base.action.rank:
        return replace(row, again=None)
    return row


# -- values -----------------------------------------------------------------------------------------------------------

_action = member_of(Action)
_codes = many(code)
_positive = between(duration, "within_s", 0.001)
_DURATIONS = {"ok": False, "quiet": True}
"""The ways to end that take a time, and whether they need one."""
_END_MEND = 'write "ok", "ok 60s", "boot", "quiet 24h" or "by CODE"'
_component = matching(r"[a-z][a-z0-9_]{0,31}", "a kind of component", "write one word in small letters, as in gpu or host")


def _end(node: Node) -> End:
    text = text_of(node, "a way to end", _END_MEND)
    kind, _, rest = text.partition(" ")
    value = Scalar(rest.strip(), place=node.place)
    if kind == "boot" and not rest:
        return End("boot")
    if kind == "by" and rest:
        return End("by", code=code(value))
    if kind in _DURATIONS and (rest or not _DURATIONS[kind]):
        return End(kind, _positive(value) if rest else 0.0)
    raise Unfit.because(node, f"{quote(text)} is not a way to end", _END_MEND)


def _ends(node: Node) -> tuple[End, ...]:
    ends = many(_end)(node)
    if not ends:
        raise Unfit.because(node, "is empty, so the fault would never end", _END_MEND)
    return ends


def _inhibitors(node: Node) -> tuple[str, ...]:
    words = many(matching(rf"\*|{CODE.pattern}", "a code", "write words in capitals joined by -, or * alone"))(node)
    if "*" in words and len(words) > 1:
        raise Unfit.because(
            node, "names codes beside *, which stands for every other code of the family", "write one of the two"
        )
    return words


def _filled(parse: Parser[tuple[str, ...]], node: Node) -> tuple[str, ...]:
    words = parse(node)
    if not words:
        raise Unfit.because(node, "is empty", "name at least one code")
    return words


def _not_empty(parse: Parser[str], node: Node) -> str:
    text = parse(node)
    if not text:
        raise Unfit.because(node, "is empty", "write a few words")
    return text


_PARTS: dict[type, dict[str, Parser[Any]]] = {
    Times: {
        "count": between(integer, "count", 2),
        "within": _positive,
        "same_unit": boolean,
        "distinct_actors": boolean,
    },
    Grows: {"by": between(number, "by", 0.001), "within": _positive},
    Confirm: {
        "by": partial(_filled, _codes),
        "within": _positive,
        "otherwise": _action,
        "count": between(integer, "count", 1),
        "refute": unless_null(_codes),
    },
    Inhibit: {"by": partial(_filled, _inhibitors), "within": _positive, "node": boolean},
}
_PART_NEEDS: dict[type, tuple[str, ...]] = {
    Times: ("count", "within"),
    Grows: ("by", "within"),
    Confirm: ("by", "within", "otherwise"),
    Inhibit: ("by",),
}


def _part(kind: type, node: Node) -> Any:
    """Return the small mapping `kind` (times, grows, confirm, inhibit); it is written whole, never key by key."""
    inside = Problems()
    section = Section(node, "", inside)
    parsers = _PARTS[kind]
    values = {key: section.read(key, parse, None) for key, parse in parsers.items() if key in section.node.entries}
    section.done(also=parsers)
    missing = [key for key in _PART_NEEDS[kind] if key not in values]
    if missing and isinstance(node, Fields):
        section.refuse("", f"lacks {', '.join(missing)}", f"write all of {', '.join(_PART_NEEDS[kind])}")
    if len(inside):
        raise Unfit(*(Fault(Place(p.file, p.line), f".{p.key}" if p.key else "", p.text, p.mend) for p in inside))
    return kind(**{_field_of(key): value for key, value in values.items()})


def _field_of(key: str) -> str:
    return f"{key}_s" if key in ("within", "hold", "again_within") else key


class _Key(NamedTuple):
    """One key of a row: the field it fills and its parser."""

    field: str
    parse: Parser[Any]


_PARSERS: dict[str, Parser[Any]] = {
    "title": partial(_not_empty, word),
    "component": _component,
    "action": _action,
    "again": unless_null(_action),
    "again_within": _positive,
    "when": one_of(("now", "idle")),
    "hold": duration,
    "times": unless_null(partial(_part, Times)),
    "grows": unless_null(partial(_part, Grows)),
    "counts": code,
    "confirm": unless_null(partial(_part, Confirm)),
    "inhibit": unless_null(partial(_part, Inhibit)),
    "ends": _ends,
    "evidence": one_of(("strong", "weak")),
    "raised_by": one_of(("failed", "unknown", "never")),
    "fault_type": matching(r"[A-Za-z][A-Za-z0-9._-]{0,62}", "a fault type", "write up to 63 letters and digits"),
    "fault_reason": matching(r"[A-Za-z][A-Za-z0-9._-]{0,62}", "a fault reason", "write up to 63 letters and digits"),
    "source": partial(_not_empty, prose),
    "about": partial(_not_empty, prose),
}
_KEYS = {key: _Key(_field_of(key), parse) for key, parse in _PARSERS.items()}

# -- sense ------------------------------------------------------------------------------------------------------------


def _named_codes(key: str, node: Node, path: str) -> Iterator[_Reference]:
    if key == "counts" and isinstance(node, Scalar):
        yield _Reference(node.place, path, node.text.strip())
    elif key in ("confirm", "inhibit") and isinstance(node, Fields):
        for child in _items(node.entries.get("by")):
            if child.text.strip() != "*":
                yield _Reference(child.place, f"{path}.by", child.text.strip())
    elif key == "ends":
        for child in _items(node):
            kind, _, rest = child.text.strip().partition(" ")
            if kind == "by":
                yield _Reference(child.place, path, rest.strip())


def _items(node: Node | None) -> Iterator[Scalar]:
    for child in getattr(node, "items", (node,)):
        if isinstance(child, Scalar) and CODE.search(child.text):
            yield child


def _check_sense(row: Policy, given: dict[str, Any], section: Section) -> None:
    """Report values that are well-formed one by one and make no sense together, under a key of this very file."""
    worst = row.again if row.again is not None and row.again.rank > row.action.rank else row.action
    again = given.get("again")
    if again not in (None, Action.NONE) and again.rank < row.action.rank:
        text = f"{again.value} is milder than action: {row.action.value}"
        section.refuse("again", text, "write a more severe one, or none where it should not be tried twice")
    if given.get("confirm") is not None and given["confirm"].otherwise.rank >= worst.rank:
        text = f"otherwise: {given['confirm'].otherwise.value} is not milder than {worst.value}, so nothing is left to confirm"
        section.refuse("confirm", text, "write a milder one, or remove confirm")
    _check_refute(given.get("confirm"), section)
    for key in ("confirm", "inhibit"):
        rule = given.get(key)
        if rule is not None and row.code in rule.by:
            section.refuse(key, f"names {row.code} itself", "name other codes")
    _check_grows(row, given, section)
    if given.get("counts") == row.code:
        section.refuse("counts", f"names {row.code} itself", "name the code whose occurrences are counted")
    key = "action" if "action" in given else "again"
    if row.raised_by == "unknown" and worst.destructive:
        text = f"{worst.value} may not be asked for by a row that is raised by unknown: not being able to look is no fault"
        section.refuse(key, text, "write none")
    if row.evidence == "weak" and worst.destructive and (row.confirm is None or row.confirm.otherwise.destructive):
        mend = "add `confirm` with a mild `otherwise`, or write evidence: strong"
        section.refuse(key, f"{worst.value} may not be asked for by weak evidence alone", mend)


def _check_grows(row: Policy, given: dict[str, Any], section: Section) -> None:
    if row.grows is not None and (row.raised_by != "failed" or row.counts):
        other = "counts" if row.counts else "raised_by"
        text = f"makes no sense beside {other}: {row.counts or row.raised_by}, since a row that grows is fed by its own counter"
        section.refuse("grows" if "grows" in given else other, text, f"remove grows or {other}")


def _check_refute(confirm: Confirm | None, section: Section) -> None:
    if confirm is None:
        return
    for name in confirm.refuters:
        if name not in confirm.by:
            section.refuse("confirm.refute", f"names {name}, which is not in by", "name codes of by only")
