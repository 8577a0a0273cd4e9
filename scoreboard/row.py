"""A row of the scoreboard, and what came of running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Enough(Exception):
    """Raised to end the run of a broken twin, which has to fail once."""


@dataclass
class Outcome:
    """How many rounds were checked, which failed and why, and what is worth telling.

    >>> outcome = Outcome()
    >>> for number in range(3):
    ...     with outcome.round(f"round {number}"):
    ...         assert number != 1, "an odd one"
    >>> outcome.checked, outcome.failures
    (3, ['round 1: AssertionError: an odd one'])
    """

    checked: int = 0
    failures: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    once: bool = False
    """Whether the first failure ends the run."""

    @contextmanager
    def round(self, label: object, count: int = 1) -> Iterator[None]:
        """Count a round; whatever it raises is a failure of the round, not of the board."""
        self.checked += count
        try:
            yield
        except Exception as error:
            told = str(error).split("\n")[0][:200]
            self.failures.append(f"{label}: {type(error).__name__}: {told}")
            if self.once:
                raise Enough from None

    def add(self, other: Outcome) -> Outcome:
        """Both together."""
        return Outcome(self.checked + other.checked, self.failures + other.failures, self.notes + other.notes)

    @property
    def detail(self) -> str:
        """The notes in words."""
        return ", ".join(f"{name} {count:,}" for name, count in sorted(self.notes.items()) if count)


class Task(NamedTuple):
    """What a run is told: how many rounds, the seed, a folder of its own, and whether the twin runs.

    It notes in ``outcome`` what comes of it.
    """

    count: int
    seed: int
    folder: Path
    broken: bool
    outcome: Outcome


class Row(NamedTuple):
    """One promise: its name, in words, how it is tried, how often, and how its twin is broken.

    ``parts`` is how many processes the full count may be spread over.  ``count`` and
    ``quick`` are rounds; a row of few possible rounds runs as many as there are.
    """

    name: str
    promise: str
    run: Callable[[Task], None]
    twin: str
    count: int
    quick: int
    control: int = 0
    parts: int = 1
