"""The EC2 instance metadata service (IMDSv2), asked by a child that ends: `python -m hma.sources.imds --json`.

Rules of this file:
- The agent imports only `imds_command` and `parse_imds`; it runs the child and never waits for the service itself.
- HTTP is spoken on a bare socket: the time limit of `http.client` counts from read to read, so a server that drips would
  hold the child for ever, and it would cost the agent 3 MiB if it were ever imported there. Here one deadline covers all.
- No IMDSv1: a request without a token is never made. No redirect is followed, no proxy variable obeyed.
- 404 means "this fact does not exist here" and is no error; anything else that is not 200 is, and its text is kept.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from hma.check import Command, Output, SourceError

if TYPE_CHECKING:
    import socket

ENDPOINT = "http://169.254.169.254"
TOKEN_TTL_S = 60
TOTAL_S = 2.0
STEP_S = 1.0
"""All requests together, and each single connect or silence between two reads."""
MAX_ANSWER = 65_536

PATHS = {
    "instance-id": "instance-id",
    "instance-type": "instance-type",
    "region": "placement/region",
    "availability-zone": "placement/availability-zone",
}
SHAPES = {
    "instance-id": re.compile(r"i-[0-9a-f]{8,17}"),
    "instance-type": re.compile(r"[a-z0-9-]{2,32}\.[a-z0-9-]{2,32}"),
    "region": re.compile(r"[a-z]{2,8}(-[a-z]{2,16}){1,3}-[0-9]{1,2}"),
    "availability-zone": re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,16}){2,6}"),
}


class _Reply(NamedTuple):
    status: int
    body: str


def imds_command(endpoint: str = "") -> Command:
    """Return the command that asks the service; `endpoint` (`http://host[:port]`) overrides the environment's."""
    asked = ("--endpoint", endpoint) if endpoint else ()
    return Command((sys.executable or "python3", "-m", "hma.sources.imds", "--json", *asked), max_bytes=16_384)


def parse_imds(output: Output) -> Mapping[str, str]:
    """Return the facts the child found, at least one of the keys of `PATHS`; raises SourceError when it found none."""
    if output.returncode != 0:
        told = output.stderr.strip().splitlines()
        raise SourceError(told[-1] if told else f"imds: the child ended with {output.returncode} and said nothing")
    try:
        answer = json.loads(output.stdout)
    except (ValueError, RecursionError) as err:
        raise SourceError("imds: the child's answer is not JSON") from err
    if not isinstance(answer, dict):
        raise SourceError("imds: the child's answer is no JSON object")
    facts = {key: answer[key] for key in PATHS if _has_shape(key, answer.get(key))}
    if not facts:
        raise SourceError("imds: the child's answer names no known fact")
    return facts


def ask(endpoint: str, total_s: float = TOTAL_S) -> tuple[dict[str, str], list[str]]:
    """Return the facts found within `total_s` seconds and the errors met, as text for people."""
    until = time.monotonic() + total_s
    facts: dict[str, str] = {}
    errors: list[str] = []
    try:
        token = _token(endpoint, until)
        for key, path in PATHS.items():
            value = _get(endpoint, f"/latest/meta-data/{path}", token, until)
            if _has_shape(key, value):
                facts[key] = value or ""
            elif value is not None:
                errors.append(f"imds: {endpoint}: {key} reads {value[:40]!r}, which is none; is this a proxy's page?")
    except SourceError as err:
        errors.append(str(err))
    return facts, errors


def main(argv: list[str]) -> int:
    """Print the facts as one JSON object, errors on stderr; return 0 when at least one fact was found, 3 on wrong usage."""
    endpoint = os.environ.get("HMA_IMDS_ENDPOINT") or ENDPOINT
    rest = [word for word in argv if word != "--json"]
    if len(rest) == 2 and rest[0] == "--endpoint":
        endpoint, rest = rest[1], []
    if rest:
        sys.stderr.write("imds: usage: python -m hma.sources.imds --json [--endpoint http://HOST[:PORT]]\n")
        return 3
    facts, errors = ask(endpoint.rstrip("/"))
    for error in errors or ([] if facts else [f"imds: {endpoint}: answers, but knows nothing of this instance"]):
        sys.stderr.write(f"{error}\n")
    if not facts:
        return 1
    sys.stdout.write(f"{json.dumps(facts)}\n")
    return 0


def _token(endpoint: str, until: float) -> str:
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
    reply = _request(endpoint, "PUT", "/latest/api/token", ttl, until)
    if reply.status != 200:
        raise SourceError(f"imds: {endpoint}: no token, status {reply.status}{_meaning(reply.status)}")
    token = reply.body.strip()
    if not re.fullmatch(r"[!-~]{1,1024}", token):
        raise SourceError(f"imds: {endpoint}: the token is no token; is this the metadata service?")
    return token


def _get(endpoint: str, path: str, token: str, until: float) -> str | None:
    reply = _request(endpoint, "GET", path, {"X-aws-ec2-metadata-token": token}, until)
    if reply.status == 404:
        return None
    if reply.status != 200:
        raise SourceError(f"imds: {endpoint}{path}: status {reply.status}{_meaning(reply.status)}")
    return reply.body.strip()


def _meaning(status: int) -> str:
    return {401: " (the token was refused)", 403: " (the service is switched off for this instance)"}.get(status, "")


def _has_shape(key: str, value: object) -> bool:
    return isinstance(value, str) and SHAPES[key].fullmatch(value) is not None


def _request(endpoint: str, method: str, path: str, headers: Mapping[str, str], until: float) -> _Reply:
    """Return the answer to one request on its own connection; raises SourceError, never later than `until`."""
    import socket

    host, port = _address(endpoint)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", "Content-Length: 0", "User-Agent: hma"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    try:
        with socket.create_connection((host, port), timeout=_left(until)) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            raw = _read(connection, until)
    except TimeoutError as err:
        raise SourceError(
            f"imds: {endpoint}: no answer in time; in a container use the host's network or a hop limit of 2"
        ) from err
    except OSError as err:
        raise SourceError(f"imds: {endpoint}: {err.strerror or err}") from err
    return _reply(endpoint, raw)


def _read(connection: socket.socket, until: float) -> bytes:
    """Return what the server sends up to its declared length or its close."""
    raw = b""
    while not _is_whole(raw):
        connection.settimeout(_left(until))
        piece = connection.recv(8_192)
        if not piece:
            break
        raw += piece
        if len(raw) > MAX_ANSWER:
            raise OSError(f"the answer is longer than {MAX_ANSWER} bytes")
    return raw


def _is_whole(raw: bytes) -> bool:
    head, gap, body = raw.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", head)
    return bool(gap and length and len(body) >= int(length[1]))


def _reply(endpoint: str, raw: bytes) -> _Reply:
    head, gap, body = raw.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})\b", head)
    if not gap or not status:
        raise SourceError(f"imds: {endpoint}: this is no HTTP answer: {raw[:40]!r}")
    if re.search(rb"(?im)^transfer-encoding:", head):
        raise SourceError(f"imds: {endpoint}: a chunked answer; is this a proxy?")
    return _Reply(int(status[1]), body.decode("ascii", "replace"))


def _address(endpoint: str) -> tuple[str, int]:
    parts = re.fullmatch(r"http://(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9.-]+))(?::(\d{1,5}))?", endpoint)
    if not parts:
        raise SourceError(f"imds: {endpoint}: not of the form http://HOST[:PORT]; mend HMA_IMDS_ENDPOINT or the config")
    return parts[1] or parts[2], int(parts[3] or 80)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return min(left, STEP_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
