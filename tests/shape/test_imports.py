"""Who may import whom, and what the agent's process never carries."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.shape.tree import ROOT, imports, modules, named, parsed

HEAVY = frozenset(
    (
        *("boto3", "botocore", "kubernetes", "watchtower", "requests", "urllib3", "pynvml", "psutil", "rich", "pydantic"),
        *(
            "click",
            "asyncio",
            "ssl",
            "multiprocessing",
            "concurrent.futures",
            "email",
            "http.client",
            "xml",
            "unittest",
            "sqlite3",
        ),
        *("hypothesis", "pytest"),
    )
)


def test_import_contracts_hold() -> None:
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert program, "lint-imports is not beside this Python: pip install -e '.[lint]'"
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize("path", [path for path in modules() if path.is_relative_to(ROOT / "checks")], ids=named)
def test_check_imports_only_the_contract_and_the_standard_library(path: Path) -> None:
    def allowed(name: str) -> bool:
        return name.partition(".")[0] in {*sys.stdlib_module_names, "checks"} or name.startswith(
            ("hma.check.", "hma.gpu.", "hma.model.")
        )

    assert [name for name in imports(parsed(path)) if not allowed(name)] == []


def modules_after(statement: str) -> set[str]:
    """Return what a fresh interpreter has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("entry", ["hma.agent", "hma.cli.main"])
def test_importing_the_agent_loads_nothing_heavy(entry: str) -> None:
    """Neither of ours nor of what structlog would bring along (see `hma.reporting.log`)."""
    ours = modules_after(f"import {entry}")
    assert entry in ours
    assert HEAVY & ours == set()


def closure(package: str, seen: set[str]) -> None:
    """Add to `seen` what installing `package` without extras brings along."""
    if package in seen:
        return
    seen.add(package)
    for line in importlib.metadata.requires(package) or ():
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            closure(canonicalize_name(needed.name), seen)


@pytest.mark.skipif(
    not any(importlib.metadata.distributions(name="hma")),
    reason="hma is not installed in this environment: make test installs it",
)
def test_a_node_installs_five_small_packages() -> None:
    seen: set[str] = set()
    closure("hma", seen)
    assert seen == {"hma", "pyyaml", "structlog", "h11", "inotify-simple", "nvidia-ml-py"}
