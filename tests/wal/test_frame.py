"""The frame format: written, read back, and not fooled by any changed byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.events import encode_event
from meshlab.testing import strategies
from meshlab.times import format_time
from meshlab.wal.frame import (
    MAX_FRAME,
    NO_SUM,
    SUM_ENDING,
    Tail,
    check_key,
    ends_as_member,
    is_member,
    read_frame,
    read_tail,
    write_frame,
)

HEX = st.text("0123456789abcdef", min_size=16, max_size=16).map(str.encode)
KEYS = st.none() | st.text(st.sampled_from("!#[]-~aZ09:/.,'`{}"), min_size=1, max_size=64).map(str.encode)
MOMENTS = st.integers(0, 4_102_444_800_000_000).map(format_time)


@given(strategies.batches(), MOMENTS, st.integers(1, 10**17), HEX, KEYS)
def test_a_frame_reads_back_as_it_was_written(events, time, seq, prev, key):
    frame = write_frame([encode_event(event) for event in events], time, seq=seq, prev=prev, key=key)
    expected = Tail(seq + len(events) - 1, len(events), prev, frame.sum)
    assert read_frame(frame.data) == read_frame(frame.data[:-1]) == expected
    assert (frame.first_seq, frame.last_seq) == (seq, expected.seq)
    lines = frame.data.splitlines(keepends=True) if b"\r" not in frame.data else frame.data.split(b"\n")
    assert frame.data.count(b"\n") == len(events)
    assert all(ends_as_member(line) for line in lines[:-1] if line)
    assert read_tail(frame.data[:-1]) == expected


@given(strategies.batches(3), HEX, st.data())
def test_any_changed_byte_makes_it_no_frame(events, prev, data):
    frame = write_frame([encode_event(event) for event in events], "2025-07-01T10:00:00.000000Z", seq=5, prev=prev).data
    at = data.draw(st.integers(0, len(frame) - 2), "position")
    other = data.draw(st.integers(1, 255), "difference")
    changed = bytearray(frame)
    changed[at] ^= other
    assert read_frame(bytes(changed)) is None


@given(strategies.batches(3), st.data())
def test_a_missing_byte_makes_it_no_frame(events, data):
    frame = write_frame([encode_event(e) for e in events], "2025-07-01T10:00:00.000000Z", seq=5, prev=NO_SUM).data
    at = data.draw(st.integers(0, len(frame) - 2), "position")
    assert read_frame(frame[:at] + frame[at + 1 :]) is None


def test_the_sum_is_always_the_last_26_bytes_before_the_newline():
    data = write_frame([b"1"], "2025-07-01T10:00:00.000000Z", seq=1, prev=NO_SUM).data
    assert data[-SUM_ENDING - 1 : -17 - 2] == b',"sum":"'
    assert SUM_ENDING == 26


def test_member_lines_are_told_from_last_lines():
    first, last = write_frame([b"1", b"2"], "2025-07-01T10:00:00.000000Z", seq=1, prev=NO_SUM).data.splitlines()
    assert (is_member(first), is_member(last)) == (True, False)
    assert (is_member(b"{}" + first), ends_as_member(b"{}" + first)) == (False, True)


def test_a_count_that_does_not_fit_the_lines_is_no_frame():
    one, two = (write_frame([b"1"], "2025-07-01T10:00:00.000000Z", seq=n, prev=NO_SUM).data for n in (1, 2))
    assert read_frame(one + two) is None


@pytest.mark.parametrize("data", [b"", b"\n", b"{}", b'"sum":"0123456789abcdef"}\n', bytes(200)])
def test_other_bytes_are_no_frame(data):
    assert read_frame(data) is None


def test_a_key_may_hold_what_json_need_not_escape():
    key = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\')
    assert [check_key(key[at : at + 64]) for at in (0, 40)] == [key[:64].encode(), key[40:].encode()]


def test_the_limit_of_a_frame_is_64_mib():
    assert MAX_FRAME == 64 << 20
