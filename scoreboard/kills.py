"""SIGKILL at any moment: a process appends, rotates, checkpoints or vacuums, and is killed.

Events are numbered, and what a store holds after ``n`` of them is known from ``n`` alone
(``expected``).  So a round knows what must be there: the state after some number of events
that is not below the last one the dead process had acknowledged.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import meshlab
from meshlab.replay import replay
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.vacuum import vacuum
from meshlab.times import DAY, midnight
from meshlab.wal.paths import SNAPSHOT
from meshlab.wal.writer import Writer
from scoreboard.row import Task

UID = "u"
START = midnight("20250701") + DAY // 2
HELD = 40
"""Memories; event ``n`` sets memory ``n % HELD``."""

BATCH = 7
ROUNDS_PER_STORE = 15
LONG = "a content that is long enough to be kept apart, " * 8
REACH = {"append": 0.004, "batch": 0.005, "rotate": 0.003, "checkpoint": 0.06, "vacuum": 0.09}
"""Seconds within which a kill comes once the work has begun."""

WEIGHTS = {"append": 40, "batch": 30, "rotate": 20, "checkpoint": 6, "vacuum": 4}


def event(number: int) -> dict[str, Any]:
    """The event of that number, from 1."""
    body: dict[str, Any] = {"id": f"m{number % HELD}", "amplitude": float(number)}
    if number > HELD and number % 3:
        return {"Update": body}
    return {"Insert": body | {"content": LONG if number % 2 else f"text {number}"}}


def expected(count: int) -> dict[str, float]:
    """The amplitudes after so many events."""
    return {f"m{number % HELD}": float(number) for number in range(max(1, count - HELD + 1), count + 1)}


def held(root: Path) -> tuple[dict[str, float], set[str]]:
    """The amplitudes a store holds, and the classes of damage in its log.

    A replay reads the whole log as a verification does, unless there is a checkpoint.
    """
    if not root.exists():
        return {}, set()
    state = replay(root, root.name, progress=False)
    table = state.to_arrow()
    amplitudes = dict(zip(table["id"].to_pylist(), table["amplitude"].to_pylist(), strict=True))
    if not (root / SNAPSHOT).exists():
        return amplitudes, set(state.rejects["class"].to_pylist()) - {"torn"}
    with meshlab.open(root.parent) as store:
        return amplitudes, {reject.kind for reject in store[root.name].verify(progress=False).damage}


def check(root: Path, acknowledged: int, at_most: int) -> int:
    """How many events a store holds; raises when one is missing, torn in, or damaged."""
    found, damage = held(root)
    count = int(max(found.values(), default=0))
    assert count >= acknowledged, f"{acknowledged} events were acknowledged, {count} are there"
    assert count <= at_most, f"{count} events are there, only {at_most} were sent"
    assert found == expected(count), f"the state is not that after {count} events"
    assert not damage, f"damage: {sorted(damage)}"
    return count


def work(root: Path, kind: str, number: int, now: int, broken: bool, said: Connection) -> None:
    """Append from ``number`` on until killed; tells the number and the time after each frame."""
    warnings.simplefilter("ignore")
    moment = [now]
    writer = Writer(root, clock=lambda: moment[0])
    size = BATCH if kind == "batch" else 1
    said.send((number, now))
    while True:
        if kind in ("rotate", "vacuum"):
            moment[0] += DAY
        events = [event(number + more + 1) for more in range(size)]
        number += size
        if broken:
            said.send((number, moment[0]))
        writer.append_many(events)
        said.send((number, moment[0]))
        if kind in ("checkpoint", "vacuum"):
            checkpoint(root, UID, retain=0, clock=lambda: moment[0], progress=False)
        if kind == "vacuum":
            vacuum(root, UID, apply=True, clock=lambda: moment[0])


class Killer:
    """One store, worked on by processes that are killed one after the other."""

    def __init__(self, root: Path, rng: Random) -> None:
        self.root, self.rng = root, rng
        self.number, self.now = 0, START
        self.context: Any = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["pandas", "duckdb", "scoreboard.kills"])  # so that a child is quick

    def round(self, kind: str, broken: bool) -> None:
        """Start, kill, look."""
        mine, its = self.context.Pipe(duplex=False)
        process = self.context.Process(target=work, args=(self.root, kind, self.number, self.now, broken, its))
        process.start()
        its.close()
        said = [mine.recv()]
        more = 0 if kind in ("checkpoint", "vacuum") else self.rng.choice((0, 0, 1, 2))
        said += [mine.recv() for _ in range(more)]
        time.sleep(self.rng.uniform(0, REACH[kind]))
        process.kill()
        said += drained(mine)
        process.join()
        process.close()
        acknowledged, self.now = said[-1]
        if kind in ("rotate", "vacuum"):
            self.now += DAY
        self.number = check(self.root, acknowledged, acknowledged + BATCH)


def drained(pipe: Connection) -> list[Any]:
    """What was said before the other side died."""
    said = []
    try:
        while True:
            said.append(pipe.recv())
    except (EOFError, OSError):
        pipe.close()
    return said


def run(task: Task) -> None:
    """Kill forked processes; a new store every few rounds."""
    rng, outcome, killer = Random(task.seed), task.outcome, None
    for number in range(task.count):
        if killer is None or number % ROUNDS_PER_STORE == 0:
            shutil.rmtree(task.folder / "store", ignore_errors=True)
            killer = Killer(task.folder / "store" / UID, rng)
        (kind,) = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
        before = len(outcome.failures)
        with outcome.round(f"round {number}, {kind}"):
            killer.round(kind, task.broken)
        outcome.notes[kind] += 1
        if len(outcome.failures) > before:
            killer = None
