"""HTTP/1.1 over one connection: uvicorn's protocol over llhttp, with bounds on what a client may take.

llhttp is strict: it refuses what two parsers could read in two ways (two lengths, a
length beside chunks, bare line feeds).  What is added here:

- the head of a request, and the whole of it on the wire, have a largest size;
- a request must have arrived after some time, and an answer must be taken;
- a request that is whole gets its answer, whatever comes behind it on the connection;
- trailers are dropped, so that nothing becomes a header after the headers were read.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from meshlab.service.gateway.answers import json_answer

HEAD = 32 << 10
"""Bytes a request line and its headers may have."""

_SLACK = 1 << 20
_SWEEP = 0.25
"""Seconds between two looks for clients that are too slow."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection.  ``config.app`` is the ``Gateway``, whose limits hold."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.gateway = self.config.app
        self.limits = self.gateway.options.limits
        self.arriving: float | None = self.loop.time()
        """Since when a request has been on its way; None between requests."""
        self.stuck: float | None = None
        self._in_head = True
        self._raw = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came; one too many is told so."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._say(503, "Overloaded", "the gateway has as many connections as it may", retry=True)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        self._raw += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as if it had not asked; what follows is no HTTP, so nothing more is read.
            self.arriving = None
            if self.cycle is not None:
                self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(400, "the request is not HTTP/1.1")
            return
        if self._in_head and self._raw > HEAD:
            self._refuse(431, f"the head of the request has more than {HEAD:,} bytes")
        elif self._raw > 2 * self.limits.batch + _SLACK:
            self._refuse(413, "the request is too long")
        elif self.arriving is None and (self.cycle is None or self.cycle.response_complete):
            self.arriving = self.loop.time()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.arriving = self.loop.time()
        self._in_head = True
        self._raw = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a trailer is dropped."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: the application is asked."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.arriving = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client takes no more of its answer for now."""
        super().pause_writing()
        self.stuck = self.loop.time()

    def resume_writing(self) -> None:
        """It takes more."""
        super().resume_writing()
        self.stuck = None

    def look(self, now: float) -> None:
        """Cut the client off if it is too slow."""
        if self.stuck is not None and now - self.stuck > self.limits.request:
            self.transport.abort()
        elif self.arriving is not None and not self.flow.read_paused and now - self.arriving > self.limits.request:
            if self._raw:
                self._refuse(408, f"the request took longer than {self.limits.request:g} s to arrive")
            else:
                self.transport.close()

    def _refuse(self, status: int, why: str) -> None:
        """End the connection over what came last, but not before what is whole was answered."""
        self.arriving = None
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                self.flow.pause_reading()
                return
            if cycle.response_started:
                self.transport.close()
                return
        self._say(status, "Malformed", why)

    def _say(self, status: int, kind: str, why: str, *, retry: bool = False) -> None:
        if self.transport.is_closing():
            return
        self.gateway.metrics.add("meshlab_rejects_total", 1, "overload" if retry else "malformed")
        answer = json_answer({"success": False, "error": why, "kind": kind, "hint": "see /openapi.json"}, status)
        headers = [*answer.all_headers, (b"connection", b"close"), *([(b"retry-after", b"1")] if retry else [])]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + answer.body)
        self.transport.close()


async def sweep(connections: set[Any]) -> None:
    """Look at all connections again and again, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP)
        for connection in list(connections):
            connection.look(loop.time())
