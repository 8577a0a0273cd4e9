"""Random histories: appends, late foreign lines, checkpoints, vacuums and reopenings come to one state.

The reference keeps the events in log order in a list: what a checkpoint folded comes
first, as it was folded, then the rest in the order of segments and offsets.
"""

import json
import os
import random
from collections import defaultdict

import pytest

from meshlab.records import FIELDS
from meshlab.snapshot.base import Base
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.fold import FOLD_COLUMNS, Fold
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.manifest import Manifest, current
from meshlab.snapshot.ranges import rest
from meshlab.snapshot.state import State
from meshlab.snapshot.vacuum import vacuum
from meshlab.tables.events import load_user
from meshlab.testing import ForgetfulFiles
from meshlab.times import DAY, midnight
from meshlab.wal.chain import Cursor
from meshlab.wal.writer import Writer

HISTORIES = 300 if os.environ.get("MESHLAB_EVERY") == "1" else 80
"""Eighty take half a minute; MESHLAB_EVERY=1 tries three hundred."""

SHARDS = 4
FIRST_DAY = midnight("20250701")
IDS = [f"m{number}" for number in range(6)] + ["ψ", "\U0001f600", "a" * 40]
CONTENTS = ["", "short", "\0nul", "x" * 255, "y" * 256, "é" * 400, "z" * 900]
WHOLE = {
    "concept_id": "c1", "phase_tag": 0.5, "amplitude": 1.0, "frequency": 1.0, "width": 0.1, "position": -0.0,
    "stability": 0.8, "creation_time": "2025-07-01T00:00:00Z", "last_accessed": "soon", "access_count": 3,
    "content": "text", "content_type": "Conversation",
    "emotional_signature": {"valence": 0.1, "arousal": 0.2, "dominance": 0.3, "trauma_indicators": ["loss"]},
    "vault_status": "Active", "mode": "Dark",
    "comfort_metrics": {"energy": 1.0, "stress": 0.0, "flux": 0.0, "perturbation": 0.0},
}  # fmt: skip


class Reference:
    """The meaning of a log, over dicts."""

    def __init__(self):
        self.folded = []
        self.segments = defaultdict(list)

    def checkpoint(self):
        for day in sorted(self.segments):
            self.folded += self.segments.pop(day)

    def state(self):
        records = {}
        for event in self.folded + [event for day in sorted(self.segments) for event in self.segments[day]]:
            ((tag, body),) = event.items()
            if tag == "Delete":
                records.pop(body, None)
            elif tag == "Insert" or (tag == "Update" and set(FIELDS) <= set(body)):
                records[body["id"]] = body
            elif tag == "Update" and body["id"] in records:
                records[body["id"]] = records[body["id"]] | body
        return [_ordered(records[id]) for id in sorted(records)]


def _ordered(record):
    return {name: record[name] for name in [*FIELDS, *sorted(set(record) - set(FIELDS))] if name in record}


class History:
    """One store and its reference, changed step by step."""

    def __init__(self, root, seed):
        self.root, self.random = root, random.Random(seed)
        self.files = ForgetfulFiles()
        self.now = FIRST_DAY + 1
        self.reference = Reference()
        self.days = []
        self.deleted = 0
        self.writer = None
        self.reopen()

    def reopen(self):
        if self.writer is not None:
            self.writer.close()
        self.writer = Writer(self.root, files=self.files, clock=lambda: self.now)

    def event(self, misfits=()):
        pick = self.random
        id = pick.choice(IDS)
        kind = pick.choices(["Insert", "Update", "Delete", "ping"], [4, 5, 2, 1])[0]
        if kind == "Delete":
            return {"Delete": id}
        if kind == "ping":
            return {"ping": pick.random()}
        body = {"id": id} | (WHOLE if pick.random() < 0.3 else {})
        for name, values in {
            "amplitude": [0.1, -0.0, 5e-324, *misfits], "content": [*CONTENTS, None], "theme": ["dark", {"a": [1]}],
            "access_count": [0, (1 << 64) - 1, *misfits], "emotional_signature": [{}, {"valence": 1.0}, *misfits],
        }.items():  # fmt: skip
            if pick.random() < 0.35:
                body[name] = pick.choice(values)
        return {kind: {name: value for name, value in body.items() if value is not None}}

    def append(self):
        events = [self.event() for _ in range(self.random.randint(1, 4))]
        receipt = self.writer.append_many(events)
        self._note(receipt.segment, events)

    def append_foreign(self):
        """A program without the lock adds a bare line to some segment, folded or not."""
        if not self.days:
            return
        day, event = self.random.choice(self.days), self.event(misfits=["loud", [1]])
        path = self.root / f"wal-{day}.log"
        if path.exists():
            with path.open("ab") as file:
                file.write(json.dumps(event).encode() + b"\n")
            self._note(day, [event])

    def next_day(self):
        self.now += DAY * self.random.randint(1, 3)

    def checkpoint(self):
        checkpoint(
            self.root,
            "u",
            files=self.files,
            clock=lambda: self.now,
            progress=False,
            retain=self.random.choice([0, 0, 2]),
        )
        self.reference.checkpoint()

    def vacuum(self):
        report = vacuum(self.root, "u", apply=True, files=self.files, clock=lambda: self.now)
        gone = {fate.name[4:12] for fate in report.segments if fate.goes}
        self.days = [day for day in self.days if day not in gone]
        self.deleted += len(gone)

    def _note(self, day, events):
        if day not in self.days:
            self.days.append(day)
        self.reference.segments[day] += events

    def state(self):
        """The newest manifest's records, and the fold of the rest."""
        manifest = current(self.root, "u") or Manifest(uid="u")
        base = Base.open(self.root, manifest).state()
        assert state_hash(base).hexdigest() == manifest.state_hash
        assert base.num_rows == manifest.records
        fold = Fold(base)
        start = Cursor(manifest.seq, manifest.sum, manifest.effective)
        events = load_user(self.root, "u", rest(self.root, manifest), start, columns=FOLD_COLUMNS, progress=False)
        for batch in events.to_batches():
            fold.add(batch)
        state, orphans, counts = fold.finish()
        found = State("u", state, orphans=orphans, rejects=events.rejects, segments=events.segments, counts=counts)
        assert found.rejects.num_rows == 0
        return found


STEPS = {
    History.append: 8, History.append_foreign: 3, History.next_day: 4, History.checkpoint: 3, History.vacuum: 2,
    History.reopen: 1,
}  # fmt: skip


def exact(records):
    """Text that tells -0.0 from 0.0 and 1 from 1.0."""
    return [json.dumps(record) for record in records]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_folding_at_once_equals_folding_through_checkpoints_vacuums_and_reopenings(shard, tmp_path):
    checkpoints = deleted = 0
    for seed in range(shard, HISTORIES, SHARDS):
        history = History(tmp_path / str(seed), seed)
        history.append()
        for _ in range(14):
            step = history.random.choices(list(STEPS), list(STEPS.values()))[0]
            step(history)
            if step in (History.checkpoint, History.vacuum) or history.random.random() < 0.2:
                assert exact(history.state().to_pylist()) == exact(history.reference.state()), f"seed {seed}"
            checkpoints += step is History.checkpoint
        assert exact(history.state().to_pylist()) == exact(history.reference.state()), f"seed {seed}"
        deleted += history.deleted
    print(f"every {SHARDS}th seed from {shard}: {checkpoints} checkpoints, {deleted} segments deleted")
    assert checkpoints > 20
