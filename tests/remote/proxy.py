"""A proxy between client and gateway that counts requests and does to the nth what it is told."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Any

STATUSES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}
PASS, HANG, DROP, CUT_REQUEST, CUT_ANSWER, LOST_ANSWER = (
    "pass",
    "hang",
    "drop",
    "cut request",
    "cut answer",
    "lost answer",
)

Fault = str | int | tuple[int, str]
"""``PASS`` and its kin, a status, or a status with its code."""


class Proxy:
    """``decide`` gives, for the number of a request (from 1), its method and path, what becomes of it."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.decide: Callable[[int, str, str], Fault] = lambda number, method, path: PASS
        self.requests: list[tuple[str, str]] = []
        self.hits = 0
        self.released = threading.Event()
        self._mutex = threading.Lock()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Let go of whoever hangs, and end."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def reset(self, decide: Callable[[int, str, str], Fault] | None = None) -> None:
        """Count from 1 again."""
        with self._mutex:
            self.requests.clear()
            self.hits = 0
        self.decide = decide or (lambda number, method, path: PASS)

    def _serve(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        try:
            while self._one(client, stream):
                pass
        except OSError:
            pass
        finally:
            stream.close()

    def _one(self, client: socket.socket, stream: Any) -> bool:
        """One request and its answer; returns whether the connection goes on."""
        head = _head(stream)
        if not head:
            return False
        method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        with self._mutex:
            self.requests.append((method, path))
            number = len(self.requests)
        fault = self.decide(number, method, path)
        self.hits += fault != PASS
        if fault == HANG:
            self.released.wait(30)
            return False
        if fault == DROP:
            return False
        length = _length(head)
        if fault == CUT_REQUEST:
            _exchange(self.upstream, head, stream.read(length // 2), whole=False)
            return False
        body = stream.read(length)
        if isinstance(fault, (int, tuple)):
            client.sendall(_refusal(*(fault if isinstance(fault, tuple) else (fault, STATUSES[fault]))))
            return True
        answer = _exchange(self.upstream, head, body)
        if fault == LOST_ANSWER:
            return False
        if fault == CUT_ANSWER:
            client.sendall(
                answer[: len(answer) - max(1, _length(answer) // 2) if _length(answer) else len(answer) // 2]
            )
            return False
        client.sendall(answer)
        return True


def _head(stream: Any) -> bytes:
    lines = []
    while line := stream.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _exchange(port: int, head: bytes, body: bytes, *, whole: bool = True) -> bytes:
    """Hand a request on over a connection of its own; the whole answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as server:
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        server.sendall(b"\r\n".join([*lines[:-2], b"Connection: close", b"", b""]) + body)
        if not whole:
            return b""
        return b"".join(iter(lambda: server.recv(1 << 16), b""))


def _refusal(status: int, code: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>".encode()
    return f"HTTP/1.1 {status} Refused\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
