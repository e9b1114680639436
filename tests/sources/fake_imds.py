"""A metadata service on loopback that speaks IMDSv2, and servers that misbehave, for the tests of its client."""

from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping

TOKEN = "AQAEAKYt-of-this-test=="
WHOLE = {
    "instance-id": "i-0123456789abcdef0",
    "instance-type": "p5.48xlarge",
    "placement/region": "us-west-2",
    "placement/availability-zone": "us-west-2a",
}


class FakeImds(http.server.ThreadingHTTPServer):
    """Answers `facts` to who brings the token; `token_status` and `status` replace the answer to PUT and to every GET."""

    daemon_threads = True

    def __init__(
        self, facts: Mapping[str, str], token_status: int = 200, status: int = 200, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        super().__init__(address, _Handler)
        self.facts, self.token_status, self.status = facts, token_status, status
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        """Return the address a client is given."""
        return "http://{}:{}".format(*self.server_address[:2])


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeImds
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.server.asked.append(f"PUT {self.path}")
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not ttl.isdigit() or not 1 <= int(ttl) <= 21_600:
            self._answer(400, "")
            return
        self._answer(self.server.token_status, TOKEN)

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self._answer(401, "")
            return
        fact = self.server.facts.get(self.path.removeprefix("/latest/meta-data/"))
        self._answer(404 if fact is None else self.server.status, fact or "")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is http.server's)
        """Say nothing."""


@contextlib.contextmanager
def serving(server: FakeImds) -> Iterator[FakeImds]:
    """Serve in a thread for the length of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextlib.contextmanager
def misbehaving(act: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Serve every connection with `act(connection, over)` and yield the endpoint."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        act(connection, over)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield "http://127.0.0.1:{}".format(*listener.getsockname()[1:2])
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def main() -> int:
    """Serve at the genuine address and run the command of the arguments beside it, inside one network namespace."""
    with serving(FakeImds(WHOLE, address=("169.254.169.254", 80))):
        return subprocess.run(sys.argv[1:], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
