"""Glued, torn and garbled lines: what proves itself is an event, the rest is named."""

from __future__ import annotations

import pytest

from meshlab.events import Delete
from meshlab.testing import LogBuilder
from meshlab.wal import reader
from meshlab.wal.frame import NO_SUM, write_frame
from meshlab.wal.paths import segment_name

DAY = "20250701"
TIME = "2025-07-01T10:00:00.000000Z"
A, B = b'{"Insert":{"id":"a"}}', b'{"Delete":"b"}'
GATEWAY = b'{"timestamp":"2025-07-01T10:00:00Z","event":{"Delete":"g"}}'
ONE = write_frame([b'{"Delete":"one"}'], TIME, seq=1, prev=NO_SUM)
TWO = write_frame([b'{"Delete":"two"}', b'{"Delete":"three"}'], TIME, seq=2, prev=ONE.sum)
TORN = b'{"timestamp":"2025-07-01T10:00:00.000000Z","event":{"Insert":{"id":"t'
LAST = b'{"Delete":"last"}\n'


@pytest.fixture
def read(tmp_path, read_log):
    def read(data: bytes, **options):
        (tmp_path / segment_name(DAY)).write_bytes(data)
        return read_log(tmp_path, **options)

    return read


FRAME_1, FRAME_2 = ONE.data.rstrip(b"\n"), TWO.data.rstrip(b"\n")
P1, P23, G = b'{"Delete":"one"}', [b'{"Delete":"two"}', b'{"Delete":"three"}'], b'{"Delete":"g"}'


@pytest.mark.parametrize(
    ("line", "payloads", "classes"),
    [
        pytest.param(A + B, [A, B], ["fused"], id="bare+bare"),
        pytest.param(A + FRAME_1, [A, P1], ["fused"], id="bare+frame"),
        pytest.param(FRAME_1 + A, [P1, A], ["fused"], id="frame+bare"),
        pytest.param(FRAME_1 + b"xyz", [P1], ["fused", "fused"], id="frame+garbage"),
        pytest.param(FRAME_1 + FRAME_2, [P1, *P23], ["fused"], id="frame+frame"),
        pytest.param(TORN + B, [B], ["fused", "fused"], id="torn+bare"),
        pytest.param(TORN + GATEWAY, [G], ["fused", "fused"], id="torn+gateway"),
        pytest.param(TORN + FRAME_1, [P1], ["fused", "fused"], id="torn+frame"),
        pytest.param(A + FRAME_2, [A, *P23], ["chain-gap", "fused"], id="bare+multi-line frame"),
        pytest.param(GATEWAY + GATEWAY, [G, G], ["fused"], id="gateway+gateway"),
        pytest.param(GATEWAY + FRAME_1, [G, P1], ["fused"], id="gateway+frame"),
        pytest.param(A + TORN, [A], ["fused", "fused"], id="bare+torn"),
        pytest.param(A + b" \t" + B + b" ", [A, B], ["fused"], id="bare+blanks+bare"),
        pytest.param(bytes(20) + A, [A], ["fused", "nul-run"], id="NULs+bare"),
        pytest.param(FRAME_1 + bytes(20), [P1], ["fused", "nul-run"], id="frame+NULs"),
        pytest.param(A + bytes(20) + B, [A, B], ["fused", "nul-run"], id="bare+NULs+bare"),
    ],
)
def test_whole_events_are_saved_from_glued_lines(read, line, payloads, classes):
    log = read(line + b"\n" + LAST)
    assert log.payloads == [*payloads, LAST.rstrip()]
    assert sorted(log.classes) == classes


def test_a_torn_batch_before_a_bare_line_leaves_only_the_bare_line(read):
    first, second = TWO.data.splitlines(keepends=True)
    log = read(first + second[:60] + B + b"\n" + LAST)
    assert log.payloads == [B, LAST.rstrip()]
    assert [reject.raw for reject in log.bad] == [first, second[:60]]


@pytest.mark.parametrize("text", [FRAME_1, GATEWAY, b'{"timestamp": "T", "event": {"Delete": "g"}, "x": 1}'])
@pytest.mark.parametrize("ending", [b"\n", b"", b"   \n", b"\x00" * 9 + b"\n"])
def test_a_line_cut_behind_its_inner_event_is_not_salvaged(read, text, ending):
    inner = text.index(b'{"Delete"')
    cut = text[: text.index(b"}", inner) + 1]
    assert read(cut + ending + LAST).payloads == [LAST.rstrip()]


@pytest.mark.parametrize("head", [b"", b"\x00" * 9, b"x"])
def test_an_event_whose_line_lost_its_head_is_not_salvaged(read, head):
    tail = head + FRAME_1[FRAME_1.index(b'{"Delete"') :]
    log = read(tail + b"\n" + LAST)
    assert log.payloads == [LAST.rstrip()]
    assert sum(reject.nbytes for reject in log.bad) == len(tail) + 1


def test_an_event_quoted_inside_a_torn_string_is_not_salvaged(read):
    quoted = LogBuilder(DAY).frame([{"note": 'he wrote {"Delete":"b"}'}]).data
    cut = quoted[: quoted.index(b"}", quoted.index(b"Delete")) + 1]
    assert read(cut + b"\n" + LAST).payloads == [LAST.rstrip()]


def test_nuls_at_the_end_are_torn_and_in_the_middle_damage(read):
    log = read(ONE.data + bytes(100) + b"\n" + TWO.data + bytes(50))
    assert log.payloads == [P1, *P23]
    assert [(reject.kind, reject.nbytes) for reject in log.rejects] == [("nul-run", 101), ("torn", 50)]


def test_a_last_frame_with_a_hole_of_nuls_is_torn_and_not_claimed(tmp_path, read, read_log, fast_files):
    from meshlab.wal.writer import Writer

    holed = FRAME_2[:70] + bytes(40) + FRAME_2[110:] + b"\n"
    assert set(read(ONE.data + holed).classes) == {"torn"}
    writer = Writer(tmp_path, files=fast_files, clock=lambda: 1751364000_000000)
    assert writer.append(Delete("next")).first_seq == 3, "seq 2 is the Recovered frame"
    assert set(read_log(tmp_path).classes) == {"torn"}


def test_carriage_returns_and_blank_lines_lose_nothing(read):
    data = ONE.data.replace(b"\n", b"\r\n") + b"\n  \n\t\r\n" + A + b"\r\n\n" + LAST + b" "
    log = read(data)
    assert (log.payloads, log.rejects) == ([P1, A, LAST.rstrip()], [])
    assert log.parts[0].tally.blanks == 5


def test_text_that_is_not_utf8_is_named_so(read):
    log = read(b'{"Insert":{"id":"\xff"}}\n' + LAST)
    assert (log.payloads, log.classes) == ([LAST.rstrip()], ["not-utf8"])


def test_a_frame_whose_sum_holds_over_bytes_that_are_not_utf8_is_rejected(read):
    frame = write_frame([b'{"Delete":"\xff"}'], TIME, seq=1, prev=NO_SUM)
    log = read(frame.data + LAST)
    assert (log.payloads, log.classes) == ([LAST.rstrip()], ["not-utf8"])


def test_a_framed_line_alone_is_bad_sum_not_unacknowledged(read):
    log = read(TWO.data.splitlines(keepends=True)[0] + LAST)
    assert (log.payloads, log.classes) == ([LAST.rstrip()], ["bad-sum"])


def test_a_frame_of_another_layout_is_read_by_the_decoder(read):
    body = b'{ "timestamp" : "2025-07-01T12:00:00+02:00", "event" : {"Delete":"z"} ,"seq":1,"n":1,"prev":"%b"' % NO_SUM
    from meshlab.wal.frame import frame_sum

    log = read(body + b',"sum":"%b"}\n' % frame_sum(body))
    assert [(row.payload, row.seq, row.op, row.dialect) for row in log.rows] == [
        (b'{"Delete":"z"}', 1, "delete", "meshlab")
    ]


def test_a_seq_of_nineteen_digits_is_damage_and_no_crash(read):
    frame = write_frame([b'{"Delete":"z"}'], TIME, seq=9_999_999_999_999_999_999, prev=NO_SUM)
    assert read(A + frame.data + frame.data + LAST).payloads == [A, LAST.rstrip()]


@pytest.mark.parametrize("newline", [True, False])
def test_a_line_longer_than_a_frame_may_be_is_skipped_in_pieces(read, monkeypatch, newline):
    monkeypatch.setattr(reader, "MAX_FRAME", 4096)
    long = b'{"note":"' + b"x" * 10_000 + b'"}' + b"\n" * newline
    log = read(ONE.data + long + LAST * newline, chunk=512)
    assert log.payloads == [P1] + [LAST.rstrip()] * newline
    assert [(reject.kind, reject.nbytes) for reject in log.bad] == [("too-long", len(long))]


def test_a_long_run_of_nuls_is_a_nul_run(read, monkeypatch):
    monkeypatch.setattr(reader, "MAX_FRAME", 4096)
    log = read(ONE.data + bytes(9_000) + b"\n" + LAST, chunk=512)
    assert (log.payloads, log.classes) == ([P1, LAST.rstrip()], ["nul-run"])


@pytest.mark.parametrize("line", [TORN, b"garbage", bytes(30)])
def test_a_torn_end_is_damage_once_something_valid_follows(read, line):
    assert read(ONE.data + line).classes == ["torn"]
    followed = read(ONE.data + line + b"\n" + LAST)
    assert followed.bad[0].kind != "torn"


def test_a_whole_line_of_garbage_at_the_end_is_damage(read):
    assert read(ONE.data + b"garbage\n").classes == ["not-json"]


def test_a_whole_frame_that_fails_its_sum_at_the_end_is_damage(read):
    broken = ONE.data.replace(b'"one"', b'"uno"')
    assert read(broken).classes == ["bad-sum"]
    assert read(broken.rstrip()).classes == ["bad-sum"]
    assert read(broken + TORN).classes == ["bad-sum", "torn"]


@pytest.mark.parametrize("at", range(-27, -1))
def test_a_bit_flipped_in_the_ending_of_the_last_frame_is_damage_not_torn(read, at):
    flipped = bytearray(ONE.data)
    flipped[at] ^= 1
    assert set(read(bytes(flipped)).classes) <= {"bad-sum", "not-json"}


def test_a_torn_day_followed_by_an_empty_day_is_still_torn(tmp_path, read_log):
    (tmp_path / segment_name(DAY)).write_bytes(ONE.data + TORN)
    (tmp_path / segment_name("20250702")).write_bytes(b"")
    assert read_log(tmp_path).classes == ["torn"]


def test_a_claim_with_a_wrong_md5_excuses_nothing(tmp_path, read_log):
    log = LogBuilder(DAY)
    log.frame([Delete("a")])
    log.raw(TORN + b"\n")
    start = len(log.bytes()) - len(TORN) - 1
    told = b'{"Recovered":{"segment":"%b","offset":%d,"bytes":%d,"md5":"%032d","reason":"torn"}}'
    log.frame([told % (DAY.encode(), start, len(TORN), 0)])
    assert read_log(log.write(tmp_path)).classes == ["not-json"]


def test_a_claim_outside_a_frame_excuses_nothing(tmp_path, read_log):
    import hashlib

    log = LogBuilder(DAY)
    log.raw(TORN + b"\n")
    told = '{"timestamp":"%s","event":{"Recovered":{"segment":"%s","offset":0,"bytes":%d,"md5":"%s"}}}\n'
    log.raw((told % (TIME, DAY, len(TORN), hashlib.md5(TORN).hexdigest())).encode())
    assert read_log(log.write(tmp_path)).classes == ["not-json"]
