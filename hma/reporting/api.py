"""The local API: HTTP/1.1 on a Unix socket, for `hma status` and whatever else runs on the node.

Rules of this file:
- The socket is 0660 in the agent's run directory; the kernel tells who connected and in which groups (SO_PEERCRED,
  SO_PEERGROUPS), and only root, the agent's own user and members of the socket's group are answered, whatever the file mode
  has become. Never the user database: behind it may be a directory server, and asking it would block the agent.
- A client can neither block the agent nor grow it: reads and writes are non-blocking, requests and connections are capped,
  and a connection that is not done in `PATIENCE_S` is closed. An answer that cannot be made costs that answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import h11

from hma.loop import Loop, Timer

Answer = tuple[int, Mapping[str, object]]
Handler = Callable[[str, Mapping[str, str]], Answer]

CONNECTIONS = 32
PATIENCE_S = 5.0
PAUSE_S = 1.0
_UCRED = struct.Struct("3I")
_SO_PEERGROUPS = 59  # not in the socket module; Linux 4.13


class ApiError(Exception):
    """The socket could not be opened; the text is for a person."""


class Api:
    """Serves `handler(path, query) -> (status, body)` on a Unix socket."""

    def __init__(self, loop: Loop, path: Path, handler: Handler) -> None:
        self._loop = loop
        self._path = path
        self._handler = handler
        self._open: set[_Connection] = set()
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Bind and listen; a socket file left by a dead agent is replaced (the agent's lock says there is no live one)."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            _make_way(self._path)
            before = os.umask(0o117)
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(before)
            listener.listen(CONNECTIONS)
        except OSError as err:
            listener.close()
            raise ApiError(f"{self._path}: cannot open the local API: {err.strerror or err}{_mend(self._path, err)}") from err
        self._listener = listener
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Close everything and remove the socket file."""
        for connection in tuple(self._open):
            connection.close()
        if self._listener is None:
            return
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self._listener = None
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            channel, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            # Out of descriptors: the listener stays readable, and asking at once again would take a whole core.
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(PAUSE_S, self._listen)
            return
        channel.setblocking(False)
        if not may_read(channel, self._path):
            _turn_away(channel, b"403 Forbidden")
        elif len(self._open) >= CONNECTIONS:
            _turn_away(channel, b"503 Service Unavailable")
        else:
            self._open.add(_Connection(self._loop, channel, self._handler, self._open.discard))

    def _listen(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener.fileno(), self._accept)


def may_read(channel: socket.socket, path: Path) -> bool:
    """Return whether the peer is root, this user, or in the group that owns the socket file."""
    _, uid, gid = _UCRED.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid in (0, os.geteuid()):
        return True
    try:
        group = path.stat().st_gid
    except OSError:
        return False
    return gid == group or group in _groups(channel)


def _groups(channel: socket.socket) -> tuple[int, ...]:
    try:
        raw = channel.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1_024)  # the most that Python reads: 256 groups
    except OSError:
        return ()
    return tuple(gid for (gid,) in struct.iter_unpack("I", raw))


def _make_way(path: Path) -> None:
    """Remove the socket of an agent that is dead; raises OSError where something else stands in its place."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(17, "something that is no socket is in its place")
    path.unlink()


def _mend(path: Path, err: OSError) -> str:
    if isinstance(err, FileNotFoundError):
        return f"; create {path.parent}, or name another `run_dir`"
    if isinstance(err, PermissionError):
        return f"; let uid {os.geteuid()} write to {path.parent}, or name another `run_dir`"
    return "; remove it" if isinstance(err, FileExistsError) else "; name another `run_dir`"


def _turn_away(channel: socket.socket, status: bytes) -> None:
    with channel, contextlib.suppress(OSError):
        with contextlib.suppress(BlockingIOError):
            channel.recv(16_384)  # a request left unread would reach the caller as a reset, in place of the answer
        channel.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class _Connection:
    """One client: one request, one answer, closed."""

    def __init__(self, loop: Loop, channel: socket.socket, handler: Handler, gone: Callable[[_Connection], None]) -> None:
        self._loop = loop
        self._channel = channel
        self._handler = handler
        self._gone = gone
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=16_384)
        self._out = b""
        self._head = False
        self._patience: Timer = loop.call_later(PATIENCE_S, self.close)
        loop.add_reader(channel.fileno(), self._read)

    def close(self) -> None:
        if self._channel.fileno() < 0:
            return
        self._patience.cancel()
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._channel.close()
        self._gone(self)

    def _read(self) -> None:
        try:
            data = self._channel.recv(16_384)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as err:
            self._answer(err.error_status_hint, {"error": "not a request this API understands"})
            return
        if isinstance(event, h11.Request):
            self._head = event.method == b"HEAD"
            self._answer(*self._serve(event))
        elif event is not h11.NEED_DATA:
            self.close()

    def _serve(self, request: h11.Request) -> Answer:
        if request.method != b"GET":
            return 405, {"error": f"{request.method.decode('ascii', 'replace')} is not offered; this API only reads"}
        path, _, query = request.target.decode("ascii", "replace").partition("?")
        pairs = (pair.partition("=") for pair in query.split("&") if pair)
        try:
            return self._handler(path, {key: value for key, _, value in pairs})
        except Exception as err:  # noqa: BLE001 (a mistake in showing the state must not end what watches the node)
            return 500, {"error": f"the agent cannot answer that: {type(err).__name__}: {err}"[:500]}

    def _answer(self, status: int, body: Mapping[str, object]) -> None:
        data = json.dumps(body, separators=(",", ":"), default=str).encode() + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data))), ("Connection", "close")]
        try:
            parts = [
                self._http.send(h11.Response(status_code=status, headers=headers)),
                self._http.send(h11.Data(data=b"" if self._head else data)),
                self._http.send(h11.EndOfMessage()),
            ]
        except h11.LocalProtocolError:
            self.close()
            return
        self._out = b"".join(part for part in parts if part)
        self._loop.remove_reader(self._channel.fileno())
        self._loop.add_writer(self._channel.fileno(), self._write)
        self._write()

    def _write(self) -> None:
        try:
            sent = self._channel.send(self._out)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._out = self._out[sent:]
        if not self._out:
            self.close()
