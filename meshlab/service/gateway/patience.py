"""How long a client may take over its answers."""

from __future__ import annotations

LEAST_RATE = 64 << 10
"""Bytes a second that a client takes at least, once it has been waited for."""


class Patience:
    """Measures a client that takes its answers slower than they are made.

    What is held for it must be taken within the limit, and all the time it was waited
    for, less what its bytes take at the least rate, must stay within it too: a client
    that takes a little now and then keeps an answer no longer than one that takes nothing.

    >>> patience = Patience(30.0)
    >>> patience.pause(0.0, 80_000)
    >>> patience.resume(29.0, 16_000)
    >>> patience.is_over(29.0), patience.pause(29.1, 80_000), patience.is_over(33.0)
    (False, None, True)
    """

    __slots__ = ("_held", "_late", "_limit", "_since")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: float | None = None
        self._held = 0
        self._late = 0.0

    def renew(self) -> None:
        """A client that has taken all it asked for begins anew."""
        self._late = 0.0

    def pause(self, now: float, held: int) -> None:
        """So many bytes are held for it, and no more are made."""
        self._since, self._held = now, held

    def resume(self, now: float, held: int) -> None:
        """It took some."""
        if self._since is not None:
            self._late = max(0.0, self._late + now - self._since - (self._held - held) / LEAST_RATE)
            self._since = None

    def is_over(self, now: float) -> bool:
        """Whether it has had its time."""
        if self._since is None:
            return self._late > self._limit
        waited = now - self._since
        return waited > self._limit or self._late + waited - self._held / LEAST_RATE > self._limit
