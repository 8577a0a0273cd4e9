"""The one JSON decoder: strict, finite, real Unicode, of bounded depth."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.jsontext import MAX_DEPTH, NotJson, depth, parse_json

ILLEGAL = [
    b"",
    b" ",
    b"{",
    b"}",
    b"[1,]",
    b'{"a":1,}',
    b"{'a':1}",
    b"{a:1}",
    b"01",
    b"+1",
    b"1.",
    b".5",
    b"1e",
    b"-",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-1e999",
    b"True",
    b"nul",
    b'"open',
    b'"tab\there"',
    b'"line\nbreak"',
    b'"nul\x00"',
    b'"\\x41"',
    b'"\\u12"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\xff"',
    b'"\xc0\xaf"',
    b'"\xed\xa0\x80"',
    b"\xef\xbb\xbf{}",
    b"{} {}",
    b"1 2",
    b"[1] x",
    b"/* */ 1",
    b"\x00",
]
LEGAL = [
    (b"0", 0),
    (b"-0", 0),
    (b" \t\r\n1 ", 1),
    (b"18446744073709551615", 2**64 - 1),
    (b"5e-324", 5e-324),
    (b"1e-400", 0.0),
    (b"1.7976931348623157e308", 1.7976931348623157e308),
    (b'"\\ud83d\\ude42"', "\U0001f642"),
    (b'"\\u0000"', "\0"),
    (b'{"a":1,"a":2}', {"a": 2}),
    (b'{"":[]}', {"": []}),
    (b"null", None),
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # JSON text cannot hold lone surrogates, and neither can UTF-8.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("raw", ILLEGAL, ids=ascii)
def test_what_rfc_8259_does_not_allow_is_not_json(raw):
    with pytest.raises(NotJson) as refused:
        parse_json(raw)
    assert str(refused.value)


@pytest.mark.parametrize(("raw", "value"), LEGAL, ids=ascii)
def test_what_rfc_8259_allows_is_read(raw, value):
    found = parse_json(raw)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_ends_at_the_limit(opening, closing):
    def nested(levels):
        return opening * levels + b"1" + closing * levels

    parse_json(nested(MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 10_000, 200_000):
        with pytest.raises(NotJson, match="nested deeper than 256 levels"):
            parse_json(nested(levels))


def test_brackets_in_strings_and_side_by_side_are_no_depth():
    assert parse_json(json.dumps("[{" * 1000).encode()) == "[{" * 1000
    assert parse_json(b"[" + b"[]," * 1000 + b"[]]") == [[]] * 1001
    assert depth(b'{"a\\"[[":"]\\\\","b":[{}]}') == 3


@given(VALUES)
def test_what_python_writes_is_read_back(value):
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(VALUES)
def test_depth_is_the_depth_of_the_value(value):
    def levels(item):
        if isinstance(item, dict):
            item = list(item.values())
        return 1 + max(map(levels, item), default=0) if isinstance(item, list) else 0

    assert depth(json.dumps(value).encode()) == levels(value)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_not_json(raw):
    try:
        parse_json(raw)
    except NotJson:
        return
    json.loads(raw)
