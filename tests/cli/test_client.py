"""What the local API answers, or fails to, becomes data or one line; never a traceback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hma.cli.client import ask
from hma.cli.common import UNKNOWN, CliError


class Server:
    """Answers one caller with `answer`, whatever is asked."""

    def __init__(self, folder: Path) -> None:
        self.answer = b""
        self.asked = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "agent.sock"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self, answer: bytes) -> None:
        self.answer = answer
        self._thread.start()

    def _serve(self) -> None:
        channel, _ = self._listener.accept()
        with channel:
            self.asked = channel.recv(4096)
            channel.sendall(self.answer)

    def close(self) -> None:
        if self._thread.is_alive():
            self._thread.join(10)
        self._listener.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    yield one
    one.close()


def test_answer_is_data(server: Server, tmp_path: Path) -> None:
    server.start(b'HTTP/1.1 200 \r\nContent-Type: application/json\r\n\r\n{"verdict": null}\n')
    assert ask(tmp_path, "/v1/status") == {"verdict": None}
    assert server.asked.startswith(b"GET /v1/status HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "permission denied; be root, or a member"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "too many callers at once; ask again"),
        (
            b'HTTP/1.1 500 \r\n\r\n{"error":"the agent cannot answer that: KeyError: 1"}\n',
            'could not answer: {"error":"the',
        ),
        (b"HTTP/1.1 200 \r\n\r\n[]", "could not answer: []"),
        (b"HTTP/1.1 200 \r\n\r\n{", "this is no agent's answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "this is no agent's answer"),
        (b"\x00\xff", "this is no agent's answer"),
        (b"", "closed the connection"),
    ],
)
def test_anything_else_is_one_line(server: Server, tmp_path: Path, answer: bytes, said: str) -> None:
    server.start(answer)
    with pytest.raises(CliError) as refused:
        ask(tmp_path, "/v1/status")
    assert said in str(refused.value)
    assert (refused.value.code, len(str(refused.value).splitlines())) == (UNKNOWN, 1)


def test_no_agent_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="no agent runs here"):
        ask(tmp_path, "/v1/status")
