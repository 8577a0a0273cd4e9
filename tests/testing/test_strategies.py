"""Everything the strategies draw may be appended, and comes back the same."""

from __future__ import annotations

from hypothesis import given

from meshlab.events import decode_event, encode_event
from meshlab.records import FIELDS
from meshlab.testing import strategies


@given(strategies.events())
def test_events_survive_their_json(event):
    assert decode_event(encode_event(event)) == event


@given(strategies.memories())
def test_memories_have_all_fields(memory):
    assert all(getattr(memory, name) is not None for name in FIELDS)


@given(strategies.recalls())
def test_recalls_change_four_fields(memory):
    given_fields = [name for name in FIELDS if getattr(memory, name) is not None]
    assert given_fields == ["id", "amplitude", "stability", "last_accessed", "access_count"]
