"""Verification: its speed, and the most memory it takes, in a process of its own."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.inputs import Inputs
from benchmarks.measure import Figure, interleave, timed
from benchmarks.report import SPEED, Bound, Row, seconds
from benchmarks.sqlite import open_log

SPEED_FLOOR, SPEED_AIM = Bound(100.0), Bound(400.0)
PEAK_FLOOR = Bound(500.0, most=True)
MEGABYTES = "{:,.0f} MB"

_PROGRAM = """
import sys
import meshlab
from benchmarks.verify import peak_memory
found = meshlab.open(sys.argv[1])[sys.argv[2]].verify(progress=False)
print(found.events, len(found.rejects), peak_memory())
"""


def measure(inputs: Inputs, rounds: int) -> list[Row]:
    user = inputs.user
    user.verify(progress=False)
    database = _sqlite_of(inputs)
    contenders = {
        "verify": timed(lambda: user.verify(progress=False)),
        "MD5": timed(lambda: _md5(inputs.log)),
        "SQLite": timed(lambda: _integrity_check(database)),
    }
    figures = interleave(contenders, rounds)
    size = inputs.log.stat().st_size / 1e6
    speed = Figure(*[size / seconds for seconds in figures["verify"]])
    shown = f"{speed.median:,.0f} MB/s ({speed.high:,.0f}-{speed.low:,.0f})"
    return [
        Row("verify, speed", shown, "-", speed.median, "{:,.0f} MB/s", SPEED_FLOOR, SPEED_AIM),
        _row(figures, "MD5", "MD5 of the whole file"),
        _row(figures, "SQLite", "SQLite, pragma integrity_check of the same records"),
        peak_row(inputs.store.path, user.uid, f"verify, peak memory, {size:,.0f} MB", inputs.events),
    ]


def _row(figures: dict[str, Figure], name: str, shown: str) -> Row:
    ours, theirs = figures["verify"], figures[name]
    return Row("verify", seconds(ours), f"{shown} {seconds(theirs)}", theirs.median / ours.median, SPEED)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _sqlite_of(inputs: Inputs) -> Path:
    """A database with a row for every line of the log."""
    path = inputs.scratch("verify") / "log.db"
    connection = open_log(path)
    connection.execute("begin")
    with open(inputs.log, encoding="utf-8") as lines:
        connection.executemany("insert into log (op, record) values ('', ?)", ((line,) for line in lines))
    connection.execute("commit")
    connection.close()
    return path


def _integrity_check(path: Path) -> None:
    connection = open_log(path)
    try:
        if connection.execute("pragma integrity_check").fetchone() != ("ok",):
            raise SystemExit(f"verify: SQLite finds {path} damaged")
    finally:
        connection.close()


def peak_row(store: Path, uid: str, work: str, events: int) -> Row:
    """The resident memory of a Python process that does nothing but verify one log; all must be found good."""
    command = [sys.executable, "-c", _PROGRAM, str(store), uid]
    found, rejects, peak = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    if (found, rejects) != (events, 0):
        raise SystemExit(f"{work}: expected {events} events and no reject, found {found} and {rejects}")
    return Row(work, MEGABYTES.format(peak / 1e6), "-", peak / 1e6, MEGABYTES, PEAK_FLOOR)


def peak_memory() -> int:
    """The largest resident set of this process, in bytes.

    Linux lets a child start with the ``ru_maxrss`` of the parent it was forked from, which
    here has loaded the log with pandas; ``VmHWM`` belongs to the program alone.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
