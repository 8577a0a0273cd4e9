"""The two routes that write: one event, and a batch of lines."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from meshlab.errors import MeshlabError
from meshlab.service.gateway.admission import Admission
from meshlab.service.gateway.answers import Answer, json_answer, line_result, receipt_answer
from meshlab.service.gateway.auth import APPEND, Grant, Tokens
from meshlab.service.gateway.exchange import Exchange
from meshlab.service.gateway.lanes import Lanes
from meshlab.service.gateway.posts import Draft, read_post, split_lines
from meshlab.service.gateway.refusals import Malformed, Overloaded, TooLarge, verdict
from meshlab.service.metrics import Metrics

_BREATH = 256
_BREATH_BYTES = 256 << 10
"""Lines of a batch, and their bytes, that are read before other requests get a turn."""

_PATIENCE = 2.0
"""Seconds a batch waits for room, while its body is held."""

MIXED = 207
"""The status of a batch in which not every line was written."""


class Appends:
    """Takes events in and answers when they are on disk."""

    def __init__(self, lanes: Lanes, admission: Admission, tokens: Tokens, metrics: Metrics, secret: str) -> None:
        self._lanes = lanes
        self._admission = admission
        self._tokens = tokens
        self._metrics = metrics
        self._secret = secret

    async def one(self, exchange: Exchange) -> Answer:
        """``POST /api/mesh/wal``: one event."""
        exchange.authorize(self._tokens)
        draft = self._draft(exchange, await exchange.body(self._admission.limits.body, self._admission))
        await self._lanes.outcome(draft)
        if draft.error is not None:
            raise draft.error
        return receipt_answer(draft)

    def _draft(self, exchange: Exchange, body: bytes) -> Draft:
        """The draft of a body, if who sends it may append it."""
        draft = read_post(body, exchange.key)
        exchange.release_body(self._admission)
        exchange.uid = draft.uid
        assert exchange.grant is not None
        exchange.grant.check(draft.uid, APPEND)
        return draft

    def begin(self, exchange: Exchange, body: bytes, tell: Callable[[Draft], None]) -> None:
        """``one`` without a task: the body is there, and ``tell`` is called with the outcome."""
        exchange.authorize(self._tokens)
        exchange.hold(len(body), self._admission)
        draft = self._draft(exchange, body)
        draft.tell = lambda: tell(draft)
        self._lanes.submit(draft)

    async def batch(self, exchange: Exchange) -> Answer:
        """``POST /api/mesh/wal/batch``: one event per line, each with a status of its own."""
        grant = exchange.authorize(self._tokens)
        if exchange.key is not None:
            raise Malformed(
                "a batch takes no Idempotency-Key header", hint='give each line a "key" of its own, beside its event'
            )
        limits = self._admission.limits
        body = await exchange.body(limits.batch, self._admission)
        batch = _Batch(self._lanes, grant)
        lines = nbytes = 0
        for number, line in split_lines(body, limits.lines, limits.body):
            batch.taken.append((number, await batch.take(line)))
            lines, nbytes = lines + 1, nbytes + (len(line) if isinstance(line, bytes) else 0)
            if lines >= _BREATH or nbytes >= _BREATH_BYTES:
                lines = nbytes = 0
                await asyncio.sleep(0)
        del body
        exchange.release_body(self._admission)
        await batch.settled()
        return self._result(batch.taken)

    def _result(self, taken: list[tuple[int, Draft | MeshlabError]]) -> Answer:
        results = [line_result(number, outcome, self._secret) for number, outcome in taken]
        failed = 0
        for _, outcome in taken:
            error = outcome.error if isinstance(outcome, Draft) else outcome
            if error is not None:
                failed += 1
                uid = outcome.uid if isinstance(outcome, Draft) else ""
                self._metrics.add("meshlab_rejects_total", 1, verdict(error).reason, uid=uid)
        said = {"success": not failed, "written": len(results) - failed, "failed": failed, "results": results}
        return json_answer(said, MIXED if failed else 200)


class _Batch:
    """The lines of a batch, those that were taken, and whose outcome is to come."""

    def __init__(self, lanes: Lanes, grant: Grant) -> None:
        self.taken: list[tuple[int, Draft | MeshlabError]] = []
        self._lanes, self._grant = lanes, grant
        self._stopped: dict[str, MeshlabError] = {}
        self._last: dict[str, Draft] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._patience = _PATIENCE

    async def take(self, line: bytes | TooLarge) -> Draft | MeshlabError:
        """Submit one line.  When a user's line is to be sent again, so are those behind it: order is kept."""
        if isinstance(line, TooLarge):
            return line
        try:
            draft = read_post(line)
            self._grant.check(draft.uid, APPEND)
        except MeshlabError as error:
            return error
        if (stopped := self._stopped_by(draft.uid)) is not None:
            return stopped
        try:
            await self._submit(draft)
        except MeshlabError as error:
            if verdict(error).retry_after is not None:
                self._stopped[draft.uid] = error
            return error
        return draft

    async def settled(self) -> None:
        """Wait until all have their outcome."""
        while self._waiters:
            await self._waiters.popleft()

    async def _submit(self, draft: Draft) -> None:
        """Submit one; where there is no room, when lines before it have been written."""
        while True:
            try:
                self._waiters.append(self._lanes.outcome(draft))
                self._last[draft.uid] = draft
                return
            except Overloaded:
                if not await self._gained():
                    raise
                if (stopped := self._stopped_by(draft.uid)) is not None:
                    raise stopped from None

    def _stopped_by(self, uid: str) -> MeshlabError | None:
        """The error for which an earlier line of the user is to be sent again."""
        # A commit that fails fails for all behind it, so the last line tells.
        last = self._last.get(uid)
        if last is not None and last.error is not None and verdict(last.error).retry_after is not None:
            return last.error
        return self._stopped.get(uid)

    async def _gained(self) -> bool:
        """Wait for the first line that has no outcome yet, all in all for a while; whether it has it now."""
        while self._waiters and self._waiters[0].done():
            self._waiters.popleft()
        if not self._waiters:
            return False
        began = time.monotonic()
        done, _ = await asyncio.wait([self._waiters[0]], timeout=max(0.0, self._patience))
        self._patience -= time.monotonic() - began
        return bool(done)
