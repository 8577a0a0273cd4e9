"""SIGKILL through the command line: ``append``, ``checkpoint`` and ``vacuum`` as people start them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import meshlab
from meshlab.times import DAY, day_of
from meshlab.wal.writer import Writer, wall_clock
from scoreboard.kills import BATCH, UID, check, event
from scoreboard.row import Task

PACKAGE = Path(meshlab.__file__).parent.parent
WEIGHTS = {"append": 4, "batch": 3, "rotate": 2, "checkpoint": 2, "vacuum": 1}
ROUNDS_PER_STORE = 10
LINES = 400
FORGETFUL = """
import sys
from meshlab.wal.files import Files
Files.write = lambda self, fd, data: len(data)
from meshlab.__main__ import run
sys.argv[0] = "meshlab"
run()
"""
"""The twin: what it writes stays in its own memory."""


class Shell:
    """A store, and commands that are killed while they work on it."""

    def __init__(self, root: Path, rng: Random, broken: bool) -> None:
        self.root, self.rng, self.broken = root, rng, broken
        self.number = 0

    def round(self, kind: str) -> None:
        """Start a command, kill it, look."""
        if kind in ("rotate", "vacuum"):
            self._age()
        if kind in ("checkpoint", "vacuum"):
            self._kill(self._start(kind, UID, *(["--apply"] if kind == "vacuum" else [])), 0.9)
            self.number = check(self.root, self.number, self.number)
            return
        size = BATCH if kind == "batch" else 1
        command = self._start("append", UID, "--batch", str(size), stdin=subprocess.PIPE)
        said = self._kill(command, 0.02, [event(self.number + more + 1) for more in range(LINES)])
        acknowledged = self.number + sum(line["lines"] for line in said)
        self.number = check(self.root, acknowledged, self.number + LINES)

    def _age(self) -> None:
        """Some days of a log that begins in the past; the next append rotates."""
        shutil.rmtree(self.root.parent, ignore_errors=True)
        self.number = 0
        moments = [wall_clock() - days * DAY for days in (20, 19, 2, 1)]
        for moment in moments:
            writer = Writer(self.root, clock=lambda moment=moment: moment)  # type: ignore[misc]
            writer.append_many([event(self.number + 1), event(self.number + 2)])
            writer.close()
            self.number += 2
            if day_of(moment) == day_of(moments[1]):
                with meshlab.open(self.root.parent) as store:
                    store[UID].checkpoint(retain=0, progress=False)

    def _start(self, *arguments: str, stdin: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        program = ["-c", FORGETFUL] if self.broken else ["-m", "meshlab"]
        return subprocess.Popen(
            [sys.executable, *program, "--store", str(self.root.parent), *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        )

    def _kill(self, process: subprocess.Popen[bytes], reach: float, events: list[Any] | None = None) -> list[Any]:
        """Feed it, wait for its first answer if it is fed, then a moment; what it said by then."""
        assert process.stdout is not None
        first = b""
        if events is not None:
            threading.Thread(target=_feed, args=(process.stdin, events), daemon=True).start()
            first = process.stdout.readline()
        time.sleep(self.rng.uniform(0, reach))
        process.kill()
        lines = [first, *process.stdout.read().splitlines(keepends=True)]
        process.stdout.close()
        process.wait()
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}\n")]


def _feed(stdin: Any, events: list[Any]) -> None:
    try:
        with stdin:
            stdin.write(b"".join(json.dumps(one).encode() + b"\n" for one in events))
    except OSError:
        pass  # it was killed


def run(task: Task) -> None:
    """Kill commands; a new store every few rounds."""
    rng, outcome, shell = Random(task.seed), task.outcome, None
    for number in range(task.count):
        if shell is None or number % ROUNDS_PER_STORE == 0:
            shutil.rmtree(task.folder / "store", ignore_errors=True)
            shell = Shell(task.folder / "store" / UID, rng, task.broken)
        (kind,) = rng.choices(list(WEIGHTS), list(WEIGHTS.values())) if number else ["append"]
        before = len(outcome.failures)
        with outcome.round(f"round {number}, {kind}"):
            shell.round(kind)
        outcome.notes[kind] += 1
        if len(outcome.failures) > before:
            shell = None
