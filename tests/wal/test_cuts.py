"""A log cut anywhere gives the acknowledged prefix, names the fragment, and goes on."""

from __future__ import annotations

from meshlab.events import Delete, Insert, SolitonMemory, Update
from meshlab.testing import LogBuilder
from meshlab.times import DAY, midnight
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

DAY_1 = "20250701"
BARE = b'{"Insert":{"id":"bare","content":"h\xc3\xa9"}}'
GATEWAY = b'{"timestamp":"2025-07-01T10:00:00Z","event":{"type":"view","tags":["a",{}]}}'


def mixed_log() -> tuple[bytes, list[tuple[int, list[bytes]]]]:
    """A segment, and for each unit of acknowledgement where it ends and what it holds."""
    log, units = LogBuilder(DAY_1), []

    def framed(*events, key=None):
        start = len(log.bytes()) if log.days() else 0
        frame = log.frame(events, key=key)
        payloads = [line.split(b',"event":')[1] for line in frame.data.splitlines()]
        units.append((start + len(frame.data), [p.split(b',"key"')[0].split(b',"seq"')[0] for p in payloads]))

    def foreign(line):
        log.raw(line + b"\n")
        units.append((len(log.bytes()), [line]))

    framed(Insert(SolitonMemory(id="a", content='say "hi"\n')))
    framed(Delete("b"), Update(SolitonMemory(id="a", amplitude=0.5)), Delete("c"), key="order-7")
    foreign(BARE)
    framed({"Delete": "d"})
    foreign(GATEWAY)
    units[-1] = (units[-1][0], [b'{"type":"view","tags":["a",{}]}'])
    framed({"free": [1, 2]}, Delete("é"))
    return log.bytes(), units


def test_every_cut_gives_the_acknowledged_prefix_and_ten_more_appends_follow(tmp_path, read_log, fast_files):
    data, units = mixed_log()
    path = tmp_path / segment_name(DAY_1)
    ten = [Delete(f"new-{number}") for number in range(10)]
    torn = 0
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        (tmp_path / "wal.lock").unlink(missing_ok=True)
        # A unit counts as soon as all of it but its newline is there.
        kept = [unit for unit in units if unit[0] - 1 <= cut]
        expected = [payload for _, payloads in kept for payload in payloads]
        whole = min(kept[-1][0], cut) if kept else 0
        before = read_log(tmp_path)
        assert before.payloads == expected, cut
        assert sum(reject.nbytes for reject in before.bad) == cut - whole, cut
        assert set(before.classes) <= {"torn"}, cut
        torn += whole < cut

        writer = Writer(tmp_path, files=fast_files, clock=lambda: midnight(DAY_1) + DAY // 2)
        writer.append(ten[0])
        writer.append(ten[1])
        writer.append_many(ten[2:])
        writer.close()
        after = read_log(tmp_path)
        assert after.acknowledged == expected + [b'{"Delete":"new-%d"}' % number for number in range(10)], cut
        assert len(after.rows) - len(after.acknowledged) == (whole < cut), cut
        assert [(r.offset, r.kind) for r in after.rejects] == [(r.offset, "torn") for r in before.rejects], cut
        assert path.read_bytes().startswith(data[:cut])
    print(f"cuts: {len(data) + 1}, with a torn fragment: {torn}, units: {len(units)}")


def test_a_second_cut_inside_the_recovery_leaves_torn_runs_only(tmp_path, read_log, fast_files):
    data, _ = mixed_log()
    path = tmp_path / segment_name(DAY_1)
    first_frame = data.index(b"\n") + 1
    second_frame = data.index(BARE)
    checked = 0
    for cut in (first_frame + 3, second_frame - 300, second_frame - 3):
        path.write_bytes(data[:cut])
        recovered = _append(tmp_path, fast_files, Delete("first"))
        for second in [*range(1, 80), *range(80, len(recovered) - cut - 1, 5)]:
            path.write_bytes(recovered[: cut + second])
            _append(tmp_path, fast_files, Delete("second"))
            log = read_log(tmp_path)
            assert log.acknowledged[0].startswith(b'{"Insert":{"id":"a"'), (cut, second)
            assert log.acknowledged[-1] == b'{"Delete":"second"}', (cut, second)
            assert set(log.classes) == {"torn"}, (cut, second, log.rejects)
            checked += 1
    print(f"cuts inside a recovery: {checked}")


def test_a_whole_last_line_without_newline_is_an_event_and_gets_its_newline(tmp_path, read_log, fast_files):
    log = LogBuilder(DAY_1)
    frame = log.frame([Delete("a")])
    (tmp_path / segment_name(DAY_1)).write_bytes(frame.data[:-1])
    assert read_log(tmp_path).payloads == [b'{"Delete":"a"}']
    data = _append(tmp_path, fast_files, Delete("b"))
    assert data.startswith(frame.data)
    after = read_log(tmp_path)
    assert (after.payloads, after.rejects) == ([b'{"Delete":"a"}', b'{"Delete":"b"}'], [])


def _append(root, files, event):
    (root / "wal.lock").unlink(missing_ok=True)
    writer = Writer(root, files=files, clock=lambda: midnight(DAY_1) + DAY // 2)
    writer.append(event)
    writer.close()
    return (root / segment_name(DAY_1)).read_bytes()
