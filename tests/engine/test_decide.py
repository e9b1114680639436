"""From faults to a verdict: nothing destructive without a row that justifies it, and always the most severe that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hma.catalogue import Confirm, End, Inhibit, Policy
from hma.engine.decide import decide
from hma.model import Action, Instant, Past, Status, Verdict
from tests.engine.rows import CARD, HOURS, ROWS, UTC0, Node, node, saw

DAY = 24 * HOURS
NONE, RESTART, REBOOT, REPLACE = Action
RESET = saw("CARD-RESET", status=Status.OK)


def asked(n: Node) -> tuple[Action, bool, Status]:
    verdict = n.state.verdict
    return (verdict.action, verdict.schedulable, verdict.health)


# -- one fault --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        (NONE, (NONE, True, Status.DEGRADED)),
        (RESTART, (RESTART, True, Status.DEGRADED)),
        (REBOOT, (REBOOT, False, Status.FAILED)),
        (REPLACE, (REPLACE, False, Status.FAILED)),
    ],
)
def test_one_strong_fault_is_worth_what_its_row_says(action: Action, verdict: tuple[Action, bool, Status]) -> None:
    n = node(Policy("X", "", "card", action))
    n.see(saw("X"))
    assert asked(n) == verdict
    assert [(why.code, why.action, why.rule) for why in n.state.verdict.why] == [("X", action, f"X: {action.value}")]
    assert n.alive("X").action is action


@pytest.mark.parametrize("action", [REBOOT, REPLACE])
@pytest.mark.parametrize("again", [None, REPLACE])
@pytest.mark.parametrize("confirm", [None, Confirm(("B",), 20.0, REBOOT), Confirm(("B",), 20.0, REPLACE)])
def test_weak_evidence_alone_is_never_destructive(action: Action, again: Action | None, confirm: Confirm | None) -> None:
    n = node(Policy("X", "", "card", action, again=again, confirm=confirm, evidence="weak", ends=(End("ok"),)))
    for boots in range(2):
        n.see(saw("X"))
        assert asked(n) == (NONE, True, Status.DEGRADED)
        n.wait(100.0)
        assert asked(n) == (NONE, True, Status.DEGRADED), boots
        n.reboot()


def test_weak_evidence_with_a_second_source_is_worth_its_row() -> None:
    n = node(
        Policy("X", "", "card", REBOOT, evidence="weak", confirm=Confirm(("B",), 20.0, NONE)),
        Policy("B", "", "card", evidence="weak"),
    )
    n.see(saw("X"), saw("B"))
    assert asked(n) == (REBOOT, False, Status.FAILED)


@pytest.mark.parametrize(
    ("inhibit", "state", "health"), [(Inhibit(("A",)), "inhibited", Status.DEGRADED), (None, "pending", Status.DEGRADED)]
)
def test_what_does_not_count_asks_for_nothing(inhibit: Inhibit | None, state: str, health: Status) -> None:
    n = node(Policy("A", "", "card"), Policy("X", "", "card", REPLACE, inhibit=inhibit, hold_s=0.0 if inhibit else 60.0))
    n.see(saw("A"), saw("X"))
    assert asked(n) == (NONE, True, health), state


def test_blindness_is_named_and_worth_nothing_whatever_its_row_says() -> None:
    confirm = Confirm(("B",), 60.0, NONE)
    n = node(
        Policy("BLIND", "", "check", REPLACE, raised_by="unknown"),
        Policy("DARK", "", "check", REPLACE, raised_by="unknown", confirm=confirm),
    )
    n.see(saw("BLIND", "check:pci", Status.UNKNOWN), saw("DARK", "check:log", Status.UNKNOWN), saw("OTHER", status=Status.OK))
    verdict = n.state.verdict
    assert (verdict.blind, verdict.why, verdict.awaiting) == (("pci", "log"), (), ())
    assert asked(n) == (NONE, True, Status.OK)


# -- several faults ---------------------------------------------------------------------------------------------------


def test_the_most_severe_action_is_asked_for_and_every_reason_named() -> None:
    n = node(*(Policy(f"X-{a.value}".upper(), "", "card", a) for a in Action))
    for action in Action:
        n.see(saw(f"X-{action.value}".upper()))
        n.wait(1.0)
        assert n.state.verdict.action is action
    assert [why.action for why in n.state.verdict.why] == list(Action), "oldest first"


@pytest.mark.parametrize(
    ("rows", "when"),
    [
        ([(REBOOT, "idle")], "idle"),
        ([(REBOOT, "now")], "now"),
        ([(REBOOT, "idle"), (REBOOT, "now")], "now"),
        ([(REPLACE, "idle"), (REBOOT, "now")], "idle"),
        ([(NONE, "idle")], "now"),
        ([], "now"),
    ],
)
def test_cure_waits_for_work_only_where_every_row_with_that_action_says_so(rows: list[tuple[Action, str]], when: str) -> None:
    n = node(*(Policy(f"X-{i}", "", "card", action, when=w) for i, (action, w) in enumerate(rows)))
    n.see(*(saw(f"X-{i}") for i in range(len(rows))))
    assert n.state.verdict.when == when


# -- second sources ---------------------------------------------------------------------------------------------------


def test_action_waits_for_its_second_source_and_takes_the_milder_one_without() -> None:
    n = Node()
    n.see(saw("CARD-3", at=n.mono))
    assert asked(n) == (NONE, False, Status.FAILED), "strong evidence keeps new work away while it waits"
    assert n.state.verdict.awaiting == ("CARD-3 on card:0: replace awaits COUNT",)
    n.wait(19.5)
    assert asked(n) == (NONE, False, Status.FAILED)
    assert n.wait(0.5) == ["verdict_changed"]
    assert asked(n) == (REBOOT, False, Status.FAILED)
    assert n.state.verdict.why[0].rule == "CARD-3: replace, not confirmed by COUNT: reboot"


def test_confirmed_action_is_taken_and_given_back_with_the_confirmation() -> None:
    n = Node()
    n.see(saw("CARD-3", at=n.mono), saw("COUNT", "node"))
    n.wait(5.0)
    assert asked(n)[0] is REPLACE
    assert n.state.verdict.why[0].rule == "CARD-3: replace, confirmed by a second source"
    n.wait(60.0)
    n.see(saw("COUNT", "node", Status.OK))
    assert asked(n)[0] is REBOOT


def test_weak_hint_that_waits_does_not_keep_work_away() -> None:
    n = Node()
    n.see(saw("COUNT", "node"))
    n.wait(5.0)
    assert asked(n) == (NONE, True, Status.DEGRADED)
    assert n.state.verdict.awaiting


def test_event_that_was_read_late_still_waits_for_its_second_source() -> None:
    n = Node()
    n.see(saw("CARD-3", at=n.mono - 900.0))
    assert n.state.verdict.awaiting
    n.wait(10.0)
    n.see(saw("COUNT", "node"))
    n.wait(5.0)
    assert asked(n)[0] is REPLACE


@pytest.mark.parametrize(("sources", "action"), [(1, REBOOT), (2, REPLACE), (3, REPLACE)])
def test_row_may_ask_for_several_second_sources(sources: int, action: Action) -> None:
    confirm = Confirm(("B", "C", "D"), 20.0, REBOOT, count=2)
    n = node(Policy("X", "", "card", REPLACE, confirm=confirm), *(Policy(code, "", "card") for code in "BCD"))
    n.see(saw("X"), *(saw(code) for code in "BCD"[:sources]))
    n.wait(30.0)
    assert asked(n)[0] is action


def test_action_no_worse_than_otherwise_does_not_wait() -> None:
    n = node(Policy("X", "", "card", REBOOT, confirm=Confirm(("B",), 20.0, REBOOT)))
    n.see(saw("X"))
    assert (asked(n)[0], n.state.verdict.awaiting) == (REBOOT, ())


# -- again ------------------------------------------------------------------------------------------------------------


def test_same_code_on_the_same_component_after_a_reboot_is_worth_more() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    assert asked(n)[0] is REBOOT
    n.reboot()
    n.restart()
    assert asked(n) == (NONE, True, Status.OK)
    n.see(saw("CARD-1", at=n.mono))
    assert asked(n)[0] is REPLACE
    assert n.state.verdict.why[0].rule == "CARD-1: replace, failed again after a reboot"


Story = Callable[[Node], object]


def ended_on_the_same_boot(n: Node) -> None:
    n.see(saw("CARD-1", at=n.mono))
    n.wait(1.0)
    n.see(RESET)


def another_component(n: Node) -> None:
    n.see(saw("CARD-1", "card:1", at=n.mono))
    n.reboot()


def another_code(n: Node) -> None:
    n.see(saw("CARD-3", at=n.mono))
    n.reboot()


def eight_days_ago(n: Node) -> None:
    n.see(saw("CARD-1", at=n.mono))
    n.reboot(down_s=60.0)
    n.wait(7 * DAY + 1.0)


def a_boot_without_a_fault(n: Node) -> None:
    n.reboot()


@pytest.mark.parametrize(
    "before", [ended_on_the_same_boot, another_component, another_code, eight_days_ago, a_boot_without_a_fault]
)
def test_what_is_no_second_time(before: Story) -> None:
    n = Node()
    before(n)
    n.see(saw("CARD-1", at=n.mono))
    assert asked(n)[0] is REBOOT


def test_many_faults_of_other_kinds_do_not_push_the_first_time_out_of_memory() -> None:
    n = node(
        Policy("X", "", "card", REBOOT, again=REPLACE), Policy("FLAPS", "", "disk", ends=(End("ok"),)),
    )  # fmt: skip
    n.see(saw("X"))
    n.reboot()
    for _ in range(600):
        n.see(saw("FLAPS", "disk:a"))
        n.wait(1.0)
        n.see(saw("FLAPS", "disk:a", Status.OK))
    n.see(saw("X"))
    assert asked(n)[0] is REPLACE
    assert len(n.state.history) == 2


def test_many_times_on_this_boot_do_not_push_out_the_time_before_it() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    n.reboot()
    n.see(saw("CARD-1", at=n.mono))
    for _ in range(600):
        n.wait(1.0)
        n.see(saw("CARD-RESET", status=Status.OK, at=n.mono))
        n.wait(1.0)
        n.see(saw("CARD-1", at=n.mono))
    assert asked(n)[0] is REPLACE


def test_consequence_before_the_reboot_is_no_first_time() -> None:
    row = Policy("X", "", "card", REBOOT, again=REPLACE, inhibit=Inhibit(("A",)))
    n = node(Policy("A", "", "card", REBOOT), row)
    n.see(saw("A"), saw("X"))
    n.reboot()
    n.see(saw("X"))
    assert asked(n)[0] is REBOOT


@pytest.mark.parametrize(("years", "action"), [(-1, REPLACE), (0, REPLACE), (5, REBOOT)])
def test_wrong_clock_of_records_makes_again_at_most_milder(years: int, action: Action) -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    n.reboot()
    n.utc += years * 365 * DAY
    n.see(saw("CARD-1", at=n.mono), saw("CARD-4", "card:1", at=n.mono))
    assert asked(n)[0] is action
    n.wait(60.0)
    assert "CARD-1" in [past.code for past in n.state.history], "a wrong clock makes nothing forgotten"


def test_again_may_be_milder() -> None:
    n = node(Policy("X", "", "card", REBOOT, again=NONE))
    n.see(saw("X"))
    n.reboot()
    n.see(saw("X"))
    assert asked(n) == (NONE, True, Status.DEGRADED)


def test_again_waits_for_a_second_source_like_the_first_time() -> None:
    n = node(Policy("X", "", "card", REBOOT, again=REPLACE, confirm=Confirm(("B",), 20.0, REBOOT)), Policy("B", "", "card"))
    n.see(saw("X"))
    n.reboot()
    n.see(saw("X"))
    assert asked(n)[:2] == (NONE, False)
    n.see(saw("B"))
    assert asked(n)[0] is REPLACE


# -- after a reboot ---------------------------------------------------------------------------------------------------


def test_evidence_from_before_a_reboot_asks_for_no_second_one() -> None:
    n = Node()
    n.see(saw("STATE", "disk:a"))
    assert asked(n)[0] is REBOOT
    n.reboot()
    assert asked(n) == (NONE, False, Status.FAILED), "not yet looked at: nothing is repaired and nothing is placed"
    assert n.state.verdict.awaiting == ("STATE on disk:a: the node has rebooted, awaits a new look",)
    n.see(saw("STATE", "disk:a", Status.UNKNOWN))
    assert asked(n) == (NONE, False, Status.FAILED)
    n.see(saw("STATE", "disk:a"))
    assert asked(n)[0] is REBOOT


def test_fine_look_after_the_reboot_ends_the_wait() -> None:
    n = Node()
    n.see(saw("STATE", "disk:a"))
    n.reboot()
    n.see(saw("STATE", "disk:a", Status.OK))
    n.wait(15.0)
    assert asked(n) == (NONE, True, Status.OK)


def test_event_that_outlives_a_boot_keeps_no_work_away_after_it() -> None:
    n = Node()
    n.see(saw("CARD-2", at=n.mono))
    n.reboot(down_s=20.0)
    assert asked(n) == (NONE, True, Status.DEGRADED)
    assert n.state.verdict.why[0].rule.endswith("and the node has rebooted since")


def test_replacement_once_justified_outlives_a_boot() -> None:
    n = node(Policy("X", "", "card", REPLACE, ends=(End("ok"),)))
    n.see(saw("X"))
    n.reboot()
    assert asked(n)[0] is REPLACE


def test_state_that_still_fails_after_the_reboot_is_a_second_time() -> None:
    n = node(Policy("X", "", "disk", REBOOT, again=REPLACE, ends=(End("ok"),)))
    n.see(saw("X"))
    n.reboot()
    assert asked(n)[0] is NONE
    n.see(saw("X"))
    assert asked(n)[0] is REPLACE


# -- health and since -------------------------------------------------------------------------------------------------


def test_health_is_unknown_until_something_was_looked_at() -> None:
    n = Node()
    n.take()
    n.see(saw("STATE", "disk:a", Status.UNKNOWN), saw("BLIND", "check:pci", Status.UNKNOWN))
    assert asked(n) == (NONE, True, Status.UNKNOWN)
    n.wait(60.0)
    assert n.state.verdict.blind == ("pci",)
    assert asked(n) == (NONE, True, Status.UNKNOWN)
    assert n.see(saw("STATE", "disk:a", Status.OK)) == ["verdict_changed"]
    assert asked(n) == (NONE, True, Status.OK)
    assert n.state.verdict.since == n.now


def test_since_is_kept_while_nothing_that_matters_changes() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    since = n.state.verdict.since
    n.wait(5.0)
    n.see(saw("CARD-1", "card:1", at=n.mono))
    assert (n.state.verdict.since, len(n.state.verdict.why)) == (since, 2)
    n.wait(5.0)
    n.see(saw("CARD-RESET", status=Status.OK, at=n.mono))
    assert n.state.verdict.since == since
    n.see(saw("CARD-RESET", "card:1", Status.OK, at=n.mono))
    assert n.state.verdict.since == n.now


NOW = Instant(1_000.0, UTC0, "boot-1")


@pytest.mark.parametrize("health", Status)
def test_no_fault_is_ok_unless_nothing_was_ever_looked_at(health: Status) -> None:
    before = Verdict(health, True, NONE, "now", replace_since())
    expected = Status.UNKNOWN if health is Status.UNKNOWN else Status.OK
    verdict = decide({}, ROWS, (), NOW, before)
    assert verdict.health is expected
    assert verdict.since == (replace_since() if health is expected else NOW)


def replace_since() -> Instant:
    return NOW._replace(mono=5.0)


def test_order_of_history_and_faults_does_not_matter() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono), saw("CARD-4", at=n.mono), saw("STATE", "disk:a"))
    past = [Past(f"id{i}", "CARD-1", CARD, f"boot-{i}", UTC0, UTC0, "", REBOOT) for i in range(3)]
    backwards = dict(reversed(list(n.state.faults.items())))
    one = decide(n.state.faults, ROWS, past, n.now, n.state.verdict)
    assert one == decide(backwards, ROWS, past[::-1], n.now, n.state.verdict)
    assert one.action is REPLACE
    assert replace(one, since=n.now) == replace(n.state.verdict, since=n.now, action=REPLACE, why=one.why)
