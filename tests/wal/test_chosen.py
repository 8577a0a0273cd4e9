"""Appends chosen under the lock: each a frame of its own, all durable before anybody is told."""

from __future__ import annotations

import pytest

from meshlab.errors import BadEvent, FrameTooLarge, NotFound, WalPoisoned, WriteFailed
from meshlab.events import Delete
from meshlab.store import Store
from meshlab.testing import FailingFiles, RecordingFiles
from meshlab.times import DAY, midnight
from meshlab.wal import frame
from meshlab.wal.commit import Request
from meshlab.wal.computed import Chosen, Computed
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2


def request(name, key=None):
    return Request([b'{"Delete":"%b"}' % name], key)


@pytest.fixture
def files():
    return RecordingFiles()


@pytest.fixture
def log(tmp_path, files):
    return Writer(tmp_path / "user", files=files, clock=lambda: NOON)


def test_each_has_a_frame_a_key_and_a_receipt_of_its_own_and_they_share_a_sync(log, files, read_log):
    log.append(Delete("first"))
    files.operations.clear()
    requests, ends = [request(b"a", b"k1"), request(b"b"), request(b"c", b"k3")], []
    log.append_chosen(lambda end: ends.append((end.segment, end.seq)) or requests)
    assert ends == [("20250707", 1)]
    assert [step.name for step in files.operations] == ["write", "sync"]
    rows = read_log(log.root).rows[1:]
    assert [(row.key, row.payload) for row in rows] == [
        (b"k1", b'{"Delete":"a"}'),
        (None, b'{"Delete":"b"}'),
        (b"k3", b'{"Delete":"c"}'),
    ]
    assert [(one.receipt.first_seq, one.receipt.offset) for one in requests] == [(row.seq, row.offset) for row in rows]


def test_when_none_is_chosen_nothing_is_written_but_what_is_there_is_synced(log, files, tmp_path):
    """What the choice went by may be another process's, which has not synced it yet."""
    other = Writer(tmp_path / "user", durability="os", clock=lambda: NOON)
    other.append(Delete("by another"))
    log.append_chosen(lambda end: [])
    assert files.names("wal-*") == ["open", "sync"]
    assert "sync_directory" in files.names("user")
    files.operations.clear()
    log.append_chosen(lambda end: [])
    assert files.names() == ["sync"]


def test_a_log_that_is_not_there_has_nothing_to_sync(log, files):
    log.append_chosen(lambda end: [])
    assert files.names("wal-*") == []
    assert not (log.root / segment_name("20250707")).exists()


def test_what_goes_wrong_in_the_choice_is_raised_and_nothing_is_written(log, files):
    def fail(_):
        raise NotFound("nothing to choose from")

    log.append(Delete("first"))
    files.operations.clear()
    with pytest.raises(NotFound):
        log.append_chosen(fail)
    assert files.names() == []


def test_one_that_fits_no_frame_fails_alone(log, read_log, monkeypatch):
    monkeypatch.setattr(frame, "MAX_FRAME", 1000)
    requests = [request(b"a"), request(b"x" * 2000), request(b"b")]
    log.append_chosen(lambda end: requests)
    assert [type(one.error) for one in requests] == [type(None), FrameTooLarge, type(None)]
    assert read_log(log.root).payloads == [b'{"Delete":"a"}', b'{"Delete":"b"}']


def test_after_a_failed_sync_none_has_a_receipt_and_the_log_is_poisoned(tmp_path):
    files = FailingFiles(kind="sync", nth=2, name="wal-*")
    log = Writer(tmp_path / "user", files=files, clock=lambda: NOON)
    log.append(Delete("first"))
    requests = [request(b"a"), request(b"b")]
    with pytest.raises(WriteFailed):
        log.append_chosen(lambda end: requests)
    assert files.hits == 1
    assert [one.receipt for one in requests] == [None, None]
    with pytest.raises(WalPoisoned):
        log.append_chosen(lambda end: [])
    reopened = Writer(tmp_path / "user", clock=lambda: NOON)
    reopened.append_chosen(lambda end: [])
    assert reopened.append(Delete("c")).last_seq == 4


def test_a_failed_sync_of_what_was_only_found_is_a_failure_too(tmp_path):
    Writer(tmp_path / "user", durability="os", clock=lambda: NOON).append(Delete("by another"))
    files = FailingFiles(kind="sync", nth=1, name="wal-*")
    with pytest.raises(WriteFailed):
        Writer(tmp_path / "user", files=files, clock=lambda: NOON).append_chosen(lambda end: [])
    assert files.hits == 1
    assert b"poison 20250707 0" in (tmp_path / "user" / "wal.lock").read_bytes()


def test_in_a_batch_each_sees_what_those_before_it_wrote(log, read_log):
    log.append(Delete("first"))
    seen = []

    def choose(name):
        return Chosen(lambda end: seen.append(end.seq) or [request(name), request(name + b"2")])

    batch = [choose(b"a"), request(b"b"), Computed(lambda end: seen.append(end.seq) or [Delete("c")]), choose(b"d")]
    log._computing = True
    log._commit(batch)
    assert seen == [1, 4, 5]
    assert [row.payload for row in read_log(log.root).rows[1:]] == [
        b'{"Delete":"%b"}' % name for name in (b"a", b"a2", b"b", b"c", b"d", b"d2")
    ]
    assert all(one.receipt is not None for one in batch)


def test_a_user_that_was_closed_is_opened_anew_which_mends_the_log(tmp_path):
    files = FailingFiles(kind="sync", nth=2, name="wal-*")
    with Store(tmp_path / "store", files=files) as store:
        store["ann"].append(Delete("a"))
        with pytest.raises(WriteFailed):
            store["ann"].append(Delete("b"))
        with pytest.raises(WalPoisoned):
            store["ann"].append(Delete("c"))
        store["ann"].close()
        assert store["ann"].append(Delete("c")).last_seq == 3
        with pytest.raises(BadEvent):
            store["ann"].append({"Insert": {}})
