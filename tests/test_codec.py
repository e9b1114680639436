"""Every value that is kept or sent comes back equal; what is no such value is refused with its place."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma import model
from hma.codec import CodecError, decode, encode
from hma.journal_copy import Copy
from hma.journal_records import Commit, Cursor, Event, Snapshot
from hma.model import FaultKey, FaultState, Observation, Status
from tests.journal_values import fault, values, verdict

MODEL = (thing for thing in vars(model).values() if isinstance(thing, type) and thing.__module__ == "hma.model")
TYPES: tuple[Any, ...] = (*(type_ for type_ in MODEL if not issubclass(type_, str)), Commit, Copy, Cursor, Event, Snapshot)
ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = st.sampled_from(["id", "code", "component", "state", "first_seen", "faults", "verdict", "x"])


class Pair(NamedTuple):
    first: int
    second: str = "two"


@dataclass(frozen=True, slots=True)
class Record:
    pairs: tuple[Pair, ...] = ()
    fixed: tuple[int, str] = (1, "a")
    named: Mapping[str, Pair] | None = None
    keyed: Mapping[Pair, int | None] | None = None
    either: int | str = 0
    number: float = 0.0
    yes: bool = False


def test_every_type_of_the_model_is_tried() -> None:
    assert {"Fault", "State", "Verdict", "Observation", "Change", "NodeFacts", "Past"} <= {type_.__name__ for type_ in TYPES}


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.__name__)
def test_value_comes_back_equal_and_of_the_same_types(type_: Any) -> None:
    @given(values(type_))
    def comes_back(value: Any) -> None:
        back = decode(type_, json.loads(json.dumps(encode(value))))
        assert back == value
        assert repr(back) == repr(value)

    comes_back()


@given(st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5)))
def test_anything_else_is_refused_and_never_crashes(data: Any) -> None:
    for type_ in TYPES:
        with contextlib.suppress(CodecError):
            decode(type_, data)


def changed(at: tuple[str | int, ...], value: object) -> Any:
    """Return the data of a state with one fault and one change."""
    state = model.State(verdict(1.0, 1), {fault(1).key: fault(1)}, aliases={"gpu:GPU-1": "gpu:0000:01:00"})
    data = json.loads(json.dumps(encode(state)))
    place = data
    for step in at[:-1]:
        place = place[step]
    if value is None:
        del place[at[-1]]
    else:
        place[at[-1]] = value
    return data


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (("faults", 0, 1, "state"), "gone", "faults[0].state: 'gone' is not one of pending, active, resolved"),
        (("faults", 0, 1, "count"), "3", "faults[0].count: '3' is not a whole number"),
        (("faults", 0, 1, "count"), True, "faults[0].count: True is not a whole number"),
        (("faults", 0, 1, "ok_since"), "x", "faults[0].ok_since: 'x' is not a number"),
        (("faults", 0, 1, "id"), None, "faults[0].id: missing (Fault)"),
        (("faults", 0, 1, "attrs"), [["xid"]], "faults[0].attrs[0]: ['xid'] is not a list of 2"),
        (("faults", 0, 1, "first_seen"), [1, 2], "faults[0].first_seen: [1, 2] is not an object (Instant)"),
        (("faults", 0, 0, "code"), 79, "faults[0].code: 79 is not text"),
        (("faults",), {}, "faults: {} is not a list"),
        (("faults", 0), ["x"], "faults: a list of [key, value] has an item of another length"),
        (("aliases", "gpu:GPU-1"), 1, "aliases[gpu:GPU-1]: 1 is not text"),
        (("aliases",), [], "aliases: [] is not an object"),
        (("verdict", "schedulable"), 1, "verdict.schedulable: 1 is not true or false"),
        (("verdict", "why", 0, "action"), "x", "verdict.why[0].action: 'x' is not one of none, restart_app, reboot, replace"),
        (("verdict",), "x" * 99, f"verdict: '{'x' * 56}... is not an object (Verdict)"),
    ],
)  # fmt: skip
def test_error_names_the_place_and_the_problem(at: tuple[str | int, ...], value: object, said: str) -> None:
    with pytest.raises(CodecError) as err:
        decode(model.State, changed(at, value))
    assert str(err.value) == said


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({}, Record()),
        ({"unheard_of": [1]}, Record()),
        ({"pairs": [{"first": 1}]}, Record(pairs=(Pair(1),))),
        ({"pairs": [{"first": 1, "third": 3}]}, Record(pairs=(Pair(1),))),
        ({"number": 3}, Record(number=3.0)),
        ({"named": {"a": {"first": 1}}}, Record(named={"a": Pair(1)})),
        ({"keyed": [[{"first": 1}, None]]}, Record(keyed={Pair(1): None})),
        ({"either": "text"}, Record(either="text")),
        ({"fixed": [2, "b"]}, Record(fixed=(2, "b"))),
        ({"named": None}, Record()),
    ],
)
def test_versions_beside_each_other_read_one_another(data: Any, value: Record) -> None:
    assert decode(Record, data) == value


def test_keys_of_a_mapping_without_text_keys_survive() -> None:
    faults = {FaultKey("XID-79", "gpu:0000:01:00"): fault(1), FaultKey("XID-79", "gpu:0000:02:00"): None}
    assert decode(Commit, json.loads(json.dumps(encode(Commit(faults))))).faults == faults


def test_a_byte_of_the_kernel_log_that_is_no_utf_8_survives() -> None:
    seen = Observation("XID-79", "gpu:0000:01:00", Status.FAILED, evidence="NVRM\udcff: Xid")
    assert decode(Observation, json.loads(json.dumps(encode(seen)))) == seen


def test_what_cannot_be_written_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="cannot write"):
        encode({1, 2})
    with pytest.raises(TypeError, match="cannot read"):
        decode(set, [1])


def test_enumeration_is_text() -> None:
    assert encode(FaultState.ACTIVE) == "active"
    assert type(encode(FaultState.ACTIVE)) is str
