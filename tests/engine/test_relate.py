"""Consequences and second sources: who silences whom, who confirms whom, and when that ends."""

from __future__ import annotations

import pytest

from hma.catalogue import Confirm, End, Inhibit, Policy
from hma.engine.relate import relate
from hma.model import Action, FaultKey, Status
from tests.engine.rows import CARD, ROWS, Node, node, saw

RESET = saw("CARD-RESET", status=Status.OK)


def inhibitor(n: Node, code: str = "CARD-2", component: str = CARD) -> str:
    """Return the code of the fault that silences `code`, live or ended; "" for none."""
    by = n.alive(code, component).inhibited_by
    names = {c.fault.id: c.fault.code for c in n.changes if c.fault} | {f.id: f.code for f in n.state.faults.values()}
    return names[by] if by else ""


# -- the rule of a row ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause_at", "consequence_at", "silenced"),
    [(990, 995, True), (990, 1_000, True), (990, 1_000.5, False), (1_000, 990, True), (1_000, 989.5, False)],
)
def test_consequence_is_one_within_the_time_of_its_row(cause_at: float, consequence_at: float, silenced: bool) -> None:
    n = Node(mono=1_001.0)
    n.see(saw("CARD-1", at=float(cause_at)), saw("CARD-2", at=float(consequence_at)))
    assert bool(inhibitor(n)) is silenced


@pytest.mark.parametrize(
    ("wide", "component", "silenced"), [(False, CARD, True), (False, "card:1", False), (True, "card:1", True)]
)
def test_cause_is_on_the_same_component_unless_the_row_says_node(wide: bool, component: str, silenced: bool) -> None:
    n = node(Policy("A", "", "card"), Policy("B", "", "card", inhibit=Inhibit(("A",), node=wide)))
    n.see(saw("A", component), saw("B"))
    assert bool(inhibitor(n, "B")) is silenced


STAR = Inhibit(("*",))


@pytest.mark.parametrize(
    ("other", "silenced"),
    [
        (Policy("K-1", "same family", "card"), True),
        (Policy("L-1", "another family", "card"), False),
        (Policy("K-2", "a consequence itself", "card", inhibit=STAR), False),
        (Policy("K-3", "a consequence of named ones", "card", inhibit=Inhibit(("Z",))), True),
        (Policy("K-4", "a repetition", "card", counts="K-9"), False),
    ],
    ids=lambda row: row.title if isinstance(row, Policy) else "",
)
def test_star_means_any_first_hand_code_of_the_family(other: Policy, silenced: bool) -> None:
    n = node(other, Policy("K-9", "", "card", inhibit=STAR))
    n.see(saw(other.code), saw("K-9"))
    assert bool(inhibitor(n, "K-9")) is silenced


def test_the_most_severe_cause_is_named() -> None:
    n = node(
        Policy("K-1", "", "card"), Policy("K-2", "", "card", Action.REPLACE), Policy("K-3", "", "card", Action.REBOOT),
        Policy("K-9", "", "card", inhibit=STAR),
    )  # fmt: skip
    n.see(saw("K-1"), saw("K-2"), saw("K-3"), saw("K-9"))
    assert inhibitor(n, "K-9") == "K-2"


def test_pending_fault_silences_nothing() -> None:
    n = node(Policy("A", "", "card", hold_s=60.0), Policy("B", "", "card", Action.REBOOT, inhibit=Inhibit(("A",))))
    assert n.see(saw("A"), saw("B")) == ["fault_active B", "verdict_changed"]


def test_pending_consequence_is_silenced_before_it_counts() -> None:
    n = node(Policy("A", "", "card"), Policy("B", "", "card", hold_s=5.0, inhibit=Inhibit(("A",))))
    n.see(saw("A"), saw("B"))
    assert n.wait(5.0) == ["fault_inhibited B"]


# -- a cause that the device names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "live", "component", "silenced"),
    [
        ("K-1", "K-1", CARD, True),
        ("K-1", "K-1-REFINED", CARD, True),
        ("K-1", "K-1-REPEAT", CARD, False),
        ("K-1", "K-11", CARD, False),
        ("K-1", "K-1", "card:1", False),
        ("", "K-1", CARD, False),
    ],
)
def test_named_cause_is_found_under_its_refined_code(cause: str, live: str, component: str, silenced: bool) -> None:
    n = node(
        Policy("K-1", "", "card"), Policy("K-1-REFINED", "", "card"), Policy("K-1-REPEAT", "", "card", counts="NONE"),
        Policy("K-11", "", "card"), Policy("K-9", "", "card"),
    )  # fmt: skip
    n.see(saw(live, component), saw("K-9", cause=cause))
    assert bool(inhibitor(n, "K-9")) is silenced


# -- over time --------------------------------------------------------------------------------------------------------


def test_cause_that_comes_later_silences_too() -> None:
    n = Node()
    assert n.see(saw("CARD-2", at=n.mono)) == ["fault_active CARD-2", "verdict_changed"]
    n.wait(3.0)
    assert n.see(saw("CARD-1", at=n.mono)) == ["fault_inhibited CARD-2", "fault_active CARD-1"]


def test_consequence_that_is_seen_again_stays_one_while_its_cause_lasts() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono), saw("CARD-2", at=n.mono))
    for _ in range(3):
        n.wait(30.0)
        assert n.see(saw("CARD-2", at=n.mono)) == []
        assert inhibitor(n) == "CARD-1"


def ended_cause() -> Node:
    n = Node()
    n.see(saw("CARD-1", at=n.mono), saw("CARD-2", at=n.mono))
    n.wait(1.0)
    n.see(RESET)
    assert n.fault("CARD-1") is None
    return n


def test_consequence_stays_one_when_its_cause_ends() -> None:
    n = ended_cause()
    n.wait(50.0)
    assert inhibitor(n) == "CARD-1"
    assert n.state.verdict.health is Status.OK


@pytest.mark.parametrize(("after_s", "told"), [(8.0, []), (9.5, ["fault_active CARD-2", "verdict_changed"])])
def test_ended_cause_explains_what_comes_shortly_after_it(after_s: float, told: list[str]) -> None:
    n = ended_cause()
    n.wait(after_s)
    assert n.see(saw("CARD-2", at=n.mono)) == told


@pytest.mark.parametrize(("after_s", "told"), [(9.0, "fault_inhibited CARD-2"), (9.5, "fault_active CARD-2")])
def test_consequence_first_seen_after_its_cause_ended(after_s: float, told: str) -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    n.wait(1.0)
    n.see(RESET)
    n.wait(after_s)
    n.restart()
    assert n.see(saw("CARD-2", at=n.mono))[0] == told


def test_cause_that_ended_in_the_same_report_still_explains() -> None:
    n = Node()
    told = n.see(saw("CARD-1", at=990.0), saw("CARD-RESET", status=Status.OK, at=991.0), saw("CARD-2", at=992.0))
    assert told == ["fault_active CARD-1", "fault_resolved CARD-1", "fault_inhibited CARD-2", "verdict_changed"]


def test_consequence_that_began_and_ended_in_one_report_is_told_as_one() -> None:
    n = node(
        Policy("A", "", "card", ends=(End("by", code="RESET"),)),
        Policy("B", "", "card", ends=(End("by", code="RESET"),), inhibit=Inhibit(("A",))),
        Policy("RESET", "", "card", raised_by="never"),
    )
    told = n.see(saw("A", at=990.0), saw("B", at=991.0), saw("RESET", status=Status.OK, at=992.0))
    assert told[:4] == ["fault_active A", "fault_resolved A", "fault_inhibited B", "fault_resolved B"]


def test_cause_of_an_earlier_boot_explains_nothing_new() -> None:
    n = Node()
    n.see(saw("CARD-1", at=n.mono))
    n.reboot(down_s=5.0, mono=1_001.0)
    assert "fault_active CARD-2" in n.see(saw("CARD-2", at=n.mono))


def test_consequence_that_ended_explains_nothing() -> None:
    rows = (Policy("A", "", "card"), Policy("B", "", "card", inhibit=Inhibit(("A",)), ends=(End("by", code="RESET"),)))
    n = node(*rows, Policy("C", "", "card", inhibit=Inhibit(("B",))), Policy("RESET", "", "card", raised_by="never"))
    n.see(saw("A"), saw("B"))
    n.wait(1.0)
    n.see(saw("RESET", status=Status.OK))
    assert n.see(saw("C")) == ["fault_active C"]


@pytest.mark.parametrize("order", [("A", "B"), ("B", "A")])
def test_two_that_name_each_other_never_silence_each_other(order: tuple[str, str]) -> None:
    n = node(
        Policy("A", "", "card", Action.REBOOT, inhibit=Inhibit(("B",))),
        Policy("B", "", "card", Action.REPLACE, inhibit=Inhibit(("A",))),
    )
    for code in (*order, *order, *order[::-1]):
        n.see(saw(code))
        n.wait(1.0)
        silenced = [f.code for f in n.state.faults.values() if f.inhibited_by]
        assert len(silenced) < len(n.state.faults)
        assert n.state.verdict.action.destructive


def test_chain_ends_at_the_one_that_stands_for_itself() -> None:
    n = node(
        Policy("A", "", "card", Action.REBOOT), Policy("B", "", "card", inhibit=Inhibit(("A",))),
        Policy("C", "", "card", inhibit=Inhibit(("B",))),
    )  # fmt: skip
    n.see(saw("C"))
    n.see(saw("B"))
    n.see(saw("A"))
    assert [(c, inhibitor(n, c)) for c in "ABC"] == [("A", ""), ("B", "A"), ("C", "B")]


def test_relating_again_changes_nothing() -> None:
    n = ended_cause()
    n.see(saw("CARD-3", at=n.mono), saw("COUNT", "node"))
    n.wait(6.0)
    assert relate(n.state.faults, ROWS, n.state.history) == n.state.faults


# -- second sources ---------------------------------------------------------------------------------------------------


def test_confirmed_by_a_node_wide_fault_once_that_counts() -> None:
    n = Node()
    n.see(saw("CARD-3", at=n.mono), saw("COUNT", "node"))
    assert n.alive("CARD-3").confirmed_by == ()
    told = n.wait(5.0)
    assert told == ["fault_confirmed CARD-3", "fault_active COUNT", "fault_confirmed COUNT", "verdict_changed"]
    assert n.alive("CARD-3").confirmed_by == (n.alive("COUNT", "node").id,)


def test_confirmation_ends_with_the_one_that_confirms() -> None:
    n = Node()
    n.see(saw("CARD-3", at=n.mono), saw("COUNT", "node"))
    n.wait(5.0)
    n.see(saw("COUNT", "node", Status.OK))
    assert n.alive("CARD-3").confirmed_by == ()


@pytest.mark.parametrize(
    ("component", "other", "confirms"),
    [
        ("card:0", "card:0", True),
        ("card:0", "card:1", False),
        ("card:0", "node", True),
        ("card:0", "host", True),
        ("node", "card:1", True),
    ],
)
def test_second_source_speaks_of_the_same_component_or_of_the_node(component: str, other: str, confirms: bool) -> None:
    n = node(Policy("A", "", "card", confirm=Confirm(("B",), 20.0, Action.NONE)), Policy("B", "", "card"))
    n.see(saw("A", component), saw("B", other))
    assert bool(n.alive("A", component).confirmed_by) is confirms


@pytest.mark.parametrize(
    ("fault_at", "other_at", "confirms"),
    [
        (1_000.0, 990.0, True),
        (1_000.0, 980.0, True),
        (1_000.0, 979.5, False),
        # The event was read an hour late: the second source is waited for from then on, so it must count from then on.
        (100.0, 1_000.0, True),
    ],
)
def test_second_source_must_be_near_the_event_or_come_while_it_is_waited_for(
    fault_at: float, other_at: float, confirms: bool
) -> None:
    n = node(Policy("A", "", "card", confirm=Confirm(("B",), 20.0, Action.NONE)), Policy("B", "", "card"))
    n.see(saw("A", at=fault_at), saw("B", at=other_at))
    assert bool(n.alive("A").confirmed_by) is confirms


@pytest.mark.parametrize(("after_s", "confirms"), [(19.5, True), (20.5, False)])
def test_second_source_that_comes_too_late_confirms_nothing(after_s: float, confirms: bool) -> None:
    n = node(Policy("A", "", "card", confirm=Confirm(("B",), 20.0, Action.NONE)), Policy("B", "", "card"))
    n.see(saw("A", at=n.mono - 500.0))
    n.wait(after_s)
    n.see(saw("B"))
    assert bool(n.alive("A").confirmed_by) is confirms


def test_silenced_fault_is_still_a_second_source() -> None:
    n = node(
        Policy("A", "", "card", confirm=Confirm(("B",), 20.0, Action.NONE)), Policy("B", "", "card", inhibit=Inhibit(("A",)))
    )
    n.see(saw("A"), saw("B"))
    assert n.alive("B").inhibited_by
    assert n.alive("A").confirmed_by == (n.alive("B").id,)


def test_a_fault_does_not_confirm_its_own_code_on_another_component() -> None:
    n = node(Policy("A", "", "card", confirm=Confirm(("A",), 20.0, Action.NONE)))
    n.see(saw("A", "card:0"), saw("A", "node"))
    assert n.state.faults[FaultKey("A", "card:0")].confirmed_by == ()
