"""The rule of CI that what can run here does run: a skip is a failure unless no machine of this kind could have run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shape.tree import ROOT

CASES = """
import pytest

def test_runs():
    pass

def test_for_hardware():
    pytest.skip("no hardware: an NVIDIA GPU with its driver")

@pytest.mark.skipif(True, reason="not possible here: no modules in this kernel")
def test_for_another_kernel():
    pass
"""
INSIDE = '\ndef test_lazy():\n    pytest.skip("needs losetup: apt-get install mount")\n'
BY_MARK = "\n@pytest.mark.skip\ndef test_bare():\n    pass\n"
NEEDS = '\n@pytest.mark.needs("no-such-program")\ndef test_needs():\n    pass\n'
EXPECTED = "\n@pytest.mark.xfail\ndef test_known_bug():\n    assert False\n"
MODULE = 'import pytest\npytest.skip("no such library", allow_module_level=True)\n'


def outcome(folder: Path, cases: str, no_skip: str) -> tuple[int, str]:
    """Run `cases` with our conftest in a pytest of its own; return its exit code and what it printed."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_cases.py").write_text(cases)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = needs(*what): x\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(folder)],
        env={**os.environ, "HMA_NO_SKIP": no_skip},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("more", "no_skip", "code", "said"),
    [
        ("", "1", 0, "1 passed, 2 skipped"),
        (EXPECTED, "1", 0, "1 passed, 2 skipped, 1 xfailed"),
        (INSIDE, "1", 1, "skipped (needs losetup: apt-get install mount), and this run"),
        (BY_MARK, "1", 1, "skipped (unconditional skip), and this run"),
        (NEEDS, "1", 1, "skipped (needs no-such-program: apt-get install no-such-program), and this run"),
        (INSIDE + BY_MARK + NEEDS, "0", 0, "1 passed, 5 skipped"),
    ],
    ids=["allowed", "xfail is no skip", "inside a test", "by mark", "by needs", "a person may skip"],
)
def test_skip_fails_the_run(tmp_path: Path, more: str, no_skip: str, code: int, said: str) -> None:
    assert_outcome(outcome(tmp_path, CASES + more, no_skip), code, said)


def test_skipped_module_fails_the_run(tmp_path: Path) -> None:
    assert_outcome(outcome(tmp_path, MODULE, "1"), 2, "skipped (no such library), and this run")


def assert_outcome(found: tuple[int, str], code: int, said: str) -> None:
    """Assert the exit code and a part of the output, showing all of it otherwise."""
    assert found[0] == code, found[1]
    assert said in found[1]
