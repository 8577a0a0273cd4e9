"""Random histories of one user, step by step beside a dict that says what they mean."""

from __future__ import annotations

import shutil
from random import Random

from meshlab.testing.forgetful import ForgetfulFiles
from meshlab.testing.machine import LogMachine
from scoreboard.row import Task
from scoreboard.twins import NoDirectorySync, NoFileSync

STEPS = 50
"""Steps of one history."""


def run(task: Task) -> None:
    """History after history; the twins leave out the syncs of files, or those of directories."""
    outcome, rng = task.outcome, Random(task.seed)
    while outcome.checked < task.count:
        seed, steps = rng.randrange(1 << 32), min(STEPS, task.count - outcome.checked)
        twin = (NoFileSync, NoDirectorySync)[seed % 2]
        folder = task.folder / "history"
        folder.mkdir()
        with outcome.round(f"history of seed {seed}", steps):
            machine = LogMachine(folder / "u", seed, twin() if task.broken else ForgetfulFiles())
            machine.run(steps)
            machine.check()
            outcome.notes.update(machine.done)
        shutil.rmtree(folder)
