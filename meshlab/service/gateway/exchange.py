"""One request and its answer, from the first look at its head to the line in the access log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from meshlab.service.gateway.admission import Admission
from meshlab.service.gateway.auth import Grant, Tokens
from meshlab.service.gateway.posts import read_key
from meshlab.service.gateway.refusals import Malformed, TooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Disconnected(Exception):
    """The client went before its request was whole: nobody is there to be answered."""


class Exchange:
    """A request under way: its headers, who it is, and what became of it."""

    __slots__ = (
        "_held",
        "_receive",
        "at_end",
        "began",
        "grant",
        "headers",
        "received",
        "scope",
        "sent",
        "status",
        "uid",
    )

    def __init__(self, scope: Scope, receive: Receive | None, began: float) -> None:
        self.scope = scope
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.began = began
        self.grant: Grant | None = None
        self.uid: str | None = None
        self.status = 0
        self.received = 0
        self.sent = 0
        self._held = 0
        self.at_end: Callable[[], None] = _nothing
        """Called when the answer was sent, or will not be."""
        self._receive = receive

    def header(self, name: bytes) -> str | None:
        """A header as text, the last when it comes twice."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def authorize(self, tokens: Tokens) -> Grant:
        """Who it is.  Raises ``Unauthorized``."""
        self.grant = grant = tokens.grant(self.header(b"authorization"))
        return grant

    @property
    def key(self) -> bytes | None:
        """The idempotency key of the header, if there is one.  Raises ``BadEvent``."""
        value = self.headers.get(b"idempotency-key")
        return None if value is None else read_key(value.decode("latin-1"))

    async def body(self, limit: int, admission: Admission) -> bytes:
        """The body; what it holds in memory is accounted for until ``release_body`` or ``give_back``.

        Raises ``TooLarge``, ``Overloaded``, ``Malformed`` and ``Disconnected``.
        """
        self.check_length(limit)
        parts: list[bytes] = []
        while True:
            assert self._receive is not None
            message = await self._receive()
            if message["type"] != "http.request":
                raise Disconnected
            part = message.get("body", b"")
            if self.received + len(part) > limit:
                raise TooLarge(f"the body has more than {limit:,} bytes")
            self.hold(len(part), admission)
            if not message.get("more_body", False):
                return part if not parts else b"".join([*parts, part])
            parts.append(part)

    def check_length(self, limit: int) -> None:
        """Refuse a body by what its headers say: compressed, or too long."""
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Malformed("the body must not be compressed")
        declared = self.headers.get(b"content-length", b"0")
        if len(declared) > 18 or int(declared) > limit:
            raise TooLarge(f"the body has {declared.decode()[:20]} bytes; the limit is {limit:,}")

    def hold(self, count: int, admission: Admission) -> None:
        """Account for bytes of the body that came.  Raises ``Overloaded``."""
        admission.take_bytes(count)
        self.received += count
        self._held += count

    def hold_answer(self, count: int, admission: Admission) -> None:
        """Account for bytes of an answer until it is sent."""
        admission.charge(count)
        self._held += count

    def release_body(self, admission: Admission) -> None:
        """The body was read and is not needed any more: what it became is accounted for by itself."""
        admission.give_bytes(self._held)
        self._held = 0

    def give_back(self, admission: Admission) -> None:
        """It is over: nothing is held for it any more."""
        self.release_body(admission)
        self.at_end()


def _nothing() -> None:
    """There is nothing to do at the end."""
