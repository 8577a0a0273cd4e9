"""Which users to checkpoint next: pure functions over numbers that cost no read of a log.

    due       any of bytes, events, age or predicted replay seconds is over its threshold
    benefit   (reclaimable bytes + WORTH · replay seconds saved) / bytes written
    score     benefit + waited / AGING, the order in which due users are served
    budget    a token bucket of bytes written; the first in the order who does not fit
              stops the choice, so that small ones cannot keep it empty for ever
    back-off  min(ceiling, base · 2^(failures - 1)), less up to a quarter, by uid

Times are seconds.  ``now`` is always given; nothing here looks at a clock or a disk.

>>> busy = Backlog("ann", unfolded=80_000_000, closed=60_000_000, oldest=0.0)
>>> idle = Backlog("bob", unfolded=4_000, closed=0, oldest=90_000.0)
>>> [reasons(log, Thresholds(), Rates(), now=100_000.0) for log in (busy, idle)]
[('bytes', 'events', 'age'), ()]
>>> [ranked.uid for ranked in rank([idle, busy], {}, Rates(), now=100_000.0)]
['ann', 'bob']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import md5
from typing import NamedTuple

MIB = 1 << 20
HOUR, DAY = 3_600.0, 86_400.0

WORTH = 32 * MIB
"""Bytes of disk that a second of replay is worth."""

AGING = HOUR
"""Seconds of waiting that count as much as one byte reclaimed per byte written."""

FIXED = 6 * 1024
"""Bytes the smallest checkpoint writes beside the manifest: the frame of one layer."""

JITTER = 0.25
"""The part of a back-off that is spread by uid."""

_LESSON = 64 * MIB
_LEAST = 4 * MIB
_FASTEST = 1e11


class Rates(NamedTuple):
    """What a byte of log costs, as measured: see ``learn``."""

    replay: float = 60.0 * MIB
    """Bytes of log folded per second."""

    event: float = 450.0
    """Bytes of log per event, for users whose manifest does not tell their own."""

    written: float = 0.6
    """Bytes written per byte of log folded, merges included."""


class Backlog(NamedTuple):
    """What one user's log holds beyond its newest checkpoint."""

    uid: str
    unfolded: int
    """Bytes of segments that no checkpoint has folded."""

    closed: int = 0
    """Those outside the newest segment: folding them is what lets vacuum delete."""

    oldest: float | None = None
    """When the oldest unfolded byte was written, at the earliest."""

    event_bytes: float | None = None
    """Bytes per event in what was folded so far."""

    manifest: int = 0
    """Bytes of the manifest, which every checkpoint writes anew."""


class Thresholds(NamedTuple):
    """A user who is over any of these is due; None switches one off."""

    bytes: float | None = 64.0 * MIB
    events: float | None = 100_000.0
    age: float | None = DAY
    replay: float | None = 2.0


class Ranked(NamedTuple):
    """One user in the order of service, with the numbers that put him there."""

    uid: str
    score: float
    benefit: float
    cost: int
    backlog: Backlog


class Bucket(NamedTuple):
    """Bytes that may be written: ``rate`` more each second, ``burst`` at most at once.

    Over any span of ``t`` seconds no more is taken than ``max(burst, largest single
    cost) + rate · t``.
    """

    rate: float
    burst: float
    tokens: float
    at: float


class Backoff(NamedTuple):
    """How long to leave a user alone who failed: from ``base`` doubling up to ``ceiling``."""

    base: float = 60.0
    ceiling: float = 6 * HOUR


BACKOFF = Backoff()


class Trouble(NamedTuple):
    """Failures of one user in a row, and when to try again."""

    failures: int = 0
    until: float = 0.0


# What a backlog comes to


def event_count(log: Backlog, rates: Rates) -> int:
    """Events in the backlog: ``unfolded / bytes per event``, the user's own if known.

    >>> event_count(Backlog("ann", 9_000, event_bytes=300.0), Rates())
    30
    """
    return round(log.unfolded / (log.event_bytes or rates.event))


def age(log: Backlog, now: float) -> float:
    """Seconds since the oldest unfolded byte; 0 when there is none, or it lies in the future."""
    return max(0.0, now - log.oldest) if log.unfolded and log.oldest is not None else 0.0


def replay_seconds(log: Backlog, rates: Rates) -> float:
    """Seconds that opening the user spends on the backlog: ``unfolded / replay rate``."""
    return log.unfolded / rates.replay


def write_bytes(log: Backlog, rates: Rates) -> int:
    """Bytes a checkpoint would write: ``FIXED + manifest + written · unfolded``."""
    return FIXED + log.manifest + round(rates.written * log.unfolded)


def reasons(log: Backlog, thresholds: Thresholds, rates: Rates, now: float) -> tuple[str, ...]:
    """The thresholds this user is over; he is due if there is any.

    >>> reasons(Backlog("ann", 10, oldest=0.0), Thresholds(age=60.0), Rates(), now=61.0)
    ('age',)
    """
    if not log.unfolded:
        return ()
    found = {
        "bytes": log.unfolded,
        "events": event_count(log, rates),
        "age": age(log, now),
        "replay": replay_seconds(log, rates),
    }
    limits = thresholds._asdict()
    return tuple(name for name, value in found.items() if limits[name] is not None and value > limits[name])


def learn(rates: Rates, *, folded: int, seconds: float, written: int) -> Rates:
    """The rates after one more checkpoint: each moves ``folded / (folded + 64 MiB)`` of the way to what was seen.

    Checkpoints of little are mostly fixed cost and teach nothing.

    >>> learn(Rates(replay=64e6, written=0.5), folded=64 * MIB, seconds=MIB / 1e6, written=FIXED)
    Rates(replay=64000000.0, event=450.0, written=0.25)
    """
    if folded < _LEAST or seconds < folded / _FASTEST:
        return rates
    weight = folded / (folded + _LESSON)
    return rates._replace(
        replay=rates.replay + weight * (folded / seconds - rates.replay),
        written=rates.written + weight * (max(0, written - FIXED) / folded - rates.written),
    )


# Who comes first


def benefit(log: Backlog, rates: Rates) -> float:
    """What a checkpoint gives per byte it writes: ``(closed + WORTH · seconds) / written``."""
    return (log.closed + WORTH * replay_seconds(log, rates)) / write_bytes(log, rates)


def rank(logs: Iterable[Backlog], waiting: Mapping[str, float], rates: Rates, now: float) -> list[Ranked]:
    """Due users in the order of service; ``waiting`` tells since when each is due.

    Who is served waits from the start again, so nobody is passed for longer than the
    difference in benefit is worth.  Equal scores are ordered by uid.
    """
    ranked = []
    for log in logs:
        worth = benefit(log, rates)
        waited = max(0.0, now - waiting.get(log.uid, now))
        ranked.append(Ranked(log.uid, worth + waited / AGING, worth, write_bytes(log, rates), log))
    return sorted(ranked, key=lambda one: (-one.score, one.uid))


# How much at once


def full_bucket(per_hour: float, now: float, burst: float | None = None) -> Bucket:
    """A bucket of so many bytes per hour, holding ``burst`` (a quarter of that) now.

    >>> full_bucket(7_200, now=0.0)
    Bucket(rate=2.0, burst=1800.0, tokens=1800.0, at=0.0)
    """
    size = per_hour / 4 if burst is None else burst
    return Bucket(per_hour / HOUR, size, size, now)


def refill(bucket: Bucket, now: float) -> Bucket:
    """The bucket at ``now``; a clock that went back adds nothing."""
    tokens = min(bucket.burst, bucket.tokens + bucket.rate * max(0.0, now - bucket.at))
    return bucket._replace(tokens=tokens, at=now)


def fits(bucket: Bucket, cost: float) -> bool:
    """Whether this much may be written now.

    What is larger than the bucket may when the bucket is full, and leaves a debt;
    otherwise it could never be written.

    >>> [fits(Bucket(1.0, 100.0, tokens, 0.0), cost) for tokens, cost in ((50, 51), (99, 500), (100, 500))]
    [False, False, True]
    """
    return cost <= bucket.tokens or bucket.tokens >= bucket.burst


def take(bucket: Bucket, cost: float) -> Bucket:
    """The bucket after writing so much; a negative cost gives back what was not needed."""
    return bucket._replace(tokens=min(bucket.burst, bucket.tokens - cost))


def choose(order: Sequence[Ranked], bucket: Bucket | None, slots: int) -> tuple[list[Ranked], Bucket | None]:
    """The first ``slots`` of the order that fit the budget, and the bucket after them.

    Nobody overtakes the first who does not fit: he is served when the bucket has filled.

    >>> small, large = (Ranked(uid, 1.0, 1.0, cost, Backlog(uid, 1)) for uid, cost in (("ann", 10), ("bob", 90)))
    >>> [[one.uid for one in choose(order, full_bucket(400, 0.0), 9)[0]] for order in ([small, large], [large, small])]
    [['ann', 'bob'], ['bob', 'ann']]
    >>> [[one.uid for one in choose(order, full_bucket(200, 0.0), 9)[0]] for order in ([small, large], [large, small])]
    [['ann'], ['bob']]
    """
    if bucket is None:
        return list(order[:slots]), None
    chosen: list[Ranked] = []
    for one in order[:slots]:
        if not fits(bucket, one.cost):
            break
        bucket = take(bucket, one.cost)
        chosen.append(one)
    return chosen, bucket


# After failures


def retry_delay(uid: str, failures: int, backoff: Backoff = BACKOFF) -> float:
    """Seconds to wait after so many failures in a row: ``min(ceiling, base · 2^(n-1)) · (1 - JITTER · u)``.

    ``u`` in [0, 1) comes from uid and count, so users who failed together do not come
    back together, and a test sees the same as the daemon.

    >>> 45 <= retry_delay("ann", 1) <= 60, 90 <= retry_delay("ann", 2) <= 120
    (True, True)
    """
    if failures < 1:
        return 0.0
    wait = min(backoff.ceiling, backoff.base * 2.0 ** min(failures - 1, 64))
    return wait * (1 - JITTER * spread(uid, failures))


def spread(uid: str, salt: int = 0) -> float:
    """A number in [0, 1) that is always the same for a uid and looks random among uids."""
    digest = md5(f"{salt}:{uid}".encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def after_failure(trouble: Trouble, uid: str, now: float, backoff: Backoff = BACKOFF) -> Trouble:
    """One more failure: when to try again."""
    failures = trouble.failures + 1
    return Trouble(failures, now + retry_delay(uid, failures, backoff))
