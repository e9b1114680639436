"""The page on records says what is true: every event with a line that the program prints, and queries on keys there are."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from checks.passive import nvidia_smi, xid
from hma.catalogue_file import load_catalogue
from hma.check import KernelLine, Lines, NoOptions, Output
from hma.engine.step import beginning, step
from hma.model import Change, Instant, NodeFacts, Observation, Report, State, Status
from hma.reporting.record import ATTRS_BYTES, EVIDENCE_BYTES, KEYS, LINE_BYTES, NOTE_BYTES, TEXT_BYTES, record, to_line

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/records.md").read_text(encoding="utf-8")
BOOT = "7d3a1c52-0b8e-4f7e-9c64-2f1a5e9b6d10"
NODE = NodeFacts("ip-10-1-2-3", BOOT, "p5.48xlarge", "i-0123456789abcdef0")
CATALOGUE = load_catalogue()
XID_79 = "NVRM: Xid (PCI:0000:97:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
XID_45 = "NVRM: Xid (PCI:0000:97:00): 45, pid=1240, name=python3, Ch 00000008"
LOST = (ROOT / "tests/data/nvidia-smi/535.261.03-handle-lost.txt").read_text().replace(":86:", ":97:")


def at(seconds: float, boot_id: str = BOOT) -> Instant:
    return Instant(81_531.5 + seconds, 1_795_525_331.042 + seconds, boot_id)


def kernel(text: str, seconds: float) -> Report:
    lines = Lines((KernelLine(1, at(seconds).mono, 4, text),))
    return Report("xid", tuple(xid.CHECK.observe(lines, NODE, NoOptions())))


def story() -> Iterator[Change]:
    """Yield what the engine says of a GPU that falls off the bus, drags another error along, and is gone after a reboot."""
    smi = Report("nvidia_smi", tuple(nvidia_smi.observe(Output(15, LOST, ""), NODE, NoOptions())))
    fine = Report("nvidia_smi", (Observation("SMI-NO-DRIVER", "host", Status.OK),))
    state: State = step(beginning(at(-60)), [fine], CATALOGUE, at(-60)).state
    for reports, now in (
        ([kernel(XID_79, 0)], at(0.002)),
        ([kernel(XID_45, 1)], at(1.003)),
        ([smi], at(4.61)),
        ([], at(240.2, "c1a5d0e8-55f3-4a43-8f0b-6a3f0b9de1f7")),
    ):
        state, changes = step(state, reports, CATALOGUE, now)
        yield from changes


def refuted() -> Iterator[Change]:
    """Yield what the engine says when a GPU that is said to be off the bus answers."""
    state = beginning(at(-60))
    well = Report("nvml_gpus", (Observation("NVML-GPU-LOST", "gpu:0000:97:00", Status.OK),))
    for reports, now in (([kernel(XID_79, 0)], at(0.002)), ([well], at(14.2))):
        state, changes = step(state, reports, CATALOGUE, now)
        yield from changes


def others() -> Iterator[Change]:
    """Yield what only the agent says, in the words of hma/agent.py and hma/kernel_watch.py."""
    started = (("version", "0.1.0"), ("pid", "4711"), ("checks_planned", "21"), ("restored_faults", "0"))
    yield Change("agent_started", at(-61), note="nothing is recorded of this node", attrs=started)
    ready = step(beginning(at(-60)), [Report("x", (Observation("X", "host", Status.OK),))], CATALOGUE, at(-60)).state.verdict
    yield Change("agent_ready", at(-60.5), verdict=ready, attrs=(("after_ms", "212"),))
    yield Change("agent_stopping", at(300))
    yield Change("kernel_log_unreadable", at(1), note="/dev/kmsg: Operation not permitted; run as root, or give CAP_SYSLOG")
    yield Change("kernel_log_readable", at(31), note="/dev/kmsg can be read again")
    lost = "1204 lines of the kernel log were overwritten before they could be read (from sequence 88123-89326)"
    yield Change("kernel_log_lost", at(2), note=lost, attrs=(("lost", "1204"), ("first_gap", "88123-89326")))
    spoof = "1 line looks like the kernel's but was written by a program; not trusted; the first: facility 1: " + XID_79
    yield Change("spoof_suspected", at(3), note=spoof, attrs=(("lines", "1"),))
    yield Change("journal_lost", at(5), note="/var/lib/hma/journal.db: No space left on device; detection goes on")
    yield Change(
        "journal_recovered", at(65), note="the journal can be written again; nothing is lost that was known in the meantime"
    )
    yield Change("config_reloaded", at(6), note="takes effect after a restart: state_dir")
    rejected = (
        "the last good configuration stays: /etc/hma/config.yaml:3: checks.xid.intervall: no such key; did you mean interval?"
    )
    yield Change("config_rejected", at(7), note=rejected)
    problem = "acme-checks: check fan (acme.fan:CHECK): is no hma.check.Check but int; mend or remove that package"
    yield Change("check_problem", at(-61), note=problem)
    yield Change("facts_changed", at(-58), note="the metadata service says: p5.48xlarge, i-0123456789abcdef0")


def samples() -> dict[str, str]:
    """Return one line of each event, the first that is said."""
    lines: dict[str, str] = {}
    for change in (*story(), *refuted(), *others()):
        body = record(change, NODE, CATALOGUE)
        if change.kind == "agent_ready":
            body["checks"] = [{"check": "xid", "status": "ok", "reason": "nothing found in the kernel log"}]
        lines.setdefault(change.kind, to_line(body))
    return lines


SAMPLES = samples()


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_page_shows_the_line_that_the_program_prints(kind: str) -> None:
    shown = [line for line in PAGE.splitlines() if line.startswith("{") and f'"msg":"{kind}"' in line]
    assert shown == [SAMPLES[kind]]


def told_in_the_program() -> set[str]:
    """Return every event that is named where something is told."""
    found: set[str] = set()
    for path in (ROOT / "hma").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("_tell", "Change") and re.fullmatch(r"[a-z]+(_[a-z]+)+", str(node.args[0].value)):
                found.add(str(node.args[0].value))
    return found


def test_every_event_of_the_program_is_on_the_page() -> None:
    assert told_in_the_program() == set(SAMPLES)
    assert {kind for kind in SAMPLES if f"| `{kind}` |" not in PAGE} == set()


def test_every_key_is_explained() -> None:
    assert {key for key in KEYS if f"`{key}`" not in PAGE} == set()


def test_limits_are_those_of_the_program() -> None:
    words = {LINE_BYTES: "16 KiB", EVIDENCE_BYTES: "2 KiB", NOTE_BYTES: "2 KiB", ATTRS_BYTES: "2 KiB", TEXT_BYTES: "1 KiB"}
    for limit, said in words.items():
        assert int(said.split()[0]) * 1_024 == limit
        assert said in PAGE


INSIGHTS = (
    "fields filter sort desc asc stats limit parse display by as and or not in like count count_distinct latest earliest bin "
    "ispresent dedup true false"
)


def queries() -> list[str]:
    return re.findall(r"```text\n# [^\n]*\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("query", queries())
def test_queries_ask_for_keys_that_records_have(query: str) -> None:
    made = set(re.findall(r"\bas (\w+)", query)) | set(re.findall(r"\?<(\w+)>", query))
    words = re.sub(r'"[^"]*"|/(?:[^/\\]|\\.)+/|@\w+|\b\d+\w*', " ", query)
    asked = set(re.findall(r"[A-Za-z_]\w*", words)) - {*INSIGHTS.split()} - made
    known = {key for line in SAMPLES.values() for key in json.loads(line)}
    assert asked - known == set()


def test_there_are_queries() -> None:
    assert len(queries()) >= 6
