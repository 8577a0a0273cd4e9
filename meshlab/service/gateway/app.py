"""The gateway as an ASGI application: who may speak, which route answers, what is counted and logged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from meshlab.errors import InternalError, MeshlabError
from meshlab.service.gateway.access import AccessLog, Line
from meshlab.service.gateway.admission import Admission, Limits
from meshlab.service.gateway.answers import Answer, json_answer, receipt_answer, refusal
from meshlab.service.gateway.appends import Appends
from meshlab.service.gateway.assets import BRIDGE, bridge_answer
from meshlab.service.gateway.auth import METRICS, Tokens
from meshlab.service.gateway.descriptors import MOST_LOGS
from meshlab.service.gateway.direct import WAL
from meshlab.service.gateway.exchange import Disconnected, Exchange, Receive, Scope, Send
from meshlab.service.gateway.health import is_full, lacks_space, shortcomings
from meshlab.service.gateway.lanes import Lanes
from meshlab.service.gateway.openapi import document
from meshlab.service.gateway.origins import check_origin
from meshlab.service.gateway.posts import Draft
from meshlab.service.gateway.reads import Reads, Stream, in_threads
from meshlab.service.gateway.refusals import verdict
from meshlab.service.metrics import Metrics
from meshlab.service.survey import Survey
from meshlab.store import Store

_MEND_EVERY = 1.0
_LOOK_EVERY = 15.0
"""Seconds between two tries to open logs in trouble, and between two looks at the store's files."""

_ENOUGH = 1 << 20
"""Free bytes with which a log that met a full disk is tried again."""

_PIECE = 256 << 10
"""Bytes of an answer that are handed on at a time."""

Handler = Callable[[Exchange], Awaitable[Answer | Stream]]


class Options(NamedTuple):
    """How the gateway is to behave."""

    limits: Limits = Limits()
    origins: tuple[str, ...] = ()
    """Other origins whose pages may use it."""
    hosts: tuple[str, ...] = ()
    """Names it answers to, besides those of the loopback, when there are no tokens."""
    logs: int = MOST_LOGS
    """Logs that may be open at a time."""


class Gateway:
    """The application over one store.  It begins with the lifespan's start and ends with its shutdown."""

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        metrics: Metrics,
        *,
        options: Options,
        survey: Survey,
        access: AccessLog,
        logger: logging.Logger,
    ) -> None:
        self.store, self.tokens, self.metrics, self.options = store, tokens, metrics, options
        self.draining = False
        self.connections: Callable[[], int] = lambda: 0
        self._survey, self._access, self._logger = survey, access, logger
        self._secret = str(store.path)
        self._admission = Admission(options.limits, time.monotonic)
        self._routes: dict[tuple[str, str], Handler] = {}
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._built()(scope, receive, send)
            return
        exchange = scope["exchange"] = Exchange(scope, receive, time.perf_counter())
        try:
            await self._exchange(exchange, receive, _counted(exchange, send))
        except Disconnected:
            exchange.status = scope.get("refused", 499)
        finally:
            del scope["exchange"]
            exchange.give_back(self._admission)
            self._note(exchange)

    async def _exchange(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        scope = exchange.scope
        handler = None if not self.answers_directly else self._routes.get((scope["method"], scope["path"]))
        if handler is None:
            await self._app(scope, receive, send)
            return
        answer = await self._answer(exchange, handler)
        if isinstance(answer, Stream):
            await _response(answer)(scope, receive, send)
        else:
            await _send(answer, send)

    async def _answer(self, exchange: Exchange, handler: Handler) -> Answer | Stream:
        """What a route answers, errors included; it is accounted for until it is sent."""
        answer = await self._outcome(exchange, handler)
        if isinstance(answer, Answer):
            exchange.hold_answer(len(answer.body), self._admission)
        return answer

    async def _outcome(self, exchange: Exchange, handler: Handler) -> Answer | Stream:
        try:
            self._check_origin(exchange)
            return await handler(exchange)
        except MeshlabError as error:
            return self._refuse(exchange, error)
        except (Disconnected, asyncio.CancelledError):
            raise
        except Exception as error:
            return self._defect(exchange, error)

    def _check_origin(self, exchange: Exchange) -> None:
        check_origin(exchange, self.options.origins, self.options.hosts if self.tokens.is_open else None)

    def _defect(self, exchange: Exchange, error: Exception) -> Answer:
        self._logger.error("defect", exc_info=error, extra={"fields": {"path": exchange.scope["path"]}})
        return self._refuse(exchange, InternalError("the gateway failed"))

    def _refuse(self, exchange: Exchange, error: MeshlabError) -> Answer:
        self.metrics.add("meshlab_rejects_total", 1, verdict(error).reason, uid=exchange.uid or "")
        return refusal(error, self._secret)

    def answer_directly(self, exchange: Exchange, body: bytes, answer: Callable[[Answer], None]) -> None:
        """The way of ``POST /api/mesh/wal`` without a task: ``answer`` is called once, now or later."""

        def tell(draft: Draft) -> None:
            finish(receipt_answer(draft) if draft.error is None else self._refuse(exchange, draft.error))

        def finish(what: Answer) -> None:
            exchange.status, exchange.sent = what.status, len(what.body)
            exchange.give_back(self._admission)
            answer(what)
            self._note(exchange)

        try:
            self._check_origin(exchange)
            self._appends.begin(exchange, body, tell)
        except MeshlabError as error:
            finish(self._refuse(exchange, error))
        except Exception as error:
            finish(self._defect(exchange, error))

    @property
    def answers_directly(self) -> bool:
        """Whether requests may go without the application; with other origins their headers must be added there."""
        return self._app is not None and not self.options.origins

    # Beginning and end

    def _built(self) -> Starlette:
        """The routes, for which the event loop must be there."""
        lanes = Lanes(self.store, self._admission, self, logs=self.options.logs)
        reads = Reads(self.store, self._admission, self.tokens, self.metrics)
        appends = Appends(lanes, self._admission, self.tokens, self.metrics, self._secret)
        self._lanes, self._reads, self._appends = lanes, reads, appends
        self._routes = {
            ("POST", WAL): appends.one,
            ("POST", f"{WAL}/batch"): appends.batch,
            ("GET", f"{WAL}/stats"): reads.stats,
            ("GET", "/api/mesh/state"): reads.state,
            ("POST", "/api/mesh/checkpoint"): reads.checkpoint,
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._metrics_text,
            ("GET", "/openapi.json"): self._openapi,
            **{("GET", path): bridge_answer for path in BRIDGE},
        }
        self._app = Starlette(
            routes=[Route(path, self._endpoint(what), methods=[verb]) for (verb, path), what in self._routes.items()],
            middleware=_cors(self.options.origins),
            exception_handlers={HTTPException: self._no_route},
            lifespan=self._lifespan,
        )
        self._feed()
        return self._app

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (self._keep_mending(), self._keep_looking())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._lanes.drain()
            self._reads.close()
            self._access.flush()

    async def _keep_mending(self) -> None:
        while True:
            await asyncio.sleep(_MEND_EVERY)
            before = self._lanes.trouble
            try:
                await self._lanes.mend(self._may_mend)
            except Exception as error:
                self._logger.error("defect", exc_info=error)
            for uid in before.keys() - self._lanes.trouble.keys():
                self._logger.info("mended", extra={"fields": {"uid": uid}})

    def _may_mend(self, error: MeshlabError) -> bool:
        """On a full disk the lost bytes are not written again and again; they need little, whatever ``min_free`` is."""
        return not (is_full(error) and lacks_space(self.store.path, min(_ENOUGH, self.options.limits.min_free)))

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self._reads.run(self._survey.look)
            except MeshlabError as error:
                self._logger.warning("survey failed", extra={"fields": {"error": error.message}})
            except Exception as error:
                self._logger.error("defect", exc_info=error)
            await asyncio.sleep(_LOOK_EVERY)

    # What is told

    def committed(self, batch: list[Draft], frames: int) -> None:
        """Count what a commit came to; called from its thread."""
        metrics = self.metrics
        if frames:
            metrics.observe("meshlab_frames_per_sync", frames)
        written = [draft for draft in batch if draft.receipt is not None and not draft.duplicate]
        uid = batch[0].uid
        if written:
            metrics.add("meshlab_appends_total", len(written), uid=uid)
            nbytes = sum(draft.receipt.nbytes for draft in written if draft.receipt is not None)
            metrics.add("meshlab_append_bytes_total", nbytes, uid=uid)
            metrics.add("meshlab_event_bytes_total", sum(len(draft.event) for draft in written))
        if known := sum(draft.duplicate for draft in batch):
            metrics.add("meshlab_duplicates_total", known)

    def joined(self, count: int) -> None:
        """Retries that waited for their event were not written either."""
        self.metrics.add("meshlab_duplicates_total", count)

    def failed(self, uid: str, error: MeshlabError) -> None:
        """A log takes no appends any more."""
        self._logger.error("log failed", extra={"fields": {"uid": uid, "error": error.message, "hint": error.hint}})

    def _feed(self) -> None:
        metrics, admission = self.metrics, self._admission
        self._survey.feed(metrics)
        metrics.feed("meshlab_connections", lambda: self.connections())
        metrics.feed("meshlab_waiting_events", lambda: admission.events)
        metrics.feed("meshlab_waiting_bytes", lambda: admission.nbytes)
        metrics.feed("meshlab_poisoned_writers", lambda: len(self._lanes.trouble))
        metrics.feed("meshlab_ready", lambda: 0 if self._shortcomings() else 1)

    def _note(self, exchange: Exchange) -> None:
        """One line in the log, and the counters."""
        scope = exchange.scope
        method, path = scope["method"], scope["path"]
        seconds = time.perf_counter() - exchange.began
        known = (method, path) in self._routes
        route = path if known else "other"
        self.metrics.count_request(route, method if known else "other", exchange.status, seconds)
        client, grant = scope["client"], exchange.grant
        self._access.note(
            Line(
                client[0] if client else None,
                grant.name if grant is not None else None,
                method[:16],
                path[:256],
                exchange.uid,
                exchange.status,
                round(seconds * 1e3, 3),
                exchange.received,
                exchange.sent,
            )
        )

    def note_refusal(self, client: tuple[str, int] | None, status: int, sent: int) -> None:
        """The same about a request that was refused before it was one."""
        self.metrics.count_request("other", "other", status, 0.0)
        self._access.note(Line(client[0] if client else None, None, "", "", None, status, 0.0, 0, sent))

    # Small routes

    def _shortcomings(self) -> list[str]:
        return shortcomings(self.store.path, self._lanes.trouble, self.options.limits.min_free, self.draining)

    async def _healthz(self, _: Exchange) -> Answer:
        return json_answer({"ok": True})

    async def _readyz(self, _: Exchange) -> Answer:
        reasons = self._shortcomings()
        return json_answer({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def _metrics_text(self, exchange: Exchange) -> Answer:
        exchange.authorize(self.tokens).check_right(METRICS)
        text, content_type = self.metrics.text(exchange.header(b"accept") or "")
        return Answer(200, text, content_type.encode())

    async def _openapi(self, _: Exchange) -> Answer:
        return json_answer(document(self.options.limits))

    def _endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return _response(await self._answer(request.scope["exchange"], handler))

        return endpoint

    async def _no_route(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        said = {"success": False, "error": str(error.detail), "kind": "NoRoute", "hint": "see /openapi.json"}
        headers = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
        return _response(json_answer(said, error.status_code, headers))


def _cors(origins: tuple[str, ...]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
            expose_headers=["Retry-After"],
        )
    ]


def _response(answer: Answer | Stream) -> Response:
    if isinstance(answer, Stream):
        return StreamingResponse(in_threads(answer.pieces), answer.status, media_type="application/json")
    return _Whole(answer)


class _Whole(Response):
    """An answer as Starlette has them."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(None, answer.status)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _send(self._answer, send)


async def _send(answer: Answer, send: Send) -> None:
    """Send an answer, a large one piece by piece: until the client takes it, it is still ours."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers})
    view = memoryview(answer.body)
    for at in range(0, len(view), _PIECE):
        await send({"type": "http.response.body", "body": bytes(view[at : at + _PIECE]), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _counted(exchange: Exchange, send: Send) -> Send:
    """``send`` that notes the status and the bytes."""

    async def counted(message: Any) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
        else:
            exchange.sent += len(message.get("body", b""))
        await send(message)

    return counted
