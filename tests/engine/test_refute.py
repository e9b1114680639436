"""A second source that finds nothing ends the wait for it, and asks for nothing harsher than its absence would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.catalogue import Confirm, End, Grows, Policy
from hma.engine.decide import worth
from hma.engine.refute import REFUTE_AFTER_S
from hma.model import Action, Fault, FaultState, Instant, Observation, Status
from tests.engine.rows import CARD, Node, node, report, saw

WAIT_S = 120.0


def rows(refute: tuple[str, ...] | None = None, count: int = 1) -> Node:
    confirm = Confirm(("PROBE", "COUNT"), WAIT_S, Action.REBOOT, count, refute)
    return node(
        Policy("LOST", "may be gone", "card", Action.REPLACE, confirm=confirm),
        Policy("PROBE", "does not answer", "card", ends=(End("ok"),)),
        Policy("COUNT", "too few", "node", hold_s=30.0, ends=(End("ok"),)),
        Policy("OTHER", "something else", "card", ends=(End("ok"),)),
    )


def fine(code: str = "PROBE", component: str = CARD) -> Observation:
    return saw(code, component, Status.OK)


def lost(n: Node, wait_s: float = 20.0) -> Node:
    """Lose the card, and let some time pass."""
    n.see(saw("LOST"))
    n.wait(wait_s)
    return n


def test_refuted_fault_is_worth_otherwise_at_once_and_is_told_once() -> None:
    n = lost(rows())
    assert n.state.verdict.awaiting
    assert n.see(fine()) == ["fault_refuted LOST", "verdict_changed"]
    assert n.changes[-2].note == "by PROBE"
    assert (n.state.verdict.action, n.state.verdict.awaiting) == (Action.REBOOT, ())
    assert n.state.verdict.why[0].rule == "LOST: replace, refuted by PROBE: reboot"
    assert n.see(fine()) == []
    assert n.wait(2 * WAIT_S) == [], "nothing is waited for any more"


@pytest.mark.parametrize(
    ("word", "refutes"),
    [
        (fine(), True),
        (fine("COUNT", "node"), True),
        (fine("COUNT", "host"), True),
        (fine("PROBE", "card:1"), False),
        (fine("OTHER"), False),
        (saw("PROBE", CARD, Status.UNKNOWN), False),
        (Observation("PROBE", CARD, Status.OK, counter=7), False),
    ],
)
def test_who_refutes(word: Observation, refutes: bool) -> None:
    n = lost(rows())
    n.see(word)
    assert bool(n.alive("LOST").refuted_by) is refutes


@pytest.mark.parametrize(
    ("after_s", "refutes"), [(0.0, False), (REFUTE_AFTER_S - 0.1, False), (REFUTE_AFTER_S, True), (WAIT_S, False)]
)
def test_when_it_must_have_looked(after_s: float, refutes: bool) -> None:
    n = lost(rows(), after_s)
    n.see(fine())
    assert bool(n.alive("LOST").refuted_by) is refutes


def test_row_may_say_which_of_its_sources_refute() -> None:
    n = lost(rows(refute=("PROBE",)))
    n.see(fine("COUNT", "node"))
    assert n.alive("LOST").refuted_by == ()
    n.see(fine())
    assert n.alive("LOST").refuted_by == ("PROBE",)
    n = lost(rows(refute=()))
    n.see(fine(), fine("COUNT", "node"))
    assert n.alive("LOST").refuted_by == ()


def test_report_that_leaves_the_component_out_does_not_refute() -> None:
    n = lost(rows())
    assert n.see(complete=True) == []
    assert n.see(fine("PROBE", "card:1"), complete=True) == []
    assert n.alive("LOST").refuted_by == ()


@pytest.mark.parametrize("grey", [CARD, "node", "host"])
def test_word_of_the_node_says_nothing_of_what_it_could_not_look_at(grey: str) -> None:
    n = lost(rows())
    n.see(fine("COUNT", "node"), saw("OTHER", grey, Status.UNKNOWN))
    assert n.alive("LOST").refuted_by == ()
    n.take(report(fine("COUNT", "node")), report(saw("OTHER", grey, Status.UNKNOWN), check="another"))
    assert n.alive("LOST").refuted_by == ("COUNT",), "what another check could not look at is another matter"


def test_sources_that_disagree_refute_nothing() -> None:
    n = lost(rows())
    n.see(saw("COUNT", "node"))
    assert n.alive("COUNT", "node").state is FaultState.PENDING
    n.see(fine())
    assert n.alive("LOST").refuted_by == ()
    n.see(fine("COUNT", "node"))
    n.see(fine())
    assert n.alive("LOST").refuted_by == ("COUNT", "PROBE")


def test_confirmation_in_the_same_report_wins() -> None:
    n = lost(rows())
    n.see(fine("COUNT", "node"), saw("PROBE"))
    assert (n.alive("LOST").refuted_by, n.state.verdict.action) == ((), Action.REPLACE)


def test_confirmation_that_comes_in_time_wins() -> None:
    n = lost(rows())
    n.see(fine())
    n.wait(30.0)
    assert "fault_confirmed LOST" in n.see(saw("PROBE"))
    assert (n.state.verdict.action, n.alive("LOST").refuted_by) == (Action.REPLACE, ("PROBE",)), "and the record keeps both"


def test_confirmation_that_comes_too_late_does_not() -> None:
    n = lost(rows())
    n.see(fine())
    n.wait(WAIT_S)
    n.see(saw("PROBE"))
    assert n.state.verdict.action is Action.REBOOT


def test_confirmed_fault_is_not_refuted() -> None:
    n = lost(rows())
    n.see(saw("PROBE"))
    n.see(fine("COUNT", "node"))
    assert n.alive("LOST").refuted_by == ()


def test_refutation_outlives_a_restart() -> None:
    n = lost(rows())
    n.see(fine())
    n.restart()
    assert n.see(fine()) == []
    assert n.state.verdict.action is Action.REBOOT


def test_pending_and_consequences_are_not_refuted() -> None:
    confirm = Confirm(("PROBE",), WAIT_S, Action.NONE)
    n = node(Policy("X", "held", "card", Action.REBOOT, hold_s=60.0, confirm=confirm), Policy("PROBE", "", "card"))
    n.see(saw("X"))
    n.wait(20.0)
    n.see(fine())
    assert n.alive("X").refuted_by == ()


def test_counter_that_did_not_grow_refutes_nothing() -> None:
    n = node(
        Policy("LOST", "", "card", Action.REPLACE, confirm=Confirm(("TALLY",), WAIT_S, Action.REBOOT)),
        Policy("TALLY", "", "card", grows=Grows(1, 60.0)),
    )
    tally = Observation("TALLY", CARD, Status.OK, counter=3)
    n.see(saw("LOST"), tally)
    n.wait(20.0)
    n.see(tally)
    assert n.alive("LOST").refuted_by == ()


@given(
    st.sampled_from(list(Action)),
    st.sampled_from(list(Action)),
    st.sampled_from(["strong", "weak"]),
    st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple),
    st.integers(1, 2),
    st.floats(0.0, 2 * WAIT_S),
)
def test_refutation_never_makes_an_action_harsher(
    action: Action, otherwise: Action, evidence: str, confirmed: tuple[str, ...], count: int, age_s: float
) -> None:
    """Against the same fault that nobody refuted, now or once its wait is over, whichever is harsher."""
    row = Policy(
        "X", "", "card", action, evidence=evidence, confirm=Confirm(("P",), WAIT_S, otherwise, count), ends=(End("ok"),)
    )
    begun = Instant(1_000.0, 1.0, "b")
    now, later = Instant(1_000.0 + age_s, 2.0, "b"), Instant(1_000.0 + WAIT_S, 3.0, "b")

    def fault(refuted_by: tuple[str, ...]) -> Fault:
        return Fault(
            "f", "X", CARD, "test", FaultState.ACTIVE, Status.FAILED, begun, begun, begun,
            confirmed_by=confirmed, boots=("b",), refuted_by=refuted_by,
        )  # fmt: skip

    refuted = worth(fault(("P",)), row, (), now)
    alone = [worth(fault(()), row, (), at).action for at in (now, later)]
    assert refuted.action.rank <= max(one.rank for one in alone)
    assert not refuted.awaiting
    if len(confirmed) >= count:
        assert refuted == worth(fault(()), row, (), now)
