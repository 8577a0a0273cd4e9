"""Rows as JSON and CSV: one array, no raw control characters, exact numbers."""

import csv
import io
import json
from decimal import Decimal

import pyarrow as pa
import pytest

from meshlab.cli.output import arrow_rows, to_json, write_json_array, write_rows


def test_an_array_is_json_whatever_the_number_of_rows(capfdbinary):
    for count in range(3):
        write_json_array({"n": n} for n in range(count))
        assert json.loads(capfdbinary.readouterr().out) == [{"n": n} for n in range(count)]


def test_json_holds_no_raw_control_character():
    text = {"content": "".join(map(chr, range(0xA0)))}
    data = to_json(text)
    assert json.loads(data) == text
    assert all(char.isprintable() for char in data.decode())


def test_json_holds_nothing_that_turns_the_direction_of_text():
    text = "".join(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
    data = to_json({text: f"«{text}記»"})
    assert json.loads(data) == {text: f"«{text}記»"}
    assert not set(text) & set(data.decode())
    assert "記" in data.decode()


@pytest.mark.parametrize("fmt", ["table", "csv", "json"])
def test_names_and_cells_reach_a_terminal_escaped(fmt, monkeypatch):
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", terminal)
    write_rows([{"\x1b[31mred\u202e": "\x1b[2J\u2066x\x9b"}], fmt)
    text = raw.getvalue().decode()
    assert text.replace("\n", "").isprintable()
    assert "u202e" in text
    assert "u2066" in text


def test_csv_quotes_newlines_and_leaves_null_empty(capsys):
    write_rows([{"a": "x\ny", "b": None, "c": [1], "d": True}], "csv")
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [["a", "b", "c", "d"], ["x\ny", "", "[1]", "true"]]


def test_a_long_table_says_how_many_rows_it_left_out(capsys):
    write_rows([{"n": n} for n in range(1000)], "table", limit=10)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 12
    assert "990 more rows" in err


def test_whole_decimals_of_sql_are_integers():
    table = pa.table({"total": pa.array([Decimal("18446744073709551616")], pa.decimal128(38, 0))})
    assert list(arrow_rows(table)) == [{"total": 2**64}]


@pytest.mark.parametrize("fmt", ["table", "csv", "json"])
def test_no_rows_are_no_error(fmt, capsys):
    write_rows([], fmt, names=["a"])
    assert capsys.readouterr().out in ("", "a\n", "[]\n")


@pytest.mark.parametrize(("fmt", "expected"), [("json", '[\n{"a":"NaN","b":{"c":["Infinity"]}}\n]\n'), ("csv", "NaN")])
def test_what_json_has_no_number_for_is_named(fmt, expected, capfdbinary):
    table = pa.table({"a": [float("nan")], "b": [{"c": [float("inf")]}]})
    write_rows(arrow_rows(table), fmt)
    assert expected in capfdbinary.readouterr().out.decode()
