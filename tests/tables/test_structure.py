"""Where the fields of records stand: as a plain reader of JSON finds them, whatever the bytes."""

from __future__ import annotations

import random
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.dialects import INSERT, OTHER, UPDATE, parse_event
from meshlab.events import encode_event
from meshlab.jsontext import NotJson
from meshlab.records import FIELDS
from meshlab.tables import structure
from meshlab.tables.structure import UNKNOWN, find_fields
from meshlab.testing import strategies
from meshlab.wal.lines import PAD

from .test_parse import corpus

WHITE = b" \t\r\n"


class Reader:
    """Walks one JSON text byte by byte; slow, and with nothing of the scan in it."""

    def __init__(self, text: bytes) -> None:
        self.text, self.at = text, 0

    def skip(self) -> int:
        while self.text[self.at : self.at + 1] and self.text[self.at] in WHITE:
            self.at += 1
        return self.at

    def string(self) -> bytes:
        start = self.at
        self.at += 1
        while self.text[self.at] != 0x22:
            self.at += 2 if self.text[self.at] == 0x5C else 1
        self.at += 1
        return self.text[start : self.at]

    def value(self) -> bytes:
        """The bytes of the next value."""
        start, level = self.skip(), 0
        while True:
            byte = self.text[self.at]
            if byte == 0x22:
                self.string()
            elif byte in b"{[":
                level, self.at = level + 1, self.at + 1
            elif byte in b"}]":
                level, self.at = level - 1, self.at + 1
            else:
                self.at += 1
            ends = self.at == len(self.text) or self.text[self.at] in b",}]" + WHITE or byte in b'"}]'
            if level == 0 and ends:
                return self.text[start : self.at]

    def members(self) -> list[tuple[bytes, bytes]]:
        """Keys and values of the object that begins here, as they were written."""
        self.skip()
        assert self.text[self.at] == 0x7B
        self.at, found = self.at + 1, []
        while self.text[self.skip()] != 0x7D:
            key = self.string()
            assert self.text[self.skip()] == 0x3A
            self.at += 1
            found.append((key, self.value()))
            if self.text[self.skip()] == 0x2C:
                self.at += 1
        return found


def expected_sizes(raw: bytes) -> list[tuple[str, int]]:
    """Name and bytes of every field in the records of an event, in order."""
    records = [value for _, value in Reader(raw).members() if value.startswith(b"{")]
    members = [member for record in records for member in Reader(record).members()]
    return [(msgspec.json.decode(key), len(key) + len(value)) for key, value in members]


def expected_mask(raw: bytes) -> int:
    """What the definition says is given: a fold sees no more."""
    event = parse_event(raw)
    if event.op not in (INSERT, UPDATE):
        return 0
    extra = event.extra or {}
    known = [getattr(event.fields, name) is not None or name in extra for name in FIELDS]
    return sum(bit << place for place, bit in enumerate([*known, bool(extra.keys() - set(FIELDS))]))


def is_read(raw: bytes) -> bool:
    try:
        return parse_event(raw).op != OTHER
    except NotJson:
        return False


def laid_out(events: list[bytes], between: bytes = b'\n"{') -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events in one buffer with something between them that is no JSON."""
    text, start = between, []
    for event in events:
        start.append(len(text))
        text += event + between
    begin = np.array(start, np.int64)
    return np.frombuffer(text + bytes(PAD), np.uint8), begin, begin + [len(event) for event in events]


def check(events: list[bytes]) -> None:
    fields = find_fields(*laid_out(events))
    names = [fields.names[code] for code in fields.code.tolist()]
    found: list[list[tuple[str, int]]] = [[] for _ in events]
    for row, name, nbytes in zip(fields.row.tolist(), names, fields.nbytes.tolist(), strict=True):
        found[row].append((name, nbytes))
    masks = fields.masks(len(events)).tolist()
    for raw, these, mask in zip(events, found, masks, strict=True):
        assert these == expected_sizes(raw), raw[:300]
        if parse_event(raw).op in (INSERT, UPDATE):
            assert mask == expected_mask(raw), raw[:300]


def spaced(raw: bytes, rng: random.Random) -> bytes:
    """The same JSON with white space wherever it may stand."""
    parts, reader = [], Reader(raw)
    while reader.at < len(raw):
        byte = raw[reader.at]
        if byte == 0x22:
            token = reader.string()
        else:
            reader.at += 1
            token = raw[reader.at - 1 : reader.at]
        marks = b'{}[]:,"'
        pad = rng.choices([b"", b" ", b"\t", b"  \t "], k=2) if token[0] in marks else [b"", b""]
        parts.append(pad[0] + token + pad[1])
    return b"".join(parts).strip()


SOUND = [event for event in corpus() if is_read(event)]

TRICKY = [
    b'{"Insert":{"id":"a\\\\","content":"x \\"{[ y","mode":"\\\\\\""}}',
    b'{"Update": {"id": "m1", "amplitude" : 1.0 , "z": {"id":3, "mode":[{"id":null}]} } }',
    b'{"Delete":"x"}',
    b'{"Delete":{"id":"q","id":"r"}}',
    b'{"Insert":{"\\u0069d":"k","contend":1,"creation_tame":2,"emotional_signaturf":3,"emotional_sXgnature":4}}',
    b'{"Update":{"id":"x","mode":"Dark","mode":null}}',
    b'{"Update":{"id":"x","mode":null,"mode":"Dark"}}',
    b'{"Update":{"id":"x","mode":null,"\\u006dode":"Dark"}}',
    b'{"Update":{"id":"x","theme":null}}',
    b'{"Update":{"id":"x","":1," ":2,"\xc3\xa9":3}}',
    b'{"Update":{"id":"x","amplitude":"high","access_count":-1}}',
    b'{"Insert":{"id":"a","mode":"Dark"},"Insert":{"id":"b"}}',
    b'{"Insert":{"id":"a","mode":"Dark"} , "Insert": {"width":1, "id":"b"}}',
    b'{"Insert":["mode",{"id":1}],"Insert":{"id":"b"}}',
    b'{"Insert":"mode","Insert":{"id":"b"}}',
]


def test_every_nasty_event_has_the_fields_that_a_plain_reader_finds():
    assert len(SOUND) > 400
    check(SOUND)


@pytest.mark.parametrize("raw", TRICKY, ids=range(len(TRICKY)))
def test_a_tricky_event_has_the_fields_that_a_plain_reader_finds(raw):
    assert is_read(raw)
    check([raw])


def test_an_event_is_read_alike_in_any_company():
    seed = 7
    rng = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(20):
        check(rng.choices(SOUND + TRICKY[:11], k=rng.randint(1, 40)))


def test_white_space_anywhere_counts_for_nothing():
    seed = 11
    rng = random.Random(seed)
    print(f"seed {seed}")
    events = [spaced(event, rng) for event in SOUND if len(event) < 2000]
    assert sum(b" " in event for event in events) > 300
    check([event for event in events if is_read(event)])


def test_events_are_cut_anywhere_into_stretches(monkeypatch):
    for step in (1, 100, 5000):
        monkeypatch.setattr(structure, "_STRETCH", step)
        check(SOUND[:200])


@settings(max_examples=50)
@given(st.lists(strategies.events(), min_size=1, max_size=8))
def test_what_the_writer_writes_has_the_fields_that_were_given(events):
    check([raw for raw in map(encode_event, events) if is_read(raw)])


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=6).map(lambda tail: b"\\\\" * len(tail)), min_size=1, max_size=4))
def test_runs_of_backslashes_are_counted(runs):
    check([b'{"Update":{"id":"x%b","content":"\\"%b","mode":"%b\\""}}' % (run, run, run) for run in runs])


def test_nothing_gives_nothing():
    fields = find_fields(np.zeros(PAD, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert (len(fields.row), fields.masks(0).tolist()) == (0, [])


def test_bits_are_those_of_the_fields():
    fields = find_fields(*laid_out([b'{"Update":{"id":"x","mode":"Dark","theme":1}}']))
    assert fields.masks(1).tolist() == [1 | 1 << FIELDS.index("mode") | 1 << UNKNOWN]


def seconds_for(events: list[bytes]) -> tuple[structure.Fields, float]:
    laid, started = laid_out(events), time.perf_counter()
    fields = find_fields(*laid)
    seconds = time.perf_counter() - started
    print(f"{seconds:.2f} s")
    return fields, seconds


def test_a_megabyte_of_backslashes_or_spaces_is_passed_at_once():
    """Byte by byte it takes a minute."""
    slashes = b'{"Update":{"id":"x","content":"%b\\""}}' % (b"\\\\" * 500_000)
    spaces = b'{"Update":{"id":"x",%b"mode":%bnull%b}}' % ((b" " * 1_000_000,) * 3)
    fields, seconds = seconds_for([slashes, spaces])
    assert fields.nbytes.tolist() == [7, 1_000_013, 7, 10]
    assert seconds < 5


def test_many_names_nobody_knows_are_told_apart_at_once():
    """Looking each up in a list takes twenty seconds."""
    fields, seconds = seconds_for([b'{"Update":{"id":"x","name-%d":1}}' % number for number in range(20_000)])
    assert len(set(fields.code.tolist())) == 20_001
    assert seconds < 5
