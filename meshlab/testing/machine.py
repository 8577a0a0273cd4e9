"""One user's log as a state machine, with a dict as the model.

``LogMachine`` does to a real log, on a disk that forgets, what life does: appends, batches,
lines of programs without the lock, new days, checkpoints, vacuums, reopenings; power cuts
between appends and inside of one, torn tails, flipped bits.  Beside it stands a ``Model``,
which is a dict and a list.  ``check`` compares the two.

>>> import tempfile
>>> machine = LogMachine(Path(tempfile.mkdtemp()) / "ann", seed=7)
>>> machine.append()
>>> machine.crash()
>>> machine.run(20)
>>> machine.check()

``meshlab.testing.stateful`` drives it by Hypothesis, which shrinks what it finds.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from meshlab.errors import MeshlabError
from meshlab.records import FIELDS
from meshlab.snapshot import layers
from meshlab.snapshot.base import Base
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.fold import FOLD_COLUMNS, Fold
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.manifest import Manifest, current
from meshlab.snapshot.ranges import rest
from meshlab.snapshot.state import State
from meshlab.snapshot.vacuum import vacuum
from meshlab.tables.events import load_user
from meshlab.testing.files import FailingFiles, PowerCut
from meshlab.testing.forgetful import ForgetfulFiles
from meshlab.testing.reading import has_sum
from meshlab.times import DAY, SECOND, midnight
from meshlab.wal.chain import Cursor
from meshlab.wal.frame import NO_SUM, write_frame
from meshlab.wal.paths import SNAPSHOT, segment_days, segment_name
from meshlab.wal.writer import Writer

__all__ = ["LogMachine", "Model"]

FIRST_DAY = midnight("20250701")
IDS = (*(f"m{number}" for number in range(6)), "ψ", "\U0001f600", "a" * 40)
CONTENTS = ("", "short", "\0nul", "x" * 255, "y" * 256, "é" * 400, "z" * 900)
WHOLE = {
    "concept_id": "c1", "phase_tag": 0.5, "amplitude": 1.0, "frequency": 1.0, "width": 0.1, "position": -0.0,
    "stability": 0.8, "creation_time": "2025-07-01T00:00:00Z", "last_accessed": "soon", "access_count": 3,
    "content": "text", "content_type": "Conversation",
    "emotional_signature": {"valence": 0.1, "arousal": 0.2, "dominance": 0.3, "trauma_indicators": ["loss"]},
    "vault_status": "Active", "mode": "Dark",
    "comfort_metrics": {"energy": 1.0, "stress": 0.0, "flux": 0.0, "perturbation": 0.0},
}  # fmt: skip
LEFTOVERS: tuple[dict[str, Any], ...] = (
    {},
    {"keep_torn": True, "holes": True},
    {"keep_torn": True, "keep_names": True},
    {"keep": "*", "keep_names": True},
)
_TORN = write_frame([b'{"Delete":"half"}'], "2025-07-01T12:00:00.000000Z", seq=1, prev=NO_SUM).data[:-30]


class Model:
    """The meaning of a log, over dicts: what was folded comes first, then the rest, day by day.

    >>> model = Model()
    >>> model.add("20250701", [{"Insert": {"id": "a", "mode": "Dark"}}, {"Update": {"id": "a", "amplitude": 2.0}}])
    >>> model.state()
    [{'id': 'a', 'amplitude': 2.0, 'mode': 'Dark'}]
    """

    def __init__(self) -> None:
        self.folded: dict[str, dict[str, Any]] = {}
        self.days: defaultdict[str, list[Any]] = defaultdict(list)

    def add(self, day: str, events: list[Any]) -> None:
        """Events at the end of a day."""
        self.days[day] += events

    def checkpoint(self) -> None:
        """Fold what there is, in the order of days; what comes later to an old day is late."""
        self.folded, self.days = self._fold(), defaultdict(list)

    def state(self) -> list[dict[str, Any]]:
        """The records, sorted by id, fields in their order."""
        records = self._fold()
        return [_ordered(records[id]) for id in sorted(records)]

    def _fold(self) -> dict[str, dict[str, Any]]:
        records = dict(self.folded)
        for event in (event for day in sorted(self.days) for event in self.days[day]):
            ((tag, body),) = event.items()
            if tag == "Delete":
                records.pop(body, None)
            elif tag == "Insert" or (tag == "Update" and set(FIELDS) <= set(body)):
                records[body["id"]] = body
            elif tag == "Update" and body["id"] in records:
                records[body["id"]] = records[body["id"]] | body
        return records


def _ordered(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in [*FIELDS, *sorted(set(record) - set(FIELDS))] if name in record}


class LogMachine:
    """One user on a disk that forgets, and its model; ``rng`` decides whatever a step leaves open.

    ``disk`` may be a twin that is broken on purpose: then ``check`` must fail sooner or
    later.  ``done`` counts the steps by name.

    >>> import tempfile
    >>> machine = LogMachine(Path(tempfile.mkdtemp()) / "u", seed=3)
    >>> machine.append()
    >>> machine.crash()
    >>> machine.check()
    """

    def __init__(self, root: Path, seed: int = 0, disk: ForgetfulFiles | None = None) -> None:
        self.root, self.rng = root, Random(seed)
        self.disk = disk or ForgetfulFiles()
        self.now = FIRST_DAY + 1
        self.model = Model()
        self.days: list[str] = []
        self.deleted = 0
        self.done: Counter[str] = Counter()
        self._keys = 0
        self._writer: Writer | None = None
        self.reopen()

    # Steps

    def append(self) -> None:
        """One event, acknowledged: it is there from now on."""
        self._add([self._event()])

    def batch(self) -> None:
        """Some events in one frame."""
        self._add([self._event() for _ in range(self.rng.randint(2, 5))])

    def foreign_line(self) -> None:
        """A program without the lock adds a bare line to some day, folded or not; it is on the disk at once."""
        days = [day for day in self.days if self._ends_well(day)]
        if days:
            day, event = self.rng.choice(days), self._event(misfits=("loud", [1]))
            self._put(day, json.dumps(event).encode() + b"\n")
            self.model.add(day, [event])

    def next_day(self) -> None:
        """Time passes: from a second to three days."""
        self.now += self.rng.choice((SECOND, DAY, 3 * DAY))

    def checkpoint(self) -> None:
        """Fold, with a retention of none or of two days."""
        if self.root.exists():
            retain = self.rng.choice((0, 0, 2))
            checkpoint(self.root, "u", files=self.disk, clock=self._clock, progress=False, retain=retain)
            self.model.checkpoint()

    def vacuum(self) -> None:
        """Delete what no moment of the window needs."""
        if self.root.exists():
            report = vacuum(self.root, "u", apply=True, files=self.disk, clock=self._clock)
            gone = {fate.name[4:12] for fate in report.segments if fate.goes}
            self.days = [day for day in self.days if day not in gone]
            self.deleted += len(gone)

    def reopen(self) -> None:
        """Another process takes over."""
        if self._writer is not None:
            self._writer.close()
        self._writer = Writer(self.root, files=self.disk, clock=self._clock)

    def crash(self) -> None:
        """The power fails while nobody writes: all that was acknowledged is there afterwards."""
        self._lose_power()

    def crash_in_append(self) -> None:
        """The power fails inside of an append: its events are there or not, all or none."""
        events = [self._event() for _ in range(self.rng.randint(1, 3))]
        self._keys += 1
        key = f"crash-{self._keys}"
        cut = FailingFiles(self.disk, "any", self.rng.randint(1, 8), error=PowerCut(), forever=True)
        receipt = None
        with suppress(PowerCut):
            receipt = Writer(self.root, files=cut, clock=self._clock).append_many(events, key=key)
        self._lose_power()
        day = self._day_of(key)
        assert day or receipt is None, "acknowledged, and gone"
        if day:
            self._note(day, events)

    def tear(self) -> None:
        """A writer dies inside of a write and leaves a torn tail; the next append goes on behind it."""
        if segment_days(self.root) if self.root.exists() else []:
            self._put(segment_days(self.root)[-1], _TORN[: self.rng.randint(1, len(_TORN))])
        self.reopen()
        self.append()

    def flip(self) -> None:
        """One bit of some file is wrong for a while: the answer is refused, told, or right.

        A line of a program without sums may be changed unseen: there it is only read.
        """
        kinds = ("wal-*.log", SNAPSHOT, "layers/*")
        paths = [path for kind in kinds for path in sorted(self.root.glob(kind)) if path.stat().st_size]
        if not paths:
            return
        path, before = self.rng.choice(paths), self._rejects()
        bit = self.rng.randrange(8 * path.stat().st_size)
        summed = has_sum(path, path.read_bytes(), bit // 8)
        _flip(path, bit)
        try:
            with suppress(MeshlabError):
                found = self._read()
                told = found.rejects.num_rows != before
                assert told or not summed or _exact(found) == self._wanted(), (
                    f"bit {bit} of {path.name}: a wrong answer without a word"
                )
        finally:
            _flip(path, bit)

    WEIGHTS = {  # noqa: RUF012
        "append": 40, "batch": 16, "foreign_line": 10, "next_day": 10, "reopen": 5, "crash": 5, "crash_in_append": 4,
        "tear": 4, "flip": 2, "checkpoint": 3, "vacuum": 2,
    }  # fmt: skip

    def run(self, steps: int) -> None:
        """So many steps, chosen by their weights, with a look after those that rewrite something."""
        for name in self.rng.choices(list(self.WEIGHTS), list(self.WEIGHTS.values()), k=steps):
            getattr(self, name)()
            self.done[name] += 1
            if name in ("checkpoint", "vacuum", "crash_in_append") or self.rng.random() < 0.02:
                self.check()

    def check(self) -> None:
        """What the log means is what the model says; raises ``AssertionError``."""
        if self.root.exists():
            found = self._read()
            kinds = set(found.rejects["class"].to_pylist())
            assert kinds <= {"torn"}, f"rejects: {sorted(kinds)}"
            assert _exact(found) == self._wanted(), "the state is not that of the model"

    # How

    def _clock(self) -> int:
        return self.now

    def _event(self, misfits: tuple[Any, ...] = ()) -> dict[str, Any]:
        pick = self.rng
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

    def _add(self, events: list[Any]) -> None:
        assert self._writer is not None
        self._note(self._writer.append_many(events).segment, events)

    def _note(self, day: str, events: list[Any]) -> None:
        if day not in self.days:
            self.days.append(day)
        self.model.add(day, events)

    def _put(self, day: str, data: bytes) -> None:
        """Bytes at the end of a segment, synced, whoever wrote them."""
        fd = self.disk.open(self.root / segment_name(day), os.O_WRONLY | os.O_APPEND)
        self.disk.write(fd, data)
        self.disk.sync(fd)
        self.disk.close(fd)

    def _ends_well(self, day: str) -> bool:
        """Whether a line may be added to a day: it is there, and no torn line would swallow it."""
        path = self.root / segment_name(day)
        return path.exists() and path.read_bytes()[-1:] in (b"", b"\n")

    def _lose_power(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self.disk.crash(self.root.parent, rng=self.rng, **self.rng.choice(LEFTOVERS))
        self._writer = None
        self.reopen()

    def _day_of(self, key: str) -> str:
        """The day that holds a whole frame with this key, or none."""
        if not self.root.exists():
            return ""
        events = load_user(self.root, "u", columns=("segment", "key"), progress=False)
        return next((row["segment"] for row in events.to_pylist() if row.get("key") == key), "")

    def _read(self) -> State:
        """The newest manifest's records, verified, and the fold of the rest, as a new process reads them."""
        layers.forget_verified()
        manifest = current(self.root, "u") or Manifest(uid="u")
        assert isinstance(manifest, Manifest)
        base = Base.open(self.root, manifest).state()
        assert state_hash(base).hexdigest() == manifest.state_hash, "the layers are not what the manifest says"
        fold = Fold(base)
        start = Cursor(manifest.seq, manifest.sum, manifest.effective)
        events = load_user(self.root, "u", rest(self.root, manifest), start, columns=FOLD_COLUMNS, progress=False)
        for batch in events.to_batches():
            fold.add(batch)
        state, orphans, counts = fold.finish()
        return State("u", state, orphans=orphans, rejects=events.rejects, segments=events.segments, counts=counts)

    def _rejects(self) -> int:
        return self._read().rejects.num_rows

    def _wanted(self) -> list[str]:
        return [json.dumps(record) for record in self.model.state()]


def _exact(state: State) -> list[str]:
    """Text that tells -0.0 from 0.0 and 1 from 1.0."""
    return [json.dumps(record) for record in state.to_pylist()]


def _flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))
