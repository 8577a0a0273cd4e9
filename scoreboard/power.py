"""Power cuts on a disk that forgets: writers over days, cut at any operation, and once more after recovery."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random

from meshlab.events import Delete
from meshlab.testing import FailingFiles, ForgetfulFiles, PowerCut
from meshlab.testing.reading import Reading, read_log
from meshlab.times import DAY, SECOND, midnight
from meshlab.wal.files import Files
from meshlab.wal.frame import NO_SUM, write_frame
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.writer import Writer
from scoreboard.row import Task
from scoreboard.twins import LEFTOVERS, NoDirectorySync, NoFileSync

NOON = midnight("20250707") + DAY // 2
HALF = write_frame([b'{"Delete":"half"}'], "2025-07-07T12:00:00.000000Z", seq=1, prev=NO_SUM).data[:60]


class Story:
    """Appends of some writers over some days; notes what was tried and what was acknowledged."""

    def __init__(self, root: Path, rng: Random) -> None:
        self.root, self.rng = root, rng
        self.now = NOON
        self.tried: list[list[str]] = []
        self.acknowledged: list[str] = []

    def go_on(self, files: Files, frames: int, writers: int = 1, rotate: float = 0.3) -> None:
        """Some more frames; each writer has opened the log by itself."""
        crew = [Writer(self.root, files=files, clock=lambda: self.now) for _ in range(writers)]
        for _ in range(frames):
            self.now += DAY if self.rng.random() < rotate else SECOND
            size = self.rng.choice((1, 1, 2, 3))
            names = [f"m{len(self.tried)}-{part}" for part in range(size)]
            self.tried.append(names)
            self.rng.choice(crew).append_many([Delete(name) for name in names])
            self.acknowledged += names
        for writer in crew:
            writer.close()

    def tear(self, files: Files) -> None:
        """What a writer that was cut off has left at the end, on the disk."""
        path = self.root / segment_name(segment_days(self.root)[-1])
        fd = files.open(path, os.O_WRONLY | os.O_APPEND)
        files.write(fd, HALF[: self.rng.randint(1, len(HALF))])
        files.sync(fd)
        files.close(fd)

    def check(self) -> Reading | None:
        """All that was acknowledged is there, once, in order; frames whole; nothing else."""
        log = read_log(self.root) if self.root.exists() else None
        found = names_in(log) if log else []
        there = set(found)
        assert len(there) == len(found), "an event is there twice"
        missing = [name for name in self.acknowledged if name not in there]
        assert not missing, f"acknowledged and gone: {missing[:3]}"
        whole = [names for names in self.tried if there.intersection(names)]
        assert found == [name for names in whole for name in names], "a frame in part, or out of order"
        if log is not None:
            assert set(log.classes) <= {"torn"}, f"rejects: {log.rejects[:2]}"
        return log


def names_in(log: Reading) -> list[str]:
    """The ids of all deletes, in log order."""
    return [row.payload.decode().split('"')[3] for row in log.rows if row.op == "delete"]


def cut_off(folder: Path, seed: int, disk: ForgetfulFiles) -> bool:
    """One power cut, one recovery that is cut too, and a last look; whether the first cut hit."""
    rng = Random(seed)
    story = Story(folder / "mesh" / "u", rng)
    if rng.random() < 0.3:
        story.go_on(disk, rng.randint(1, 4))
        story.tear(disk)
    files = FailingFiles(disk, "any", rng.randint(1, 40), error=PowerCut(), forever=True)
    with suppress(PowerCut):
        story.go_on(files, rng.randint(1, 6), writers=rng.randint(1, 3))
    disk.crash(folder, rng=rng, **LEFTOVERS[rng.choice(list(LEFTOVERS))])
    story.check()
    again = FailingFiles(disk, "any", rng.randint(1, 15), error=PowerCut(), forever=True)
    with suppress(PowerCut):
        story.go_on(again, 2)
    disk.crash(folder, rng=rng, **LEFTOVERS[rng.choice(list(LEFTOVERS))])
    story.check()
    story.go_on(disk, 1)
    disk.crash(folder)
    story.check()
    return bool(files.hits)


def run(task: Task) -> None:
    """Cut the power; the twins leave out the syncs of files, or those of directories."""
    outcome = task.outcome
    for number in range(task.count):
        folder = task.folder / "round"
        folder.mkdir(parents=True)
        disk = (NoFileSync, NoDirectorySync)[number % 2]() if task.broken else ForgetfulFiles()
        with outcome.round(f"cut {number}"):
            outcome.notes["in the middle of work"] += cut_off(folder, task.seed * 1_000_003 + number, disk)
        shutil.rmtree(folder)
