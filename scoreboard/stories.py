"""Stores for the tests of checkpoints, and what must be true of one at any time."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from itertools import islice
from pathlib import Path
from random import Random

from meshlab.replay import replay
from meshlab.snapshot.base import Base
from meshlab.snapshot.bincode import write_bincode
from meshlab.snapshot.checkpoint import CHECKPOINT_LOCK
from meshlab.snapshot.checkpoint import checkpoint as run_checkpoint
from meshlab.snapshot.hashing import state_hash
from meshlab.snapshot.layers import FAN
from meshlab.snapshot.manifest import LAYERS, Manifest, current, history, layer_path
from meshlab.snapshot.vacuum import vacuum as run_vacuum
from meshlab.tables.seal import seal
from meshlab.testing import AttemptedFiles, FailingFiles, ForgetfulFiles, PowerCut
from meshlab.times import DAY, day_of, midnight
from meshlab.wal.paths import LOCK, segment_name
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2
LONG = "a content that is long enough to be kept apart, " * 8
LOCKS = {CHECKPOINT_LOCK, LOCK}
EXPECTED = Path(__file__).parents[1] / "tests" / "data" / "phase1-expected.json"
MAP = write_bincode(islice(json.loads(EXPECTED.read_text(encoding="utf-8")).popitem()[1].values(), 3))

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
        return run_checkpoint(
            self.root, "u", files=files or self.files, clock=lambda: self.now, progress=False, **options
        )

    def vacuum(self, files=None, *, apply=True):
        return run_vacuum(self.root, "u", apply=apply, files=files or self.files, clock=lambda: self.now)

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


def points(operations, every):
    """The number (from 1) of each operation, of the writes only some, and one behind the last."""
    some = [at + 1 for at, (kind, _) in enumerate(operations) if kind != "write" or at % every == 0]
    return [*some, len(operations) + 1]


def killed(template, folder, act, *, now=NOON, every=25):
    """Kill an action at every file operation in turn; yields the point and the store after a crash.

    The ways to crash take turns; every fifth time the process is killed and the power
    stays on.
    """
    diary = AttemptedFiles(ForgetfulFiles())
    act(Shop(copy(template, folder / "0" / "u"), now=now), diary)
    ways = [*CRASHES.values(), None]
    steps = points(diary.attempts, every)
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


def first(root):
    """A log nobody has folded yet."""
    shop = Shop(root, now=NOON - DAY)
    shop.append(insert("m1", LONG), insert("m2", LONG), insert("m3", "short", amplitude=0.5))
    shop.foreign({"Insert": {"id": "m4", "access_count": "many"}})
    shop.later()
    shop.append(update("m1", amplitude=0.25), {"Delete": "m2"}, update("nobody", mode="Dark"))
    shop.close()
    return shop


def second(root):
    """A log with a checkpoint, and something behind it."""
    shop = first(root)
    shop.checkpoint()
    shop.append(update("m3", content=LONG * 2), insert("m5", LONG), {"Delete": "m4"})
    shop.foreign({"Delete": "m1"}, day="20250706")
    shop.close()
    return shop


def merging(root):
    """Layers so many that the next checkpoint merges them."""
    shop = second(root)
    for number in range(FAN // 2):
        shop.append(insert(f"n{number}", LONG + str(number)), {"Delete": f"n{number - 2}"})
        shop.checkpoint()
    shop.append(update("n3", mode="Dark"))
    shop.close()
    return shop


def upgrading(root):
    """A store of phase 1."""
    root.mkdir(parents=True)
    (root / "snapshot.bin").write_bytes(MAP)
    shop = Shop(root)
    shop.foreign({"Insert": {"id": "m1", "content": LONG}})
    return shop


def aged(root):
    """Sealed days that no moment of the window needs any more."""
    shop = Shop(root, now=NOON)
    for number in range(2):
        shop.append(*(insert(f"m{number}{n}", f"{LONG}{number}{n}") for n in range(2)), update("m00", amplitude=0.5))
        shop.checkpoint(retain=1)
        shop.later()
    shop.append({"Delete": "m00"}, {"Delete": "m01"}, insert("last"))
    for _ in range(2):
        shop.later()
        shop.append(update("last", amplitude=shop.now / DAY))
        shop.checkpoint()
    shop.close()
    seal(root, "u", files=shop.files)
    return shop


def checkpoint(shop, files, **options):
    shop.checkpoint(files, **options)


def upgrade(shop, files):
    checkpoint(shop, files, upgrade=True)


def vacuum(shop, files):
    shop.vacuum(files)
