"""What we write is what we read: every value comes back, whatever is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.model import Action
from hma.yamlread import Fields, Node, Problems, Scalar, Sequence, parse_yaml
from hma.yamlwrite import node_of, write_yaml


def read_back(node: Fields) -> Node | None:
    problems = Problems()
    tree = parse_yaml(write_yaml(node).encode(), "written", problems)
    assert [str(problem) for problem in problems] == []
    return tree


HARD = (
    *(
        "",
        "null",
        "Null",
        "~",
        "true",
        "on",
        "-",
        "- a",
        "a: b",
        "#",
        "a #b",
        "*a",
        "&a",
        "!t",
        "%",
        "@",
        "`",
        "<<",
        "?",
        "? a",
    ),
    *(
        " a",
        "a ",
        "\n",
        "\t",
        "\x85",
        "\u2028",
        "\x00",
        "\x7f",
        "\ufeff",
        "---",
        "...",
        "'",
        '"',
        "\\",
        "[",
        "}",
        ",",
        "0x10",
        "1:30",
        "/",
    ),
)
"""Texts that YAML would take for something else."""
TEXT = st.one_of(st.text(st.characters(codec="utf-8"), max_size=12), st.sampled_from(HARD))
KEYS = TEXT.filter(lambda key: key != "<<")
SCALARS = st.builds(Scalar, TEXT) | st.just(Scalar("", null=True))
NODES: st.SearchStrategy[Node] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: Sequence(tuple(items))),
        st.dictionaries(KEYS, inner, max_size=3).map(Fields),
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, NODES, min_size=1, max_size=4).map(Fields))
def test_every_tree_comes_back(tree: Fields) -> None:
    assert read_back(tree) == tree


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (None, "", "null"),
        (True, "", "true"),
        (8, "", "8"),
        (0.5, "", "0.5"),
        (90.0, "hold_s", "90s"),
        (1 << 20, "max_bytes", "1MiB"),
        (Action.REBOOT, "", "reboot"),
        (Path("/a b"), "", "/a b"),
        ("null", "", '"null"'),
        ("", "", '""'),
        ("a: b", "", '"a: b"'),
        (("x", 60.0), "for_s", "[x, 1m]"),
        ((), "", "[]"),
        ({}, "", "{}"),
        ("é\u2028\x1b", "", '"é\\U00002028\\U0000001b"'),
    ],
)
def test_value_is_written_as_people_would(value: Any, name: str, text: str) -> None:
    assert write_yaml(Fields({"k": node_of(value, name)})) == f"k: {text}\n"


def test_mappings_stand_in_blocks() -> None:
    assert (
        write_yaml(Fields({"a": node_of({"b": {"c d": 1}, "e": ({"f": "g"},)})})) == 'a:\n  b:\n    "c d": 1\n  e: [{"f": g}]\n'
    )


def test_what_has_no_form_is_an_error_of_ours() -> None:
    with pytest.raises(TypeError, match="k: cannot write a object"):
        node_of(object(), "k")
