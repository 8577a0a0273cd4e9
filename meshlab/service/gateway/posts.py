"""Bodies of requests: JSON to drafts, each with the canonical JSON of its event.

>>> draft = read_post(b'{"userId": "ann", "event": {"Delete": {"id": "m1"}}}')
>>> draft.uid, draft.event
('ann', b'{"Delete":"m1"}')
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from meshlab.errors import BadEvent, MeshlabError
from meshlab.events import encode_decoded
from meshlab.jsontext import MAX_DEPTH
from meshlab.service.gateway.refusals import Malformed, TooLarge
from meshlab.wal.commit import Receipt
from meshlab.wal.frame import check_key
from meshlab.wal.paths import check_uid


class Draft:
    """One event on its way into a log: whose, under which key, its JSON; later its receipt or error.

    ``tell`` is called when it has one of the two; ``followers`` are drafts of the same
    key that came meanwhile: those of the same event have the same outcome.
    """

    __slots__ = ("duplicate", "error", "event", "followers", "key", "receipt", "tell", "uid")

    def __init__(self, uid: str, key: bytes | None, event: bytes) -> None:
        self.uid = uid
        self.key = key
        self.event = event
        self.receipt: Receipt | None = None
        self.error: MeshlabError | None = None
        self.duplicate = False
        self.tell: Callable[[], None] = _nobody
        self.followers: list[Draft] = []

    def done(self) -> None:
        """Tell that there is an outcome, and let go of whom it was told: a cycle would wait for the collector."""
        tell, self.tell = self.tell, _nobody
        tell()

    @property
    def nbytes(self) -> int:
        """Bytes it holds in memory while it waits."""
        return len(self.event) + _OVERHEAD


_OVERHEAD = 512


def _nobody() -> None:
    """Nobody waits for the outcome."""


class _Post(msgspec.Struct):
    userId: str
    event: Any
    key: str | None = None


class _UserOnly(msgspec.Struct):
    userId: str


_decode_post = msgspec.json.Decoder(_Post).decode
_decode_user = msgspec.json.Decoder(_UserOnly).decode
_TOO_DEEP = f"the body is nested deeper than {MAX_DEPTH} levels"


def read_post(body: bytes, key: bytes | None = None) -> Draft:
    """The draft of one JSON object ``{"userId", "event"}``, with a ``key`` of its own or the one given.

    Raises ``Malformed``, ``BadUserId``, ``BadEvent``.
    """
    post = _decoded(_decode_post, body)
    event = encode_decoded(post.event)
    if post.key is not None:
        own = check_key(post.key)
        if key is not None and key != own:
            raise Malformed("the key in the body is another than that of the Idempotency-Key header")
        key = own
    return Draft(check_uid(post.userId), key, event)


def read_uid(body: bytes) -> str:
    """The uid of a JSON object ``{"userId"}``.  Raises ``Malformed``, ``BadUserId``."""
    return check_uid(_decoded(_decode_user, body).userId)


def _decoded(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except RecursionError:
        raise BadEvent(_TOO_DEEP) from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise Malformed(f"the body is not the JSON expected: {error}") from None


def read_key(header: str) -> bytes:
    """The key of an ``Idempotency-Key`` header, quoted or not.

    >>> read_key('"8e03"') == read_key("8e03") == b"8e03"
    True
    """
    text = header.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return check_key(text)


def split_lines(body: bytes, most: int, longest: int) -> Iterator[tuple[int, bytes | TooLarge]]:
    """The lines of NDJSON that are not blank, each with its number from 1; too long a one is an error in its place.

    Raises ``TooLarge`` when there are too many.
    """
    if body.count(b"\n") >= most + 1:
        raise TooLarge(f"the batch has more than {most:,} lines")
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            if len(line) > longest:
                yield number, TooLarge(f"the line has {len(line):,} bytes; the limit is {longest:,}")
            else:
                yield number, line
