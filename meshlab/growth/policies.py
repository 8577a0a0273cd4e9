"""When to checkpoint a user: as soon as any of some limits is exceeded.

>>> Policy(bytes=64e6, age=86_400.0)
Policy('bytes=64MB,age=1d')
>>> read_policy("events=1000, replay=2", size=float, span=float)
Policy('events=1000,replay=2s')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product

from meshlab.errors import MeshlabError
from meshlab.wording import SPANS

Reader = Callable[[str], float | None]
"""Turns a size or a span of time, as people write it, into a number."""


@dataclass(frozen=True, repr=False)
class Policy:
    """Limits on what no checkpoint has folded; any that is exceeded makes one due, None is no limit.

    ``bytes`` of log, ``events``, ``age`` in seconds of the oldest event, ``replay``
    seconds that folding it takes.  ``str`` gives the text that ``policy`` reads.
    """

    bytes: float | None = None
    events: float | None = None
    age: float | None = None
    replay: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.limits.items():
            if not value > 0:
                raise MeshlabError(f"a policy with {name}={value:g} is none", hint="a limit is more than 0")

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in pairs if value is not None}

    def __str__(self) -> str:
        return ",".join(f"{name}={_TEXTS[name](value)}" for name, value in self.limits.items()) or "never"

    def __repr__(self) -> str:
        return f"Policy('{self}')"


def _size(value: float) -> str:
    """A number of bytes, exactly, in the largest unit that fits.

    >>> _size(64e6), _size(64 << 20), _size(1.5e9), _size(1000.5)
    ('64MB', '64MiB', '1.5GB', '1000.5')
    """
    units = {**{f"{letter}B": 1000.0**power for power, letter in _POWERS}}
    units |= {f"{letter.upper()}iB": 1024.0**power for power, letter in _POWERS}
    return _exactly(value, units)


def _span(value: float) -> str:
    """Seconds, exactly, in the largest unit that fits.

    >>> _span(86_400), _span(5400), _span(0.25)
    ('1d', '1.5h', '0.25s')
    """
    return _exactly(value, SPANS) if value >= 1 else f"{value!r}s"


def _exactly(value: float, units: Mapping[str, float]) -> str:
    """A number in the largest unit in which it has at most one digit behind the point, else as it is."""
    for name, unit in sorted(units.items(), key=lambda pair: -pair[1]):
        tenths = 10 * value / unit
        if value >= unit and tenths == int(tenths):
            return f"{tenths / 10:g}{name}"
    return f"{value:.15g}"


_POWERS = ((3, "G"), (2, "M"), (1, "k"))
_TEXTS: dict[str, Callable[[float], str]] = {
    "bytes": _size,
    "events": lambda value: f"{value:.15g}",
    "age": _span,
    "replay": _span,
}


def read_policy(text: str, *, size: Reader, span: Reader) -> Policy:
    """The policy of a text such as ``bytes=64MB,age=24h``; ``never`` is the one without limits.

    ``size`` and ``span`` read the values.  Raises ``MeshlabError`` for anything else, and
    what the readers raise.
    """
    readers = {"bytes": size, "events": _count, "age": span, "replay": span}
    limits: dict[str, float | None] = {}
    for part in text.split(",") if text.strip() != "never" else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in readers or name in limits:
            raise MeshlabError(
                f"{part.strip()!r} is no limit of a policy",
                hint=f"give some of {', '.join(readers)}, each once, such as bytes=64MB,age=24h",
            )
        limits[name] = readers[name](value)
    return Policy(**limits)


def _count(text: str) -> float:
    try:
        return float(text.replace("_", ""))
    except ValueError:
        raise MeshlabError(f"{text!r} is no number of events", hint="give a number, such as 100000") from None


def candidates(nbytes: int = 1_000_000_000, events: int = 2_000_000) -> list[Policy]:
    """About fifty policies worth comparing for a log of so many bytes and events.

    Sizes and counts go in steps of about two from the whole log down to a 200th, ages
    from an hour to two weeks, replay seconds from a quarter to ten; then combinations of
    some of them.
    """
    sizes = [Policy(bytes=value) for value in _steps(nbytes, 1e4)]
    counts = [Policy(events=value) for value in _steps(events, 100)]
    ages = [Policy(age=hours * 3600.0) for hours in (1, 3, 6, 12, 24, 48, 96, 168, 336)]
    replays = [Policy(replay=seconds) for seconds in (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)]
    both = [replace(size, age=age.age) for size, age in product(sizes[1:6:2], ages[2:7:2])]
    quick = [replace(size, replay=slow.replay) for size, slow in product(sizes[0:5:2], replays[1:4])]
    return [*sizes, *counts, *ages, *replays, *both, *quick]


def _steps(largest: float, least: float) -> list[float]:
    """Round numbers up to the largest, falling: 1, 2 and 5 times powers of ten.

    >>> _steps(2_500_000, 100)[:4], len(_steps(2_500_000, 100))
    ([2000000.0, 1000000.0, 500000.0, 200000.0], 7)
    """
    found = [digit * 10.0**power for power, digit in product(range(12, 0, -1), (5, 2, 1))]
    return [value for value in found if max(least, largest / 200) <= value <= max(least, largest)][:_MOST]


_MOST = 8
