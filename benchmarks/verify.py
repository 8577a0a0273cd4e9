"""Verification: its speed, and the most memory it takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.inputs import Inputs
from benchmarks.measure import Figure, interleave, timed
from benchmarks.report import Bound, Row

SPEED_FLOOR, SPEED_AIM = Bound(100.0), Bound(400.0)
PEAK_FLOOR = Bound(500.0, most=True)
MEGABYTES = "{:,.0f} MB"

_PROGRAM = """
import resource, sys
import meshlab
found = meshlab.open(sys.argv[1])[sys.argv[2]].verify(progress=False)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(found.events, len(found.rejects), peak)
"""


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    user = inputs.user
    user.verify(progress=False)
    figures = interleave({"verify": timed(lambda: user.verify(progress=False))}, rounds)
    size = inputs.log.stat().st_size / 1e6
    speed = Figure(*[size / seconds for seconds in figures["verify"]])
    shown = f"{speed.median:,.0f} MB/s ({speed.high:,.0f}-{speed.low:,.0f})"
    return [
        Row("verify, speed", shown, "-", speed.median, "{:,.0f} MB/s", SPEED_FLOOR, SPEED_AIM),
        peak_row(inputs.store.path, user.uid, f"verify, peak memory, {size:,.0f} MB", inputs.events),
    ]


def peak_row(store: Path, uid: str, work: str, events: int) -> Row:
    """The resident memory of a Python process that does nothing but verify one log; all must be found good."""
    command = [sys.executable, "-c", _PROGRAM, str(store), uid]
    found, rejects, peak = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    if (found, rejects) != (events, 0):
        raise SystemExit(f"{work}: expected {events} events and no reject, found {found} and {rejects}")
    return Row(work, MEGABYTES.format(peak / 1e6), "-", peak / 1e6, MEGABYTES, PEAK_FLOOR)
