"""The client of the agent's local API."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

from hma.cli.common import UNKNOWN, CliError

ANSWER_S = 5.0
MAX_ANSWER = 64 << 20


def ask(run_dir: Path, path: str) -> Any:
    """Return the agent's answer to GET `path`, decoded. Raises CliError when none answers."""
    place = run_dir / "agent.sock"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(ANSWER_S)
            channel.connect(str(place))
            with contextlib.suppress(BrokenPipeError):  # turned away already: the answer is there all the same
                channel.sendall(f"GET {path} HTTP/1.1\r\nHost: hma\r\nConnection: close\r\n\r\n".encode("ascii"))
            answer = b"".join(_pieces(channel))
    except FileNotFoundError:
        raise CliError(f"{place}: no agent runs here; start one (hma agent), or name its run_dir", UNKNOWN) from None
    except ConnectionRefusedError:
        raise CliError(f"{place}: the agent that made it is gone; start it again (hma agent)", UNKNOWN) from None
    except PermissionError:
        raise CliError(f"{place}: permission denied; be root, or a member of the socket's group", UNKNOWN) from None
    except TimeoutError:
        raise CliError(f"{place}: the agent does not answer within {ANSWER_S:g} s", UNKNOWN) from None
    except BlockingIOError:
        raise CliError(f"{place}: the agent has too many callers at once; ask again", UNKNOWN) from None
    except OSError as err:
        raise CliError(f"{place}: {err.strerror or err}", UNKNOWN) from err
    return _decoded(place, answer)


def _pieces(channel: socket.socket) -> Any:
    size = 0
    while piece := channel.recv(65_536):
        size += len(piece)
        if size > MAX_ANSWER:
            raise OSError("the answer has no end")
        yield piece


def _decoded(place: Path, said: bytes) -> Any:
    head, _, body = said.partition(b"\r\n\r\n")
    if not head:
        raise CliError(
            f"{place}: the agent closed the connection: it answers root, its own user and the socket's group", UNKNOWN
        )
    status = head.partition(b"\r\n")[0].split(b" ", 2)[1:2]
    if status == [b"403"]:
        raise CliError(f"{place}: permission denied; be root, or a member of the socket's group", UNKNOWN)
    if status == [b"503"]:
        raise CliError(f"{place}: the agent has too many callers at once; ask again", UNKNOWN)
    try:
        answer = json.loads(body)
    except ValueError:
        raise CliError(f"{place}: this is no agent's answer: {head[:60]!r}", UNKNOWN) from None
    if status != [b"200"] or not isinstance(answer, dict):
        raise CliError(f"{place}: the agent could not answer: {body[:300].decode(errors='replace').strip()}", UNKNOWN)
    return answer
