"""However a log is cut into chunks, the result is the same."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshlab.events import Delete
from meshlab.testing import LogBuilder
from meshlab.times import DAY as DAY_LENGTH
from meshlab.times import midnight
from meshlab.wal import reader
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

DAY = "20250701"
BARE = b'{"Insert":{"id":"b","content":"\xc3\xa9"}}'
KINDS = (
    "frame", "batch", "keyed", "bare", "gateway", "number", "blank", "crlf", "garbage", "nuls", "torn", "torn batch",
    "not utf8", "fused bare", "fused frame", "fused batch", "frame+tail", "repeat", "lost head", "flip", "other",
)  # fmt: skip


def add_line(log: LogBuilder, kind: str, rng: Random) -> None:
    """One line, or a few, of a kind."""
    name = f"m{rng.randrange(100)}"
    if kind in ("frame", "keyed"):
        log.frame([Delete(name)], key="k" * rng.randint(1, 64) if kind == "keyed" else None)
    elif kind == "batch":
        log.frame([Delete(name + "x" * rng.randrange(60)) for _ in range(rng.randint(2, 6))])
    elif kind == "fused bare":
        log.raw(BARE * rng.randint(2, 4) + b"\n")
    elif kind in ("fused frame", "fused batch"):
        log.raw(BARE)
        log.frame([Delete(name)] * (1 if kind == "fused frame" else rng.randint(2, 4)))
    elif kind in ("frame+tail", "lost head", "flip", "torn", "torn batch"):
        add_damaged(log, kind, rng, Delete(name))
    elif kind == "repeat" and log.frames:
        log.raw(rng.choice(log.frames).data)
    else:
        log.raw(FOREIGN.get(kind, b"") + b"\n")


def add_damaged(log: LogBuilder, kind: str, rng: Random, event: Delete) -> None:
    other = LogBuilder(DAY)
    other.seq, other.prev = log.seq, log.prev
    data = other.frame([event] * (rng.randint(2, 4) if kind == "torn batch" else 1)).data
    if kind == "frame+tail":
        log.frame([event])
        log.raw(b"} tail\n")
    elif kind == "lost head":
        log.raw(data[rng.randrange(1, len(data) - 1) :])
    elif kind == "flip":
        flipped = bytearray(data)
        flipped[rng.randrange(len(data) - 1)] ^= 1 << rng.randrange(8)
        log.raw(bytes(flipped))
    else:
        log.raw(data[: rng.randrange(1, len(data))] + b"\n" * rng.randrange(2))


FOREIGN = {
    "bare": BARE,
    "gateway": b'{"timestamp":"2025-07-01T10:00:00","event":{"Delete":"g"}}',
    "number": b'{"timestamp":"2025-07-01T10:00:00Z","event":1}',
    "crlf": BARE + b" \r",
    "garbage": b"no json at all",
    "nuls": bytes(40),
    "not utf8": b'{"Delete":"\xff\xfe"}',
    "other": b'[1,{"Delete":"x"}]',
}


def summary(log):
    return log.rows, log.rejects, [part.tally for part in log.parts], log.end


@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=14), seed=st.integers(0, 1 << 30))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_chunk_size_gives_the_same_rows_and_rejects(tmp_path, read_log, kinds, seed):
    rng = Random(seed)
    log = LogBuilder(DAY)
    for kind in kinds:
        add_line(log, kind, rng)
    if rng.random() < 0.3:
        log.replace(DAY, log.bytes()[: -rng.randint(1, 40)])
    (tmp_path / segment_name(DAY)).write_bytes(log.bytes())
    whole = summary(read_log(tmp_path))
    for chunk in (1, 64, rng.randint(2, 2000)):
        assert summary(read_log(tmp_path, chunk=chunk)) == whole, (chunk, kinds)


@pytest.mark.parametrize("chunk", [1, 64, 200, 300, 1000])
def test_a_bare_line_glued_to_a_batch_is_saved_with_the_batch_at_any_chunk(tmp_path, read_log, chunk):
    log = LogBuilder(DAY)
    log.raw(BARE)
    log.frame([Delete("a"), Delete("b"), Delete("c")])
    found = read_log(log.write(tmp_path), chunk=chunk)
    assert (len(found.rows), found.classes) == (4, ["fused"])


def test_a_run_of_lines_that_look_like_an_open_frame_ends_at_the_size_of_a_frame(tmp_path, read_log, monkeypatch):
    monkeypatch.setattr(reader, "MAX_FRAME", 2000)
    member = b'{"timestamp":"2025-07-01T10:00:00.000000Z","event":1,"seq":7}\n'
    (tmp_path / segment_name(DAY)).write_bytes(member * 100 + BARE + b"\n")
    found = read_log(tmp_path, chunk=64)
    assert (found.payloads, set(found.classes), len(found.rejects)) == ([BARE], {"bad-sum"}, 100)


@given(kinds=st.lists(st.sampled_from(KINDS), max_size=10), seed=st.integers(0, 1 << 30))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_writer_goes_on_behind_any_mess_and_changes_nothing_before_it(tmp_path, read_log, fast_files, kinds, seed):
    rng = Random(seed)
    log = LogBuilder(DAY)
    for kind in kinds:
        add_line(log, kind, rng)
    data = log.bytes() if kinds else b""
    data = data[: len(data) - rng.choice((0, 0, rng.randint(1, 60)))]
    (tmp_path / segment_name(DAY)).write_bytes(data)
    (tmp_path / "wal.lock").unlink(missing_ok=True)
    before = read_log(tmp_path)
    for _ in range(2):
        writer = Writer(tmp_path, files=fast_files, clock=lambda: midnight(DAY) + DAY_LENGTH // 2)
        writer.append_many([Delete("new-1"), Delete("new-2")], key="k")
        writer.append(Delete("new-3"))
        writer.close()
    assert (tmp_path / segment_name(DAY)).read_bytes().startswith(data)
    after = read_log(tmp_path)
    assert after.acknowledged == before.acknowledged + [b'{"Delete":"new-%d"}' % n for n in (1, 2, 3)] * 2
    assert [row[:2] for row in after.rows[: len(before.rows)]] == [row[:2] for row in before.rows]
    told = [(reject.offset, reject.kind) for reject in before.rejects]
    assert [(reject.offset, reject.kind) for reject in after.rejects if reject.offset < len(data)] == told
    new = [reject for reject in after.rejects if reject.offset >= len(data)]
    assert {reject.kind for reject in new} <= {"chain-gap"} and len(new) <= 1
    assert after.classes.count("torn") == before.classes.count("torn")
