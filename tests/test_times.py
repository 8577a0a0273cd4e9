"""Times: one parser defines, one is fast, and they agree wherever the fast one speaks."""

from __future__ import annotations

import calendar
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab import times
from meshlab.times import DAY, SECOND, day_of, format_time, midnight, parse_canonical, parse_time

FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999


def canonical(texts: list[str]) -> tuple[list[int], list[bool]]:
    rows = np.frombuffer("".join(texts).encode("latin-1"), np.uint8).reshape(len(texts), 27)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(times, "_FEW", 0)
        micros, good = parse_canonical(rows)
        patch.setattr(times, "_FEW", 1 << 40)
        one_by_one, also_good = parse_canonical(rows)
    assert also_good.tolist() == good.tolist()
    assert one_by_one[good].tolist() == micros[good].tolist()
    return micros.tolist(), good.tolist()


@given(st.lists(st.integers(FIRST, LAST), min_size=1))
def test_formatted_times_come_back_from_both_parsers(moments):
    texts = [format_time(moment) for moment in moments]
    assert [parse_time(text) for text in texts] == moments
    assert canonical(texts) == (moments, [True] * len(moments))


def test_both_parsers_agree_on_every_day_of_the_leap_year_cycle_and_its_neighbours():
    texts = [
        f"{year:04d}-{month:02d}-{day:02d}T23:59:59.999999Z"
        for year in (1, 4, 100, 400, 1600, 1899, 1900, 1970, 1999, 2000, 2024, 2025, 2100, 9999)
        for month in range(14)
        for day in range(33)
    ]
    micros, good = canonical(texts)
    for text, fast, sure in zip(texts, micros, good, strict=True):
        expected = parse_time(text)
        assert sure == (expected is not None), text
        assert not sure or fast == expected, text
    print(f"days compared: {len(texts)}, real: {sum(good)}")


def test_both_parsers_agree_on_damaged_texts():
    rng = Random(27)
    texts = []
    for _ in range(20_000):
        text = bytearray(format_time(rng.randrange(FIRST, LAST)).encode())
        for _ in range(rng.randint(1, 3)):
            text[rng.randrange(27)] = rng.choice(b"0123456789-:TtZz. +/;\x00\xff\xb2")
        texts.append(text.decode("latin-1"))
    micros, good = canonical(texts)
    for text, fast, sure in zip(texts, micros, good, strict=True):
        if sure:
            assert parse_time(text) == fast, text
    print(f"damaged texts (seed 27): {len(texts)}, still times: {sum(good)}")


@pytest.mark.parametrize(
    "text",
    [
        "2025-02-29T00:00:00.000000Z",
        "2025-07-01T24:00:00.000000Z",
        "2025-07-01T00:60:00.000000Z",
        "2025-06-30T23:59:60.000000Z",
        "0000-01-01T00:00:00.000000Z",
        "2025-07-01t00:00:00.000000Z",
        "2025-07-01 00:00:00.000000Z",
        "2025-07-01T00:00:00,000000Z",
        "2025-07-01T00:00:00.00000\u00b2Z",
        "2025-13-01T00:00:00.000000Z",
        "2025-00-01T00:00:00.000000Z",
        "2025-01-00T00:00:00.000000Z",
        "+025-01-01T00:00:00.000000Z",
    ],
)
def test_what_is_not_canonical_is_left_to_the_other_parser(text):
    assert canonical([text])[1] == [False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-07-07T08:00:00Z", "2025-07-07T08:00:00.000000Z"),
        ("2025-07-07T08:00:00", "2025-07-07T08:00:00.000000Z"),
        ("2025-07-07 08:00:00z", "2025-07-07T08:00:00.000000Z"),
        ("2025-07-07T10:00:00+02:00", "2025-07-07T08:00:00.000000Z"),
        ("2025-07-07T10:00:00+0200", "2025-07-07T08:00:00.000000Z"),
        ("2025-07-07T02:30:00-05:30", "2025-07-07T08:00:00.000000Z"),
        ("2025-07-07T08:00:00.1Z", "2025-07-07T08:00:00.100000Z"),
        ("2025-07-07T08:00:00.123456999Z", "2025-07-07T08:00:00.123456Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"),
    ],
)
def test_other_forms_of_a_time_are_understood(text, expected):
    assert format_time(parse_time(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2025-07-07",
        "2025-07-07T08:00Z",
        "2025-07-07T08:00:60Z",
        "2025-02-30T00:00:00Z",
        "2025-07-07T08:00:00+25:00",
        "2025-07-07T08:00:00+02:75",
        "2025-07-07T08:00:00Z ",
        "2025-07-07T08:00:00.Z",
        "٢٠٢٥-07-07T08:00:00Z",
        "99999-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_none(text):
    assert parse_time(text) is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"])
def test_a_zone_that_leads_out_of_the_calendar_is_no_crash(text):
    assert parse_time(text) is None or isinstance(parse_time(text), int)


@given(st.integers(FIRST, LAST))
def test_a_moment_lies_in_its_day(moment):
    start = midnight(day_of(moment))
    assert start <= moment < start + DAY


def test_microseconds_count_from_1970():
    assert midnight("19700101") == 0
    assert midnight("20250707") == calendar.timegm((2025, 7, 7, 0, 0, 0)) * SECOND
