"""Write values as YAML that `hma.yamlread` and `hma.fields` read back to the same values."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from hma.fields import key_of, number_words
from hma.yamlread import NULLS, Fields, Node, Scalar, Sequence

_PLAIN = re.compile(r"[A-Za-z0-9/](?:[A-Za-z0-9_./@%+ -]*[A-Za-z0-9_./@%+-])?")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_NULL = Scalar("", null=True)


def node_of(value: object, name: str = "") -> Node:
    """Return the tree of `value`; `name` is its field, whose unit (`_s`, `_bytes`) decides how a number is written."""
    if isinstance(value, Scalar | Sequence | Fields):
        return value
    if value is None:
        return _NULL
    if isinstance(value, bool):
        return Scalar("true" if value else "false")
    if isinstance(value, enum.Enum):
        return Scalar(str(value.value))
    if isinstance(value, int | float):
        return Scalar(number_words(value, name))
    if isinstance(value, str | Path):
        return Scalar(str(value))
    if isinstance(value, tuple):
        return Sequence(tuple(node_of(item, name) for item in value))
    if isinstance(value, Mapping):
        return Fields({key: node_of(item) for key, item in value.items()})
    if dataclasses.is_dataclass(value):
        return Fields({key_of(f.name): node_of(getattr(value, f.name), f.name) for f in dataclasses.fields(value)})
    raise TypeError(f"{name}: cannot write a {type(value).__name__}")


def write_yaml(node: Fields) -> str:
    """Return the text of a mapping, mappings in block style and lists in flow style."""
    return "".join(f"{line}\n" for line in _lines(node, ""))


def _lines(node: Fields, indent: str) -> Iterator[str]:
    for key, value in node.entries.items():
        shown = key if _PLAIN_KEY.fullmatch(key) and key not in NULLS else _quoted(key)
        if isinstance(value, Fields) and value.entries:
            yield f"{indent}{shown}:"
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{shown}: {_flow(value)}"


def _flow(node: Node) -> str:
    if isinstance(node, Sequence):
        return f"[{', '.join(_flow(item) for item in node.items)}]"
    if isinstance(node, Fields):
        return f"{{{', '.join(f'{_quoted(key)}: {_flow(item)}' for key, item in node.entries.items())}}}"
    if node.null:
        return "null"
    return node.text if _PLAIN.fullmatch(node.text) and node.text not in NULLS else _quoted(node.text)


def _quoted(text: str) -> str:
    return f'"{"".join(_escaped(char) for char in text)}"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\U{ord(char):08x}"
