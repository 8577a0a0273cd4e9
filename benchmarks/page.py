"""``docs/benchmarks.md``, and the short table of the README."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contenders import DESCRIPTIONS, REMARKS
from benchmarks.limits import LIMITS
from benchmarks.report import HEAD, markdown_table
from benchmarks.results import Kept, Result

CONTENDER_HEAD = ("contender", "what it delivers", "what it does not do")
SHORT = ("work", "meshlab", "instead", "ratio", "verdict")
TITLES = {
    "load": "Load a log, verified",
    "sealed": "Load from sealed copies",
    "verify": "Verify",
    "append": "Append",
    "threads": "Append from many threads",
    "batch": "Append in batches",
    "open": "A large segment",
    "replay": "Replay",
    "checkpoint": "Checkpoints and states",
    "migrate": "Migrate",
    "growth": "Growth",
    "widgets": "Explorer",
    "remote": "Object store",
    "http": "Over HTTP",
    "fleet": "Many users",
    "scaling": "Cost against size",
}
"""The pieces of work in the order of the page."""

FIGURES = {
    "scaling": "![Seconds of each piece of work against the events of the log, both on logarithmic scales, "
    "with fitted slopes](images/scaling.png)"
}


def page(kept: Kept) -> str:
    """The whole page."""
    results = [kept.results[name] for name in TITLES if name in kept.results]
    parts = [
        "# Benchmarks",
        "meshlab beside what one would do instead: every table in one run, on the same log, in interleaved rounds; the "
        "median and, in brackets, the lowest and the highest. `python -m benchmarks` measures all, `--only NAME` one "
        "piece of work, and writes this page.",
        *(part for result in results for part in _section(result)),
        "## What is left between us and the limit",
        LIMITS,
        "## What each contender does",
        markdown_table(CONTENDER_HEAD, DESCRIPTIONS),
        "## How to read the tables",
        "\n".join(f"- {remark}" for remark in REMARKS),
        "## Machine",
        markdown_table(("what", "value"), kept.machine.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _section(result: Result) -> list[str]:
    table = markdown_table(HEAD, (row.cells() for row in result.rows))
    figure = [FIGURES[result.name]] if result.name in FIGURES else []
    return [f"## {TITLES[result.name]}", f"`{result.name}`: {result.made}.", *figure, table]


def short_table(kept: Kept) -> str:
    """One row for each piece of work, and every row below its floor."""
    rows = (row for name in TITLES if name in kept.results for row in kept.results[name].headlines)
    return markdown_table(SHORT, (_without_bounds(row.cells()) for row in rows))


def _without_bounds(cells: Sequence[str]) -> Sequence[str]:
    work, ours, instead, ratio, _, _, verdict = cells
    return work, ours, instead, ratio, verdict
