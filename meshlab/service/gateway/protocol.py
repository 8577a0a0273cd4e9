"""HTTP/1.1 over one connection: uvicorn's protocol over llhttp, with bounds on what a client may take.

llhttp is strict: it refuses what two parsers could read in two ways (two lengths, a
length beside chunks, bare line feeds).  What is added here:

- the head of a request, and the whole of it on the wire, have a largest size;
- a request must have arrived after some time, and an answer must be taken;
- a request that is whole gets its answer, whatever comes behind it on the connection;
- only so many requests may wait for the answers before theirs, and meanwhile no more are read;
- trailers are dropped, so that nothing becomes a header after the headers were read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from meshlab.service.gateway.admission import Limits
from meshlab.service.gateway.answers import json_answer
from meshlab.service.gateway.direct import Direct, is_ordinary, wire
from meshlab.service.gateway.patience import Patience

if TYPE_CHECKING:
    from meshlab.service.gateway.app import Gateway

HEAD = 32 << 10
"""Bytes a request line and its headers may have."""

AHEAD = 32
"""Requests that may wait behind one that is not answered yet."""

_SLACK = 1 << 20
_SWEEP = 0.25
"""Seconds between two looks for clients that are too slow."""


class _Ahead(Exception):
    """A client sent too many requests ahead."""


class _Flow(FlowControl):
    """Reads no more while requests that came already wait for their turn."""

    def __init__(self, transport: asyncio.Transport, waiting: Collection[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, if nothing waits."""
        if not self._waiting:
            super().resume_reading()


class GuardedProtocol(HttpToolsProtocol):
    """One connection.  ``config.app`` is the ``Gateway``, whose limits hold."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.gateway = cast("Gateway", self.config.app)
        self.limits: Limits = self.gateway.options.limits
        self.arriving: float | None = self.loop.time()
        """Since when a request has been on its way; None between requests."""
        self.idle: float | None = None
        """Since when nothing has, behind a direct answer; behind others uvicorn looks for itself."""
        self.patience = Patience(self.limits.request)
        self._in_head = True
        self._ended = False
        self._raw = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came; one too many is told so."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        if len(self.connections) > self.limits.connections:
            self._say(503, "Overloaded", "the gateway has as many connections as it may", retry=True)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        self._raw += len(data)
        self._ended = False
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
        elif not self._ended and self.arriving is None and (self.cycle is None or self.cycle.response_complete):
            # Blank lines before a request count as its beginning.
            self.arriving = self.loop.time()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has said all it will; what is whole is still answered."""
        cycle = self.cycle
        waits = cycle is not None and not cycle.response_complete and not cycle.more_body
        if waits:
            cycle.keep_alive = False
        return waits

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url, self.headers = b"", []
        self.arriving = self.loop.time()
        self.idle = None
        self._in_head = True
        self._raw = 1  # it may have come in one piece with what was before it: that is not counted, but it began
        if self.cycle is None or self.cycle.response_complete:
            self.patience.renew()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a trailer is dropped."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole: the application is asked, when it cannot be done without."""
        self._in_head = False
        post = self.parser.get_method() == b"POST"
        if post and self._is_free() and is_ordinary(self.url, self.headers, self.limits.body):
            keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
            self.cycle = Direct(self, keep_alive)  # type: ignore[assignment]
        else:
            self._ask_application()

    def _ask_application(self) -> None:
        """Give uvicorn the head as if it had come to it."""
        if len(self.pipeline) >= AHEAD:
            raise _Ahead
        url, headers = self.url, self.headers
        super().on_message_begin()
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def on_direct_answer(self) -> None:
        """A request was answered directly: the next one may come."""
        self.server_state.total_requests += 1
        if self.pipeline or self.flow.read_paused:
            super().on_response_complete()
        else:
            self.idle = self.loop.time()

    def _is_free(self) -> bool:
        """Whether nothing is under way on this connection, and requests may be answered directly."""
        idle = self.cycle is None or self.cycle.response_complete
        return idle and not self.flow.write_paused and self.gateway.answers_directly

    def on_body(self, body: bytes) -> None:
        """Bytes of the body."""
        cycle: Any = self.cycle
        if type(cycle) is Direct:
            cycle.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.arriving = None
        self._ended = True
        cycle: Any = self.cycle
        if type(cycle) is Direct:
            cycle.finish()
        else:
            super().on_message_complete()

    def pause_writing(self) -> None:
        """The client takes no more of its answer for now."""
        super().pause_writing()
        self.patience.pause(self.loop.time(), self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It takes more."""
        super().resume_writing()
        self.patience.resume(self.loop.time(), self.transport.get_write_buffer_size())

    def look(self, now: float) -> None:
        """Cut the client off if it is too slow."""
        if self.idle is not None and now - self.idle > self.limits.idle:
            self.transport.close()
        elif self.patience.is_over(now):
            self.transport.abort()
        elif self.arriving is not None and self.flow.read_paused:
            self.arriving += _SWEEP  # it is not the client who is slow
        elif self.arriving is not None and now - self.arriving > self.limits.request:
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
        said = {"success": False, "error": why, "kind": kind, "hint": "see /openapi.json"}
        answer = json_answer(said, status, ((b"retry-after", b"1"),) if retry else ())
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or type(cycle) is Direct:
            self.gateway.note_refusal(self.client, status, len(answer.body))
        else:
            cycle.scope["refused"] = status  # it is told of when the application has seen that it is over
        self.transport.write(wire(answer, self.server_state.default_headers, keep_alive=False))
        self.transport.close()


async def sweep(connections: set[Any]) -> None:
    """Look at all connections again and again, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP)
        for connection in list(connections):
            connection.look(loop.time())
