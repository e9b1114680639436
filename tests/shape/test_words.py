"""What the project's files never name: places of one developer's machine, and where packages are fetched from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.shape.tree import named, our_files

# Put together from pieces, or this file would be its own first finding.
REGISTRIES = ("pypi" + ".org", "python" + "hosted", "registry.npm" + "js", "npm" + "js.com", "proxy.go" + "lang")
MIRRORS = ("deb.deb" + "ian", "snapshot.deb" + "ian", "crates" + ".io", "ruby" + "gems")
OUTSIDE = re.compile(
    "|".join(
        (
            r"(?<![\w.-])/wo" + r"rk(?![\w-])",
            r"\.\./sha" + r"red\b",
            r"\brefer" + r"ence/[\w.*-]+\.(?:md|yaml)\b",
            *(re.escape(host) for host in (*REGISTRIES, *MIRRORS)),
        )
    )
)


def outside_names(text: str) -> list[str]:
    """Return the lines that name something outside the project."""
    return [f"{number}: {line.strip()[:120]}" for number, line in enumerate(text.splitlines(), 1) if OUTSIDE.search(line)]


@pytest.mark.parametrize("path", our_files(), ids=named)
def test_file_names_nothing_outside_the_project(path: Path) -> None:
    assert outside_names(path.read_text(encoding="utf-8", errors="replace")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cd /wo" + "rk/main", True),
        ("see '/wo" + "rk'", True),
        ("see ../sha" + "red/design.md", True),
        ("from refer" + "ence/gpu-faults.md", True),
        ("https://pypi" + ".org/simple", True),
        ("/workloads and /home/me/work/x", False),
        ("shared/ and a reference", False),
    ],
)
def test_outside_name_is_recognised(text: str, found: bool) -> None:
    assert bool(outside_names(text)) is found
