"""What a user installs: a wheel holds all that the program reads, and one version number is told everywhere."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import hma
from tests.shape.tree import ROOT, our_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_TO_BE_HAD = (
    "No matching distribution found for hatchling",
    "Could not find a version that satisfies the requirement hatchling",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built as `pip install .` builds it: in an environment of its own with the build backend in it."""
    place = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    done = subprocess.run(
        [*argv, "--wheel-dir", str(place), str(ROOT)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if any(words in done.stderr for words in NOT_TO_BE_HAD):
        pytest.skip("not possible here: no package index has the build backend (hatchling)")
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = place.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_two_packages_and_nothing_else(wheel: Path) -> None:
    ours = {str(path.relative_to(ROOT)) for path in our_files() if path.relative_to(ROOT).parts[0] in ("hma", "checks")}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {"hma/catalogue.yaml", "hma/instance_types.csv", "hma/py.typed", "checks/py.typed", "checks/passive/xid.py"} <= held
    assert held == ours


@pytest.mark.slow
def test_wheel_brings_the_command_the_licence_and_the_readme(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = f"hma-{hma.__version__}.dist-info"
    assert "hma = hma.cli.main:main" in archive.read(f"{info}/entry_points.txt").decode()
    assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert (ROOT / "README.md").read_text(encoding="utf-8") in archive.read(f"{info}/METADATA").decode()


@pytest.mark.slow
def test_program_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import hma.cli.main; print(hma.__file__); hma.cli.main.main()"
    argv = [sys.executable, "-c", code, str(tmp_path / "site"), "config", "validate"]
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(tmp_path / "site/hma/__init__.py")
    assert "the configuration is good" in done.stdout


def test_version_is_the_same_everywhere() -> None:
    assert hma.__version__ == PROJECT["version"]
    done = subprocess.run(
        [sys.executable, "-m", "hma.cli.main", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"hma {PROJECT['version']}\n"
