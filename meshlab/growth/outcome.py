"""One policy against the log of one user, and what cannot be known about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from meshlab.growth.calibration import Costs
from meshlab.growth.disk import Written, peak
from meshlab.growth.material import Material
from meshlab.growth.pile import Pile
from meshlab.growth.policies import Policy
from meshlab.growth.schedule import schedule
from meshlab.growth.sizes import Sizes
from meshlab.growth.trace import Trace, trace
from meshlab.snapshot.manifest import RETAIN_DAYS
from meshlab.tables.load import Log
from meshlab.wording import counted, size_text


class Outcome(NamedTuple):
    """What one policy comes to for one user: ``stops`` (events before it) and ``written`` for each checkpoint."""

    stops: Any
    written: list[Written]
    peak_wal: int
    peak_disk: int
    folded: int
    replay: float


def outcome(policy: Policy, material: Material, sizes: Sizes, retain_days: int = RETAIN_DAYS) -> Outcome:
    """One policy against one trace."""
    found = material.trace
    stops = schedule(policy, material)
    pile = Pile(material, sizes)
    pile.run(*material.stretches(stops))
    bounds = np.concatenate([[0], stops, [len(found)]]).astype(np.int64)
    return Outcome(
        stops,
        pile.written,
        int(np.diff(found.ends[bounds]).max()),
        peak(found, material.segments, stops, pile.held, pile.written, retain_days),
        int(found.ends[bounds[-2]]),
        float(np.diff(material.seconds[bounds]).max()),
    )


class Figures(NamedTuple):
    """What one policy comes to, in numbers that can be put together over users."""

    checkpoints: int = 0
    per_day: float = 0.0
    peak_wal: int = 0
    peak_disk: int = 0
    written: int = 0
    folded: int = 0
    idle: int = 0
    replay: float = 0.0

    @classmethod
    def of(cls, found: Outcome, days: float, users: int) -> Figures:
        """Those of an outcome, for so many users like this one."""
        count = len(found.stops)
        written = sum(one.total for one in found.written)
        sums = count, count / days, found.peak_wal, found.peak_disk, written, found.folded, not count
        return cls._make([*(value * users for value in sums), found.replay])

    @classmethod
    def joined(cls, several: Iterable[Figures]) -> Figures:
        """Sums, and the worst replay."""
        *columns, replays = zip(cls(), *several)
        return cls._make([*map(sum, columns), max(replays)])


class UserOutcome(NamedTuple):
    """What comes of one user: figures for each policy, and what the trace could not tell."""

    figures: list[Figures]
    events: int
    days: float
    spare: int
    damage: int
    begun: bool


class Case(NamedTuple):
    """All that is tried, and what it is reckoned with; goes to other processes as it is."""

    policies: Sequence[Policy]
    sizes: Sizes
    costs: Costs
    retain_days: int = RETAIN_DAYS
    users: int = 1
    recalls: int = 1

    def against(self, source: Trace | Log) -> UserOutcome:
        """Every policy against one user; a log is read here."""
        found = trace(source) if isinstance(source, Log) else source
        scaled = found.scaled(users=self.users, recalls=self.recalls)
        told = len(found), found.span_days, found.spare_bytes, found.damage, found.begun
        if not len(found):
            return UserOutcome([Figures(peak_disk=found.spare_bytes)] * len(self.policies), *told)
        material = Material(scaled, self.sizes, self.costs)
        outcomes = (outcome(policy, material, self.sizes, self.retain_days) for policy in self.policies)
        return UserOutcome([Figures.of(one, scaled.span_days, scaled.copies) for one in outcomes], *told)


def notes(case: Case, outcomes: Sequence[UserOutcome]) -> list[str]:
    """What a simulation could not know, one sentence each."""
    days = max((one.days for one in outcomes), default=0.0)
    spare = sum(one.spare for one in outcomes)
    damage = sum(one.damage for one in outcomes)
    later = sum(not one.begun for one in outcomes)
    told = {
        "There are no events: nothing was simulated.": not any(one.events for one in outcomes),
        f"The longest log spans {days:.1f} days: what a policy does over weeks does not show in it.": 0 < days < 7,
        f"No log is as long as the retention of {case.retain_days} days, so vacuum frees nothing and the disk "
        "goes on growing behind what was simulated.": 0 < days < case.retain_days,
        f"{size_text(spare)} of the logs are no events (rejects, blank lines, an open tail): when they came is not "
        "known, so they count for the disk only.": spare > 0,
        f"{counted(damage, 'damaged or missing piece')}: real checkpoints stop there until they are accepted.": damage
        > 0,
        f"{counted(later, 'log does', 'logs do')} not begin with the first event: records from before are counted, "
        "as far as the snapshot tells, without their contents.": later > 0,
        f"This is no log there is, but one with {case.users} times the users.": case.users > 1,
        f"This is no log there is, but one with {case.recalls} times the recalls.": case.recalls > 1,
    }
    return [sentence for sentence, holds in told.items() if holds]
