"""RFC 3339 times as microseconds since 1970 (UTC).

The text that was written is the data; the number is a projection of it.  A time
without zone means UTC; digits after the sixth are cut, not rounded; a leap second
(``:60``) is no time here.

>>> parse_time("2025-07-07T08:00:00.137Z")
1751875200137000
>>> parse_time("2025-07-07T10:00:00.137+02:00") == parse_time("2025-07-07T08:00:00.137")
True
>>> parse_time("yesterday") is None
True
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

import numpy as np

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?(?:([Zz])|([+-])(\d\d):?(\d\d))?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(text: str) -> int | None:
    """Microseconds since 1970 of an RFC 3339 text, or None when it is no time."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, zone_h, zone_m = match.groups()
    try:
        zone = UTC
        if sign:
            shift = timedelta(hours=int(zone_h), minutes=int(zone_m))
            if int(zone_m) > 59:
                return None
            zone = timezone(shift if sign == "+" else -shift)
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=zone)
    except ValueError:
        return None
    micros = int((fraction or "0").ljust(6, "0")[:6])
    return (moment - _EPOCH) // timedelta(seconds=1) * SECOND + micros


def format_time(micros: int) -> str:
    """The one form meshlab writes: 27 characters, microseconds, ``Z``.

    >>> format_time(1751875200137000)
    '2025-07-07T08:00:00.137000Z'
    """
    seconds, rest = divmod(micros, SECOND)
    return f"{_second(seconds)}.{rest:06d}Z"


def to_datetime(micros: int) -> datetime:
    """A moment as an aware datetime in UTC.

    >>> to_datetime(1751875200137000).isoformat()
    '2025-07-07T08:00:00.137000+00:00'
    """
    return _EPOCH + timedelta(microseconds=micros)


def from_datetime(moment: datetime) -> int:
    """Microseconds since 1970 of a datetime; one without a zone means UTC."""
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    """The text of a whole second; writers ask for the same one many times."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


@lru_cache(maxsize=64)
def midnight(day: str) -> int:
    """Microseconds since 1970 at the start of a ``YYYYMMDD`` day in UTC.

    >>> format_time(midnight("20250707"))
    '2025-07-07T00:00:00.000000Z'
    """
    return (date(int(day[:4]), int(day[4:6]), int(day[6:])) - date(1970, 1, 1)).days * DAY


def day_of(micros: int) -> str:
    """The ``YYYYMMDD`` day, in UTC, of a moment.

    >>> day_of(1751875200137000)
    '20250707'
    """
    return _day(micros // DAY)


@lru_cache(maxsize=16)
def _day(number: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat().replace("-", "")


def parse_canonical(text: Any) -> tuple[Any, Any]:
    """Times of an ``(n, 27)`` byte matrix in the form of ``format_time``, vectorised.

    Returns ``(micros, good)``: int64 and a mask of the rows that have that exact form
    and name a real moment; the others need ``parse_time``.

    >>> rows = np.frombuffer(b"2025-07-07T08:00:00.137000Z", np.uint8).reshape(1, 27)
    >>> parse_canonical(rows)
    (array([1751875200137000]), array([ True]))
    """
    if len(text) < _FEW:
        return _parse_few(text)
    columns = np.ascontiguousarray(text.T)
    digits = columns - 48  # what stands before the digits wraps around
    good = np.ones(len(text), bool)
    for column, char in _MARKS:
        good &= columns[column] == char
    for column in _DIGIT_COLUMNS:
        good &= digits[column] <= 9
    numbers = {name: _number(digits, columns) for name, columns in _NUMBERS.items()}
    good &= (numbers["hour"] <= 23) & (numbers["minute"] <= 59) & (numbers["second"] <= 59)
    days, real = _dates(numbers["year"], numbers["month"], numbers["day"])
    seconds = (numbers["hour"] * 60 + numbers["minute"]) * 60 + numbers["second"]
    return days * DAY + seconds * np.int64(SECOND) + numbers["micros"], good & real


_FEW = 100
"""Rows from which columns are faster than plain Python."""


def _parse_few(text: Any) -> tuple[Any, Any]:
    data, width = text.tobytes(), text.shape[1]
    found = [_canonical(data[at : at + width]) for at in range(0, len(data), width)]
    good = np.array([micros is not None for micros in found], bool)
    return np.array([micros or 0 for micros in found], np.int64), good


def _canonical(text: bytes) -> int | None:
    match = _CANONICAL.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, micros = map(int, match.groups())
    if hour > 23 or minute > 59 or second > 59:
        return None
    try:
        days = date(year, month, day).toordinal() - _FIRST_DAY
    except ValueError:
        return None
    return days * DAY + ((hour * 60 + minute) * 60 + second) * SECOND + micros


_CANONICAL = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{6})Z")
_FIRST_DAY = date(1970, 1, 1).toordinal()
_MARKS = ((4, 45), (7, 45), (10, 84), (13, 58), (16, 58), (19, 46), (26, 90))
_NUMBERS = {
    "year": range(4),
    "month": range(5, 7),
    "day": range(8, 10),
    "hour": range(11, 13),
    "minute": range(14, 16),
    "second": range(17, 19),
    "micros": range(20, 26),
}
_DIGIT_COLUMNS = [column for columns in _NUMBERS.values() for column in columns]
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def _number(digits: Any, columns: range) -> Any:
    total = np.zeros(digits.shape[1], np.int32)
    for column in columns:
        total *= 10
        total += digits[column]
    return total


def _dates(year: Any, month: Any, day: Any) -> tuple[Any, Any]:
    """Days since 1970, and which dates are real; one date in all rows is computed once."""
    if len(year) > 1 and all((column == column[0]).all() for column in (year, month, day)):
        days, real = _dates(year[:1], month[:1], day[:1])
        return np.repeat(days, len(year)), np.repeat(real, len(year))
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    real = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    real &= day <= _MONTH_DAYS[np.clip(month, 0, 12)] + (leap & (month == 2))
    return _days(year.astype(np.int64), month, day), real


def _days(year: Any, month: Any, day: Any) -> Any:
    """Days since 1970-01-01 in the proleptic Gregorian calendar.

    Counts from 1 March of year 0, so the leap day is the last of its year:
    https://howardhinnant.github.io/date_algorithms.html (days_from_civil).
    """
    year = year - (month <= 2)
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
