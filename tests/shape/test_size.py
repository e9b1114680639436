"""What a reader can hold in the head: sizes of files and functions, and errors that nobody sees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.shape.tree import modules, named, parsed

FILE_LINES = 400
FUNCTION_LINES = 60


def long_functions(tree: ast.Module) -> list[str]:
    """Return the functions that are longer than a screen."""
    return [
        f"{node.name}: {lines} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler takes any error and does nothing about it."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    blind = any(kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")) for kind in caught)
    idle = (ast.Pass, ast.Continue, ast.Break)
    return blind and all(isinstance(step, idle) or is_constant(step) for step in handler.body)


def is_constant(step: ast.stmt) -> bool:
    """Return whether a statement is `...` or a bare string."""
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)


def swallowed(tree: ast.Module) -> list[int]:
    """Return the lines of the handlers that swallow everything."""
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and swallows_everything(node)]


@pytest.mark.parametrize("path", modules(), ids=named)
def test_file_is_one_idea(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= FILE_LINES


@pytest.mark.parametrize("path", modules(), ids=named)
def test_function_fits_a_screen(path: Path) -> None:
    assert long_functions(parsed(path)) == []


@pytest.mark.parametrize("path", modules(), ids=named)
def test_no_error_is_swallowed_unseen(path: Path) -> None:
    assert swallowed(parsed(path)) == []


@pytest.mark.parametrize(
    ("handler", "found"),
    [
        ("except Exception:\n    pass", True),
        ("except:\n    pass", True),
        ("except BaseException:\n    ...", True),
        ("except (OSError, Exception):\n    continue", True),
        ("except Exception:\n    'never mind'", True),
        ("except Exception:\n    seen += 1", False),
        ("except OSError:\n    pass", False),
    ],
)
def test_swallowed_error_is_recognised(handler: str, found: bool) -> None:
    tree = ast.parse(f"for _ in ():\n    try:\n        work()\n    {handler.replace(chr(10), chr(10) + '    ')}\n")
    assert bool(swallowed(tree)) is found


def test_long_function_is_recognised() -> None:
    body = "    x = 1\n" * FUNCTION_LINES
    assert long_functions(ast.parse(f"def f():\n{body}")) == [f"f: {FUNCTION_LINES + 1} lines"]
