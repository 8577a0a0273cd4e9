"""Rejects on their way to a person: counted by class on stderr, listed as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from meshlab.cli.output import Row, say
from meshlab.wording import counted

HARMLESS = frozenset({"torn"})
"""Classes a crash alone explains: nothing acknowledged is missing."""

MAX_RAW = 120
"""Bytes of a reject that a listing shows."""


def report(kinds: Iterable[str]) -> bool:
    """Say how many rejects and findings there are, by class; returns whether they are damage."""
    counts = Counter(kinds)
    if counts:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
        say(f"rejects and findings: {listed} ('meshlab verify' shows where)")
    return is_damage(counts)


def say_damage(count: int) -> None:
    """Say how many damaged pieces there are, if any."""
    if count:
        say(f"the logs read hold {counted(count, 'damaged piece')} ('meshlab verify' shows where)")


def is_damage(kinds: Iterable[str]) -> bool:
    """Whether any class among these is more than a torn tail."""
    return not HARMLESS.issuperset(kinds)


def reject_row(uid: str, reject: Any) -> Row:
    """A reject of ``meshlab.wal`` as a row."""
    return {
        "uid": uid,
        "segment": reject.segment,
        "line": reject.line,
        "offset": reject.offset,
        "nbytes": reject.nbytes,
        "class": reject.kind,
        "reason": reject.reason,
        "raw": reject.raw[:MAX_RAW].decode("utf-8", "backslashreplace"),
    }
