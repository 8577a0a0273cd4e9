"""What was measured, kept beside the page, so that one piece of work can be measured again alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import Bound, Row


@dataclass(frozen=True)
class Result:
    """The rows of one piece of work, and how they were made."""

    name: str
    command: str
    day: str
    events: int
    rounds: int
    load: float
    rows: Sequence[Row] = field(default=())

    @property
    def made(self) -> str:
        """In words.

        >>> Result("load", "python -m benchmarks", "2026-01-31", 1_000_000, 3, 0.21).made
        '`python -m benchmarks`, 2026-01-31, 1,000,000 events, 3 rounds, load before 0.2'
        """
        return (
            f"`{self.command}`, {self.day}, {self.events:,} events, {self.rounds} rounds, load before {self.load:.1f}"
        )

    @property
    def headlines(self) -> list[Row]:
        """The first row that compares, and all below their floor."""
        first = [row for row in self.rows if row.instead != "-"][:1] or list(self.rows[:1])
        return [row for row in self.rows if row in first or (row.floor is not None and not row.floor.holds(row.value))]


@dataclass(frozen=True)
class Kept:
    """All results by the name of the work, and the machine they were made on, in words."""

    machine: dict[str, str]
    results: dict[str, Result]


def read(path: Path) -> Kept:
    """What was kept; nothing when there is no such file."""
    if not path.exists():
        return Kept({}, {})
    told = json.loads(path.read_text(encoding="utf-8"))
    return Kept(told["machine"], {entry["name"]: _result(entry) for entry in told["results"]})


def write(path: Path, kept: Kept) -> None:
    """Keep it."""
    told = {"machine": kept.machine, "results": [asdict(result) for result in kept.results.values()]}
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _result(entry: dict[str, Any]) -> Result:
    return Result(**{**entry, "rows": [_row(row) for row in entry["rows"]]})


def _row(row: dict[str, Any]) -> Row:
    bounds = {name: Bound(*row[name]) if row[name] else None for name in ("floor", "aim")}
    return Row(**{**row, **bounds})
