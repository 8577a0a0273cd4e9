"""A log cut anywhere gives the acknowledged prefix, names the fragment, and goes on."""

from __future__ import annotations

from meshlab.events import Delete
from meshlab.testing import LogBuilder
from meshlab.times import DAY, midnight
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer
from scoreboard.cuts import BARE, DAY_1, cut_at, mixed_log
from scoreboard.sampling import one_in


def test_every_cut_gives_the_acknowledged_prefix_and_ten_more_appends_follow(tmp_path):
    """One cut in three; all with ``MESHLAB_EVERY=1``."""
    data, units = mixed_log()
    ten = [Delete(f"new-{number}") for number in range(10)]
    cuts = one_in(3, range(len(data) + 1))
    torn = sum(cut_at(tmp_path / segment_name(DAY_1), data, units, cut, ten) for cut in cuts)
    print(f"cuts: {len(cuts)}, with a torn fragment: {torn}, units: {len(units)}")


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
