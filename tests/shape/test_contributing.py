"""What CONTRIBUTING.md promises: its worked example, put into a copy of the tree as it stands there, is a check that works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shape.test_words import outside_names
from tests.shape.tree import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILE, TEST, ROWS = "checks/passive/conntrack.py", "tests/checks/test_conntrack.py", "hma/catalogue.yaml"
COPIED = ("hma", "checks", "tests", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md")
NOT_COPIED = shutil.ignore_patterns("__pycache__", "data", "*.pyc")
SHAPE = ("tests/shape/test_catalogue.py", "tests/shape/test_checks.py")


def example() -> dict[str, str]:
    """Return the blocks of the example, by the path that stands in their first line."""
    blocks = re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return dict(blocks)


def copy_with(place: Path, parts: dict[str, str]) -> Path:
    """Return a copy of the tree with `parts` of the example in it; the row goes to the end of the catalogue."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=NOT_COPIED)
        else:
            shutil.copy(source, place / name)
    for path, text in parts.items():
        with open(place / path, "a" if path == ROWS else "w", encoding="utf-8") as file:
            file.write(text)
    return place


def run(tree: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module in the copy, which shadows the installed package there, for itself and for its children."""
    env = {**os.environ, "PYTHONPATH": str(tree)}
    argv = (sys.executable, "-m", *argv)
    return subprocess.run(argv, cwd=tree, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_with(tmp_path_factory.mktemp("tree"), example())


def test_example_is_one_file_one_test_one_line() -> None:
    assert list(example()) == [FILE, TEST, ROWS]
    assert example()[ROWS].count("\n") == 1
    assert not any((ROOT / path).exists() for path in (FILE, TEST))
    assert "CONNTRACK" not in (ROOT / ROWS).read_text(encoding="utf-8")


def test_example_names_nothing_outside_the_project() -> None:
    assert [outside_names(text) for text in example().values()] == [[], [], []]


@pytest.mark.slow
def test_tests_of_the_example_and_the_shape_rules_pass(tree: Path) -> None:
    done = run(
        tree, "pytest", "-q", "-p", "no:cacheprovider", TEST, *SHAPE, "tests/shape/test_size.py", "tests/shape/test_imports.py"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "failed" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        (FILE, "test_every_row_is_raised_by_somebody[CONNTRACK-FULL]"),
        (TEST, "checks/passive/conntrack.py has no tests/checks/test_conntrack.py"),
        (ROWS, "test_every_code_of_a_check_is_a_row[conntrack]"),
    ],
)
def test_make_test_tells_which_part_is_lacking(tmp_path: Path, lacking: str, said: str) -> None:
    incomplete = copy_with(tmp_path, {path: text for path, text in example().items() if path != lacking})
    done = run(incomplete, "pytest", "-q", "-p", "no:cacheprovider", *SHAPE)
    assert done.returncode == 1, done.stdout[-3000:]
    assert said in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv", [("ruff", "check", "--no-cache"), ("ruff", "format", "--check", "--no-cache"), ("mypy", "--cache-dir", os.devnull)]
)
def test_example_has_the_style_and_the_types_of_the_house(tree: Path, argv: tuple[str, ...]) -> None:
    done = run(tree, *argv, FILE, TEST)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("count", "code", "said"), [("31", 0, "ok"), ("262144", 1, "failed")])
def test_hma_finds_and_runs_the_example(tree: Path, tmp_path: Path, count: str, code: int, said: str) -> None:
    table = tmp_path / "proc/sys/net/netfilter"
    table.mkdir(parents=True)
    (table / "nf_conntrack_count").write_text(f"{count}\n")
    (table / "nf_conntrack_max").write_text("262144\n")
    done = run(tree, "hma.cli.main", "check", "conntrack", "--root", str(tmp_path), "--set", "node.imds=false")
    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(rf"^conntrack +{said} .*{count} of 262144", done.stdout, re.MULTILINE), done.stdout
    assert ("CONNTRACK-FULL" in done.stdout) is bool(code)


def test_its_options_are_keys_of_the_configuration(tree: Path) -> None:
    given = [word for pair in ("full=0.5", "interval=30s") for word in ("--set", f"checks.conntrack.{pair}")]
    shown = run(tree, "hma.cli.main", "config", "show", *given).stdout
    assert "  conntrack:\n    enabled: true\n    interval: 30s\n    timeout: 20s\n    full: 0.5\n" in shown


def test_its_row_is_explained_and_documented(tree: Path) -> None:
    done = run(tree, "hma.cli.main", "docs", "--into", "docs")
    page = (tree / "docs/catalogue.md").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "| **Connection-tracking table full.** New connections are dropped." in page
    assert "once it has lasted 1m" in page[page.index("`CONNTRACK-FULL`") :][:400]
