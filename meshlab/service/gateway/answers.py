"""Outcomes to answers: a status, a JSON body, and nothing of the machine in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from meshlab.errors import MeshlabError
from meshlab.service.gateway.posts import Draft
from meshlab.service.gateway.refusals import verdict

JSON = b"application/json"
_encode = msgspec.json.Encoder(enc_hook=str).encode

Headers = tuple[tuple[bytes, bytes], ...]


class Answer(NamedTuple):
    """What goes back: a status, a body, its type, and further headers."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = ()

    @property
    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as ASGI wants them."""
        return [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            (b"cache-control", b"no-store"),
            *self.headers,
        ]


def json_answer(value: Any, status: int = 200, headers: Headers = ()) -> Answer:
    """Any JSON value."""
    return Answer(status, _encode(value), headers=headers)


def receipt_answer(draft: Draft) -> Answer:
    """The answer about one event that is on disk."""
    receipt = draft.receipt
    assert receipt is not None
    return Answer(
        200,
        b'{"success":true,"seq":%d,"lsn":"%b:%d","duplicate":%b}'
        % (receipt.last_seq, receipt.segment.encode(), receipt.offset, b"true" if draft.duplicate else b"false"),
    )


def refusal(error: MeshlabError, secret: str) -> Answer:
    """The answer about an error; ``secret`` is the path nobody outside needs to know."""
    judged = verdict(error)
    headers: Headers = ()
    if judged.retry_after is not None:
        headers += ((b"retry-after", b"%d" % judged.retry_after),)
    if judged.status == 401:
        headers += ((b"www-authenticate", b"Bearer"),)
    return json_answer(problem(error, secret), judged.status, headers)


def problem(error: MeshlabError, secret: str) -> dict[str, Any]:
    """An error as JSON."""
    judged = verdict(error)
    said = {"success": False, "error": _clean(error.message, secret), "kind": judged.kind, "hint": error.hint}
    return said if judged.retry_after is None else {**said, "retryAfter": judged.retry_after}


def _clean(message: str, secret: str) -> str:
    """The message without the place of the store, short, and with nothing that is not text."""
    text = message.replace(secret, "store")[:500]
    return text.encode("utf-8", "replace").decode()


def line_result(number: int, outcome: Draft | MeshlabError, secret: str) -> Mapping[str, Any]:
    """What a batch says of one of its lines."""
    error = outcome.error if isinstance(outcome, Draft) else outcome
    if error is not None:
        return {"line": number, "status": verdict(error).status, **problem(error, secret)}
    assert isinstance(outcome, Draft) and outcome.receipt is not None
    receipt = outcome.receipt
    return {
        "line": number,
        "status": 200,
        "success": True,
        "seq": receipt.last_seq,
        "lsn": receipt.lsn,
        "duplicate": outcome.duplicate,
    }
