"""The local API on a real Unix socket: who is answered, and that no client can hold or hurt the agent."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hma.loop import Loop
from hma.reporting.api import CONNECTIONS, PATIENCE_S, PAUSE_S, Answer, Api, ApiError
from tests.reporting.pumping import Clock, pump

HUGE = "x" * (8 << 20)


def handler(path: str, query: Mapping[str, str]) -> Answer:
    if path == "/huge":
        return 200, {"text": HUGE}
    if path == "/odd":
        return 200, {"path": Path("/etc"), "name": "M\xfcller"}
    if path == "/broken":
        raise KeyError("no such thing")
    return (200, {"path": path, "query": dict(query)}) if path != "/none" else (404, {"error": "none"})


class Served:
    """An API that is up, its loop and clock, and clients that live in the same thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.api = Api(self.loop, path, handler)
        self.clients: list[socket.socket] = []

    def client(self, sent: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(str(self.path))
        client.setblocking(False)
        client.send(sent)
        self.clients.append(client)
        return client

    def answer(self, client: socket.socket) -> bytes:
        """Return all that `client` is sent until the other side closes."""
        got = bytearray()

        def ended() -> bool:
            try:
                while data := client.recv(1 << 20):
                    got.extend(data)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                pass
            return True

        pump(self.loop, ended)
        return bytes(got)

    def ask(self, target: str, method: str = "GET") -> tuple[int, Mapping[str, object]]:
        head, _, body = self.answer(self.client(f"{method} {target} HTTP/1.1\r\nHost: hma\r\n\r\n".encode())).partition(
            b"\r\n\r\n"
        )
        return int(head.split()[1]), json.loads(body)

    @property
    def connections(self) -> int:
        return len(self.api._open)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.api.close()
        self.loop.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    it = Served(tmp_path / "agent.sock")
    it.api.start()
    yield it
    it.close()
    assert not it.path.exists()


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/v1/status", 200, {"path": "/v1/status", "query": {}}),
        (
            "/v1/faults?component=gpu:0000:9b:00&all",
            200,
            {"path": "/v1/faults", "query": {"component": "gpu:0000:9b:00", "all": ""}},
        ),
        ("/none", 404, {"error": "none"}),
        ("/odd", 200, {"path": "/etc", "name": "M\xfcller"}),
        ("/broken", 500, {"error": "the agent cannot answer that: KeyError: 'no such thing'"}),
    ],
)
def test_each_request_gets_the_answer_of_the_handler(served: Served, target: str, status: int, body: object) -> None:
    assert served.ask(target) == (status, body)
    assert served.ask("/v1/status")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_nothing_can_be_changed_through_it(served: Served, method: str) -> None:
    assert served.answer(served.client(f"{method} / HTTP/1.1\r\nHost: hma\r\n\r\n".encode())).startswith(b"HTTP/1.1 405 ")


def test_an_answer_larger_than_the_socket_takes_comes_whole(served: Served) -> None:
    assert served.ask("/huge") == (200, {"text": HUGE})


def test_many_clients_at_once_are_all_answered(served: Served) -> None:
    clients = [served.client(f"GET /{n} HTTP/1.1\r\nHost: hma\r\n\r\n".encode()) for n in range(CONNECTIONS)]
    for number, client in enumerate(clients):
        assert f'"path":"/{number}"'.encode() in served.answer(client)
    assert served.connections == 0


def test_a_request_in_pieces_is_answered(served: Served) -> None:
    client = served.client()
    for piece in (b"GET /v1", b"/status HTTP/1.1\r\nHo", b"st: hma\r\n", b"\r\n"):
        client.send(piece)
        served.loop.run_once(0.01)
    assert b'"path":"/v1/status"' in served.answer(client)


# -- clients that misbehave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9 + b"\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: hma\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: hma\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: hma\r\n" + b"X: y\r\n" * 20_000, b"431"),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_answered(served: Served, sent: bytes, status: bytes) -> None:
    client = served.client()
    with contextlib.suppress(BlockingIOError):
        client.send(sent)
    assert served.answer(client).split()[1] == status
    assert served.ask("/v1/status")[0] == 200


def test_a_client_that_ends_in_the_middle_is_let_go(served: Served) -> None:
    for sent in (b"", b"GET /v1", b"GET / HTTP/1.1\r\nHost: hma\r\n"):
        served.client(sent).shutdown(socket.SHUT_WR)
    served.clients.pop().close()
    pump(served.loop, lambda: served.connections == 0)
    assert served.ask("/v1/status")[0] == 200


def test_a_client_that_says_nothing_is_closed_after_a_while(served: Served) -> None:
    client = served.client(b"GET / HT")
    pump(served.loop, lambda: served.connections == 1)
    served.clock.now += PATIENCE_S - 0.01
    served.loop.run_once(0.0)
    assert served.connections == 1
    served.clock.now += 0.01
    assert served.answer(client) == b""


def test_a_client_that_does_not_read_holds_nobody_and_is_closed_after_a_while(served: Served) -> None:
    slow = served.client(b"GET /huge HTTP/1.1\r\nHost: hma\r\n\r\n")
    pump(served.loop, lambda: any(connection._out for connection in served.api._open))
    assert served.ask("/v1/status")[0] == 200
    served.clock.now += PATIENCE_S
    pump(served.loop, lambda: served.connections == 0)
    assert 0 < len(served.answer(slow)) < len(HUGE)


def test_a_client_that_goes_away_while_the_answer_is_written_costs_nothing(served: Served) -> None:
    client = served.client(b"GET /huge HTTP/1.1\r\nHost: hma\r\n\r\n")
    pump(served.loop, lambda: bool(select.select([client], [], [], 0)[0]))
    client.close()
    pump(served.loop, lambda: served.connections == 0)
    assert served.ask("/v1/status")[0] == 200


def test_more_clients_than_there_is_room_for_are_told_so(served: Served) -> None:
    for _ in range(CONNECTIONS):
        served.client()
    pump(served.loop, lambda: served.connections == CONNECTIONS)
    one_more = served.client(b"GET / HTTP/1.1\r\nHost: hma\r\n\r\n")
    pump(served.loop, lambda: bool(select.select([one_more], [], [], 0)[0]))
    assert one_more.recv(1 << 20).startswith(b"HTTP/1.1 503 ")
    assert one_more.recv(1 << 20) == b"", "an end, and no reset that hides the answer"
    served.clock.now += PATIENCE_S
    pump(served.loop, lambda: served.connections == 0)
    assert served.ask("/v1/status")[0] == 200


def test_running_out_of_descriptors_is_waited_out(served: Served) -> None:
    client = served.client(b"GET /later HTTP/1.1\r\nHost: hma\r\n\r\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = os.dup(0)
    os.close(last)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
    try:
        served.loop.run_once(0.01)
        assert served.connections == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    served.loop.run_once(0.0)
    assert served.connections == 0, "it pauses instead of asking in a circle"
    served.clock.now += PAUSE_S
    assert b'"path":"/later"' in served.answer(client)


# -- who is answered --------------------------------------------------------------------------------------------------


def test_the_socket_is_for_owner_and_group_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o000)
    it = Served(tmp_path / "agent.sock")
    try:
        it.api.start()
        mode = it.path.stat().st_mode
        assert os.umask(0o000) == 0o000, "the umask is put back"
    finally:
        os.umask(before)
        it.close()
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)


CLIENT = """
import os, socket, sys
path, uid, gid, groups = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(g) for g in sys.argv[4].split(",") if g]
os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
with socket.socket(socket.AF_UNIX) as s:
    s.connect(path)
    try:
        s.sendall(b"GET /v1/status HTTP/1.1\\r\\nHost: hma\\r\\n\\r\\n")
    except BrokenPipeError:
        pass  # turned away before it could ask; the answer is there all the same
    print(s.makefile("rb").readline().decode().strip())
"""


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("uid", "gid", "groups", "answer"),
    [
        (0, 0, "", "HTTP/1.1 200"),
        (4242, 4242, "", "HTTP/1.1 403"),
        (4242, 4242, "4244,4245", "HTTP/1.1 403"),
        (4242, 4243, "", "HTTP/1.1 200"),
        (4242, 4242, "4244,4243", "HTTP/1.1 200"),
    ],
)
def test_only_root_and_members_of_the_group_are_answered_even_when_the_mode_is_open(
    uid: int, gid: int, groups: str, answer: str
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="hma-api-"))
    folder.chmod(0o755)
    it = Served(folder / "agent.sock")
    try:
        it.api.start()
        os.chown(it.path, -1, 4243)
        it.path.chmod(0o666)
        argv = (sys.executable, "-c", CLIENT, str(it.path), str(uid), str(gid), groups)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
            pump(it.loop, lambda: child.poll() is not None)
            assert child.stdout
            assert child.stdout.read().startswith(answer)
    finally:
        it.close()
        shutil.rmtree(folder)


# -- starting ---------------------------------------------------------------------------------------------------------


def test_the_socket_of_a_dead_agent_is_replaced(served: Served, tmp_path: Path) -> None:
    dead = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    it = Served(dead)
    try:
        it.api.start()
        assert it.ask("/v1/status")[0] == 200
    finally:
        it.close()


def test_something_else_in_its_place_is_not_removed(tmp_path: Path) -> None:
    place = tmp_path / "agent.sock"
    place.write_text("precious")
    with pytest.raises(ApiError, match=r"cannot open the local API: something that is no socket is in its place; remove it$"):
        Served(place).api.start()
    assert place.read_text() == "precious"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("absent/agent.sock", "absent/agent.sock: cannot open the local API: No such file or directory; create "),
        ("a-file/agent.sock", "a-file/agent.sock: cannot open the local API: Not a directory; name another `run_dir`"),
        ("x" * 120, "cannot open the local API: AF_UNIX path too long; name another `run_dir`"),
    ],
)
def test_a_place_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, path: str, told: str) -> None:
    (tmp_path / "a-file").touch()
    it = Served(tmp_path / path)
    with pytest.raises(ApiError) as caught:
        it.api.start()
    it.loop.close()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


CLOSED_DIR = """
import os, sys
from pathlib import Path
from hma.loop import Loop
from hma.reporting.api import Api, ApiError
os.setresuid(4242, 4242, 4242)
try:
    Api(Loop(), Path(sys.argv[1]), lambda path, query: (200, {})).start()
except ApiError as err:
    print(err)
"""


@pytest.mark.needs("root")
def test_a_directory_that_may_not_be_written_names_the_user(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="hma-api-"))
    folder.chmod(0o755)
    argv = (sys.executable, "-c", CLOSED_DIR, str(folder / "agent.sock"))
    root = Path(__file__).parents[2]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True)
    shutil.rmtree(folder)
    assert done.stdout == (
        f"{folder}/agent.sock: cannot open the local API: Permission denied; "
        f"let uid 4242 write to {folder}, or name another `run_dir`\n"
    )


def test_peer_groups_are_told_by_this_kernel(tmp_path: Path) -> None:
    """The number of SO_PEERGROUPS is not in Python's socket module; this is that it means what we think."""
    one, other = socket.socketpair()
    with one, other:
        raw = one.getsockopt(socket.SOL_SOCKET, 59, 1_024)
    assert {gid for (gid,) in struct.iter_unpack("I", raw)} == set(os.getgroups())
