"""Appends whose events depend on the log as it stands when their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from meshlab.errors import BadEvent
from meshlab.events import MeshEvent, encode_events
from meshlab.wal.commit import Receipt, Request
from meshlab.wal.recovery import LogEnd

Compute = Callable[[LogEnd], Iterable[MeshEvent | Mapping[str, Any]]]
Choose = Callable[[LogEnd], list[Request]]

_NOTHING = Receipt(0, 0, "", 0, 0)


class Computed(Request):
    """An append whose events are computed under the lock, when those before it are in the file."""

    __slots__ = ("compute",)

    def __init__(self, compute: Compute) -> None:
        super().__init__([], None)
        self.compute = compute

    def ready(self, end: LogEnd) -> list[Request]:
        """Compute the events; what goes wrong is this request's error alone."""
        try:
            self.events = encode_events(list(self.compute(end)))
            if not self.events:
                raise BadEvent("the batch is empty")
        except Exception as error:
            self.error = error
            return []
        return [self]


class Chosen(Request):
    """Several appends, chosen under the lock, each with a frame, a key and a receipt of its own."""

    __slots__ = ("choose",)

    def __init__(self, choose: Choose) -> None:
        super().__init__([], None)
        self.choose = choose

    def ready(self, end: LogEnd) -> list[Request]:
        """Choose; what goes wrong is the error of all of them."""
        try:
            return self.choose(end)
        except Exception as error:
            self.error = error
            return []


def turns(batch: list[Request]) -> Iterator[list[Request]]:
    """What of a batch to write together: plain appends as they stand, each computed one alone."""
    for computed, requests in groupby(batch, lambda request: isinstance(request, (Computed, Chosen))):
        if computed:
            yield from ([request] for request in requests)
        else:
            yield list(requests)


def made_ready(together: list[Request], end: LogEnd) -> list[Request]:
    """What to write of one turn, computed now if it is to be computed."""
    request = together[0]
    return request.ready(end) if isinstance(request, (Computed, Chosen)) else together


def chosen_from(together: list[Request]) -> list[tuple[Request, Receipt]]:
    """The receipt of a turn's choice itself, earned when what it chose is on disk."""
    return [(request, _NOTHING) for request in together if isinstance(request, Chosen) and request.error is None]
