"""Run the benchmarks: ``python -m benchmarks [--events N] [--rounds N] [--only load,verify,...]``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import (
    append,
    batches,
    checkpoint,
    fleet,
    growth,
    http,
    load,
    machine,
    migrate,
    opening,
    remote,
    replay,
    results,
    scaling,
    threads,
    verify,
    widgets,
)
from benchmarks.inputs import Inputs
from benchmarks.measure import tell
from benchmarks.page import TITLES, page, short_table
from benchmarks.report import HEAD, Row, markdown_table, put_between_marks
from benchmarks.results import Kept, Result

Measure = Callable[[Inputs, int], list[Row]]

WORK: dict[str, Measure] = {
    "load": load.measure,
    "sealed": load.measure_sealed,
    "verify": verify.measure,
    "append": append.measure,
    "threads": threads.measure,
    "batch": batches.measure,
    "open": opening.measure,
    "replay": replay.measure,
    "checkpoint": checkpoint.measure,
    "migrate": migrate.measure,
    "growth": growth.measure,
    "widgets": widgets.measure,
    "remote": remote.measure,
    "http": http.measure,
    "fleet": fleet.measure,
    "scaling": scaling.measure,
}
assert list(WORK) == list(TITLES)


def main() -> None:
    """Measure what was chosen; write it into the page after each piece, so that a run that is broken off keeps it."""
    options = _options()
    inputs = Inputs(options.folder, options.events)
    options.folder.mkdir(parents=True, exist_ok=True)
    described = machine.describe(options.folder)
    inputs.build()
    inputs.warm()
    kept = results.read(options.out.with_suffix(".json"))
    for result in run(options.only, inputs, options.rounds):
        print(markdown_table(HEAD, (row.cells() for row in result.rows)), flush=True)
        kept.results[result.name] = result
        _write(options, Kept(described, kept.results))
    tell(f"written: {options.out}")


def run(chosen: Sequence[str], inputs: Inputs, rounds: int) -> Iterator[Result]:
    """Measure the chosen pieces of work, in the order of the page."""
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    for name in WORK:
        if name in chosen:
            tell(f"{name}:")
            busy = os.getloadavg()[0]
            try:
                rows = WORK[name](inputs, rounds)
            finally:
                inputs.remove_scratch()
            yield Result(name, command, f"{datetime.now(UTC):%Y-%m-%d}", inputs.events, rounds, busy, rows)


def _write(options: argparse.Namespace, kept: Kept) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results.write(options.out.with_suffix(".json"), kept)
    options.out.write_text(page(kept), encoding="utf-8")
    if options.readme is not None:
        put_between_marks(options.readme, short_table(kept))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="meshlab beside its alternatives")
    parser.add_argument("--events", type=int, default=1_000_000, help="events in the log (default: a million)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the page shows their median (default: 3)")
    parser.add_argument("--only", type=_names, default=list(WORK), help=f"some of {','.join(WORK)}")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"), help="where the page is written")
    parser.add_argument("--readme", type=Path, help="a file in which the table between the marks is replaced")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="where the log is built and kept")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in WORK:
            raise argparse.ArgumentTypeError(f"there is no {name!r}; choose from {', '.join(WORK)}")
    return names


if __name__ == "__main__":
    main()
