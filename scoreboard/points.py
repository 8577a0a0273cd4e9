"""A crash and an error at every file operation of everything that writes, and again during the recovery.

A ``Play`` is one action: it makes a place to act in, acts, and knows what must be true
after an interruption (``check``) and what the next, undisturbed run must lead to
(``finish``).  ``run`` breaks the action off at each operation by a power cut and by errors.
"""

from __future__ import annotations

import errno
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from meshlab.errors import MeshlabError
from meshlab.remote.bucket import FolderBucket
from meshlab.snapshot.manifest import history
from meshlab.snapshot.vacuum import YOUNG
from meshlab.testing import AttemptedFiles, FailingFiles, ForgetfulFiles, PowerCut
from meshlab.times import SECOND
from meshlab.wal.files import Files
from meshlab.wal.paths import LOCK
from meshlab.wal.writer import Writer
from scoreboard import scenes, sites, stories
from scoreboard.power import Story
from scoreboard.row import Task
from scoreboard.twins import LEFTOVERS, ManifestFirst, NoDirectorySync, NoFileSync

CUT = "power cut"
FAULTS: dict[str, dict[str, Any]] = {
    CUT: {"error": PowerCut("the power failed"), "forever": True},
    "EIO once": {"error": errno.EIO},
    "disk full": {"error": errno.ENOSPC, "forever": True},
    "short write": {"short": 3},
    "read-only": {"error": errno.EROFS, "forever": True},
}
EXPECTED_ERRORS = (PowerCut, OSError, MeshlabError)


class Play:
    """One action in one place on a disk of its own."""

    def __init__(self, folder: Path, disk: ForgetfulFiles) -> None:
        self.folder, self.disk = folder, disk

    @classmethod
    def prepare(cls, template: Path) -> None:
        """Make what every round starts from."""
        template.mkdir(parents=True)

    def act(self, files: Files) -> None:
        """Do it, through these files."""
        raise NotImplementedError

    def check(self) -> None:
        """What is true after any interruption."""
        raise NotImplementedError

    def finish(self) -> None:
        """Go on undisturbed; what is true then is durable."""
        self.act(self.disk)
        self.disk.crash(self.folder)
        self.check()


def heal(root: Path, disk: ForgetfulFiles, now: int) -> None:
    """After a failed sync all refuse until a writer has opened the log and written the lost bytes again."""
    lock = root / LOCK
    if lock.exists() and b"poison " in lock.read_bytes():
        writer = Writer(root, files=disk, clock=lambda: now)
        writer.append_chosen(lambda end: [])
        writer.close()


class Append(Play):
    """The first appends to a store, single ones and batches."""

    rotate = 0.0

    def __init__(self, folder: Path, disk: ForgetfulFiles) -> None:
        super().__init__(folder, disk)
        self.story = Story(folder / "mesh" / "u", Random(len(folder.name)))

    def act(self, files: Files) -> None:
        """Three frames by two writers."""
        self.story.rng = Random(7)
        self.story.go_on(files, 3, writers=2, rotate=self.rotate)

    def check(self) -> None:
        """All that was acknowledged is there."""
        self.story.check()


class Rotate(Append):
    """Appends of which each begins a new day."""

    rotate = 1.0


class Checkpoint(Play):
    """The first checkpoint of a log."""

    story = staticmethod(stories.first)
    now = stories.NOON

    def __init__(self, folder: Path, disk: ForgetfulFiles) -> None:
        super().__init__(folder, disk)
        self.shop = stories.Shop(folder / "u", disk, now=self.now)
        self.wanted = stories.state(self.shop.root)

    @classmethod
    def prepare(cls, template: Path) -> None:
        """Tell the story once."""
        made = cls.story(template / "u")
        cls.now = made.now
        for name in stories.LOCKS:
            (template / "u" / name).unlink(missing_ok=True)

    def act(self, files: Files) -> None:
        """Checkpoint."""
        self.shop.checkpoint(files)

    def check(self) -> None:
        """The state is the one it was."""
        assert stories.state(self.shop.root) == self.wanted, "another state"

    def finish(self) -> None:
        """A checkpoint cleans up behind the one that was broken off."""
        heal(self.shop.root, self.disk, self.shop.now)
        super().finish()
        assert not (left := stories.temporary(self.shop.root)), f"left: {left}"
        assert all(not entry.problem for entry in history(self.shop.root, "u")), "history has a problem"


class Merge(Checkpoint):
    """A checkpoint that merges layers."""

    story = staticmethod(stories.merging)


class Vacuum(Checkpoint):
    """A vacuum that deletes segments, manifests and layers."""

    story = staticmethod(stories.aged)

    def act(self, files: Files) -> None:
        """Vacuum."""
        self.shop.vacuum(files)

    def finish(self) -> None:
        """Later vacuums delete what nobody refers to."""
        heal(self.shop.root, self.disk, self.shop.now)
        self.shop.vacuum()
        self.shop.now += YOUNG + SECOND
        self.shop.vacuum()
        left = [name for name in stories.temporary(self.shop.root) if not name.startswith("sealed/")]
        assert not left, f"left: {left}"  # a sealing deletes those of its own after an hour
        assert not stories.unreferenced(self.shop.root), "layers nobody names are left"
        self.disk.crash(self.folder)
        self.check()


class Migrate(Play):
    """An apply of a phase-1 user; plans name paths, so every round is at one place."""

    users: tuple[str, ...] = ("bo",)
    plan: Any = None
    wanted: Any = None
    old: Any = None

    def __init__(self, folder: Path, disk: ForgetfulFiles) -> None:
        super().__init__(folder, disk)
        self.scene = scenes.Scene(folder, disk, self.users)

    @classmethod
    def prepare(cls, template: Path) -> None:
        """Old layouts, and the plan made at the place where the rounds will be."""
        place = template.parent / "place"
        scene = scenes.Scene(place, users=cls.users).make()
        shutil.copytree(place, template)
        cls.plan, cls.old = scene.plan(), scene.originals()
        scene.apply(cls.plan)
        cls.wanted = scene.in_store()
        shutil.rmtree(place)

    def act(self, files: Files) -> None:
        """Apply."""
        self.scene.apply(self.plan, files)

    def check(self) -> None:
        """Each user is there whole or not at all; the old files are as they were."""
        assert self.scene.originals() == self.old, "the old files have changed"
        for uid in self.users:
            if (self.scene.store / uid).exists():
                assert self.scene.in_store(uid) == {uid: self.wanted[uid]}, f"{uid} in part"

    def finish(self) -> None:
        """Apply again: all are there, to stay."""
        report = self.scene.apply(self.plan)
        assert not report.failed, f"failed: {report.failed}"
        self.disk.crash(self.folder)
        assert self.scene.in_store() == self.wanted, "not all are there"


class RollBack(Migrate):
    """A rollback of a user to whom something was written since, some of which fits no map."""

    @classmethod
    def prepare(cls, template: Path) -> None:
        """Migrate, write, and roll back once to see how it ends."""
        place = template.parent / "place"
        scene = scenes.Scene(place, users=cls.users).make()
        cls.plan = scene.plan()
        scene.apply(cls.plan)
        scene.append("bo", {"Insert": scenes.RECORDS[0]}, {"Insert": {"id": "newer", "content": "half"}})
        shutil.copytree(place, template)
        cls.old = scene.originals()
        scene.roll_back(cls.plan)
        cls.wanted = scene.originals()
        shutil.rmtree(place)

    def act(self, files: Files) -> None:
        """Roll back."""
        self.scene.roll_back(self.plan, files)

    def check(self) -> None:
        """No byte of an original is ever gone."""
        assert {*self.old.values()} <= {*self.scene.originals().values()}, "an original is gone"

    def finish(self) -> None:
        """Roll back again: the old layout stands, and the users have left the store."""
        for uid in self.users:
            heal(self.scene.store / uid, self.disk, stories.NOON)
        report = self.scene.roll_back(self.plan)
        assert not report.failed, f"failed: {report.failed}"
        self.disk.crash(self.folder)
        assert self.scene.originals() == self.wanted, "the old layout is another"
        assert not any((self.scene.store / uid).exists() for uid in self.users), "a user is still in the store"


class Push(Play):
    """A push of what a user gained, into a folder on the same disk."""

    before: Any = None
    after: Any = None
    now = sites.NOON

    def __init__(self, folder: Path, disk: ForgetfulFiles) -> None:
        super().__init__(folder, disk)
        self.restored = 0

    @classmethod
    def prepare(cls, template: Path) -> None:
        """A user who was pushed, and has gained a checkpoint and days since."""
        (template / "bucket").mkdir(parents=True)
        site = sites.Site(template / "store", FolderBucket(template / "bucket"))
        for step in range(2):
            sites.grow(site, step)
        site.push()
        cls.before = site.state()
        for step in range(2, 5):
            sites.grow(site, step)
        cls.after, cls.now = site.state(), site.now

    def act(self, files: Files) -> None:
        """Push."""
        bucket = FolderBucket(self.folder / "bucket", files=files)
        sites.Site(self.folder / "store", bucket, now=self.now, files=files).push()

    def check(self) -> None:
        """The bucket restores the user as of this push or of the one before."""
        assert self._restored() in (self.before, self.after), "neither as before nor as after"

    def finish(self) -> None:
        """Push again: the bucket restores all of it."""
        heal(self.folder / "store" / "ann", self.disk, self.now)
        super().finish()
        assert self._restored() == self.after, "what was acknowledged is not restored"

    def _restored(self) -> Any:
        self.restored += 1
        target = self.folder / f"restored{self.restored}"
        return sites.restorable(FolderBucket(self.folder / "bucket"), target)


def run(task: Task, play: type[Play], twin: type[ForgetfulFiles] = NoDirectorySync, errors: int = 4) -> None:
    """Break an action off at each operation by a power cut, and by ``errors`` of the errors in turn."""
    outcome, rng, template = task.outcome, Random(task.seed), task.folder / "template"
    play.prepare(template)
    many = _operations(play, template, task.folder / "place")
    rounds = _rounds(many, errors)
    some = sorted(rng.sample(range(len(rounds)), min(task.count, len(rounds))))
    outcome.notes["operations"], outcome.notes["faults possible"] = many, len(rounds)
    for at, fault in (rounds[number] for number in some):
        disk = twin() if task.broken else ForgetfulFiles()
        with outcome.round(f"operation {at}, {fault}"):
            _interrupted(play, template, task.folder / "place", disk, at, fault, many, rng)
        shutil.rmtree(task.folder / "place", ignore_errors=True)


def _rounds(many: int, errors: int) -> list[tuple[int, str]]:
    """Each operation with the faults it meets; one round more, without any, at the end."""
    names = [name for name in FAULTS if name != CUT]
    rounds = [(at, CUT) for at in range(1, many + 2)]
    for at in range(1, many + 1):
        rounds += [(at, names[(at + more) % len(names)]) for more in range(errors)]
    return sorted(rounds)


def _operations(play: type[Play], template: Path, place: Path) -> int:
    shutil.copytree(template, place)
    disk = ForgetfulFiles()
    diary = AttemptedFiles(disk)
    play(place, disk).act(diary)
    shutil.rmtree(place)
    return len(diary.attempts)


def _interrupted(
    play: type[Play], template: Path, place: Path, disk: ForgetfulFiles, at: int, fault: str, many: int, rng: Random
) -> None:
    shutil.copytree(template, place)
    one = play(place, disk)
    with suppress(*EXPECTED_ERRORS):
        one.act(FailingFiles(disk, "any", at, **FAULTS[fault]))
    if fault == CUT or rng.random() < 0.5:
        disk.crash(place, rng=rng, **LEFTOVERS[rng.choice(list(LEFTOVERS))])
    one.check()
    with suppress(*EXPECTED_ERRORS):
        one.act(FailingFiles(disk, "any", rng.randint(1, many), **FAULTS[CUT]))
    disk.crash(place, rng=rng, **LEFTOVERS[rng.choice(list(LEFTOVERS))])
    one.check()
    one.finish()


TWINS = {"no fsync": NoFileSync, "no directory sync": NoDirectorySync, "manifest before layers": ManifestFirst}
