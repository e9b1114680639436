"""Which checks are found, and that a broken one costs itself and one line."""

from __future__ import annotations

import importlib
import importlib.metadata
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from hma import loader
from hma.check import AnyCheck, Check, Command, Files, KernelLog, Tree
from hma.loader import BrokenCheck, Entry, find_checks, find_entries
from hma.model import NodeFacts, Observation, Status

ROOT = Path(__file__).parents[1]
THIRD_PARTY = ROOT / "tests/data/thirdparty_check"
OURS = {path.stem for path in (ROOT / "checks/passive").glob("*.py") if not path.stem.startswith("_")}

GOOD = """
from hma.check import Check, Files

def observe(sample, node, options):
    return ()

CHECK = Check("{name}", "Title", Files(("proc/loadavg",)), observe, frozenset({{"{code}"}}))
"""


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    before, alarm = set(sys.modules), signal.getsignal(signal.SIGALRM)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("acme_", "other_")):
            del sys.modules[name]
    signal.signal(signal.SIGALRM, alarm)


class Site:
    """A site-packages folder at the head of sys.path."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        monkeypatch.syspath_prepend(str(path))

    def add(self, package: str, entry_points: str, **modules: str) -> None:
        folder = self.path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(dedent(entry_points))
        for name, text in modules.items():
            (self.path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def names(found: tuple[AnyCheck, ...]) -> list[str]:
    return [check.name for check in found]


# -- what is found ----------------------------------------------------------------------------------------------------


def test_every_file_of_ours_is_a_check_of_its_name_and_nothing_is_broken() -> None:
    told: list[str] = []
    found = names(find_checks(told.append))
    assert told == []
    modules = {name: importlib.import_module(f"checks.passive.{name}") for name in OURS}
    single = {name for name, module in modules.items() if not hasattr(module, "CHECKS")}
    several = {check.name for name in OURS - single for check in modules[name].CHECKS}
    assert set(found) == single | several


def test_checks_come_sorted_by_name() -> None:
    found = names(find_checks())
    assert found == sorted(found)
    assert len(found) > 1


def test_check_of_another_package_is_found_and_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    told: list[str] = []
    found = {check.name: check for check in find_checks(told.append)}
    assert told == []
    sample = Tree({"sys/class/hwmon/hwmon1/fan1_input": "0\n"}, {})
    seen = list(found["acme_fan"].observe(sample, NodeFacts("n1", "b1"), found["acme_fan"].options))
    assert [(o.code, o.component, o.status) for o in seen] == [("ACME-FAN", "host:fan1", Status.FAILED)]


def test_finds_what_importlib_metadata_finds(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    site.add("other_one", "[console_scripts]\nx = y:z\n[hma.checks]\n# a comment\na=other_one:A\n\nb = other_one:b.c [extra]\n")
    site.add("other_two", "[hma.checks.more]\nno = other_two:NO\n[hma.checks]\n")
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    theirs = {(dist_name(entry), entry.name, entry.value) for entry in importlib.metadata.entry_points(group="hma.checks")}
    assert {tuple(entry) for entry in find_entries(sys.path)} == theirs
    assert {("acme-hma-checks", "acme_fan", "acme_checks.fan:CHECK"), ("other-one", "a", "other_one:A")} <= theirs


def dist_name(entry: importlib.metadata.EntryPoint) -> str:
    assert entry.dist
    return entry.dist.name.replace("_", "-")


def test_first_of_two_installations_of_one_package_counts(tmp_path: Path) -> None:
    for place, target in (("one", "new:CHECK"), ("two", "old:CHECK")):
        folder = tmp_path / place / "Acme.Checks-1.dist-info"
        folder.mkdir(parents=True)
        (folder / "entry_points.txt").write_text(f"[hma.checks]\na = {target}\n")
    assert list(find_entries([str(tmp_path / "one"), str(tmp_path / "two")])) == [Entry("acme-checks", "a", "new:CHECK")]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe[hma.checks]", b"no section = x:y", b"[hma.checks", b"\0" * 100])
def test_package_with_a_strange_file_has_no_checks(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a-1.dist-info").mkdir()
    (tmp_path / "a-1.dist-info/entry_points.txt").write_bytes(content)
    assert list(find_entries([str(tmp_path)])) == []


def test_places_that_are_no_folder_and_packages_without_entry_points_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "lib.zip").write_bytes(b"PK")
    (tmp_path / "plain-1.0.dist-info").mkdir()
    (tmp_path / "odd-1.0.dist-info").write_text("a file")
    (tmp_path / "worse-1.0.egg-info/entry_points.txt").mkdir(parents=True)
    assert list(find_entries([str(tmp_path / "lib.zip"), str(tmp_path / "absent"), str(tmp_path)])) == []


def test_the_empty_path_is_the_folder_the_agent_runs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a-1.dist-info").mkdir()
    (tmp_path / "a-1.dist-info/entry_points.txt").write_text("[hma.checks]\na = b:C\n")
    monkeypatch.chdir(tmp_path)
    assert list(find_entries([""])) == [Entry("a", "a", "b:C")]


# -- what is broken costs itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "target", "reason"),
    [
        ("raise RuntimeError('no\\nluck')", "other_bad:CHECK", "cannot be imported: RuntimeError: no luck"),
        ("raise SystemExit(3)", "other_bad:CHECK", "cannot be imported: SystemExit: 3"),
        ("class Skip(BaseException): pass\nraise Skip(4)", "other_bad:CHECK", "cannot be imported: Skip: 4"),
        ("import nowhere_to_be_found", "other_bad:CHECK", "cannot be imported: ModuleNotFoundError: No module named"),
        ("def broken(:", "other_bad:CHECK", "cannot be imported: SyntaxError"),
        ("", "other_bad:CHECK", "cannot be imported: AttributeError: module 'other_bad' has no attribute 'CHECK'"),
        ("", "other_absent:CHECK", "cannot be imported: ModuleNotFoundError: No module named 'other_absent'"),
        ("", "", "cannot be imported: ValueError: is not written as module:NAME"),
        ("", "other_bad:", "cannot be imported: ValueError: is not written as module:NAME"),
        ("CHECK = 7", "other_bad:CHECK", "is no hma.check.Check but int"),
        ("CHECK = None", "other_bad:CHECK", "is no hma.check.Check but NoneType"),
        (GOOD.format(name="x", code="X"), "other_bad", "is no hma.check.Check but module"),
        ("from hma.check import Check as CHECK", "other_bad:CHECK", "is no hma.check.Check but type"),
        (GOOD.format(name="xid", code="X-1"), "other_bad:CHECK", "the name xid is taken by hma: check checks.passive.xid"),
        (GOOD.format(name="Bad Name", code="X-1"), "other_bad:CHECK", "its name 'Bad Name' is not lower-case letters"),
    ],
)
def test_broken_check_is_left_out_and_told_in_one_line(site: Site, module: str, target: str, reason: str) -> None:
    site.add("other_bad", f"[hma.checks]\nit = {target}\n", other_bad=module)
    site.add("other_good", "[hma.checks]\nit = other_good:CHECK\n", other_good=GOOD.format(name="good", code="GOOD"))
    told: list[str] = []
    found = names(find_checks(told.append))
    assert {*OURS, "good"} >= set(found) >= {"good", "xid", "nvidia_smi"}
    assert found.count("xid") == 1
    assert len(told) == 1
    assert told[0].startswith(f"other-bad: check it ({target}): {reason}")
    assert told[0].endswith("; mend or remove that package")
    assert "\n" not in told[0]
    assert len(told[0]) < 500


def test_import_that_does_not_end_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "IMPORT_LIMIT_S", 0.1)
    site.add("other_slow", "[hma.checks]\nit = other_slow:CHECK\n", other_slow="while True:\n    pass\n")
    told: list[str] = []
    assert "xid" in names(find_checks(told.append))
    assert told == [
        "other-slow: check it (other_slow:CHECK): cannot be imported: not done within 0.1 s; mend or remove that package"
    ]


def test_without_a_listener_the_first_broken_check_is_raised(site: Site) -> None:
    site.add("other_bad", "[hma.checks]\nit = other_bad:CHECK\n", other_bad="CHECK = 1")
    with pytest.raises(BrokenCheck, match=r"^other-bad: check it .*is no hma\.check\.Check but int"):
        find_checks()


def test_a_file_of_ours_that_cannot_be_imported_leaves_the_others(tmp_path: Path) -> None:
    """In a process of its own: what is imported here stays imported."""
    (tmp_path / "torn.py").write_text("def observe(")
    code = dedent(
        f"""
        import checks.passive
        checks.passive.__path__.append({str(tmp_path)!r})
        from hma.loader import find_checks
        told = []
        print(*(check.name for check in find_checks(told.append)))
        print(*told, sep="\\n")
        """
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found, told = done.stdout.splitlines()
    assert "xid" in found.split()
    assert told.startswith("hma: check checks.passive.torn: cannot be imported: SyntaxError: ")


# -- is it one? -------------------------------------------------------------------------------------------------------


def observe(sample: Tree, node: NodeFacts, options: object) -> tuple[Observation, ...]:
    return ()


WHOLE: AnyCheck = Check("whole", "Title", Files(("proc/loadavg",)), observe, frozenset({"X"}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": None}, "its name 'None' is not"),
        ({"name": "x" * 64}, "its name "),
        ({"source": "proc/loadavg"}, "its source is none that the agent reads but str"),
        ({"source": Files(["proc/loadavg"])}, "its source is not described by a tuple of texts"),  # type: ignore[arg-type]
        ({"source": Files("proc/loadavg")}, "its source is not described by a tuple of texts"),  # type: ignore[arg-type]
        ({"source": Command(())}, "its source is not described by a tuple of texts"),
        ({"source": Command(("df", 1))}, "its source is not described by a tuple of texts"),  # type: ignore[arg-type]
        ({"source": KernelLog(b"(")}, "the pattern of its source cannot be used: missing )"),
        ({"source": KernelLog("Xid")}, "the pattern of its source is not bytes"),  # type: ignore[arg-type]
        ({"source": KernelLog(None)}, "the pattern of its source cannot be used"),  # type: ignore[arg-type]
        ({"codes": frozenset()}, "its codes are not a frozenset"),
        ({"codes": {"X"}}, "its codes are not a frozenset"),
        ({"codes": frozenset({1})}, "its codes are not a frozenset"),
        ({"observe": None}, "its observe or applies cannot be called"),
        ({"applies": True}, "its observe or applies cannot be called"),
        ({"interval_s": 0}, "its interval_s or timeout_s is not a number of seconds above 0"),
        ({"timeout_s": -1.0}, "its interval_s or timeout_s is not a number of seconds above 0"),
        ({"interval_s": float("nan")}, "its interval_s or timeout_s is not a number of seconds above 0"),
        ({"interval_s": float("inf")}, "its interval_s or timeout_s is not a number of seconds above 0"),
        ({"interval_s": "60"}, "its interval_s or timeout_s is not a number of seconds above 0"),
        ({"options": {}}, "its options are not an instance of a dataclass"),
        ({"options": Observation}, "its options are not an instance of a dataclass"),
    ],
)
def test_check_that_would_break_the_runner_is_refused(change: dict[str, object], reason: str) -> None:
    assert loader._unfit(WHOLE) == ""
    assert loader._unfit(replace(WHOLE, **change)).startswith(reason)  # type: ignore[arg-type]


# -- cost -------------------------------------------------------------------------------------------------------------


def test_finding_checks_imports_no_mail_parser() -> None:
    code = "import sys; from hma.loader import find_checks; find_checks(); print('email' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
