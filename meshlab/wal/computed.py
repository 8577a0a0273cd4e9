"""Appends whose events depend on the log as it stands when their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from meshlab.errors import BadEvent
from meshlab.events import MeshEvent, encode_events
from meshlab.wal.commit import Request
from meshlab.wal.recovery import LogEnd

Compute = Callable[[LogEnd], Iterable[MeshEvent | Mapping[str, Any]]]


class Computed(Request):
    """An append whose events are computed under the lock, when those before it are in the file."""

    __slots__ = ("compute",)

    def __init__(self, compute: Compute) -> None:
        super().__init__([], None)
        self.compute = compute

    def run(self, end: LogEnd) -> None:
        """Compute the events; what goes wrong is this request's error alone."""
        try:
            self.events = encode_events(list(self.compute(end)))
            if not self.events:
                raise BadEvent("the batch is empty")
        except Exception as error:
            self.error = error


def turns(batch: list[Request]) -> Iterator[list[Request]]:
    """What of a batch to write together: plain appends as they stand, each computed one alone."""
    for computed, requests in groupby(batch, lambda request: isinstance(request, Computed)):
        if computed:
            yield from ([request] for request in requests)
        else:
            yield list(requests)


def is_ready(together: list[Request], end: LogEnd) -> bool:
    """Compute what is to be computed; whether there is anything to write then."""
    request = together[0]
    if isinstance(request, Computed):
        request.run(end)
    return request.error is None
