"""JSON as meshlab reads it: the one decoder that says what a text means."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
import numpy as np

MAX_DEPTH = 256
"""Deepest nesting of arrays and objects in one line; deeper lines are ``not-json``."""


NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""What JSON has no number for, by the string that stands for it in the JSON form of a memory."""


def json_float(value: float) -> float | str:
    """A float as it stands in the JSON form: itself, or a string for what JSON has no number for.

    >>> [json_float(value) for value in (0.5, math.nan, -math.inf)]
    [0.5, 'NaN', '-Infinity']
    """
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class NotJson(ValueError):
    """The bytes are not one JSON value as this module defines it."""


def parse_json(raw: bytes) -> Any:
    """The value of a JSON text: strict RFC 8259, finite numbers, real Unicode, bounded depth.

    Raises ``NotJson``.

    >>> parse_json(b'[1, NaN]')
    Traceback (most recent call last):
    meshlab.jsontext.NotJson: JSON is malformed: invalid character (byte 4)
    """
    try:
        value = msgspec.json.decode(raw)
    except RecursionError:
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotJson(str(error)) from None
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and depth(raw) > MAX_DEPTH:
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels")
    return value


def depth(data: bytes) -> int:
    """Deepest nesting of brackets outside strings in a JSON text."""
    brackets = np.frombuffer(_STRING.sub(b"", data).translate(None, _NO_BRACKETS), np.uint8)
    steps = np.where((brackets == 0x5B) | (brackets == 0x7B), 1, -1)
    return int(np.cumsum(steps).max(initial=0))


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
