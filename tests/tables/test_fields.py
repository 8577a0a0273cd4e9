"""Fields of whole blocks: both ways of finding them agree, and `given` says what a fold sees."""

from __future__ import annotations

import hashlib
import random

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.dialects import DELETE, OTHER
from meshlab.events import encode_event
from meshlab.records import FIELDS
from meshlab.snapshot.fold import FOLD_COLUMNS
from meshlab.tables import digests, fields
from meshlab.tables.digests import text_keys
from meshlab.tables.events import load_user
from meshlab.tables.fields import record_fields
from meshlab.tables.parse import Parser
from meshlab.tables.schema import COLUMNS, EVENT_SCHEMA
from meshlab.tables.seal import seal
from meshlab.testing import strategies
from meshlab.wal.lines import Block

from .logs import mixed_log
from .test_parse import blocks_of, corpus, write_log
from .test_structure import TRICKY, expected_mask, expected_sizes

SCREENING = Parser(["op"], least_rows=1)
OURS = (
    b'{"Insert":{"id":"m1","amplitude":0.5,"comfort_metrics":{"perturbation":1.0},"position":2.0,"mode":"a, \\"b\\""}}'
)

SPELLED = [
    b'{"Update":{"id":"x","\\u0061mplitude":1}}',
    b'{"Update":{"id":"x","p\\u006fsition":1,"mode":"Dark"}}',
    b'{"Update":{"id":"x","pos\\u0069tion":1}}',
    b'{"Update":{"id":"x","comfort_metrics":{"perturb\\u0061tion":1,"energy":2},"width":3}}',
    b'{"Update":{"id":"x", "width":3}}',
    b'{"Update":{"id":"x" ,"width":3}}',
    b'{"Update":{"id":"x","width": 3}}',
    b'{"Update":{"id":"x","width":3 }}',
    b'{"Update":{ "id":"x","width":3}}',
    b'{"Update":{"id":"x","emotional_signature":{"valence": 1 , "arousal":2},"width":3}}',
]


def sizes_of(block: Block, parser: Parser = SCREENING) -> dict[bytes, tuple[list[tuple[str, int]], int]]:
    """For each event of a block that is a record's: names and sizes of its fields, and what is given."""
    records = parser.parse(block)
    found = record_fields(block, records)
    masks = found.masks(len(block.op))
    data, told = memoryview(block.data), {}
    for row in np.flatnonzero(records.op != OTHER).tolist():
        if row not in records.failed:
            raw = bytes(data[block.event_start[row] : block.event_stop[row]])
            mine = found.row == row
            names = [found.names[code] for code in found.code[mine].tolist()]
            given = 0 if records.op[row] == DELETE else int(masks[row])
            told[raw] = list(zip(names, found.nbytes[mine].tolist(), strict=True)), given
    return told


def check(blocks: list[Block]) -> int:
    told = {raw: found for block in blocks for raw, found in sizes_of(block).items()}
    assert {raw: found for raw, (found, _) in told.items()} == {raw: _sizes(raw) for raw in told}
    assert {raw: given for raw, (_, given) in told.items()} == {raw: expected_mask(raw) for raw in told}
    return len(told)


def _sizes(raw: bytes) -> list[tuple[str, int]]:
    return [] if raw.startswith(b'{"Delete":"') else expected_sizes(raw)


def test_every_nasty_event_has_the_same_fields_whichever_way_they_are_found(tmp_path):
    assert check(blocks_of(tmp_path, [*corpus(), *TRICKY, *SPELLED])) > 400


def test_an_event_has_the_same_fields_in_any_company(tmp_path):
    seed = 20250707
    rng = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(8):
        check(
            blocks_of(
                tmp_path, [*rng.choices(SPELLED, k=4), OURS, *rng.choices(TRICKY, k=4), *rng.choices(corpus(), k=9)]
            )
        )


@pytest.mark.parametrize("step", [1, 4096])
@pytest.mark.parametrize("raw", SPELLED)
def test_a_key_spelled_or_spaced_in_another_way_has_its_own_size(tmp_path, monkeypatch, raw, step):
    monkeypatch.setattr(fields, "_STEP", step)
    assert check(blocks_of(tmp_path, [OURS, raw, OURS])) == 2


@settings(max_examples=20)
@given(st.lists(strategies.events(), min_size=1, max_size=8))
def test_what_the_writer_writes_has_the_same_fields_both_ways(tmp_path_factory, events):
    check(blocks_of(tmp_path_factory.mktemp("log"), [encode_event(event) for event in events]))


def test_what_our_writer_writes_is_not_looked_at_byte_by_byte(tmp_path, monkeypatch):
    looked_at = []
    look = fields.find_fields
    monkeypatch.setattr(
        fields, "find_fields", lambda data, start, stop: looked_at.extend(start) or look(data, start, stop)
    )
    for block in blocks_of(tmp_path, [OURS, b'{"Update":{"id":"m1","mode":"Dark"}}', b'{"Delete":"memory-1"}'] * 5):
        assert len(sizes_of(block)) == 3
        assert looked_at == []
        assert sizes_of(block, Parser(["op"])) == sizes_of(block)  # too few rows to screen
        assert len(looked_at) == 15


# Columns


def as_a_fold_sees(row: dict) -> int:
    """What is given by the typed columns and ``extra``."""
    extra = msgspec.json.decode(row["extra"] or "{}")
    known = [row[name] is not None or name in extra for name in FIELDS]
    bits = sum(bit << place for place, bit in enumerate([*known, bool(extra.keys() - set(FIELDS))]))
    return bits if row["op"] in ("insert", "update") else 0


def content_key(row: dict) -> int | None:
    text = row["content"]
    return None if text is None else int.from_bytes(hashlib.md5(text.encode()).digest()[:8], "little", signed=True)


@pytest.fixture(params=["nasty", "mixed"])
def root(request, tmp_path):
    if request.param == "mixed":
        return mixed_log(tmp_path / "u1")
    write_log(tmp_path / "u1", [*corpus(), *TRICKY, *SPELLED])
    (tmp_path / "u1" / "wal-20250708.log").write_bytes(b'{"Delete":"late"}\n')
    return tmp_path / "u1"


def test_given_and_content_key_say_what_the_typed_columns_say(root):
    names = [*FOLD_COLUMNS, "given", "content_key"]
    for sealed in (False, True):
        if sealed:
            assert seal(root, "u1")
        events = load_user(root, "u1", progress=False, columns=names)
        rows = events.to_arrow().to_pylist()
        assert True in events.segments.column("sealed").to_pylist() or not sealed
        assert [row["given"] for row in rows] == [as_a_fold_sees(row) for row in rows]
        assert [row["content_key"] for row in rows] == [content_key(row) for row in rows]
        assert {row["given"] for row in rows if row["op"] == "delete"} == {0}


@pytest.mark.parametrize("columns", [["given"], ["content_key"], ["content_key", "given", "segment"]])
def test_they_come_alone_and_in_any_order(root, columns):
    whole = load_user(root, "u1", progress=False, columns=COLUMNS.names).to_arrow().select(columns)
    for _ in range(2):
        some = load_user(root, "u1", progress=False, columns=columns).to_arrow()
        assert some.schema.names == columns
        assert some.to_pylist() == whole.to_pylist()
        seal(root, "u1")


def test_they_are_not_there_unless_they_are_named(root):
    assert load_user(root, "u1", progress=False).to_arrow().schema == EVENT_SCHEMA


def test_chosen_rows_keep_their_own(root):
    names = ["op", "id", "given", "content_key"]
    whole = load_user(root, "u1", progress=False, columns=names).to_arrow()
    updates = load_user(root, "u1", progress=False, columns=names, ops="update").to_arrow()
    assert updates.num_rows > 5
    assert updates.to_pylist() == whole.filter(pc.equal(whole["op"].cast("string"), "update")).to_pylist()


def test_equal_contents_have_equal_keys_in_batches_of_any_size(monkeypatch):

    texts = pa.array(["sea", None, "sea", "", "é", "ψ" * 500])
    few = text_keys(texts).to_pylist()
    monkeypatch.setattr(digests, "LEAST_SLICES", 0)
    assert text_keys(texts).to_pylist() == few
    assert (few[0], few[1], len(set(few))) == (few[2], None, 5)
    assert text_keys(texts.slice(2, 3)).to_pylist() == few[2:5]
    assert text_keys(texts.slice(0, 0)).to_pylist() == []
