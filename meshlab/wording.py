"""Counts, sizes, spans of time and unprintable text, as people read them."""

from __future__ import annotations

SPANS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
"""Units of time, in seconds."""

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count and its noun.

    >>> counted(1, "event"), counted(1200, "memory", "memories")
    ('1 event', '1,200 memories')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def size_text(count: float) -> str:
    """A number of bytes in at most four digits.

    >>> size_text(999), size_text(1_234_567), size_text(999_999), size_text(25_000_000_000)
    ('999 B', '1.2 MB', '1.0 MB', '25 GB')
    """
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_SIZES) - 1:
        value, unit = value / 1000, unit + 1
    digits = 1 if unit and abs(value) < 9.95 else 0
    return f"{value:.{digits}f} {_SIZES[unit]}"


def span_text(seconds: float) -> str:
    """Seconds in the largest unit that fits.

    >>> span_text(0.25), span_text(90), span_text(7_200), span_text(200_000)
    ('0.25 s', '1.5 m', '2 h', '2.3 d')
    """
    name, size = next((pair for pair in reversed(SPANS.items()) if seconds >= pair[1]), ("s", 1.0))
    return f"{seconds / size:.2g} {name}" if seconds / size < 10 else f"{seconds / size:.0f} {name}"


def escape(text: str) -> str:
    r"""The text with everything unprintable as a backslash escape, as it is shown to people.

    >>> print(escape("red \x1b[31m"))
    red \x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
