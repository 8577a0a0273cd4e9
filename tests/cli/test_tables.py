"""Tables fit the terminal, keep numbers whole, and never pass a control character on."""

import unicodedata
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.cli.tables import cell, places, render, shorten
from meshlab.wording import escape

UID = "15009280-3996-4b8e-ae6d-36c44a9ce5d9"


def test_numbers_stand_right_with_separators_and_text_left():
    assert render([{"op": "insert", "events": 1234567}, {"op": "other", "events": None}]).splitlines() == [
        "op         events",
        "------  ---------",
        "insert  1,234,567",
        "other",
    ]


def test_escape_sequences_in_data_are_shown_and_not_obeyed():
    text = render([{"content": "\x1b[2J\x1b]0;owned\x07 \u202e\u2028\x9b31m"}])
    assert all(char.isprintable() or char == "\n" for char in text)
    assert r"\x1b[2J\x1b]0;owned\x07 \u202e\u2028\x9b31m" in text


def test_names_of_columns_are_escaped_too():
    assert "\x1b" not in render([{"\x1b[31m": 1}])


def test_ids_are_cut_in_the_middle_so_that_both_ends_tell_them_apart():
    row = render([{"uid": UID, "bytes": 123456789}], width=30).splitlines()[2]
    assert row == "150092803996…"[:8] + row[8:]
    assert row.endswith("123,456,789")
    assert row.split()[0].endswith("5d9")
    assert "…" in row


def test_columns_that_do_not_fit_are_named_below():
    wide = {f"number{n}": 10**12 for n in range(10)}
    *lines, note = render([wide], width=60).splitlines()
    assert all(places(line) <= 60 for line in lines)
    assert "number9" in note


def test_numbers_are_never_cut():
    assert "1,000,000,000,000" in render([{"n": 10**12}], width=5)


def test_a_table_without_rows_has_its_names():
    assert render([], names=["a", "b"]) == "a  b\n-  -"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2025, 7, 7, 12, 0, 0, 5, UTC), "2025-07-07T12:00:00.000005Z"),
        (Decimal("12345.5"), "12,345.5"),
        (1e300, "1e+300"),
        (float("nan"), "nan"),
        (b"\xff\x00", r"\xff\x00"),
        ({"valence": 0.5, "x": "\x1b"}, r'{"valence": 0.5, "x": "\u001b"}'),
        (False, "no"),
        ("\ud800", r"\ud800"),
    ],
)
def test_values_are_shown_as(value, text):
    assert cell(value) == text


@given(st.text(), st.integers(2, 40))
def test_shortened_text_takes_no_more_places_than_asked(text, size):
    assert places(shorten(escape(text), size)) <= size


@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.text() | st.integers() | st.none()), max_size=4),
    st.integers(10, 120),
)
def test_any_table_is_printable(rows, width):
    text = render(rows, width=width)
    assert all(unicodedata.category(char) not in ("Cc", "Cf") for char in text.replace("\n", ""))
