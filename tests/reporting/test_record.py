"""Records as others read them: HyperPod's published queries on our lines, our own keys, and limits that hold for any text."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hma.catalogue import Catalogue, Policy
from hma.model import Action, Attrs, Change, Fault, FaultState, Instant, NodeFacts, Reason, Status, Verdict
from hma.reporting.record import (
    ATTRS_BYTES,
    EVIDENCE_BYTES,
    KEYS,
    LINE_BYTES,
    NOTE_BYTES,
    TEXT_BYTES,
    bounded,
    event_id,
    record,
    timestamp,
    to_line,
)

AT = Instant(81_531.5, 1_795_525_331.042, "7d3a1c52-0b8e-4f7e-9c64-2f1a5e9b6d10")
NODE = NodeFacts("ip-10-1-2-3", AT.boot_id, "p5.48xlarge", "i-0123456789abcdef0")
LINE = (
    "NVRM: Xid (PCI:0000:b9:00): 71, pid=<unknown>, name=<unknown>, NVLink: fatal error detected on link 6"
    "(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
)
HYPERPOD = (
    r'{"level":"info","ts":"2024-08-21T18:35:35Z","msg":"NPD caught event: %v","details: ":{"severity":"warn","timestamp":'
    r'"2024-08-22T20:59:29Z","reason":"XidHardwareFailure","message":"Node condition NvidiaErrorReboot is now: True, reason: '
    r"XidHardwareFailure, message: \"NVRM: Xid (PCI:0000:b9:00): 71, pid=<unknown>, name=<unknown>, NVLink: fatal error "
    r'detected on link 6(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)\""},"HealthMonitoringAgentDetectionEvent":"HealthEvent"}'
)
"""The record that AWS prints in its guide (page "Health Monitoring System" of SageMaker HyperPod on EKS)."""

CATALOGUE = Catalogue.of(
    [
        Policy(
            "XID-71", "NVLink error", "gpu", Action.REBOOT, fault_type="NvidiaErrorReboot", fault_reason="XidHardwareFailure"
        ),
        Policy("DISK_FULL-NOW", "Disk is full", "fs"),
    ]
)
FAULT = Fault(
    id="5f1d0c3a9b77e210",
    code="XID-71",
    component="gpu:0000:b9:00",
    check="xid",
    state=FaultState.ACTIVE,
    status=Status.FAILED,
    first_seen=AT._replace(utc=AT.utc - 2.0),
    last_seen=AT,
    changed=AT,
    detail="NVLink error, link 6",
    evidence=LINE,
    attrs=(("xid", "71"), ("link", "6")),
    action=Action.REBOOT,
)


def of(kind: str = "fault_active", fault: Fault | None = FAULT, **fields: object) -> dict[str, object]:
    return record(Change(kind, AT, fault=fault, **fields), NODE, CATALOGUE)  # type: ignore[arg-type]


# -- HyperPod's queries, applied as CloudWatch applies them -----------------------------------------------------------


def logs_insights(line: str) -> str | None:
    r"""Return the `xidCode` that the published Logs Insights query finds in a message, None where its filters drop the line.

    parse @message /Xid.*?:\s*(?<xidCode>\d+)/
    | filter @message like /HealthMonitoringAgentDetectionEvent/ and @message like /Xid/
    """
    if not (re.search("HealthMonitoringAgentDetectionEvent", line) and re.search("Xid", line)):
        return None
    found = re.search(r"Xid.*?:\s*(?P<xidCode>\d+)", line)
    return found["xidCode"] if found else ""


def test_the_published_filter_finds_a_new_fault_and_only_that() -> None:
    kinds = ("fault_active", "fault_confirmed", "fault_inhibited", "fault_resolved")
    assert [kind for kind in kinds if logs_insights(to_line(of(kind))) is not None] == ["fault_active"]


def test_the_published_query_finds_the_xid_where_it_finds_the_pci_domain_in_hyperpods_own_line() -> None:
    assert logs_insights(HYPERPOD) == "0000"
    assert logs_insights(to_line(of())) == "71"


def test_a_fault_without_an_xid_is_a_detection_too() -> None:
    other = replace(FAULT, code="DISK_FULL-NOW", component="fs:/var", evidence="", detail="98 % of /var in use", attrs=())
    body = of(fault=other)
    assert body["HealthMonitoringAgentDetectionEvent"] == "HealthEvent"
    assert "Xid" not in to_line(body)


def test_the_subscription_filter_matches() -> None:
    """`{ $.HealthMonitoringAgentDetectionEvent = "HealthEvent" }` looks at the top level of the object."""
    assert json.loads(to_line(of()))["HealthMonitoringAgentDetectionEvent"] == "HealthEvent"


def test_details_are_those_of_hyperpod_for_the_same_line() -> None:
    ours, theirs = of()["details: "], json.loads(HYPERPOD)["details: "]
    assert isinstance(ours, dict)
    assert ours | {"timestamp": ""} == theirs | {"timestamp": ""}
    assert list(ours) == list(theirs)
    assert ours["timestamp"] == timestamp(FAULT.first_seen.utc)


def test_the_kernel_line_stands_untouched_in_the_message() -> None:
    assert LINE.replace('"', '\\"') in to_line(of())
    assert re.search(r"NVRM: Xid \(PCI:0000:b9:00\): 71,", to_line(of()))


def test_first_keys_are_those_of_hyperpod() -> None:
    assert list(of())[:3] == list(json.loads(HYPERPOD))[:3] == ["level", "ts", "msg"]


@pytest.mark.parametrize(
    ("kind", "action", "told"),
    [
        ("fault_active", Action.REPLACE, "replace"),
        ("fault_confirmed", Action.REBOOT, "reboot"),
        ("fault_active", Action.RESTART_APP, None),
        ("fault_active", Action.NONE, None),
        ("fault_resolved", Action.REPLACE, None),
        ("fault_inhibited", Action.REPLACE, None),
    ],
)
def test_event_detail_names_an_action_that_ends_what_runs(kind: str, action: Action, told: str | None) -> None:
    detail = of(kind, replace(FAULT, action=action)).get("Event detail")
    expected = {"Action": told, "Type": "NvidiaErrorReboot", "Reason": "XidHardwareFailure", "Message": LINE}
    assert detail == (expected if told else None)


def test_a_resolved_fault_says_that_the_condition_is_over() -> None:
    details = of("fault_resolved", note="the node has a new boot id")["details: "]
    assert isinstance(details, dict)
    assert (details["severity"], details["timestamp"]) == ("info", timestamp(FAULT.changed.utc))
    assert details["message"].startswith(
        "Node condition NvidiaErrorReboot is now: False, reason: XidHardwareFailure, message: "
    )


def test_a_row_without_hyperpods_words_gets_some_made_from_its_code() -> None:
    details = of(fault=replace(FAULT, code="DISK_FULL-NOW"))["details: "]
    assert isinstance(details, dict)
    assert details["message"].startswith("Node condition NodeHealth is now: True, reason: DiskFullNow, ")


# -- our own keys -----------------------------------------------------------------------------------------------------


def test_our_keys_of_a_fault() -> None:
    body = of(note="by fault 1", attrs=(("gpus", "8"),))
    assert {key: value for key, value in body.items() if key not in ("details: ", "Event detail")} == {
        "level": "warn",
        "ts": "2026-11-24T13:02:11.042Z",
        "msg": "fault_active",
        "event": "fault_active",
        "event_id": "5f1d0c3a9b77e210-active",
        "HealthMonitoringAgentDetectionEvent": "HealthEvent",
        "Xid": 71,
        "fault_id": "5f1d0c3a9b77e210",
        "code": "XID-71",
        "title": "NVLink error",
        "component": "gpu:0000:b9:00",
        "check": "xid",
        "status": "failed",
        "action": "reboot",
        "count": 1,
        "first_seen": "2026-11-24T13:02:09.042Z",
        "detail": "NVLink error, link 6",
        "evidence": LINE,
        "note": "by fault 1",
        "xid": 71,
        "link": 6,
        "gpus": 8,
        "node": "ip-10-1-2-3",
        "boot_id": AT.boot_id,
        "instance_id": "i-0123456789abcdef0",
        "instance_type": "p5.48xlarge",
    }


def verdict(reasons: int = 1) -> Verdict:
    why = tuple(Reason(f"f{n}", "XID-71", f"gpu:{n}", Action.REBOOT, "XID-71: reboot") for n in range(reasons))
    return Verdict(Status.FAILED, False, Action.REBOOT, "now", AT, why, ("XID-79 awaits SMI-GPU-LOST",), ("nvidia_smi",))


def test_our_keys_of_a_verdict() -> None:
    body = of("verdict_changed", None, verdict=verdict())
    assert {key: body[key] for key in ("level", "health", "schedulable", "action", "when", "why", "awaiting", "blind")} == {
        "level": "warn",
        "health": "failed",
        "schedulable": False,
        "action": "reboot",
        "when": "now",
        "why": [{"fault_id": "f0", "code": "XID-71", "component": "gpu:0", "action": "reboot", "rule": "XID-71: reboot"}],
        "awaiting": ["XID-79 awaits SMI-GPU-LOST"],
        "blind": ["nvidia_smi"],
    }
    assert "why_more" not in body


def test_of_many_reasons_the_first_are_told_and_the_rest_counted() -> None:
    body = of("verdict_changed", None, verdict=verdict(100))
    assert isinstance(why := body["why"], list)
    assert (len(why), body["why_more"]) == (24, 76)


def test_inhibition_and_confirmation_are_keys() -> None:
    body = of("fault_inhibited", replace(FAULT, inhibited_by="a1", confirmed_by=("b2", "c3")))
    assert (body["inhibited_by"], body["confirmed_by"]) == ("a1", ["b2", "c3"])


def test_refutation_and_a_second_route_are_keys() -> None:
    body = of("fault_refuted", replace(FAULT, refuted_by=("SMI-ERR",), routes=("xid", "nvml_events")))
    assert (body["level"], body["refuted_by"], body["routes"]) == ("info", ["SMI-ERR"], ["xid", "nvml_events"])
    assert "routes" not in of("fault_active", replace(FAULT, routes=("xid",))), "one route is the check itself"


def test_every_key_that_a_record_can_have_is_known_as_ours() -> None:
    fault = replace(
        FAULT, inhibited_by="a", confirmed_by=("b",), refuted_by=("c",), routes=("xid", "nvml"), attrs=(("xid", "71"),)
    )
    bodies = [
        of("fault_active", fault, note="n"),
        of("verdict_changed", None, verdict=verdict(100)),
        of("fault_confirmed", fault),
    ]
    assert {key for body in bodies for key in body} - {"xid"} == KEYS


@pytest.mark.parametrize("key", sorted(KEYS))
@pytest.mark.parametrize("where", ["fault", "change"])
@pytest.mark.parametrize("kind", ["fault_active", "fault_resolved", "verdict_changed"])
def test_no_attribute_can_take_the_place_of_a_key(key: str, where: str, kind: str) -> None:
    attrs: Attrs = ((key, "forged"),)
    fault = None if kind == "verdict_changed" else FAULT
    told = verdict() if kind == "verdict_changed" else None
    plain = of(kind, fault, verdict=told)
    if where == "fault" and fault:
        body = of(kind, replace(fault, attrs=(*fault.attrs, *attrs)))
    else:
        body = of(kind, fault, verdict=told, attrs=attrs)
    assert body == plain | {f"attr_{key}": "forged"}


def test_of_two_attributes_with_one_name_that_of_the_fault_counts() -> None:
    assert of(attrs=(("xid", "13"), ("xid", "14")))["xid"] == 71


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("count", "7", "7"),
        ("exit", "15", 15),
        ("exit", "0", 0),
        ("exit", "-9", "-9"),
        ("pid", "<unknown>", "<unknown>"),
        ("code_hex", "007", "007"),
        ("big", "9" * 15, int("9" * 15)),
        ("big", "9" * 16, "9" * 16),
        ("arabic", "٣", "٣"),
        ("serial", "1324521072384", "1324521072384"),
        ("uuid", "5", "5"),
    ],
)
def test_attributes_that_are_numbers_are_numbers_but_never_a_serial(key: str, text: str, value: object) -> None:
    body = of("config_reloaded", None, attrs=((key, text),))
    assert body[f"attr_{key}" if key in KEYS else key] in (value, 7 if key == "count" else value)
    assert type(body.get(key, value)) is type(value)


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("fault_active", "warn"),
        ("fault_resolved", "info"),
        ("fault_confirmed", "info"),
        ("agent_started", "info"),
        ("config_reloaded", "info"),
        ("journal_recovered", "info"),
        ("kernel_log_readable", "info"),
        ("config_rejected", "warn"),
        ("journal_lost", "warn"),
        ("kernel_log_lost", "warn"),
        ("kernel_log_unreadable", "warn"),
        ("spoof_suspected", "warn"),
        ("check_problem", "warn"),
    ],
)
def test_level_says_whether_somebody_should_look(kind: str, level: str) -> None:
    assert of(kind, FAULT if kind.startswith("fault") else None)["level"] == level


@pytest.mark.parametrize(("health", "level"), [(Status.OK, "info"), (Status.DEGRADED, "info"), (Status.FAILED, "warn")])
def test_a_failed_verdict_warns(health: Status, level: str) -> None:
    assert of("verdict_changed", None, verdict=replace(verdict(), health=health))["level"] == level


@pytest.mark.parametrize(
    ("utc", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_795_525_331.042, "2026-11-24T13:02:11.042Z"),
        (1_795_525_331.9996, "2026-11-24T13:02:11.999Z"),
    ],
)
def test_times_are_utc_with_milliseconds(utc: float, text: str) -> None:
    assert timestamp(utc) == text


def test_the_same_change_gets_the_same_id_again_and_another_gets_another() -> None:
    first = Change("journal_lost", AT, note="disk")
    others = [
        replace(first, kind="journal_recovered"),
        replace(first, note="other"),
        replace(first, at=AT._replace(mono=AT.mono + 0.001)),
        replace(first, at=AT._replace(boot_id="another")),
        Change("fault_active", AT, fault=FAULT),
        Change("fault_resolved", AT, fault=FAULT),
    ]
    assert event_id(first) == event_id(replace(first, at=AT._replace(utc=0.0)))
    assert len({event_id(change) for change in (first, *others)}) == 7


def test_a_code_without_a_row_still_makes_a_record() -> None:
    assert of(fault=replace(FAULT, code="GONE-1"))["title"] == "no row in the catalogue"


# -- any text ---------------------------------------------------------------------------------------------------------

Text = tuple[str, int]
"""A text and how often it is repeated."""

TEXTS = st.tuples(st.text(st.characters(), max_size=200), st.just(1)) | st.tuples(
    st.sampled_from(['"', "\\", "\x00", "\U0001f600", "\udcff", "\n", "\u00e9", "}"]), st.just(20_000)
)


@given(
    detail=TEXTS,
    evidence=TEXTS,
    component=TEXTS,
    code=TEXTS,
    note=TEXTS,
    attrs=st.lists(st.tuples(TEXTS, TEXTS), max_size=40),
    kind=st.sampled_from(["fault_active", "fault_resolved"]),
)
def test_whatever_a_check_says_a_record_is_one_line_of_json_that_no_runtime_cuts(
    detail: Text, evidence: Text, component: Text, code: Text, note: Text, attrs: list[tuple[Text, Text]], kind: str
) -> None:
    told = tuple((whole(key), whole(value)) for key, value in attrs)
    fault = replace(
        FAULT, detail=whole(detail), evidence=whole(evidence), component=whole(component), code=whole(code), attrs=told
    )
    line = to_line(of(kind, fault, note=whole(note), attrs=told))
    assert len(line.encode()) < LINE_BYTES
    assert len(line.splitlines()) == 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
    body = json.loads(line)
    assert body["fault_id"] == FAULT.id
    assert body["msg"] == kind


@pytest.mark.parametrize("text", ['"', "\\", "\x00", "\x9b", "\udcff", "x", "\U0001f600"])
def test_everything_at_its_limit_at_once_is_still_not_cut(text: str) -> None:
    """Quotes are the worst: in `details: ` the kernel line is JSON inside JSON, so each takes four bytes there."""
    long = text * 20_000
    attrs = tuple((f"{n}{text}", long) for n in range(99))
    fault = replace(FAULT, code=long, component=long, detail=long, evidence=long, attrs=(("xid", long), *attrs), check="c" * 63)
    fault = replace(fault, confirmed_by=("f" * 16,) * 24, inhibited_by="f" * 16)
    row = Policy(long, long, "gpu", fault_type=long, fault_reason=long)
    change = Change("fault_active", AT, fault=fault, note=long, attrs=attrs)
    line = to_line(record(change, replace(NODE, hostname=long), Catalogue.of([row])))
    assert len(line.encode()) < LINE_BYTES
    assert json.loads(line)["boot_id"] == AT.boot_id


def whole(text: Text) -> str:
    return text[0] * text[1]


@pytest.mark.parametrize("text", ['"' * 20_000, "\x00" * 20_000, "\U0001f600" * 20_000, "\udcff" * 20_000, "x" * 200])
def test_whatever_a_verdict_names_its_record_is_not_cut(text: str) -> None:
    reasons = tuple(Reason("f" * 16, text, text, Action.REBOOT, text) for _ in range(60))
    told = replace(verdict(), why=reasons, awaiting=(text,) * 60, blind=(text,) * 60)
    line = to_line(of("verdict_changed", None, verdict=told, note=text))
    assert len(line.encode()) < LINE_BYTES
    assert len(line.splitlines()) == 1
    body = json.loads(line)
    assert body["why"]
    assert len(body["why"]) + body["why_more"] == 60
    assert body["awaiting"]
    assert body["blind"]


@pytest.mark.parametrize("text", ["", "short", "é" * 10, "x" * 100])
def test_text_within_its_limit_is_untouched(text: str) -> None:
    assert bounded(text, 100) == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [("x" * 101, 100), ("é" * 100, 50), ('"' * 100, 50), ("\x1b" * 100, 16), ("\U0001f600" * 100, 25)],
)
def test_longer_text_is_cut_by_its_size_in_json_and_says_so(text: str, kept: int) -> None:
    assert bounded(text, 100) == f"{text[:kept]}… (+{len(text) - kept} characters)"


def test_every_kind_of_text_has_its_limit() -> None:
    fault = replace(FAULT, detail="d" * 9_999, evidence="e" * 9_999, attrs=tuple((f"k{n}", "v" * 900) for n in range(99)))
    body = of(fault=fault, note="n" * 9_999)
    for key, limit in (("detail", TEXT_BYTES), ("evidence", EVIDENCE_BYTES), ("note", NOTE_BYTES)):
        assert limit < len(str(body[key])) < limit + 30
    told = {key: value for key, value in body.items() if key.startswith("k")}
    assert ATTRS_BYTES - 1_000 < len(json.dumps(told)) < ATTRS_BYTES + 200
