"""The screen lets through what our writer writes, and no key can forge its kind."""

from __future__ import annotations

import numpy as np
import pytest

from meshlab.records import FIELDS, ComfortMetrics, EmotionalSignature
from meshlab.tables import screen
from meshlab.tables.screen import count_keys
from meshlab.wal.lines import PAD

NAMES = [*FIELDS, *EmotionalSignature.__struct_fields__, *ComfortMetrics.__struct_fields__]
GAP = b',"seq":12,"n":1 '


def look(*records: bytes) -> list[tuple[int, bool]]:
    """Keys and doubt of each record, with other bytes between them."""
    data, start, stop = GAP, [], []
    for record in records:
        start.append(len(data))
        data += record
        stop.append(len(data))
        data += GAP
    keys, doubtful, _ = count_keys(np.frombuffer(data + bytes(PAD), np.uint8), np.array(start), np.array(stop))
    return list(zip(keys.tolist(), doubtful.tolist(), strict=True))


def kind_of(name: str) -> bytes:
    return screen._endings()[(b',"' + name.encode())[-4:]]


@pytest.mark.parametrize("name", NAMES)
def test_no_spelling_of_a_key_with_an_escape_gets_another_kind(name):
    endings = screen._endings()
    for at, char in enumerate(name):
        for digits in (f"{ord(char):04x}", f"{ord(char):04X}"):
            spelled = f"{name[:at]}\\u{digits}{name[at + 1 :]}"
            for mark in b"{", b",":
                ending = (mark + b'"' + spelled.encode())[-4:]
                assert endings.get(ending, kind_of(name)) == kind_of(name)


def test_compact_records_are_beyond_doubt():
    assert look(b'{"id":"a","amplitude":-0.5,"access_count":12}', b'{"id":"b"}') == [(3, False), (1, False)]


@pytest.mark.parametrize(
    "record",
    [
        b'{"id" :"a"}', b'{"id"  :"a"}', b'{"id"\t:"a"}', b'{"id":"a",}', b'{"id":"a", }', b'{"id":"a","x":[1,]}',
        b'{"id":5}', b'{"amplitude":"5"}', b'{"amplitude":true}', b'{"access_count":1.5}', b'{"access_count":1e3}',
        b'{"access_count":-1}', b'{"access_count":"1"}', b'{"mode":null}', b'{"emotional_signature":[]}',
        b'{"trauma_indicators":{}}', b'{"id": "a"}', b'{"unknown":1}', b'{"\\u0069d":"a"}',
    ],
)  # fmt: skip
def test_what_duckdb_forgives_or_converts_is_doubtful(record):
    good = b'{"id":"a"}'
    assert [doubt for _, doubt in look(good, record, good)] == [False, True, False]


@pytest.mark.parametrize("text", [b"smile :)", b"a, b ] c }", b"[ ]", b"{ x }", b"50 : 50", b"\\\\", b"-> ,"])
def test_punctuation_in_text_raises_no_doubt(text):
    assert look(b'{"id":"a","content":"' + text + b'"}') == [(2, False)]


def test_quoted_colons_in_text_only_add_to_the_count():
    assert look(b'{"id":"a","content":"{\\"id\\":1}"}')[0][0] == 3


def test_records_across_steps_are_counted_once(monkeypatch):
    record = b'{"id":"a","amplitude":0.5,"access_count":7,"mode" :"x"}'
    whole = look(*[record] * 40)
    for step in (16, 61, 100):
        monkeypatch.setattr(screen, "_STEP", step)
        assert look(*[record] * 40) == whole
