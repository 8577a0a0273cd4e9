"""Columns of times agree with ``parse_time`` on every text."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshlab.tables.schema import TIME
from meshlab.tables.times import to_timestamps
from meshlab.times import format_time, parse_time

ODD = [
    "2025-07-07T12:00:00Z",
    "2025-07-07T12:00:00.123Z",
    "2025-07-07T12:00:00.123456Z",
    "2025-07-07T12:00:00.123456789Z",
    "2025-07-07T12:00:00.12345678xZ",
    "2025-07-07T12:00:00.1Z",
    "2025-07-07T12:00:00",
    "2025-07-07T12:00:00.123456",
    "2025-07-07T12:00:00.08+0000",
    "2025-07-07T12:00:00.123+02:00",
    "2025-07-07T12:00:00-0530",
    "2025-07-07T12:00:00+02",
    "2025-07-07t12:00:00z",
    "2025-07-07 12:00:00Z",
    "2025-07-07 12:00:00.123456Z",
    "2025-07-07T12:00:60.000000Z",
    "2025-07-07T24:00:00.000000Z",
    "2025-02-29T12:00:00.000000Z",
    "2024-02-29T12:00:00.000000Z",
    "2025-13-01T00:00:00.000000Z",
    "0000-01-01T00:00:00.000000Z",
    "0001-01-01T00:00:00.000000Z",
    "9999-12-31T23:59:59.999999Z",
    "2025-07-07T12:00:00,123Z",
    "2025-07-07T12:00:00.12345 Z",
    "2025-07-07T12:00:00.-23456Z",
    "+025-07-07T12:00:00.123456Z",
    "2025-07-07",
    "",
    "now",
    "2025-07-07T12:00:00.\u06611234Z",
    "\u0662025-07-07T12:00:00.12345Z",
    "2025-07-07T1200+00:00000000Z",
    "2025-07-07T12:00Z",
    "2025-07-07T12:00:00.123456Z ",
    "2025-07-07T12:00:00.123456\n",
    "0001-01-01T00:00:00+23:59",
    "2025-07-07T12:00:00+24:00",
]


def micros(texts: list[str | None]) -> list[int | None]:
    column = to_timestamps(pa.array(texts, pa.string()))
    assert column.type == TIME
    return column.view(pa.int64()).to_pylist()


def expected(texts: list[str | None]) -> list[int | None]:
    return [None if text is None else parse_time(text) for text in texts]


@pytest.mark.parametrize("text", ODD)
def test_an_odd_text_alone_reads_as_parse_time_reads_it(text):
    assert micros([text]) == expected([text])
    assert micros(["2025-07-07T12:00:00.000000Z", text]) == expected(["2025-07-07T12:00:00.000000Z", text])


def test_odd_texts_together_read_as_parse_time_reads_them():
    texts = [*ODD, None, *ODD[::-1]]
    assert micros(texts) == expected(texts)


@given(
    st.lists(st.none() | st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999), max_size=20), st.integers(0, 9)
)
def test_written_times_come_back(moments, cut):
    texts = [None if moment is None else format_time(moment) for moment in moments]
    texts += [text[: 20 + cut] + "Z" for text in texts if text]
    assert micros(texts) == expected(texts)


@given(st.lists(st.text("0123456789-:.TZtz+ 60", min_size=19, max_size=31), min_size=1, max_size=5))
@example(["2025-07-07T12:00:00.123456Z"])
def test_noise_reads_as_parse_time_reads_it(texts):
    assert micros(texts) == expected(texts)


def test_slices_of_a_column_read_as_the_column_does():
    texts = pa.array([format_time(moment) for moment in range(0, 10**9, 10**8)])
    assert to_timestamps(texts.slice(3, 4)).equals(to_timestamps(texts).slice(3, 4))
    assert to_timestamps(texts.slice(0, 0)).equals(pa.array([], TIME))
