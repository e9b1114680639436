"""What people write becomes a tree with places, or one line per mistake that says what, where and the mend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hma.yamlread import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    MAX_PROBLEMS,
    ConfigError,
    Fields,
    Node,
    Place,
    Problems,
    Scalar,
    Sequence,
    nearest,
    parse_yaml,
    printable,
    quote,
    read_yaml,
)


def parsed(text: str | bytes) -> tuple[Node | None, list[str]]:
    """Return the tree and the problems of a file `f`."""
    problems = Problems()
    tree = parse_yaml(text if isinstance(text, bytes) else text.encode(), "f", problems)
    return tree, [str(problem) for problem in problems]


# -- the tree ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", None),
        ("# only a comment\n", None),
        ("---\n", None),
        ("~\n", None),
        ("on\n", Scalar("on")),
        ("a: 010\n", Fields({"a": Scalar("010")})),
        ("a: 1:30\n", Fields({"a": Scalar("1:30")})),
        ("a: null\nb: ~\nc:\n", Fields({k: Scalar("", null=True) for k in "abc"})),
        ("a: ''\nb: 'null'\n", Fields({"a": Scalar(""), "b": Scalar("null")})),
        ("a: [x, {b: y}]\n", Fields({"a": Sequence((Scalar("x"), Fields({"b": Scalar("y")})))})),
        ("a: |\n  one\n  two\n", Fields({"a": Scalar("one\ntwo\n")})),
        ("a: &n {b: 1}\nc: *n\n", Fields({"a": Fields({"b": Scalar("1")}), "c": Fields({"b": Scalar("1")})})),
        ("\ufeffa: 1\n", Fields({"a": Scalar("1")})),
        ("a: \U0001f600\u2028\n".replace("\u2028", ""), Fields({"a": Scalar("\U0001f600")})),
    ],
)
def test_values_stay_text(text: str, tree: Node | None) -> None:
    assert parsed(text) == (tree, [])


def test_every_value_and_key_knows_its_place() -> None:
    tree, _ = parsed("a: 1\nb:\n  c: [x,\n      y]\n")
    assert isinstance(tree, Fields)
    assert tree.place_of("b") == Place("f", 2, 1)
    inner = tree.entries["b"]
    assert isinstance(inner, Fields)
    items = inner.entries["c"]
    assert isinstance(items, Sequence)
    assert [item.place for item in items.items] == [Place("f", 3, 7), Place("f", 4, 7)]
    assert inner.place_of("absent") == inner.place


# -- mistakes ---------------------------------------------------------------------------------------------------------

OPEN = "is not YAML: a bracket opened here is not closed, or a comma is missing in it; close the bracket"
HOLE = (
    "is not YAML: a value is missing: a bracket is not closed, or a comma stands where a value must; "
    "close the bracket, or remove the comma"
)
COLON = "is not YAML: a second `: ` in one value, or a wrong indentation; put the value in quotes, or indent it rightly"
TAG = 'has the tag "tag:yaml.org,2002:{}"; remove the tag; values are plain text here'

MISTAKES = [
    ("a: [1, 2\nb: 3\n", f"f:1: {OPEN}"),
    ("a: {b: 1\n", f"f:1: {OPEN}"),
    ("a: [\n", f"f:1: {HOLE}"),
    ("a: [1,, 2]\n", f"f:1: {HOLE}"),
    ("a: 'x\nb: 1\n", "f:1: is not YAML: a quote opened here is not closed; close the quote"),
    ("x: 1\na: b: c\n", f"f:2: {COLON}"),
    ("a:\n\tb: 1\n", "f:2: is not YAML: a tab where blanks must be; indent with blanks"),
    ("a: 1\na: 2\n", "f:2: a: is written twice (first in line 1); keep one of them"),
    ("a:\n  b: 1\n  b: 2\n", "f:3: a.b: is written twice (first in line 2); keep one of them"),
    ("a: !!int 1\n", f"f:1: a: {TAG.format('int')}"),
    ("a: !!python/object/apply:os.system [x]\n", f"f:1: a: {TAG.format('python/object/apply:os.system')}"),
    ("a: *b\n", "f:1: a: uses *b, which is not set before; set it with &b above"),
    ("a: &a [*a]\n", "f:1: a: uses *a, which is not set before; set it with &a above"),
    ("<<: {a: 1}\n", "f:1: uses the merge key <<; write the keys out"),
    ("? [a]\n: 1\n", "f:1: has a key that is not a word; write `key: value`"),
    ("null: 1\n", "f:1: has a key that is not a word; write `key: value`"),
    ("a: 1\n---\nb: 1\n", "f:2: starts a second document; keep one document in a file, remove the `---`"),
    (f"a: {'[' * 40}{']' * 40}\n", f"f:1: a: is nested deeper than {MAX_DEPTH} levels; mend the brackets or the indentation"),
    ("a: 1\nb: \x07\n", "f:2: has a control character, which YAML forbids; name a YAML text file"),
]


@pytest.mark.parametrize(("text", "line"), MISTAKES, ids=[repr(text)[:24] for text, _ in MISTAKES])
def test_mistake_is_one_line_with_its_place_and_mend(text: str, line: str) -> None:
    assert parsed(text)[1] == [line]


def test_bytes_that_are_no_text_are_named_with_their_line() -> None:
    assert parsed(b"a: 1\nb: \xff\n")[1] == ["f:2: is not UTF-8 text; name a YAML file, saved as UTF-8"]


def test_aliases_cannot_grow_beyond_the_limit() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    tree, problems = parsed(bomb)
    assert tree is None
    assert problems == [f"f:5: a4: holds more than {MAX_NODES} values, aliases included; name the right file"]


def test_depth_just_below_the_limit_is_read() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parsed(text)[1] == []
    assert parsed(f"[{text}]")[1] != []


def test_past_the_limit_problems_are_only_counted() -> None:
    text = "".join(f"a{i}: !t x\n" for i in range(MAX_PROBLEMS + 7))
    problems = Problems()
    parse_yaml(text.encode(), "f", problems)
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    lines = str(caught.value).splitlines()
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1] == "... and 7 more of these; mend the first ones and try again"


def test_problems_stand_in_the_order_of_the_file_and_once() -> None:
    problems = Problems()
    for line in (3, 1, 2, 1):
        problems.add(Place("f", line), "k", "is wrong")
    assert [str(p) for p in problems] == ["f:1: k: is wrong", "f:2: k: is wrong", "f:3: k: is wrong"]


def test_no_problem_raises_nothing() -> None:
    Problems().raise_if_any()


# -- files ------------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[str]:
    problems = Problems()
    assert read_yaml(path, problems) is None
    return [str(problem).removeprefix(str(path)) for problem in problems]


def test_absent_file_is_for_the_caller_to_judge(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "none", Problems())


def test_directory(tmp_path: Path) -> None:
    assert read(tmp_path) == [": is a directory; name the YAML file in it"]


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_no_regular_file_does_not_hang_the_start(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pipe" if kind == "fifo" else Path("/dev/zero")
    if kind == "fifo":
        os.mkfifo(path)
    assert read(path) == [": is not a regular file; name a YAML file"]


def test_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert read(path) == [": is larger than 1 MiB; name the right file"]
    path.write_bytes(b"#" * MAX_BYTES)
    assert read(path) == []


def test_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert read(tmp_path / "file" / "c.yaml") == [": cannot be read: Not a directory; mend the path or the disk"]


READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from hma.yamlread import Problems, read_yaml
import yaml
os.setgroups([]); os.setegid(65534); os.seteuid(65534)
problems = Problems()
read_yaml(Path(sys.argv[1]), problems)
print(*problems, sep="\\n")
"""


@pytest.mark.needs("root")
def test_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: 1\n")
    path.chmod(0o600)
    for parent in (tmp_path, *tmp_path.parents):
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", READ_AS_NOBODY, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    mend = "make it readable for the user that runs hma (uid 65534)"
    assert done.stdout == f"{path}: cannot be read: permission denied; {mend}\n"


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", "a\\nb"), ("\x1b[31m", "\\x1b[31m"), ("\u202e", "\\u202e"), ("ä ö", "ä ö"), ("\ud800", "\\ud800")],
)
def test_nothing_a_person_wrote_can_break_a_line_or_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert quote(text) == f'"{shown}"'


def test_long_quotes_are_cut() -> None:
    assert quote("x" * 70) == f'"{"x" * 57}..."'


@pytest.mark.parametrize(
    ("word", "found"), [("nodee", "node"), ("NODE", "node"), ("journl", "journal"), ("zzz", ""), ("n" * 65, "")]
)
def test_near_word_is_suggested(word: str, found: str) -> None:
    assert nearest(word, ("node", "journal", "log")) == found
