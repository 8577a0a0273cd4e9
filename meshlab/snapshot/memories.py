"""Memories as Python objects that keep up with a log, one event at a time.

The rule is that of ``meshlab.snapshot.fold``, for programs that must know what a memory is
after the last event and cannot fold whole columns for each.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec
import pyarrow.compute as pc

from meshlab.dialects import DELETE, INSERT, OTHER, Parsed
from meshlab.records import FIELD_SET, FIELDS
from meshlab.snapshot.state import State, json_forms

Memory = dict[str, Any]
"""A memory in its JSON form: given fields only, in serialisation order, then unknown ones by name."""

_REMEMBERED = 4096
"""Memories of a state that are kept as Python objects when they have been asked for."""

_UNTOUCHED: Memory = {}
_ID = itemgetter("id")


def folded(memory: Memory | None, event: Parsed) -> Memory | None:
    """What an event makes of the memory it speaks of; None is one that does not live.

    >>> from meshlab.dialects import parse_event
    >>> folded({"id": "m1", "mode": "Dark"}, parse_event(b'{"Update":{"id":"m1","theme":1}}'))
    {'id': 'm1', 'mode': 'Dark', 'theme': 1}
    """
    if event.op == OTHER:
        return memory
    if event.op == DELETE or event.fields is None:
        return None
    given: Memory = msgspec.json.decode(msgspec.json.encode(event.fields))
    given |= {name: msgspec.json.decode(raw) for name, raw in (event.extra or {}).items()}
    if event.op == INSERT or given.keys() >= FIELD_SET:
        return _ordered(given)
    return None if memory is None else _ordered(memory | given)


def _ordered(memory: Memory) -> Memory:
    unknown = sorted(memory.keys() - FIELD_SET)
    return {name: memory[name] for name in (*FIELDS, *unknown) if name in memory}


def _nothing(_: str) -> None:
    return None


class Memories:
    """Live memories: those of a state, and over them what has changed since.

    A memory in it is never changed, only replaced, so a reader never sees half a change.
    """

    def __init__(self, state: State | None) -> None:
        self._state = state
        self._before = lru_cache(_REMEMBERED)(state.get) if state is not None else _nothing
        self._changed: dict[str, Memory | None] = {}
        self._count = len(state) if state is not None else 0

    def __len__(self) -> int:
        return self._count

    def get(self, id: str) -> Memory | None:
        """A memory, not to be changed, or None."""
        memory = self._changed.get(id, _UNTOUCHED)
        if memory is _UNTOUCHED:
            return self._before(id)
        return memory

    def apply(self, event: Parsed) -> None:
        """Fold the next event in."""
        if event.id is None:
            return
        before = self.get(event.id)
        after = folded(before, event)
        self._count += (after is not None) - (before is not None)
        self._changed[event.id] = after

    def select(self, concept_id: str | None = None) -> Iterator[Memory]:
        """The memories of this moment, sorted by id; of one concept if it is named."""
        changed = dict(self._changed)
        alive = (memory for memory in changed.values() if memory is not None)
        chosen = [m for m in alive if concept_id is None or m.get("concept_id") == concept_id]
        before = (memory for memory in self._of_state(concept_id) if memory["id"] not in changed)
        return heapq.merge(before, sorted(chosen, key=_ID), key=_ID)

    def _of_state(self, concept_id: str | None) -> Iterator[Memory]:
        if self._state is None:
            return iter(())
        table = self._state.to_arrow()
        return json_forms(table if concept_id is None else table.filter(pc.equal(table["concept_id"], concept_id)))
