"""Logs and traces for the tests of this room."""

from __future__ import annotations

from random import Random

import msgspec
import numpy as np

from meshlab.dialects import DELETE, INSERT, OTHER, UPDATE
from meshlab.growth.lives import ALL_GIVEN, CONTENT, next_of
from meshlab.growth.trace import Trace
from meshlab.records import FIELDS
from meshlab.testing import LogBuilder
from meshlab.times import SECOND, day_of, midnight

OPS = {"insert": INSERT, "update": UPDATE, "whole": UPDATE, "delete": DELETE, "other": OTHER}
START = midnight("20250701")

WHOLE = {
    **dict.fromkeys(("concept_id", "content"), "c"),
    **dict.fromkeys(("phase_tag", "amplitude", "frequency", "width", "position", "stability"), 0.5),
    **dict.fromkeys(("creation_time", "last_accessed"), "2025-07-01T00:00:00.000000Z"),
    "access_count": 1,
    "content_type": "Conversation",
    "emotional_signature": {},
    "vault_status": "Active",
    "mode": "Bright",
    "comfort_metrics": {},
}
assert len(WHOLE) == len(FIELDS) - 1


def made(rows, *, begun=True, seconds=60):
    """A trace of rows (op, record, bytes of the content; None for an event without one), a minute apart."""
    ops = [row[0] for row in rows]
    sizes = [row[2] if len(row) > 2 else None for row in rows]
    ids = np.array([-1 if op == "other" else row[1] for op, row in zip(ops, rows)], np.int32)
    given = [ALL_GIVEN if op == "whole" else 3 if op in ("insert", "update") else 0 for op in ops]
    given = [mask | (CONTENT if size is not None else 0) for mask, size in zip(given, sizes)]
    content = np.array([size or 0 for size in sizes], np.int32)
    time = START + np.arange(len(rows), dtype=np.int64) * seconds * SECOND
    days = sorted({day_of(int(moment)) for moment in time})
    return Trace(
        uid="u",
        time=time,
        id=ids,
        op=np.array([OPS[op] for op in ops], np.int8),
        nbytes=100 + content,
        payload=50 + content,
        content=content,
        key=content.astype(np.int64),
        given=np.array(given, np.int32),
        next=next_of(ids),
        day=np.array([days.index(day_of(int(moment))) for moment in time], np.int16),
        days=tuple(days),
        spare=np.zeros(len(days), np.int64),
        begun=begun,
    )


def history(seed, count=200):
    """Events of few records: all kinds, with misfits, nulls, unknown fields and repeated contents."""
    random = Random(seed)
    return [event(random) for _ in range(count)]


def event(random):
    """One of them."""
    id = f"m{random.randrange(12)}"
    kind = random.choices(("Insert", "Update", "Whole", "Delete", "other"), (3, 8, 1, 2, 1))[0]
    if kind == "Delete":
        return {"Delete": id}
    if kind == "other":
        return {"note": random.randrange(9)}
    record = (
        WHOLE if kind == "Whole" else {name: WHOLE[name] for name in random.sample(list(WHOLE), random.randrange(4))}
    )
    record = {"id": id, **record}
    if random.random() < 0.3:
        record["content"] = f"{random.randrange(5)}" * random.choice((20, 300))
    if random.random() < 0.1:
        record["theme"] = random.choice(("dark", None))
    if random.random() < 0.1:
        record["mode"] = random.choice((None, 5))
    return {"Insert" if kind == "Insert" else "Update": record}


def log_with(root, events, *, per_day=50):
    """A user's directory with a log of these events, a second apart."""
    log = LogBuilder()
    for number, one in enumerate(events):
        day = day_of(START + number // per_day * 86_400 * SECOND)
        log.frame([msgspec.json.encode(one)], day=day)  # as bytes: no writer of ours would take a misfit
    return log.write(root)


def whole(record):
    """Whether an update with this record is as good as an insert."""
    return all(record.get(name) is not None for name in FIELDS)


def standing(events):
    """The numbers of the events that gave a value that is in the state at the end."""
    state = {}
    for number, event in enumerate(events):
        tag, body = next(iter(event.items()))
        if tag == "Delete":
            state.pop(body, None)
        elif tag in ("Insert", "Update"):
            fields = {name for name, value in body.items() if name not in FIELDS or value is not None}
            if tag == "Insert" or whole(body):
                state[body["id"]] = {}
            if body["id"] in state:
                state[body["id"]] |= {(name, number) if name not in FIELDS else name: number for name in fields}
    return {number for record in state.values() for number in record.values()}
