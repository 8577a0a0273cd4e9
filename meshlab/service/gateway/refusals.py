"""Why a request is refused: one class per status, and what each error of the store comes to.

>>> verdict(BadEvent("no id")).status, verdict(StorageError("disk")).status
(400, 503)
"""

from __future__ import annotations

from typing import NamedTuple

from meshlab.errors import (
    BadEvent,
    BadUserId,
    CheckpointBusy,
    DamageFound,
    FrameTooLarge,
    MeshlabError,
    NotAUser,
    NotFound,
    NotRestorable,
    SnapshotError,
    StorageError,
)

RETRY_SECONDS = 2
"""What a client is told to wait while a log takes no appends or the gateway is full."""


class Refused(MeshlabError):
    """A request the gateway does not carry out; ``retry_after`` is in seconds, None when trying again is no use."""

    status = 400
    reason = "malformed"
    default_hint = "see /openapi.json"

    def __init__(self, message: str, *, hint: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Malformed(Refused):
    """The request is not what the route takes."""


class Unauthorized(Refused):
    """No token, or one nobody knows."""

    status, reason = 401, "unauthorized"
    default_hint = "send 'Authorization: Bearer TOKEN' with a token from the gateway's token file"


class Forbidden(Refused):
    """A token, host or origin that may not do this."""

    status, reason = 403, "forbidden"
    default_hint = "this needs a token with other users or rights"


class Conflict(Refused):
    """An idempotency key that stands for another event."""

    status, reason = 409, "key-conflict"
    default_hint = "a key stands for one event for 24 hours: take a new key for a new event"


class TooLarge(Refused):
    """A body, line or batch over its limit."""

    status, reason = 413, "too-large"
    default_hint = "nothing was written; send less at a time"


class TooFast(Refused):
    """More events per second of one user than are allowed."""

    status, reason = 429, "rate"
    default_hint = "nothing was written; wait as long as Retry-After says"


class Overloaded(Refused):
    """More waits to be written than the gateway keeps in memory."""

    status, reason = 503, "overload"
    default_hint = "nothing was written; wait as long as Retry-After says"


class Unavailable(Refused):
    """A log that takes no appends at the moment."""

    status, reason = 503, "storage"
    default_hint = "send the event again, with the same key, when /readyz is green"


class Verdict(NamedTuple):
    """What an error is to a client: status, class, and when to try again."""

    status: int
    reason: str
    kind: str
    retry_after: int | None


_STATUSES: tuple[tuple[type[MeshlabError], int, str], ...] = (
    (FrameTooLarge, 413, "too-large"),
    (BadUserId, 400, "bad-uid"),
    (NotAUser, 400, "bad-uid"),
    (BadEvent, 400, "bad-event"),
    (NotRestorable, 404, "not-found"),
    (NotFound, 404, "not-found"),
    (CheckpointBusy, 409, "busy"),
    (DamageFound, 409, "damage"),
    (SnapshotError, 409, "damage"),
    (StorageError, 503, "storage"),
)


def verdict(error: MeshlabError) -> Verdict:
    """The status and class of an error."""
    kind = type(error).__name__
    if isinstance(error, Refused):
        return Verdict(error.status, error.reason, kind, error.retry_after)
    for known, status, reason in _STATUSES:
        if isinstance(error, known):
            return Verdict(status, reason, kind, RETRY_SECONDS if status == 503 else None)
    # A plain one is about an argument that means nothing.
    return (
        Verdict(400, "malformed", kind, None) if type(error) is MeshlabError else Verdict(500, "internal", kind, None)
    )


def is_trouble(error: Exception) -> bool:
    """Whether an error says that a log takes no appends until somebody mends it."""
    return isinstance(error, StorageError) and not isinstance(error, NotAUser)
