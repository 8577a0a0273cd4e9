"""Run the scoreboard: ``python -m scoreboard [--quick] [--scale X] [--only NAME,...] [--seed N] [--jobs N]``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from scoreboard.board import EVERY, ROWS, Result, rows_of, run
from scoreboard.page import cells, page, shortfall, table
from scoreboard.row import Row

SEED = 20250707
SHORT = ("row", "rounds", "seconds", "failures", "control", "verdict")


def main() -> int:
    """Run, print, write; the exit code."""
    options = _options()
    rows = rows_of(options.only)
    counts = {row.name: _count(row, options) for row in rows}
    results: list[Result] = []
    began = time.monotonic()
    for result in run(rows, counts, options.seed, options.jobs):
        results = sorted([*results, result], key=lambda one: rows.index(one.row))
        _tell(result)
        if options.out is not None:  # after each row: a board that is broken off has told something
            command = " ".join(["python -m scoreboard", *sys.argv[1:]])
            remark = _remark(results, time.monotonic() - began, options.jobs)
            options.out.write_text(page(results, command, remark), "utf-8")
    _say(table([_short(result) for result in results], SHORT))
    return int(not all(result.green for result in results))


def _count(row: Row, options: argparse.Namespace) -> int:
    if options.quick:
        return row.quick
    return max(row.quick, int(row.count * options.scale)) if row.count != EVERY else min(EVERY, options.points)


def _remark(results: list[Result], seconds: float, jobs: int) -> str:
    short = shortfall(results)
    told = f"{datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.0f} minutes, {jobs} processes on {os.cpu_count()} cores, "
    told += f"{platform.system()} {platform.machine()}, Python {platform.python_version()}."
    return told + (f" Fewer rounds than the full board: {', '.join(short)}." if short else " All counts in full.")


def _short(result: Result) -> list[str]:
    name, _, rounds, _, seconds, failures, twin, control, verdict = cells(result)
    return [name, rounds, seconds, failures, f"{twin}: {control}", verdict]


def _tell(result: Result) -> None:
    _say(f"{result.row.name}: {result.verdict}, {result.outcome.checked:,} rounds in {result.seconds:,.0f} s")
    for failure in result.outcome.failures[:5]:
        _say(f"  {failure}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scoreboard", description="every promise as a figure")
    names = [row.name for row in ROWS]
    parser.add_argument("--quick", action="store_true", help="a slice of each row, as in make test; writes no page")
    parser.add_argument("--scale", type=float, default=1.0, help="this part of every count (default: all)")
    parser.add_argument("--points", type=int, default=EVERY, help="at most so many faults at file operations per row")
    parser.add_argument("--only", type=_names, default=names, help=f"some of {','.join(names)}")
    parser.add_argument("--seed", type=int, default=SEED, help=f"(default: {SEED})")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument("--out", type=Path, help="where the page is written (default: docs/scoreboard.md for a board)")
    options = parser.parse_args()
    if options.out is None and not options.quick and options.only == names:
        options.out = Path("docs/scoreboard.md")
    return options


def _names(text: str) -> list[str]:
    names, known = text.split(","), [row.name for row in ROWS]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no {name!r}; choose from {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
