"""The routes that read a log, and the one that has it checkpointed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs

import msgspec

from meshlab import errors
from meshlab.errors import InternalError, MeshlabError
from meshlab.service.gateway.admission import Admission
from meshlab.service.gateway.answers import Answer, json_answer
from meshlab.service.gateway.auth import CHECKPOINT, READ, Tokens
from meshlab.service.gateway.exchange import Exchange
from meshlab.service.gateway.posts import read_uid
from meshlab.service.gateway.refusals import Malformed, Overloaded
from meshlab.service.metrics import Metrics
from meshlab.service.workers import PROGRAM
from meshlab.store import Store
from meshlab.wal.paths import check_uid, existing_user

_THREADS = 2
_MOST = 8
"""Reads, and checkpoints, that may be under way or wait; each may take seconds and memory."""

_ROWS = 500
_T = TypeVar("_T")
_encode_lines = msgspec.json.Encoder(enc_hook=str).encode


class Stream(NamedTuple):
    """An answer whose body comes piece by piece, made in a thread."""

    pieces: Iterator[bytes]
    status: int = 200


class Reads:
    """Reads logs in a few threads, so that appends do not wait for them."""

    def __init__(
        self, store: Store, admission: Admission, tokens: Tokens, metrics: Metrics, program: tuple[str, ...] = PROGRAM
    ) -> None:
        self._store = store
        self._admission = admission
        self._tokens = tokens
        self._metrics = metrics
        self._program = program
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="read")
        self._reading = self._folding = 0
        self._turn = asyncio.Semaphore(1)

    async def stats(self, exchange: Exchange) -> Answer:
        """``GET /api/mesh/wal/stats``: what the log of a user holds."""
        uid, _ = self._query(exchange, set())
        found = await self.run(lambda: self._store[uid].stats(progress=False))
        return json_answer({"success": True, "userId": uid, **found})

    async def state(self, exchange: Exchange) -> Stream:
        """``GET /api/mesh/state``: the memories of a user, now or ``at`` a moment."""
        uid, options = self._query(exchange, {"at"})
        # Its place is free when all of it was sent: until then it holds its memory.
        self._enter()
        exchange.at_end = self._leave
        state = await self._in_thread(lambda: self._store[uid].state(options.get("at"), progress=False))
        head = {
            "success": True,
            "userId": uid,
            "at": options.get("at"),
            "seq": state.end.seq,
            "records": len(state),
            "orphans": state.orphans.num_rows,
            "damage": state.damage,
        }
        return Stream(_pieces(head, state))

    async def checkpoint(self, exchange: Exchange) -> Answer:
        """``POST /api/mesh/checkpoint``: fold what the log of a user gained, in a process of its own."""
        grant = exchange.authorize(self._tokens)
        uid = exchange.uid = read_uid(await exchange.body(self._admission.limits.body, self._admission))
        grant.check(uid, CHECKPOINT)
        existing_user(self._store.path, uid)
        if self._folding >= _MOST:
            raise Overloaded("as many checkpoints wait as may", retry_after=10)
        self._folding += 1
        try:
            async with self._turn:
                row = await self._fold(uid)
        finally:
            self._folding -= 1
        if "error" in row:
            raise _error_of(row)
        self._metrics.observe("meshlab_checkpoint_seconds", row["seconds"])
        return json_answer({"success": True, "userId": uid, **row})

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do something that blocks in one of the threads.  Raises ``Overloaded`` when too much waits for them."""
        self._enter()
        try:
            return await self._in_thread(work)
        finally:
            self._leave()

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _enter(self) -> None:
        if self._reading >= _MOST:
            raise Overloaded("as many reads are under way as may", retry_after=2)
        self._reading += 1

    def _leave(self) -> None:
        self._reading -= 1

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _query(self, exchange: Exchange, options: set[str]) -> tuple[str, dict[str, str]]:
        """The uid of a query, whom it must concern, and what else it asks for."""
        grant = exchange.authorize(self._tokens)
        try:
            given = parse_qs(exchange.scope["query_string"].decode("ascii"), strict_parsing=True, max_num_fields=8)
        except ValueError:
            raise Malformed("the query must be userId=UID") from None
        if unknown := set(given) - options - {"userId"}:
            raise Malformed(f"the query has unknown names: {', '.join(sorted(unknown))}"[:200])
        if any(len(values) > 1 for values in given.values()) or "userId" not in given:
            raise Malformed("the query must name userId, and each name once")
        uid = check_uid(given["userId"][0])
        exchange.uid = uid
        grant.check(uid, READ)
        return uid, {name: values[0] for name, values in given.items()}

    async def _fold(self, uid: str) -> dict[str, Any]:
        """The row ``meshlab checkpoint`` writes about one user."""
        began = time.perf_counter()
        command = [*self._program, "--store", str(self._store.path), "checkpoint", "--format", "json", "--", uid]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
        try:
            out, said = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
        try:
            (row,) = msgspec.json.decode(out)
        except (msgspec.DecodeError, ValueError):
            return _unsaid(said)
        return row if "error" in row else {**row, "seconds": time.perf_counter() - began}


def _unsaid(said: bytes) -> dict[str, Any]:
    """A checkpoint that ended without a row, by what it said last."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return {
        "error": f"the checkpoint ended early: {lines[-1] if lines else 'without a word'}",
        "kind": "",
        "hint": None,
    }


def _error_of(row: dict[str, Any]) -> MeshlabError:
    """The error another process told of."""
    kind = getattr(errors, row["kind"], InternalError)
    error: MeshlabError = kind(row["error"], hint=row["hint"])
    return error


def _pieces(head: dict[str, Any], state: Any) -> Iterator[bytes]:
    """A state as one JSON object, some hundred memories at a time."""
    from meshlab.snapshot.state import json_forms

    table = state.to_arrow()
    yield _encode_lines(head)[:-1] + b',"memories":['
    for at in range(0, table.num_rows, _ROWS):
        rows = b",".join(map(_encode_lines, json_forms(table.slice(at, _ROWS))))
        yield (b"," if at else b"") + rows
    yield b"]}"


async def in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, each made in a thread."""
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        if piece is None:
            return
        yield piece
