"""Appends computed under the lock: what they see, and whose error is whose."""

from __future__ import annotations

import os
import threading

import pytest

from meshlab.errors import BadEvent, FrameTooLarge, NotFound
from meshlab.events import Delete
from meshlab.testing import FailingFiles, RecordingFiles
from meshlab.times import DAY, midnight
from meshlab.wal import frame
from meshlab.wal.commit import Request
from meshlab.wal.computed import Computed
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2


@pytest.fixture
def log(tmp_path, fast_files):
    return Writer(tmp_path / "user", files=fast_files, clock=lambda: NOON)


def size_of(log):
    return (log.root / segment_name("20250707")).stat().st_size


def plain(name):
    return Request([b'{"Delete":"%b"}' % name], None)


def test_it_is_told_where_the_log_ends(log):
    ends = []

    def compute(end):
        ends.append((end.segment, end.size, end.seq))
        return [Delete("a"), Delete("b")]

    first = log.append_computed(compute)
    second = log.append_computed(compute)
    assert ends == [(None, 0, 0), ("20250707", first.nbytes, 2)]
    assert (second.first_seq, second.last_seq, second.offset) == (3, 4, first.nbytes)


def test_each_of_a_batch_sees_those_before_it_in_the_file(log, read_log):
    sizes = []

    def computed(name):
        return Computed(lambda end: sizes.append((end.size, size_of(log))) or [Delete(name)])

    log.append(Delete("first"))
    batch = [plain(b"a"), plain(b"b"), computed("c"), computed("d"), plain(b"e"), plain(b"f")]
    log._computing = True
    log._commit(batch)
    assert [told == found for told, found in sizes] == [True, True]
    assert sizes[0][0] < sizes[1][0]
    assert [row.payload for row in read_log(log.root).rows[1:]] == [b'{"Delete":"%c"}' % c for c in b"abcdef"]
    assert [request.receipt.first_seq for request in batch] == [2, 3, 4, 5, 6, 7]


def test_a_batch_with_computed_appends_is_synced_once_and_plain_ones_are_written_together(tmp_path):
    files = RecordingFiles()
    log = Writer(tmp_path / "user", files=files, clock=lambda: NOON)
    log.append(Delete("first"))
    files.operations.clear()
    log._computing = True
    log._commit([plain(b"a"), plain(b"b"), Computed(lambda _: [Delete("c")]), Computed(lambda _: [Delete("d")])])
    assert [step.name for step in files.operations] == ["write", "write", "write", "sync"]


def test_an_error_is_its_own_and_nothing_is_written_for_it(log, read_log, monkeypatch):
    def fail(_):
        raise NotFound("no such memory")

    with pytest.raises(NotFound, match="no such memory"):
        log.append_computed(fail)
    for events in ([], [{"Insert": {"id": ""}}]):
        with pytest.raises(BadEvent):
            log.append_computed(lambda _, events=events: events)
    assert not (log.root / segment_name("20250707")).exists()
    monkeypatch.setattr(frame, "MAX_FRAME", 1000)
    with pytest.raises(FrameTooLarge):
        log.append_computed(lambda _: [Delete("x" * 2000)])
    batch = [Computed(fail), plain(b"a"), Computed(fail), Computed(lambda _: [Delete("b")])]
    log._commit(batch)
    assert [type(request.error) for request in batch] == [NotFound, type(None), NotFound, type(None)]
    assert read_log(log.root).payloads == [b'{"Delete":"a"}', b'{"Delete":"b"}']


def test_what_a_crash_left_is_named_before_its_events(log, read_log):
    log.append(Delete("a"))
    log.close()
    path = log.root / segment_name("20250707")
    with path.open("ab") as file:
        file.write(b'{"timestamp":"2025-07-07T12:00:00.0000')
    seen = []
    Writer(log.root, clock=lambda: NOON).append_computed(lambda end: seen.append(end) or [Delete("b")])
    assert len(seen[0].torn) == 1
    found = read_log(log.root)
    assert found.acknowledged == [b'{"Delete":"a"}', b'{"Delete":"b"}']
    assert found.classes == ["torn"]


def test_a_failed_sync_fails_all_of_the_batch_and_poisons_the_log(tmp_path):
    files = FailingFiles(kind="sync", nth=2, name="wal-*")
    log = Writer(tmp_path / "user", files=files, clock=lambda: NOON)
    log.append_computed(lambda _: [Delete("a")])
    computed = []
    for _ in range(2):
        with pytest.raises(OSError):
            log.append_computed(lambda _: computed.append(1) or [Delete("b")])
    assert computed == [1]


def test_threads_that_compute_and_threads_that_do_not_share_a_log(log, read_log):
    counts = []

    def work(number):
        for _ in range(30):
            if number % 2:
                log.append(Delete("plain"))
            else:
                log.append_computed(lambda end: counts.append(end.seq) or [Delete("computed")])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    rows = read_log(log.root).rows
    assert [row.seq for row in rows] == list(range(1, 181))
    assert [seq + 1 for seq in counts] == [row.seq for row in rows if row.payload == b'{"Delete":"computed"}']


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_computes_too(log, read_log):
    log.append(Delete("parent"))
    child = os.fork()
    if child == 0:
        try:
            log.append_computed(lambda end: [Delete(f"child behind {end.seq}")])
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert read_log(log.root).payloads == [b'{"Delete":"parent"}', b'{"Delete":"child behind 1"}']
