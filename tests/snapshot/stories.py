"""Stores for the tests of checkpoints, and what must be true of one at any time."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from random import Random

from meshlab.replay import replay
from meshlab.snapshot.base import Base
from meshlab.snapshot.checkpoint import CHECKPOINT_LOCK, checkpoint
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.manifest import LAYERS, Manifest, current, history, layer_path
from meshlab.snapshot.vacuum import vacuum
from meshlab.testing import FailingFiles, ForgetfulFiles, PowerCut
from meshlab.times import DAY, day_of, midnight
from meshlab.wal.paths import LOCK, segment_name
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2
LONG = "a content that is long enough to be kept apart, " * 8
LOCKS = {CHECKPOINT_LOCK, LOCK}

CRASHES = {
    "clean cut": {},
    "torn": {"keep_torn": True, "holes": True},
    "torn, names by chance": {"keep_torn": True, "keep_names": True},
    "bytes there, names by chance": {"keep": "*", "keep_names": True},
}


class Shop:
    """One user of a store on a disk that forgets, at a time of its own."""

    def __init__(self, root, files=None, now=NOON):
        self.root, self.now = root, now
        self.files = ForgetfulFiles() if files is None else files
        self._writer = None

    def append(self, *events, durability="commit"):
        if self._writer is None or self._writer.durability != durability:
            self.close()
            self._writer = Writer(self.root, files=self.files, clock=lambda: self.now, durability=durability)
        return self._writer.append_many(list(events))

    def close(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def checkpoint(self, files=None, **options):
        return checkpoint(self.root, "u", files=files or self.files, clock=lambda: self.now, progress=False, **options)

    def vacuum(self, files=None, *, apply=True):
        return vacuum(self.root, "u", apply=apply, files=files or self.files, clock=lambda: self.now)

    def later(self, days=1):
        self.now += days * DAY

    @property
    def day(self):
        return day_of(self.now)

    def foreign(self, event, day=None, end="\n"):
        """A program without the lock adds a line; it is on the disk at once."""
        data = event if isinstance(event, bytes) else json.dumps(event).encode() + end.encode()
        with self.segment(day).open("ab") as file:
            file.write(data)

    def segment(self, day=None):
        return self.root / segment_name(day or self.day)

    @property
    def manifest(self):
        found = current(self.root, "u")
        assert isinstance(found, Manifest)
        return found

    def records(self):
        return {record["id"]: record for record in replay(self.root, "u", progress=False).to_pylist()}

    def crash(self, point=0, **leftover):
        self.files.crash(self.root.parent, rng=Random(point), **leftover)


def insert(id, content="text", **fields):
    return {"Insert": {"id": id, "content": content} | fields}


def update(id, **fields):
    return {"Update": {"id": id} | fields}


_known = {}


def state(root):
    """The state after the last event, as text that tells -0.0 from 0.0.

    Checks that the manifest in force says what its layers hold.
    """
    found = current(root, "u")
    if isinstance(found, Manifest):
        base, layers = Base.open(root, found), tuple(found.layers)
        if layers not in _known:  # layers are named by their bytes
            held = base.state()
            _known[layers] = state_hash(held).hexdigest(), held.num_rows
        assert _known[layers] == (found.state_hash, found.records)
    return [json.dumps(record) for record in replay(root, "u", progress=False).to_pylist()]


def names(root):
    """All files of a user but the locks."""
    return sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and path.name not in LOCKS
    )


def temporary(root):
    """What a crash or failure has left half done."""
    return [path.relative_to(root).as_posix() for path in root.rglob(".*")]


def unreferenced(root):
    """Layers that no snapshot names."""
    known = [entry.manifest for entry in history(root, "u") if entry.manifest is not None]
    found = current(root, "u")
    known += [found] if isinstance(found, Manifest) else []
    named = {layer_path(root, layer).name for one in known for layer in one.layers}
    return sorted({path.name for path in (root / LAYERS).glob("*")} - named)


def copy(root, target):
    """A store as a fresh disk finds it."""
    shutil.copytree(root, target, ignore=shutil.ignore_patterns(*LOCKS))
    return target


class Tried(FailingFiles):
    """Notes the kind and path of every operation that was tried, the ones that failed too."""

    def __init__(self, inner):
        super().__init__(inner, nth=0)
        self.operations = []

    def _due(self, kind, path):
        if kind != "close":
            self.operations.append((kind, path))
        return False


def points(operations, every):
    """The number (from 1) of each operation, of the writes only some, and one behind the last."""
    some = [at + 1 for at, (kind, _) in enumerate(operations) if kind != "write" or at % every == 0]
    return [*some, len(operations) + 1]


def killed(template, folder, act, *, now=NOON, every=25):
    """Kill an action at every file operation in turn; yields the point and the store after a crash.

    The ways to crash take turns; every fifth time the process is killed and the power
    stays on.
    """
    diary = Tried(ForgetfulFiles())
    act(Shop(copy(template, folder / "0" / "u"), now=now), diary)
    ways = [*CRASHES.values(), None]
    steps = points(diary.operations, every)
    for number, point in enumerate(steps):
        shop = Shop(copy(template, folder / str(point) / "u"), now=now)
        files = FailingFiles(shop.files, "any", point, error=PowerCut(f"at operation {point}"), forever=True)
        with suppress(PowerCut):
            act(shop, files)
        assert bool(files.hits) == (point != steps[-1]), point
        way = ways[number % len(ways)]
        if way is not None:
            shop.crash(point, **way)
        yield point, shop
