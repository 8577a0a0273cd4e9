"""Old layouts to be migrated, and what must be true of a store and of the old files at any time."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from itertools import islice
from pathlib import Path
from random import Random

from meshlab.migrate.build import digest_of
from meshlab.migrate.ending import finish
from meshlab.migrate.execution import execute
from meshlab.migrate.plan import Plan, PlannedUser, hash_input
from meshlab.migrate.proof import verify
from meshlab.migrate.rollback import roll_back
from meshlab.migrate.sources.exports import ExportSource
from meshlab.migrate.sources.maps import MapSource
from meshlab.migrate.sources.phase1 import Phase1Source
from meshlab.migrate.sources.scoped import ScopedSource
from meshlab.replay import replay
from meshlab.snapshot.bincode import write_bincode
from meshlab.testing import AttemptedFiles, FailingFiles, ForgetfulFiles, PowerCut
from meshlab.times import DAY, midnight
from meshlab.wal.files import REAL_FILES
from meshlab.wal.writer import Writer
from scoreboard.sampling import EVERY

EXPECTED = json.loads(
    (Path(__file__).parents[1] / "tests" / "data" / "phase1-expected.json").read_text(encoding="utf-8")
)
RECORDS = list(next(iter(EXPECTED.values())).values())
NOON = midnight("20250720") + DAY // 2
LONG = "a content that is long enough to be kept apart, " * 8

CRASHES = {
    "clean cut": {},
    "torn": {"keep_torn": True, "holes": True},
    "torn, names by chance": {"keep_torn": True, "keep_names": True},
    "bytes there, names by chance": {"keep": "*", "keep_names": True},
}


def clock():
    return NOON


def map_file(path, count=3, start=0):
    """A ``mesh_snapshot.bin`` of some real records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(write_bincode(islice(RECORDS, start, start + count)))
    return path


def phase1_user(folder, count=2):
    """A phase-1 directory: a map, and a log that changes, adds and deletes."""
    map_file(folder / "snapshot.bin", count, start=10)
    first = RECORDS[10]["id"]
    lines = [
        {"Update": {"id": first, "amplitude": 0.25}},
        {"Insert": RECORDS[20] | {"content": LONG}},
        {"Insert": RECORDS[21]},
        {"Delete": RECORDS[21]["id"]},
    ]
    (folder / "wal-20250707.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def scoped_user(folder, uid):
    """A scoped log: a part that was set aside, its checkpoint, and the current file."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "sequence": 1,
            "timestamp": 1751900000.5,
            "operation": "add_concept",
            "data": {"name": "tide", "importance": 1},
        },
        {
            "sequence": 2,
            "timestamp": 1751900001.5,
            "operation": "add_concept",
            "data": {"id": "c2", "description": LONG},
        },
        {"sequence": 3, "timestamp": 1751990000.5, "operation": "add_relation", "data": {"source_id": "tide"}},
        {"sequence": 4, "timestamp": 1751990001.5, "operation": "remove_concept", "data": {"concept_id": "c2"}},
    ]
    lines = [json.dumps(entry | {"checksum": None}) + "\n" for entry in entries]
    (folder / f"{uid}.wal.1751900002").write_text("".join(lines[:2]))
    (folder / f"{uid}.checkpoint").write_text(json.dumps({"sequence": 2, "entries": entries[:2]}))
    (folder / f"{uid}.wal").write_text("".join(lines[2:]))
    return [folder / name for name in (f"{uid}.checkpoint", f"{uid}.wal", f"{uid}.wal.1751900002")]


def export_file(path):
    """A JSON export of some records, one of them with a float that is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*RECORDS[30:32], {"id": "odd", "amplitude": "NaN", "theme": "sea"}]))
    return path


def planned(source, accept=()):
    """What a planner says of a source."""
    inputs = [hash_input(path) for path in source.paths]
    found = digest_of(source.batches(progress=False))
    size = sum(one.size for one in inputs)
    return PlannedUser(
        uid=source.uid,
        kind=source.kind,
        base=str(source.base),
        inputs=inputs,
        operations=source.operations(),
        records=found.records,
        state_hash=found.state_hash,
        bytes_to_write=3 * size,
        seconds=0.1,
    )


def plan_of(sources, store):
    return Plan(
        created_at="2025-07-20T12:00:00Z",
        tool="meshlab",
        source=str(sources[0].base),
        store=str(store),
        users=[planned(source) for source in sources],
    ).sealed()


class Scene:
    """Users in the old layout, and a store they go to; always at the same place, for plans name paths.

    ``ann`` has a map, ``bo`` a phase-1 directory, ``cy`` a scoped log, ``di`` an export.
    """

    def __init__(self, home, disk=None, users=("ann", "bo")):
        self.home, self.old, self.store = home, home / "old", home / "store"
        self.disk = disk
        self.users = users

    def make(self):
        if "ann" in self.users:
            map_file(self.old / "mesh_snapshot.bin")
        if "bo" in self.users:
            phase1_user(self.old / "bo")
        if "cy" in self.users:
            scoped_user(self.old / "logs", "cy")
        if "di" in self.users:
            export_file(self.old / "di.json")
        return self

    @property
    def sources(self):
        found = []
        if "ann" in self.users:
            found.append(MapSource("ann", self.old, (self.old / "mesh_snapshot.bin",)))
        if "bo" in self.users:
            home = self.old / "bo"
            found.append(Phase1Source("bo", home, tuple(sorted(home.iterdir()))))
        if "cy" in self.users:
            logs = self.old / "logs"
            found.append(ScopedSource("cy", logs, tuple(sorted(logs.glob("cy.*")))))
        if "di" in self.users:
            found.append(ExportSource("di", self.old, (self.old / "di.json",)))
        return found

    def plan(self):
        return plan_of(self.sources, self.store)

    @property
    def files(self):
        return self.disk or REAL_FILES

    def apply(self, plan, files=None, **options):
        options = {"jobs": 1, "progress": False, "clock": clock} | options
        return execute(plan, self.store, files=files or self.files, **options)

    def roll_back(self, plan, files=None, **options):
        return roll_back(plan, files=files or self.files, progress=False, clock=clock, **options)

    def finish(self, plan, files=None, **options):
        return finish(plan, files=files or self.files, progress=False, clock=clock, **options)

    def verify(self, plan):
        return verify(plan, progress=False, jobs=1)

    def append(self, uid, *events, files=None):
        writer = Writer(self.store / uid, files=files or self.files, clock=clock)
        writer.append_many(list(events))
        writer.close()

    def records(self, uid):
        return {one["id"]: one for one in replay(self.store / uid, uid, progress=False).to_pylist()}

    def in_store(self, *uids):
        """The state of some users, as text."""
        return {uid: [json.dumps(one) for one in self.records(uid).values()] for uid in uids or self.users}

    def originals(self):
        """The bytes of the old files, by name."""
        return tree(self.old)

    def crash(self, point=0, **leftover):
        self.disk.crash(self.home, rng=Random(point), **leftover)


def tree(folder):
    """The bytes of all files below a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def tree_with_times(folder):
    """Everything below a folder, names, bytes and times."""
    return {
        path: (path.lstat().st_mtime_ns, path.lstat().st_mode, path.is_file() and path.read_bytes())
        for path in sorted(folder.rglob("*"))
    }


def digest_of_map(path):
    return digest_of(MapSource("u", path.parent, (path,)).batches(progress=False))


def digest_of_phase1(folder):
    paths = tuple(sorted(path for path in folder.iterdir() if path.suffix in (".bin", ".log")))
    return digest_of(Phase1Source("u", folder, paths).batches(progress=False))


def points(operations, every):
    """The number (from 1) of each operation worth a kill, and one behind the last.

    All renames outside of staging and layers; of the rest one in ``every``, and fewer of
    those that checkpoints have tests of their own for.  With ``MESHLAB_EVERY=1`` every
    single one, which takes many minutes.
    """
    if EVERY:
        return list(range(1, len(operations) + 2))
    some, rest, inner = [], 0, 0
    for at, (kind, path) in enumerate(operations):
        if {"layers", "history", "staging"} & {*path.parts} or kind in ("write", "pwrite", "open"):
            inner += 1
            wanted = inner % (8 * every) == 1
        else:
            rest += 1
            wanted = kind == "rename" or rest % every == 1 % every
        if wanted:
            some.append(at + 1)
    return [*some, len(operations) + 1]


def killed(scene, template, act, *, every=1):
    """Kill an action at file operations in turn; yields the point and the scene after a crash.

    The ways to crash take turns; every fifth time the process is killed and the power
    stays on.
    """
    diary = AttemptedFiles(ForgetfulFiles())
    act(fresh(scene, template, diary), diary)
    ways = [*CRASHES.values(), None]
    steps = points(diary.attempts, every)
    for number, point in enumerate(steps):
        tried = fresh(scene, template, ForgetfulFiles())
        files = FailingFiles(tried.disk, "any", point, error=PowerCut(f"at operation {point}"), forever=True)
        with suppress(PowerCut):
            act(tried, files)
        assert bool(files.hits) == (point != steps[-1]), point
        way = ways[number % len(ways)]
        if way is not None:
            tried.crash(point, **way)
        yield point, tried


def fresh(scene, template, disk):
    """The scene as the template has it, on a disk of its own."""
    shutil.rmtree(scene.home, ignore_errors=True)
    shutil.copytree(template, scene.home)
    return Scene(scene.home, disk, scene.users)
