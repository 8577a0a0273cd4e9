"""Requests that are answered without a task of their own: small ones with one event, which most are.

A ``Direct`` stands where uvicorn keeps the cycle of a request, and has what its protocol
asks of one.  It collects the body, hands it to the gateway, and writes head and body of
the answer at once.  That halves the time per request; everything that is out of the
ordinary (pipelining, ``Expect``, an upgrade, a client that does not read) goes the
application's way.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from meshlab.service.gateway.answers import Answer
from meshlab.service.gateway.exchange import Exchange

if TYPE_CHECKING:
    from meshlab.service.gateway.protocol import GuardedProtocol


WAL = "/api/mesh/wal"
_URL = WAL.encode()
_MOST = 16 << 10
"""Bytes of a body up to which it is not accounted for while it comes in."""


def is_ordinary(url: bytes, headers: list[tuple[bytes, bytes]], limit: int) -> bool:
    """Whether a POST is one event in a small plain body, within the limit."""
    if url != _URL:
        return False
    length = b""
    for name, value in headers:
        if name == b"content-length":
            length = value
        elif name in _UNUSUAL:
            return False
    return length.isdigit() and len(length) < 6 and int(length) <= min(_MOST, limit)


_UNUSUAL = frozenset({b"expect", b"upgrade", b"transfer-encoding", b"content-encoding"})


class Direct:
    """One request under way; what is public is what uvicorn's protocol reads and sets."""

    __slots__ = (
        "_exchange",
        "_parts",
        "_protocol",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(self, protocol: GuardedProtocol, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.disconnected = self.response_started = self.response_complete = False
        self.more_body = True
        self.message_event = _NOBODY
        self._protocol = protocol
        head = {"method": "POST", "path": WAL, "client": protocol.client, "headers": protocol.headers}
        self._exchange = Exchange(head, None, time.perf_counter())
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Bytes of the body."""
        self._parts.append(part)

    def finish(self) -> None:
        """The request is whole."""
        self.more_body = False
        exchange, gateway = self._exchange, self._protocol.gateway
        body, self._parts = b"".join(self._parts), []
        gateway.answer_directly(exchange, body, self._answer)

    def _answer(self, answer: Answer) -> None:
        """Write the answer, if the client is still there; the connection goes on."""
        self.response_started = self.response_complete = True
        protocol = self._protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        protocol.transport.write(wire(answer, protocol.server_state.default_headers, self.keep_alive))
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_direct_answer()


class _Nobody:
    """Stands for the event nobody waits for."""

    def set(self) -> None:
        """Nobody is woken."""


_NOBODY = _Nobody()


def wire(answer: Answer, headers: list[tuple[bytes, bytes]], keep_alive: bool) -> bytes:
    """Head and body of an answer as they go over the connection."""
    head = b"".join([b"%b: %b\r\n" % header for header in headers])
    more = b"".join([b"%b: %b\r\n" % header for header in answer.headers])
    return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\ncache-control: no-store\r\n%b%b\r\n%b" % (
        STATUS_LINE[answer.status],
        head,
        answer.content_type,
        len(answer.body),
        more,
        b"" if keep_alive else b"connection: close\r\n",
        answer.body,
    )
