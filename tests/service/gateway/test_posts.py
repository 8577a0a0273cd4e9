"""Bodies become drafts, or are refused at once for what they are."""

import gc
import time

import pytest

from meshlab.errors import BadEvent, BadUserId
from meshlab.service.gateway.posts import read_key, read_post, read_uid, split_lines
from meshlab.service.gateway.refusals import Malformed, TooLarge


def post(event, uid=b'"ann"', more=b""):
    return b'{"userId":%b,"event":%b%b}' % (uid, event, more)


@pytest.mark.parametrize(
    ("event", "stored"),
    [
        (b'{"Insert": {"id": "m1", "amplitude": 1e0}}', b'{"Insert":{"id":"m1","amplitude":1.0}}'),
        (b'{"Delete": {"id": "m1"}}', b'{"Delete":"m1"}'),
        (b'{"type":"page_view",\n  "n": 1}', b'{"type":"page_view","n":1}'),
        (b'"a bare string"', b'"a bare string"'),
        (b"42", b"42"),
        (b"null", b"null"),
        (b"[]", b"[]"),
        ('"caf\u00e9 \u2615"'.encode(), '"caf\u00e9 \u2615"'.encode()),
        (b'{"a":1,"a":2}', b'{"a":2}'),
    ],
)
def test_any_json_value_is_an_event_in_one_canonical_form(event, stored):
    assert read_post(post(event)).event == stored


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"{",
        b"[]",
        b"null",
        b'{"userId":"ann"}',
        b'{"event":1}',
        b'{"userId":7,"event":1}',
        b'{"userId":"ann","event":NaN}',
        b'{"userId":"ann","event":1,}',
        b'{"userId":"ann","event":1} 2',
        b'{"userId":"ann","event":1e400}',
        b'{"userId":"ann","event":"\\ud800"}',
        b'{"userId":"ann","event":"\xff"}',
        b'\xff\xfe{\x00"\x00',
        b'\xef\xbb\xbf{"userId":"ann","event":1}',
        b'{"userId":"ann","event":' + b"9" * 5000 + b"}",
        b'{"userId":"ann","event":1,"key":7}',
    ],
    ids=repr,
)
def test_what_is_not_the_json_expected_is_malformed(body):
    with pytest.raises((Malformed, BadEvent)):
        read_post(body)


@pytest.mark.parametrize(
    "event", [b'{"Insert":{"amplitude":1}}', b'{"Update":{"id":""}}', b'{"Recovered":{}}', b'{"Delete":7}', b"1e308000"]
)
def test_an_event_the_log_would_refuse_is_refused_here(event):
    with pytest.raises((BadEvent, Malformed)):
        read_post(post(event))


@pytest.mark.parametrize("uid", ["../etc", "..", ".", "", "a/b", "a\\u0000b", "-a", "a" * 129, ".meshlab", "\\u00e4"])
def test_a_uid_that_is_no_name_in_the_store_is_refused(uid):
    with pytest.raises(BadUserId):
        read_post(post(b"1", b'"%b"' % uid.encode()))


@pytest.mark.parametrize("nest", [b"[", b'{"a":'])
def test_twenty_thousand_levels_are_refused_before_they_cost_anything(nest):
    body = post(nest * 20_000 + b"1" + {b"[": b"]"}.get(nest, b"}") * 20_000)
    with pytest.raises((BadEvent, Malformed)):
        read_post(body)
    fastest = 1.0
    for _ in range(20):
        began = time.perf_counter()
        with pytest.raises((BadEvent, Malformed)):
            read_post(body)
        fastest = min(fastest, time.perf_counter() - began)
    assert fastest < 0.001


def test_a_mebibyte_of_shallow_brackets_costs_milliseconds():
    body = post(b"[" + b"[]," * 300_000 + b"[]]")
    gc.disable()  # in this process there is a lot to look through; the gateway puts it aside
    try:
        began = time.perf_counter()
        read_post(body)
        assert time.perf_counter() - began < 0.5
    finally:
        gc.enable()


def test_the_deepest_event_the_log_takes_passes_and_one_level_more_does_not():
    assert read_post(post(b"[" * 256 + b"]" * 256)).event
    with pytest.raises(BadEvent, match="256"):
        read_post(post(b"[" * 257 + b"]" * 257))


def test_a_key_may_stand_in_the_header_or_the_body_but_not_differ():
    assert read_post(post(b"1", more=b',"key":"k1"')).key == b"k1"
    assert read_post(post(b"1", more=b',"key":"k1"'), b"k1").key == b"k1"
    assert read_post(post(b"1"), b"k1").key == b"k1"
    with pytest.raises(Malformed, match="another"):
        read_post(post(b"1", more=b',"key":"k1"'), b"k2")


@pytest.mark.parametrize("header", ["", '""', "a b", 'a"b', "a" * 65, "\u00e9", '"'])
def test_a_key_that_does_not_fit_in_a_line_is_refused(header):
    with pytest.raises(BadEvent):
        read_key(header)


def test_a_body_of_a_checkpoint_names_a_user():
    assert read_uid(b'{"userId":"ann"}') == "ann"
    with pytest.raises(BadUserId):
        read_uid(b'{"userId":"../ann"}')


def test_lines_keep_their_numbers_and_blank_ones_are_none():
    lines = list(split_lines(b"1\n\n  \r\n22\r\n333", most=10, longest=3))
    assert [(number, bytes(line)) for number, line in lines if isinstance(line, bytes)] == [
        (1, b"1"),
        (4, b"22\r"),
        (5, b"333"),
    ]
    (number,) = [pair[0] for pair in split_lines(b"1\n4444", most=10, longest=3) if isinstance(pair[1], TooLarge)]
    assert number == 2
    with pytest.raises(TooLarge):
        list(split_lines(b"1\n" * 11 + b"1", most=10, longest=3))
