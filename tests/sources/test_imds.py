"""The metadata client against a real HTTP server: what it learns, what it does not believe, and that it always ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hma.check import Output, SourceError
from hma.sources.imds import MAX_ANSWER, ask, imds_command, main, parse_imds
from tests.sources.fake_imds import WHOLE, FakeImds, misbehaving, serving

ROOT = Path(__file__).parents[2]
FACTS = {
    "instance-id": "i-0123456789abcdef0",
    "instance-type": "p5.48xlarge",
    "region": "us-west-2",
    "availability-zone": "us-west-2a",
}


def run(argv: tuple[str, ...], env: dict[str, str] | None = None) -> Output:
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=20, check=False)
    return Output(done.returncode, done.stdout, done.stderr)


# -- a service that behaves -------------------------------------------------------------------------------------------


def test_gets_a_token_first_and_then_each_fact() -> None:
    with serving(FakeImds(WHOLE)) as server:
        assert ask(server.endpoint) == (FACTS, [])
    assert server.asked == ["PUT /latest/api/token", *(f"GET /latest/meta-data/{path}" for path in WHOLE)]


def test_the_child_prints_what_the_agent_reads() -> None:
    with serving(FakeImds(WHOLE)) as server:
        output = run(imds_command(server.endpoint).argv)
    assert output.returncode == 0
    assert parse_imds(output) == FACTS


def test_the_environment_names_another_endpoint() -> None:
    with serving(FakeImds(WHOLE)) as server:
        output = run(imds_command().argv, {"HMA_IMDS_ENDPOINT": f"{server.endpoint}/", "PATH": ""})
    assert parse_imds(output) == FACTS


def test_what_the_service_does_not_know_is_left_out_without_an_error() -> None:
    with serving(FakeImds({"instance-type": "trn1.32xlarge"})) as server:
        assert ask(server.endpoint) == ({"instance-type": "trn1.32xlarge"}, [])


@pytest.mark.needs("root", "ip", "unshare")
def test_the_genuine_address() -> None:
    inside = 'ip link set lo up && ip addr add 169.254.169.254/32 dev lo && exec "$@"'
    serve = (sys.executable, "-m", "tests.sources.fake_imds")
    output = run(
        ("unshare", "--net", "sh", "-c", inside, "sh", *serve, *imds_command().argv), {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    assert parse_imds(output) == FACTS, output


# -- a service that refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "told"),
    [
        (FakeImds(WHOLE, token_status=403), "no token, status 403 (the service is switched off for this instance)"),
        (FakeImds(WHOLE, token_status=404), "no token, status 404"),
        (FakeImds(WHOLE, token_status=500), "no token, status 500"),
        (FakeImds(WHOLE, status=401), "status 401 (the token was refused)"),
        (FakeImds(WHOLE, status=503), "/latest/meta-data/instance-id: status 503"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_is_told_with_its_status(server: FakeImds, told: str) -> None:
    with serving(server):
        facts, errors = ask(server.endpoint)
    assert facts == {}
    assert len(errors) == 1
    assert told in errors[0]


def test_the_child_of_a_refusing_service_fails_and_its_text_reaches_the_agent() -> None:
    with serving(FakeImds(WHOLE, token_status=403)) as server:
        output = run(imds_command(server.endpoint).argv)
    assert (output.returncode, output.stdout) == (1, "")
    with pytest.raises(SourceError, match="switched off"):
        parse_imds(output)


def test_a_service_that_knows_nothing_is_unusable(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(FakeImds({})) as server:
        assert main(["--json", "--endpoint", server.endpoint]) == 1
    assert "knows nothing of this instance" in capsys.readouterr().err


def test_nobody_listening_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert ask(f"http://127.0.0.1:{port}") == ({}, [f"imds: http://127.0.0.1:{port}: Connection refused"])


# -- a service that is none -------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
PAGE = b"<html>Welcome to the hotel network</html>"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP answer"),
        (b"", "no HTTP answer"),
        (b"\x00\xff" * 300, "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "no HTTP answer"),
        (HEAD % (len(PAGE), PAGE), "the token is no token"),
        (HEAD % (0, b""), "the token is no token"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "a chunked answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"A" * (MAX_ANSWER + 1), f"longer than {MAX_ANSWER} bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"A" * 2 * MAX_ANSWER, f"longer than {MAX_ANSWER} bytes"),
    ],
)
def test_what_is_not_the_service_is_not_believed(answer: bytes, told: str) -> None:
    def act(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(4_096)
        connection.sendall(answer)

    with misbehaving(act) as endpoint:
        facts, errors = ask(endpoint)
    assert facts == {}
    assert len(errors) == 1
    assert told in errors[0]


def test_a_page_in_place_of_a_fact_is_refused_and_the_others_are_kept() -> None:
    with serving(FakeImds({**WHOLE, "instance-type": "<html>"})) as server:
        facts, errors = ask(server.endpoint)
    assert facts == {key: value for key, value in FACTS.items() if key != "instance-type"}
    assert len(errors) == 1
    assert "instance-type reads '<html>'" in errors[0]


# -- a service that hangs ---------------------------------------------------------------------------------------------


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait(10)


def dripping(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.wait(0.02):
        connection.sendall(b"X")


@pytest.mark.parametrize("act", [silent, dripping])
def test_one_deadline_covers_a_server_that_hangs_or_drips(act: object) -> None:
    assert callable(act)
    with misbehaving(act) as endpoint:
        began = time.monotonic()
        facts, errors = ask(endpoint, total_s=0.3)
        took = time.monotonic() - began
    assert facts == {}
    assert "no answer in time" in errors[0]
    assert 0.25 < took < 2.0


# -- the agent's side -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (Output(1, "", "first\nimds: http://x: no token, status 403\n"), "no token, status 403"),
        (Output(-9, "", ""), "the child ended with -9 and said nothing"),
        (Output(0, "", ""), "not JSON"),
        (Output(0, '{"instance-id": "i-01', "", truncated=True), "not JSON"),
        (Output(0, "[" * 16_000, ""), "not JSON"),
        (Output(0, '["instance-id"]', ""), "no JSON object"),
        (Output(0, '{"hostname": "x"}', ""), "no known fact"),
        (Output(0, '{"instance-id": 7, "instance-type": "<html>"}', ""), "no known fact"),
    ],
)
def test_an_unusable_answer_is_an_error_in_one_line(output: Output, told: str) -> None:
    with pytest.raises(SourceError, match=told) as caught:
        parse_imds(output)
    assert "\n" not in str(caught.value)


def test_only_known_facts_in_their_proper_shape_pass() -> None:
    answer = {**FACTS, "region": "us west", "user-data": "secret"}
    assert set(parse_imds(Output(0, json.dumps(answer), ""))) == set(FACTS) - {"region"}


@pytest.mark.parametrize(
    "zone_and_region",
    [("us-west-2-lax-1a", "us-west-2"), ("us-gov-west-1b", "us-gov-west-1"), ("ap-southeast-4a", "ap-southeast-4")],
)
def test_zones_and_regions_of_every_kind_pass(zone_and_region: tuple[str, str]) -> None:
    answer = {"availability-zone": zone_and_region[0], "region": zone_and_region[1]}
    assert parse_imds(Output(0, json.dumps(answer), "")) == answer


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["--yaml"], 3, "usage:"),
        (["--endpoint"], 3, "usage:"),
        (["--endpoint", "https://169.254.169.254"], 1, "not of the form http://HOST[:PORT]"),
        (["--endpoint", "http://user@host/path"], 1, "not of the form http://HOST[:PORT]"),
    ],
)
def test_wrong_usage_is_one_line(argv: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == code
    text = capsys.readouterr()
    assert text.out == ""
    assert told in text.err
    assert text.err.count("\n") == 1


def test_importing_the_client_loads_no_socket() -> None:
    code = "import sys, hma.sources.imds; print(sorted({'socket', 'http.client', 'urllib', 'email'} & set(sys.modules)))"
    assert run((sys.executable, "-c", code)).stdout == "[]\n"
