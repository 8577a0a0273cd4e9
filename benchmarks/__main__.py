"""Run the benchmarks: ``python -m benchmarks [--events N] [--rounds N] [--only load,verify,...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import (
    append,
    batches,
    checkpoint,
    contenders,
    fleet,
    growth,
    http,
    load,
    machine,
    migrate,
    opening,
    remote,
    replay,
    threads,
    verify,
    widgets,
)
from benchmarks.inputs import Inputs
from benchmarks.measure import tell
from benchmarks.report import HEAD, Row, markdown_table, page, put_between_marks

Measure = Callable[[Inputs, int], list[Row]]

WORK: dict[str, Measure] = {
    "load": load.measure,
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
}
"""In the order of the table."""


def main() -> None:
    options = _options()
    inputs = Inputs(options.folder, options.events)
    options.folder.mkdir(parents=True, exist_ok=True)
    described = machine.describe(options.folder)
    inputs.build()
    inputs.warm()
    try:
        rows = run(options.only, inputs, options.rounds)
    finally:
        inputs.remove_scratch()
    table = markdown_table(HEAD, (row.cells() for row in rows))
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    summary = _summary(inputs, options.rounds)
    print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = page(rows, contenders.DESCRIPTIONS, described, command, summary, contenders.REMARKS)
    options.out.write_text(text, encoding="utf-8")
    if options.readme is not None:
        put_between_marks(options.readme, f"`{command}`: {summary}\n\n{table}")
    tell(f"written: {options.out}")


def run(chosen: Sequence[str], inputs: Inputs, rounds: int) -> list[Row]:
    """Measure the chosen pieces of work, in the order of the table."""
    rows = []
    for name, measure in WORK.items():
        if name in chosen:
            tell(f"{name}:")
            rows += measure(inputs, rounds)
    return rows


def _summary(inputs: Inputs, rounds: int) -> str:
    size = inputs.log.stat().st_size / 1e6
    return (
        f"One log of {inputs.events:,} events, {size:,.0f} MB, single-line frames; {datetime.now(UTC):%Y-%m-%d}; "
        f"median of {rounds} interleaved rounds (lowest-highest), page cache warm."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="meshlab beside its alternatives")
    parser.add_argument("--events", type=int, default=1_000_000, help="events in the log (default: a million)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the table shows their median (default: 5)")
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
