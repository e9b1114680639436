"""Processes killed for want of memory. Where the kept lines are from: tests/data/kernel/ORIGIN-host.md."""

import pytest

from checks.passive.oom import CHECK
from hma.model import Observation
from tests.checks.kernel_lines import Case, cases, look

FACTS = (
    "oom-kill:constraint={},nodemask=(null),cpuset=/,mems_allowed=0,{},task_memcg=/kubepods/pod1/x,"
    "task=python3,pid=125,uid=1000"
)
KILLED = (
    "{}: Killed process 125 (python3) total-vm:21540kB, anon-rss:20268kB, file-rss:4kB, shmem-rss:648kB, UID:1000 pgtables:76kB"
    " oom_score_adj:0"
)


def one(*texts: str) -> Observation:
    (seen,) = look(CHECK, *texts)
    return seen


@pytest.mark.parametrize("case", cases("host-oom.txt"), ids=lambda case: case.text[:70])
def test_kept_line_says_what_it_must(case: Case) -> None:
    assert [(seen.code, seen.component) for seen in look(CHECK, case.text)] == (
        [(case.code, case.component)] if case.code else []
    )


@pytest.mark.parametrize(
    ("constraint", "whose", "scope", "code"),
    [
        ("CONSTRAINT_NONE", "global_oom", "Out of memory", "OOM-HOST"),
        ("CONSTRAINT_MEMCG", "oom_memcg=/kubepods/pod1", "Memory cgroup out of memory", "OOM-LIMIT"),
        ("CONSTRAINT_CPUSET", "global_oom", "Out of memory", "OOM-LIMIT"),
        ("CONSTRAINT_MEMORY_POLICY", "global_oom", "Out of memory", "OOM-LIMIT"),
    ],
)
def test_constraint_tells_the_node_s_shortage_from_a_limit(constraint: str, whose: str, scope: str, code: str) -> None:
    seen = one(FACTS.format(constraint, whose), KILLED.format(scope))
    assert (seen.code, seen.actor) == (code, "pid 125")
    assert dict(seen.attrs)["constraint"] == constraint


def test_facts_of_both_lines_are_kept() -> None:
    facts, killed = FACTS.format("CONSTRAINT_MEMCG", "oom_memcg=/kubepods/pod1"), KILLED.format("Memory cgroup out of memory")
    seen = one(facts, killed)
    assert (seen.unit, seen.evidence, seen.at) == ("/kubepods/pod1", f"{facts}\n{killed}", 8.5)
    assert dict(seen.attrs) == {
        "pid": "125",
        "process": "python3",
        "uid": "1000",
        "anon_rss_kb": "20268",
        "constraint": "CONSTRAINT_MEMCG",
        "memcg": "/kubepods/pod1",
    }


def test_captured_kills_with_all_their_lines_are_one_observation_each() -> None:
    texts = [case.text for case in cases("host-oom.txt")]
    end = next(n for n, text in enumerate(texts) if text.startswith("Out of memory: Killed"))
    limit, host = look(CHECK, *texts[: end + 1])
    assert (limit.code, limit.unit, dict(limit.attrs)["uid"]) == ("OOM-LIMIT", "/hmalab", "0")
    assert (host.code, host.unit, dict(host.attrs)["constraint"]) == ("OOM-HOST", "", "CONSTRAINT_NONE")


def test_members_of_a_killed_group_each_count() -> None:
    killed = KILLED.format("Memory cgroup out of memory")
    assert len(look(CHECK, FACTS.format("CONSTRAINT_MEMCG", "oom_memcg=/p"), killed, killed.replace("125", "126"))) == 2


def test_facts_of_long_ago_are_not_used() -> None:
    lines = [FACTS.format("CONSTRAINT_CPUSET", "global_oom"), *["out of memory"] * 6, KILLED.format("Out of memory")]
    assert one(*lines).code == "OOM-HOST"


def test_process_name_cannot_make_a_limit_the_node_s_shortage() -> None:
    text = KILLED.format("Memory cgroup out of memory").replace("(python3)", "(Out of memory:)")
    assert one(text).code == "OOM-LIMIT"
