"""The byte format of a frame: constants and pure functions, shared by reader and writer.

One append is one frame: lines of JSON, each with the user's next ``seq``; the last
line ends in ``,"seq":S,"n":N,"prev":"<16 hex>","sum":"<16 hex>"}`` (docs/format.md).

>>> frame = write_frame([b'{"Delete":"m1"}'], "2025-07-07T12:00:00.123456Z", seq=124, prev=NO_SUM)
>>> frame.data[:56]
b'{"timestamp":"2025-07-07T12:00:00.123456Z","event":{"Del'
>>> read_frame(frame.data)
Tail(seq=124, n=1, prev=b'0000000000000000', sum=b'385443da4f1d59c0')
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from meshlab.errors import BadEvent, FrameTooLarge

MAX_FRAME = 64 << 20
"""Largest frame in bytes, newline included; also the longest line a reader takes."""

NO_SUM = b"0" * 16
"""``prev`` of a user's first frame."""

LINE_START = b'{"timestamp":"'
EVENT_KEY = b'","event":'
TIME_LENGTH = 27
EVENT_START = len(LINE_START) + TIME_LENGTH + len(EVENT_KEY)
"""Offset of the event in a line of ours."""

SUM_KEY = b',"sum":"'
SUM_ENDING = len(SUM_KEY) + 16 + len(b'"}')
"""Bytes of the sum ending, the last 26 before the newline."""

PREV_KEY = b',"prev":"'
KEY_KEY = b',"key":"'
SEQ_KEY = b',"seq":'
COUNT_KEY = b',"n":'

MAX_SEQ_DIGITS = 18
"""Longest ``seq``: it and the next ones fit 64 bits."""

MAX_KEY = 64
_KEY = re.compile(r"[!#-\[\]-~]{1,64}", re.ASCII)
_TAIL = re.compile(rb',"seq":(\d{1,18}),"n":(\d{1,8}),"prev":"([0-9a-f]{16})","sum":"([0-9a-f]{16})"\}\Z')
_MEMBER = re.compile(rb',"seq":\d{1,18}\}\s*\Z')

# A copy of a fresh hash costs a third of asking OpenSSL for one.
_MD5 = hashlib.md5(usedforsecurity=False)


class Frame(NamedTuple):
    """A frame ready to be written: its bytes, first and last seq, and its sum."""

    data: bytes
    first_seq: int
    last_seq: int
    sum: bytes


class Tail(NamedTuple):
    """What the last line of a frame says of the frame."""

    seq: int
    n: int
    prev: bytes
    sum: bytes


def frame_sum(data: bytes | memoryview) -> bytes:
    """The first 16 hex digits of MD5 over a frame up to its ``,"sum"``."""
    digest = _MD5.copy()
    digest.update(data)
    return digest.hexdigest()[:16].encode()


def check_key(key: str) -> bytes:
    """The bytes of an idempotency key, or ``BadEvent``.

    >>> check_key("order-7")
    b'order-7'
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise BadEvent(
            f"key {str(key)[:80]!r} is not allowed",
            hint=f"a key is 1-{MAX_KEY} printable ASCII characters without space, quote or backslash",
        )
    return key.encode()


def write_frame(events: Sequence[bytes], time: str, *, seq: int, prev: bytes, key: bytes | None = None) -> Frame:
    """Build one frame from the compact JSON of its events; ``seq`` is that of the first.

    Raises ``FrameTooLarge``.  The key, when given, stands in every line.
    """
    head = LINE_START + time.encode() + EVENT_KEY
    mark = KEY_KEY + key + b'",' + SEQ_KEY[1:] if key else SEQ_KEY
    last = seq + len(events) - 1
    ending = b'%b%d,"n":%d,"prev":"%b"' % (mark, last, len(events), prev)
    if len(events) == 1:
        body = head + events[0] + ending
    else:
        between = mark.replace(b"%", b"%%") + b"%d}\n" + head
        parts = [head] * (2 * len(events) + 1)
        parts[1::2] = events
        parts[2:-1:2] = [between % number for number in range(seq, last)]
        parts[-1] = ending
        body = b"".join(parts)
    if len(body) + SUM_ENDING + 1 > MAX_FRAME:
        raise too_large(len(events), len(body))
    digest = frame_sum(body)
    return Frame(body + SUM_KEY + digest + b'"}\n', seq, last, digest)


def too_large(count: int, size: int) -> FrameTooLarge:
    """The error about a batch of ``count`` events whose frame would have ``size`` bytes."""
    return FrameTooLarge(f"the batch of {count} events makes a frame of {size} bytes; the limit is {MAX_FRAME}")


def read_frame(data: bytes) -> Tail | None:
    """The tail of a whole frame whose sum holds, else None; a final newline is optional."""
    body = data[:-1] if data.endswith(b"\n") else data
    match = _TAIL.search(body[-128:])
    if match is None or frame_sum(body[:-SUM_ENDING]) != match[4]:
        return None
    if body.count(b"\n") + 1 != int(match[2]):
        return None
    return Tail(int(match[1]), int(match[2]), match[3], match[4])


def is_member(line: bytes) -> bool:
    """Whether a line is one of a frame, but not its last.

    >>> is_member(b'{"timestamp":"2025-07-07T12:00:00.123456Z","event":1,"seq":7}\\n')
    True
    """
    return line.startswith(LINE_START) and ends_as_member(line)


def ends_as_member(line: bytes) -> bool:
    """Whether a line ends like one of a frame, but not its last, whatever is glued before it."""
    return _MEMBER.search(line[-64:]) is not None


def read_tail(line: bytes) -> Tail | None:
    """What the end of a line claims of its frame, unchecked; None without a sum ending."""
    match = _TAIL.search(line[-128:])
    return Tail(int(match[1]), int(match[2]), match[3], match[4]) if match else None
