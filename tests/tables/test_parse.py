"""The fast path and the definition give the same rows on a nasty corpus."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlab.dialects import OPS, OTHER, Parsed, parse_event
from meshlab.events import encode_event
from meshlab.jsontext import NotJson
from meshlab.records import FIELDS
from meshlab.tables import parse
from meshlab.tables.parse import Parser, extra_text
from meshlab.tables.schema import EVENT_SCHEMA
from meshlab.testing import strategies
from meshlab.wal.frame import NO_SUM, write_frame
from meshlab.wal.lines import Block
from meshlab.wal.reader import ORIGIN, scan_segment

PARSER = Parser(EVENT_SCHEMA.names, least_rows=1)
"""Takes the fast path wherever it can."""

TIME = "2025-07-07T12:00:00.123456Z"
FULL = {
    "id": "m1",
    "concept_id": "c1",
    "phase_tag": 1.5,
    "amplitude": 0.25,
    "frequency": 1,
    "width": 0.1,
    "position": -7.0,
    "stability": 1e-3,
    "creation_time": TIME,
    "last_accessed": TIME,
    "access_count": 3,
    "content": "plain text",
    "content_type": "Conversation",
    "emotional_signature": {"valence": 0.1, "arousal": 0.2, "dominance": 0.3, "trauma_indicators": ["a", "b"]},
    "vault_status": "Active",
    "mode": "Bright",
    "comfort_metrics": {"energy": 1.0, "stress": 0.0, "flux": 0.5, "perturbation": 0.25},
}

NUMBERS = """0 -0 -0.0 0.0 5 -5 1.5 1E5 1e+5 1e-5 0e0 1e400 -1e400 1e-400 4.9e-324 2.2250738585072011e-308 5e-324
    1.7976931348623157e308 1.7976931348623159e308 123456789012345678901234567890 9007199254740993
    0.1000000000000000055511151231257827021181583404541015625 18446744073709551615 18446744073709551616
    -9223372036854775808 -9223372036854775809 -18446744073709551615 9999999999999999999 0.30000000000000004
    NaN nan Infinity -Infinity -NaN inf -inf +1 01 -01 1. .5 1.e5 0x10 1_000 1e 1e+ - true false null "5" "0.5"
    "nan" "inf" [1] {} [] {"a":1} "" " 5" 5\t1""".replace("\\t", "\t").split()

STRINGS = [
    '"x"',
    '""',
    '"a\\u0000b"',
    '"\\ud83d\\ude00"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\uD800x"',
    '"\\"quoted\\":"',
    '"a\\":b"',
    '" : "',
    '"smile :)"',
    '"x\\" :"',
    '"code {a, }"',
    '"[ ]"',
    '",}"',
    '",]"',
    '", ]"',
    '"\\\\"',
    '"\\/"',
    '"\\x"',
    '"\\u00e9"',
    '"é"',
    '"\u2028"',
    '"\\n\\t"',
    '"a\tb"',
    '"a\x01b"',
    '"\x7f"',
    "'x'",
    "x",
    "5",
    "1.5",
    "true",
    "null",
    "[]",
    "{}",
    '["x"]',
    "NaN",
    '"unterminated',
    '"2025-07-07T12:00:00Z"',
    '"2025-07-07T14:00:00+02:00"',
    '"2025-07-07T12:00:00.123456789Z"',
    '"2025-07-07T12:00:60Z"',
    '"tomorrow"',
    '"{\\"id\\":1}"',
    '"\ud7ff"',
    '"\uffff"',
]

LISTS = [
    '["a"]',
    "[]",
    '["a","b\\"c"]',
    '["a",]',
    "[5]",
    '["a",5]',
    "[null]",
    '["a",null]',
    "[true]",
    '[["a"]]',
    '[{"a":1}]',
    '["\\ud800"]',
    '["a" ]',
    '[ "a"]',
    '["a" , "b"]',
    "[,]",
    '"a"',
    "{}",
    "null",
    '["a]", ",]"]',
    "[1e400]",
    '["\\u0000"]',
    '["a":"b"]',
    '["a"',
    "[NaN]",
    '["5"]',
    '["x: y"]',
    '["k\\":"]',
]

RECORDS = [
    '{"id":"x","id":"y"}',
    '{"id":"x","amplitude":1,"amplitude":2}',
    '{"id":"x","zzz":1}',
    '{"id":"x","zzz":null}',
    '{"id":"x","zzz" :1}',
    '{"id":"x","zzz"\t:1}',
    '{"id":"x","zzz"  :1}',
    '{"id" :"x"}',
    '{ "id":"x"}',
    '{"id": "x"}',
    '{"id":"x" }',
    '{"id":"x",}',
    '{"id":"x", }',
    '{"id":"x",\t}',
    '{,"id":"x"}',
    '{"id":"x",,"mode":"a"}',
    '{"id":"x"}}',
    '{"id":"x"',
    '{"id":"x"},{"id":"y"}',
    '{"id":"x"},"z":{}',
    '{"id":"x"} x',
    '{"id":null}',
    '{"id":5}',
    '{"id":""}',
    '{"id":true}',
    '{"id":["x"]}',
    '{"id":{"id":"x"}}',
    "{}",
    '{"mode":"Bright"}',
    '{"ID":"x"}',
    '{"Id":"x","id":"y"}',
    '{"\\u0069d":"x"}',
    '{"i\\u0064":"x"}',
    '{"id":"x","\\u0061mplitude":2}',
    '{"id":"x","amplitud\\u0065":"2"}',
    '{"id":"x","amplit\\u0075de":"2"}',
    '{"id":"x","concept_id":5,"amplitude":"0.5"}',
    '{"id":"x","amplitude":"0.5","mode":7}',
    '{"id":"x","amplitude":true}',
    '{"id":"x","mode":false}',
    '{"id":"x","z\\\\" :1}',
    '{"id":"x","amplitude" :0.5,"zzz":"y"}',
    '{"id":"x",//c\n"mode":"a"}',
    '{"id":"x"/**/}',
    "{'id':'x'}",
    '{id:"x"}',
    '{"id":"x","":1}',
    '{"":"x","id":"y"}',
    '{"id":"x" "mode":"a"}',
    '{"id":"x"."mode":"a"}',
    '{"id":"x","emotional_signature":{}}',
    '{"id":"x","emotional_signature":{"valence":null}}',
    '{"id":"x","emotional_signature":{"valence":1,"valence":2}}',
    '{"id":"x","emotional_signature":{"zzz":2}}',
    '{"id":"x","emotional_signature":{"valence":"1"}}',
    '{"id":"x","emotional_signature":{"valence":1,}}',
    '{"id":"x","emotional_signature":{"valence":1, }}',
    '{"id":"x","emotional_signature":[]}',
    '{"id":"x","emotional_signature":null}',
    '{"id":"x","emotional_signature":5}',
    '{"id":"x","emotional_signature":"{}"}',
    '{"id":"x","emotional_signature":{"valence":1e400}}',
    '{"id":"x","emotional_signature":{"valence":NaN}}',
    '{"id":"x","comfort_metrics":{"energy":1,"stress":2,"flux":3,"perturbation":4,"id":"y"}}',
    '{"id":"x","comfort_metrics":{"energy":{"energy":1}}}',
    '{"id":"x","comfort_metrics":{"energy":true}}',
    '{"id":"x","comfort_metrics":{"valence":1}}',
    '{"id":"x","energy":1}',
    '{"id":"x","trauma_indicators":["a"]}',
    '{"id":"x","a_very_long_unknown_name_time":"2025"}',
    '{"id":"x","extra":{"a":[1,2,{"b":null}]}}',
    '{"id":"x","deep":' + "[" * 200 + "]" * 200 + "}",
    '{"id":"x","deep":' + "[" * 300 + "]" * 300 + "}",
    '{"id":"x","amplitude":' + "[" * 300 + "]" * 300 + "}",
    '{"id":"x","deep":' + "[" * 5000 + "]" * 5000 + "}",
    '{"id":"x","n":1e400}',
    '{"id":"x","n":99999999999999999999999}',
    '{"id":"x","n":NaN}',
    '{"id":"x","n":"\\ud800"}',
    '{"id":"x","\\ud800":1}',
    '{"id":"x","content":"' + 'long \\"text\\" : ' * 50 + '"}',
    '{"id":"' + "i" * 5000 + '"}',
    '{"id":"x","mode":"a"}\x00',
    '\ufeff{"id":"x"}',
    '{"id":"x","mode":"\x00"}',
    "[]",
    "null",
    '"x"',
    "5",
    "",
    '{"id":"x","prev":"0000000000000000"}',
    '{"id":"x","n":1,"seq":5}',
    '{"id":"x","timestamp":"t","event":{"Insert":{}}}',
]


def _field(name: str, value: str) -> str:
    return '{"id":"m1","%s":%s}' % (name, value)


def corpus() -> list[bytes]:
    """Events, most of which no writer of ours would write."""
    records = list(RECORDS) + [json.dumps(FULL, separators=(",", ":"))]
    for name in ("amplitude", "access_count", "phase_tag"):
        records += [_field(name, value) for value in NUMBERS]
    for name in ("valence", "trauma_indicators"):
        values = NUMBERS if name == "valence" else LISTS + STRINGS
        records += [_field("emotional_signature", '{"%s":%s}' % (name, value)) for value in values]
        records += [
            _field("emotional_signature", '{"dominance":1,"%s":%s,"arousal":2}' % (name, value)) for value in values
        ]
    for name in ("content", "mode", "creation_time"):
        records += [_field(name, value) for value in STRINGS]
    records += ['{"id":%s}' % value for value in STRINGS + NUMBERS]
    events = ['{"Insert":%s}' % record for record in records] + ['{"Update":%s}' % record for record in records]
    events += [
        '{"Delete":%s}' % value for value in STRINGS + NUMBERS + ['"a","b":"c"', '"a","Insert":{"id":"b"}', '"a":"b"']
    ]
    events += ['{"Delete":{"id":%s}}' % value for value in STRINGS]
    events += ['{"Insert":{"id":"x"},"Update":{"id":"y"}}', '{"Insert":{"id":"x"},"x":{}}', '{"Insert":{"id":"x"}]']
    events += ['{"Insert":{"id":"x"}} ', ' {"Insert":{"id":"x"}}', '{"Insert": {"id":"x"}}', '{"Other":1}', "7", '"é"']
    return [event.encode("utf-8", "surrogatepass") for event in events if "\n" not in event]


def write_log(root: Path, events: list[bytes], day: str = "20250707") -> None:
    """One frame per event, each with a sum that holds, however odd its event."""
    prev, lines = NO_SUM, []
    for seq, event in enumerate(events, 1):
        frame = write_frame([event], TIME, seq=seq, prev=prev)
        prev = frame.sum
        lines.append(frame.data)
    root.mkdir(exist_ok=True)
    (root / f"wal-{day}.log").write_bytes(b"".join(lines))


def blocks_of(root: Path, events: list[bytes]) -> list[Block]:
    write_log(root, events)
    return [block for block in scan_segment(root, "20250707", ORIGIN) if len(block.op)]


def expected(raw: bytes) -> tuple[Parsed, bool]:
    """What the definition says of an event, and whether it is JSON at all."""
    try:
        return parse_event(raw), True
    except NotJson:
        return Parsed(OTHER, None, None, None), False


def bits(value: object) -> object:
    """A value in which two floats are equal only when their bits are."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items() if item is not None}
    return value


def as_plain(parsed: Parsed, name: str) -> object:
    value = getattr(parsed.fields, name, None)
    if name in ("emotional_signature", "comfort_metrics") and value is not None:
        found = {part: getattr(value, part) for part in value.__struct_fields__}
        return bits({part: list(item) if isinstance(item, tuple) else item for part, item in found.items()})
    return bits(value)


def disagreements(block: Block) -> list[str]:
    """Where the parser differs from the definition, row by row and field by field."""
    records = PARSER.parse(block)
    columns = {name: column.to_pylist() for name, column in records.columns.items()}
    data, wrong = memoryview(block.data), []
    for row in range(len(block.op)):
        raw = bytes(data[block.event_start[row] : block.event_stop[row]])
        parsed, is_json = expected(raw)
        if (row in records.failed) == is_json or (is_json and records.op[row] != parsed.op):
            wrong.append(f"{raw[:200]!r}: op {OPS[records.op[row]]}, expected {OPS[parsed.op]}, json {is_json}")
        if columns["id"][row] != parsed.id or columns["extra"][row] != extra_text(parsed.extra):
            wrong.append(f"{raw[:200]!r}: id {columns['id'][row]!r}, extra {columns['extra'][row]!r}")
        wrong += [
            f"{raw[:200]!r}: {name} {columns[name][row]!r}, expected {as_plain(parsed, name)!r}"
            for name in FIELDS[1:]
            if bits(columns[name][row]) != as_plain(parsed, name)
        ]
    return wrong


def test_every_nasty_event_means_the_same_on_both_paths(tmp_path):
    blocks = blocks_of(tmp_path, corpus())
    assert sum(len(block.op) for block in blocks) > 800
    assert [line for block in blocks for line in disagreements(block)] == []


def test_every_nasty_event_means_the_same_in_small_company(tmp_path):
    """In many small blocks, so that no neighbour decides which path a row takes."""
    seed = 20250707
    events = corpus()
    random.Random(seed).shuffle(events)
    wrong = []
    for start in range(0, len(events), 24):
        for block in blocks_of(tmp_path, events[start : start + 24]):
            wrong += disagreements(block)
    assert wrong == [], f"seed {seed}"


def test_random_numbers_keep_every_bit(tmp_path):
    seed = 7
    rng = random.Random(seed)
    tokens = [repr(struct.unpack("<d", rng.randbytes(8))[0]) for _ in range(4000)]
    tokens += [f"{rng.randint(-(10**24), 10**24)}e{rng.randint(-330, 290)}" for _ in range(2000)]
    tokens += [f"{rng.random():.{rng.randint(1, 40)}f}" for _ in range(2000)]
    tokens += [str(rng.randint(0, 2**70)) for _ in range(500)]
    events = [b'{"Update":%s}' % _field("amplitude", token).encode() for token in tokens]
    assert [line for block in blocks_of(tmp_path, events) for line in disagreements(block)] == [], f"seed {seed}"


@given(st.lists(strategies.events(), min_size=1, max_size=8))
def test_what_the_writer_writes_is_read_back_on_the_fast_path(tmp_path_factory, events):
    raw = [encode_event(event) for event in events]
    for block in blocks_of(tmp_path_factory.mktemp("log"), raw):
        assert disagreements(block) == []


def test_sound_records_of_our_writer_take_the_fast_path(tmp_path, monkeypatch):
    record = json.dumps(FULL, separators=(",", ":")).encode()
    events = [b'{"Insert":%s}' % record, b'{"Update":{"id":"m1","amplitude":0.5}}', b'{"Delete":"memory-1"}'] * 5
    slow: list[int] = []
    monkeypatch.setattr(parse, "_parse_slowly", lambda block, rows: slow.extend(rows.tolist()) or ([], {}))
    for block in blocks_of(tmp_path, events):
        PARSER.parse(block)
    assert slow == []


def test_small_blocks_never_open_a_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(parse, "borrow", lambda: pytest.fail("a connection was opened"))
    for block in blocks_of(tmp_path, [b'{"Update":{"id":"m1","amplitude":0.5}}'] * 20):
        assert Parser(EVENT_SCHEMA.names).parse(block).columns["amplitude"].to_pylist() == [0.5] * 20


def test_columns_not_asked_for_change_no_op_and_no_id(tmp_path):
    for block in blocks_of(tmp_path, corpus()):
        few = Parser(["op"], least_rows=1).parse(block)
        all_of_them = PARSER.parse(block)
        assert list(few.columns) == ["id"]
        assert few.columns["id"].equals(all_of_them.columns["id"])
        assert few.op.tolist() == all_of_them.op.tolist()
        assert few.failed == all_of_them.failed


def test_row_order_survives_many_batches_and_threads(tmp_path):
    events = [b'{"Update":{"id":"%d","access_count":%d}}' % (number, number) for number in range(30_000)]
    for block in blocks_of(tmp_path, events):
        columns = PARSER.parse(block).columns
        assert columns["access_count"].to_pylist() == list(map(int, columns["id"].to_pylist()))


def test_a_query_that_fails_costs_time_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(parse, "_QUERY", "select error('no') as result from block")
    for block in blocks_of(tmp_path, [b'{"Update":{"id":"m1","amplitude":0.5}}'] * 20):
        columns = Parser(EVENT_SCHEMA.names, least_rows=1).parse(block).columns
        assert columns["amplitude"].to_pylist() == [0.5] * 20
