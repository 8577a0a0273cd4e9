"""JSON exports: what they mean, what is damage, and what comes back."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.errors import DamageFound
from meshlab.migrate.sources import elements as module
from meshlab.migrate.sources.elements import elements
from meshlab.migrate.sources.exports import ExportSource
from meshlab.migrate.sources.jsonrecords import without_tokens
from meshlab.snapshot.manifest import current
from meshlab.wal.paths import segment_days

from .older import SAMPLES, built, changed, given_back, hashed, one, records, table, whole


def export(tmp_path, value, name="ada.json", **options):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value, **options), encoding="utf-8")
    return ExportSource(path.stem, tmp_path, (path,))


def extras(source):
    return dict(zip(table(source)["id"].to_pylist(), table(source)["extra"].to_pylist(), strict=True))


SHAPES = {
    "list": [whole("m1"), {"id": "m2", "theme": "dark"}],
    "map with ids": {"m1": whole("m1"), "m2": {"id": "m2", "theme": "dark"}},
    "map without": {
        "m1": {name: value for name, value in whole("m1").items() if name != "id"},
        "m2": {"theme": "dark"},
    },
    "map with null": {"m1": whole("m1"), "m2": {"id": None, "theme": "dark"}},
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_lists_and_maps_give_the_same_records(shape, indent, tmp_path):
    source = export(tmp_path, SHAPES[shape], indent=indent)
    assert records(source) == {"m1": whole("m1"), "m2": {"id": "m2", "theme": "dark"}}
    assert source.notes() == []


@pytest.mark.parametrize("text", ["[]", " [ ] ", "{}", "\n{\n}\n"])
def test_an_export_of_nothing_is_a_user_without_memories(text, tmp_path):
    source = export(tmp_path, text)
    assert records(source) == {}
    root = built(source, tmp_path / "store")
    assert current(root, "ada").records == 0


def test_values_are_kept_as_they_were_written(tmp_path):
    source = export(
        tmp_path, '[{"id":"m1","n":1.50,"access_count":"many","mode":null,"x":{"y": [1e3]},"amplitude":1E0}]'
    )
    assert extras(source) == {"m1": '{"n":1.50,"access_count":"many","x":{"y": [1e3]}}'}
    assert table(source)["amplitude"].to_pylist() == [1.0]


def test_floats_that_are_not_finite_come_as_tokens_of_python_or_as_texts(tmp_path):
    one_record = {
        "id": "m1",
        "amplitude": math.nan,
        "comfort_metrics": {"stress": "-Infinity", "flux": 1.0},
        "note": "NaN",
    }
    source = export(tmp_path, [one_record | {"list": [math.inf]}])
    batch = table(source)
    assert math.isnan(batch["amplitude"][0].as_py())
    assert batch["comfort_metrics"][0].as_py()["stress"] == -math.inf
    assert batch["extra"][0].as_py() == '{"note":"NaN","list":["Infinity"]}'
    tokens, floats = source.notes()
    assert tokens.startswith("records with tokens of Python") and tokens.endswith(": 1 (m1)")
    assert floats.endswith("m1 amplitude NaN, m1 comfort_metrics.stress -Infinity)")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[{"id":"a"},]', "byte 12, record 2: expected a value, found ']'"),
        ('[{"id":"a"},,{"id":"b"}]', "byte 12, record 2: expected a value"),
        ('[{"id":"a"} {"id":"b"}]', "byte 1, record 1: expected JSON"),
        ('[{"id":"a"}', "byte 11: expected ']', found the end of the file"),
        ('{"a":{"id":"a"}', "byte 15: expected '}', found the end of the file"),
        ('[{"id":"a', "found the end of the file: it is cut"),
        ('[{"id":"a"}]x', "byte 12: expected the end of the file"),
        ('[{"id":"a"}}', "byte 11: expected ']', found '}'"),
        ('[{"theme":1}]', "byte 1, record 1: expected a record, an object with an id"),
        ('[{"id":5}]', "found the id 5"),
        ('[{"id":""}]', "found the id ''"),
        ("[{}]", "record 1: expected a record"),
        ('[{"id":"a"}, 5]', "byte 13, record 2: expected a record"),
        (
            '[{"id":"a"},{"id":"b"},{"id":"a"}]',
            "byte 23, record 3: expected an id of its own, found 'a' again, the id of",
        ),
        ('{"a":{},"b":{},"a":{}}', "record 3: expected an id of its own"),
        ('{"a":{"id":"b"}}', "expected the id 'a', under which the record stands, found 'b'"),
        ('{"a":5}', "expected a record under 'a', found int '5'"),
        ('{"":{}}', "expected a record, an object with an id that is a text and not empty"),
        ('{"concepts":{"m1":{"name":"sea"}}}', "a map of records: a wrapper"),
        ('[{"id":"a","x":"\\ud800"}]', "byte 1, record 1: expected JSON"),
        ('[{"id":"a","x":1e400}]', "expected JSON"),
        ('[{"id":"a","x":nan}]', "expected JSON"),
        ("[" + '{"id":"a","x":' + "[" * 300 + "]" * 300 + "}]", "nested deeper"),
        ("", "expected a JSON list or object"),
    ],
)
def test_damage_is_told_with_its_place(text, told, tmp_path):
    source = export(tmp_path, text)
    with pytest.raises(DamageFound) as caught:
        list(source.batches(progress=False))
    assert told in caught.value.message
    assert str(source.path) in caught.value.message


def test_bytes_that_are_not_utf_8_are_damage(tmp_path):
    source = export(tmp_path, "[]")
    source.path.write_bytes(b'[{"id":"a","x":"\xff"}]')
    with pytest.raises(DamageFound, match="record 1: expected JSON"):
        source.notes()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a",:[]{}\\ \nψ', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(values, max_size=6), st.integers(2, 40), st.sampled_from([None, 1]), st.booleans())
def test_elements_are_those_of_a_json_decoder_whatever_the_window(items, window, indent, ascii):
    import tempfile
    from pathlib import Path

    before, module.WINDOW = module.WINDOW, window
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "list.json"
            path.write_text(" " + json.dumps(items, indent=indent, ensure_ascii=ascii) + "\n", encoding="utf-8")
            found = list(elements(path))
            data = path.read_bytes()
    finally:
        module.WINDOW = before
    assert [json.loads(element.data) for element in found] == items
    assert all(data[element.offset :].startswith(element.data) for element in found)


@given(values)
def test_texts_are_no_tokens(value):
    raw = json.dumps([value, "NaN", '-Infinity"'], ensure_ascii=False).encode()
    assert without_tokens(raw) == raw


@pytest.mark.parametrize("start", [b'{"a":NaN,"b":"', b'{"a":NaN,"b":"\\\\'])
@pytest.mark.parametrize("part", [b'\\"', b"\\\\", b"NaN", b"x"])
@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_text_without_an_end_is_looked_at_once(start, part, end):
    raw = start + part * 300_000 + end
    assert without_tokens(raw) == raw.replace(b"NaN", b'"NaN"', 1)


@pytest.mark.parametrize("shape", ["list", "map without"])
def test_the_same_shape_comes_back_sorted_by_id(shape, tmp_path):
    source = export(tmp_path, SHAPES[shape])
    root = built(source, tmp_path / "store")
    assert segment_days(root) == []
    changed(
        root,
        {"Delete": "m1"},
        {"Update": {"id": "m2", "n": 1.5, "content": "text\n"}},
        {"Insert": {"id": "a"}},
        {"relation": ["a", "m2"]},
    )
    back, left = given_back(source, root, tmp_path / "back")
    expected = [{"id": "a"}, {"id": "m2", "content": "text\n", "n": 1.5, "theme": "dark"}]
    value = json.loads(back.path.read_text(encoding="utf-8"))
    assert value == (expected if shape == "list" else {record["id"]: record for record in expected})
    assert list(records(back).values()) == expected
    assert [(one.reason, one.json) for one in left] == [("an event that changes no memory", '{"relation":["a","m2"]}')]


def test_what_was_not_touched_comes_back_bit_for_bit(tmp_path):
    odd = '"n":1.50,"mode":7,"amplitude":NaN,"width":"Infinity","comfort_metrics":{"flux":"NaN"}'
    text = f'[{{"id":"m1",{odd}}},{{"id":"m2"}}]'
    source = export(tmp_path, text)
    back, left = given_back(source, built(source, tmp_path / "store"), tmp_path / "back")
    assert left == []
    assert hashed(back.batches(progress=False)) == hashed(source.batches(progress=False))
    json.loads(back.path.read_text(), parse_constant=pytest.fail)  # strict JSON


def test_nothing_comes_back_as_an_empty_list(tmp_path):
    source = export(tmp_path, [{"id": "m1"}])
    root = built(source, tmp_path / "store")
    changed(root, {"Delete": "m1"})
    back, _ = given_back(source, root, tmp_path / "back")
    assert back.path.read_bytes() == b"[\n\n]\n"
    assert records(back) == {}


def test_a_text_like_nan_that_is_no_float_is_told(tmp_path):
    source = export(tmp_path, [{"id": "m1"}])
    root = built(source, tmp_path / "store")
    (root / "wal-20250701.log").write_text('{"Update":{"id":"m1","amplitude":"NaN"}}\n')  # by another program
    changed(root, {"Insert": {"id": "m2"}})
    back, left = given_back(source, root, tmp_path / "back")
    assert [one.id for one in left] == ["m1"]
    assert math.isnan(table(back)["amplitude"][0].as_py())


def test_the_sample_exports_are_read(tmp_path):
    ada, bela = (one(SAMPLES / "exports" / f"{uid}.json") for uid in ("ada", "bela"))
    assert (len(records(ada)), len(records(bela))) == (12, 10)
    assert len(ada.notes()) == 2 and "amplitude NaN" in ada.notes()[1]
    assert bela.notes() == []
    built(ada, tmp_path / "store")
    built(bela, tmp_path / "store")
