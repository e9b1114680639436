"""One value of a file: what each kind takes, and what it says about what it does not take."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from hma.fields import (
    Section,
    Unfit,
    between,
    boolean,
    by_type,
    code,
    duration,
    duration_words,
    integer,
    key_of,
    listing,
    many,
    matching,
    member_of,
    number,
    number_words,
    one_of,
    path,
    prose,
    read_fields,
    size,
    size_words,
    unless_null,
    word,
)
from hma.yamlread import Fields, Node, Place, Problems, Scalar, Sequence

NULL = Scalar("", null=True)


class Shade(enum.Enum):
    LIGHT = "light"
    DARK = "dark"


TAKEN: list[tuple[Callable[[Node], Any], str, Any]] = [
    (duration, "30s", 30.0),
    (duration, "1.5 h", 5_400.0),
    (duration, "250ms", 0.25),
    (duration, "7d", 604_800.0),
    (duration, "0s", 0.0),
    (duration, "0.1s", 0.1),
    (size, "256MiB", 256 << 20),
    (size, "1.5 KiB", 1_536),
    (size, "10B", 10),
    (boolean, "true", True),
    (boolean, "false", False),
    (integer, "8", 8),
    (integer, "-3", -3),
    (number, "0.9", 0.9),
    (number, "1e3", 1_000.0),
    (word, "", ""),
    (word, " two words ", "two words"),
    (prose, "two\nlines  of\ntext\n", "two lines of text"),
    (path, "/a/b", Path("/a/b")),
    (code, "XID-79", "XID-79"),
    (code, "SXID-UNKNOWN-FATAL", "SXID-UNKNOWN-FATAL"),
    (one_of(("a", "b")), "b", "b"),
    (member_of(Shade), "dark", Shade.DARK),
    (matching("[a-z]+", "a name", "write a name"), "abc", "abc"),
    (unless_null(duration), "1m", 60.0),
    (many(integer), "1", (1,)),
    (between(duration, "x_s", 1.0, 60.0), "60s", 60.0),
]


@pytest.mark.parametrize(("parse", "text", "value"), TAKEN)
def test_value_is_taken(parse: Callable[[Node], Any], text: str, value: Any) -> None:
    assert parse(Scalar(text)) == value


D = "is not a duration; write a number and a unit (ms, s, m, h, d), as in 30s"
S = "is not a size; write a number and a unit (B, KiB, MiB, GiB, TiB), as in 256MiB"
I = "is not a whole number; write decimal digits without leading zeros, as in 8"  # noqa: E741  (a name beside D and S)
N = "is not a number; write a decimal number, as in 0.9"
C = "is not a code; write words in capitals joined by -, as in XID-79"
B = "is not a yes-or-no value; write true or false"

REFUSED: list[tuple[Callable[[Node], Any], str, str]] = [
    *((duration, text, f'"{text}" {D}') for text in ("30", "", "s", "-1s", "1:30", "1e3s", ".5s", "5min", "1_0s", "∞", "1s 2")),
    (duration, "3651d", '"3651d" is longer than ten years; write a shorter time'),
    *((size, text, f'"{text}" {S}') for text in ("256", "256MB", "256mib", "-1B", "1e3B", "")),
    *((integer, text, f'"{text}" {I}') for text in ("010", "0x10", "1_000", "1.0", "", "٣", "1e3", "+ 1", "9" * 30)),
    *((number, text, f'"{text}" {N}') for text in (".5", "nan", "inf", "1e999", "1,5", "1_0", "")),
    *((boolean, text, f'"{text}" {B}') for text in ("yes", "on", "True", "TRUE", "1", "")),
    (word, "a\nb", '"a\\nb" has a line break or a control character; write it on one line'),
    (prose, "a\x1bb", '"a\\x1bb" has a control character; remove it'),
    (path, "etc/hma", '"etc/hma" is not an absolute path; write a path that begins with /'),
    (path, "/a\x00", '"/a\\x00" is not an absolute path; write a path that begins with /'),
    *((code, text, f'"{text}" {C}') for text in ("xid-79", "XID 79", "79", "XID-")),
    (one_of(("json", "human")), "jsn", '"jsn" is not known here; did you mean json? (json, human)'),
    (one_of(("json", "human")), "x", '"x" is not known here; write one of json, human'),
    (member_of(Shade), "grey", '"grey" is not known here; write one of light, dark'),
    (matching("[a-z]+", "a name", "write a name"), "abc1", '"abc1" is not a name; write a name'),
    (between(duration, "x_s", 1.0), "999ms", '"999ms" is too small; write 1s or more'),
    (between(size, "x_bytes", None, 1 << 20), "2MiB", '"2MiB" is too large; write 1MiB or less'),
    (between(integer, "x", 1, 8), "9", '"9" is too large; write 8 or less'),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "text", "line"), REFUSED)
def test_value_is_refused_with_the_mend(parse: Callable[[Node], Any], text: str, line: str) -> None:
    assert refusals(parse, Scalar(text)) == [line]


def refusals(parse: Callable[[Node], Any], node: Node) -> list[str]:
    with pytest.raises(Unfit) as caught:
        parse(node)
    return [f"{f.at}{': ' if f.at else ''}{f.text}; {f.mend}" for f in caught.value.faults]


@pytest.mark.parametrize("parse", [duration, size, boolean, integer, number, word, prose, path, code])
@pytest.mark.parametrize(("node", "said"), [(NULL, "has no value"), (Sequence(()), "is a list"), (Fields({}), "is a mapping")])
def test_nothing_list_and_mapping_are_no_scalars(parse: Callable[[Node], Any], node: Node, said: str) -> None:
    (line,) = refusals(parse, node)
    assert line.startswith(said)


def test_every_item_of_a_list_is_judged() -> None:
    node = Sequence((Scalar("1"), Scalar("x"), Sequence((Scalar("y"),))))
    assert refusals(many(integer), node) == [
        f'[1]: "x" {I}',
        "[2]: is a list, not a whole number; write decimal digits without leading zeros, as in 8",
    ]


# -- numbers as people write them -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (1.5, "1500ms"),
        (90.0, "90s"),
        (300.0, "5m"),
        (7_200.0, "2h"),
        (7 * 86_400.0, "7d"),
        (1e-5, "0.00001s"),
    ],
)
def test_duration_is_written_as_people_do_and_read_back(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words
    assert duration(Scalar(words)) == seconds


@pytest.mark.parametrize(("count", "words"), [(0, "0B"), (1, "1B"), (1_536, "1536B"), (1 << 20, "1MiB"), (3 << 40, "3TiB")])
def test_size_is_written_as_people_do_and_read_back(count: int, words: str) -> None:
    assert size_words(count) == words
    assert size(Scalar(words)) == count


@pytest.mark.parametrize(
    ("name", "key", "words"), [("hold_s", "hold", "1m"), ("max_bytes", "max_size", "60B"), ("full", "full", "60")]
)
def test_unit_is_in_the_name_of_the_field_and_in_the_value_of_the_key(name: str, key: str, words: str) -> None:
    assert (key_of(name), number_words(60, name)) == (key, words)


def test_long_lists_of_words_are_cut() -> None:
    assert listing({"b", "a"}) == "a, b"
    assert listing([f"w{i:02d}" for i in range(30)]).endswith("w19 ...")


# -- mappings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    wait_s: float = 5.0
    limit_bytes: int = 1 << 20
    share: float = field(default=0.9, metadata={"least": 0.0, "most": 1.0})
    names: tuple[str, ...] = ("a",)
    shade: Shade = Shade.DARK
    kind: Literal["x", "y"] = "x"
    home: Path | None = None
    on: bool = True
    tries: int = 3


@dataclass(frozen=True, slots=True)
class Picky:
    low: int = 1
    high: int = 2

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")


def section(**entries: Node) -> tuple[Section, Problems]:
    problems = Problems()
    places = {key: Place("f", line) for line, key in enumerate(entries, 1)}
    return Section(Fields(entries, Place("f"), places), "checks.x", problems), problems


def test_dataclass_is_read_by_the_types_of_its_fields() -> None:
    given, problems = section(
        wait=Scalar("1m"), limit_size=Scalar("2KiB"), share=Scalar("1"), names=Sequence((Scalar("b"), Scalar("c"))),
        shade=Scalar("light"), kind=Scalar("y"), home=Scalar("/h"), on=Scalar("false"), tries=Scalar("4"),
    )  # fmt: skip
    read = read_fields(Options(), given)
    given.done()
    assert read == Options(60.0, 2_048, 1.0, ("b", "c"), Shade.LIGHT, "y", Path("/h"), on=False, tries=4)
    assert list(problems) == []


def test_absent_and_wrong_keys_leave_the_default_and_every_problem_is_told() -> None:
    given, problems = section(
        wait=Scalar("5", place=Place("f", 1)),
        share=Scalar("2", place=Place("f", 2)),
        home=NULL,
        wiat=Scalar("1s"),
        zzz=Scalar(""),
    )
    read = read_fields(Options(), given)
    given.done()
    assert read == Options()
    assert [str(p) for p in problems] == [
        f'f:1: checks.x.wait: "5" {D}',
        'f:2: checks.x.share: "2" is too large; write 1.0 or less',
        "f:4: checks.x.wiat: is not a known key; did you mean wait?",
        "f:5: checks.x.zzz: is not a known key; known: home, kind, limit_size, names, on, shade, share, tries, wait",
    ]


def test_values_that_do_not_go_together_are_a_problem_of_the_mapping() -> None:
    given, problems = section(low=Scalar("5"))
    assert read_fields(Picky(), given) == Picky()
    assert [str(p) for p in problems] == ["f: checks.x: cannot be used: low 5 is above high 2; mend the values below it"]


@pytest.mark.parametrize("node", [Scalar("x"), Sequence(())])
def test_what_should_be_a_mapping_is_told_and_read_as_empty(node: Node) -> None:
    problems = Problems()
    assert Section(node, "node", problems).node.entries == {}
    assert [str(p) for p in problems] == [": node: must be a mapping; write `key: value` lines below it".removeprefix(": ")]


def test_null_is_an_empty_mapping() -> None:
    problems = Problems()
    assert Section(NULL, "node", problems).child("a").node.entries == {}
    assert list(problems) == []


@pytest.mark.parametrize("kind", [dict[str, int], object, int | str, tuple[int, int]])
def test_type_that_no_option_can_have_is_an_error_of_the_author(kind: Any) -> None:
    with pytest.raises(TypeError, match="x: an option cannot have the type"):
        by_type(kind, "x")
