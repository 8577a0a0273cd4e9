"""Appending: what is refused, what stands in the lines, threads, forks, interrupts."""

from __future__ import annotations

import json
import os
import threading

import pytest

from meshlab.errors import BadEvent, FrameTooLarge, WriteFailed
from meshlab.events import Delete, Insert, Other, SolitonMemory, Update
from meshlab.times import DAY, midnight
from meshlab.wal import commit, frame, writer
from meshlab.wal.commit import Request
from meshlab.wal.paths import segment_name
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2


@pytest.fixture
def log(tmp_path, fast_files):
    return Writer(tmp_path / "store" / "user", files=fast_files, clock=lambda: NOON)


BAD = [
    pytest.param({"Insert": {"amplitude": 1.0}}, id="no id"),
    pytest.param({"Insert": {"id": ""}}, id="empty id"),
    pytest.param({"Update": {"id": "a", "amplitude": "high"}}, id="misfit"),
    pytest.param({"Update": {"id": "a", "amplitude": float("nan")}}, id="NaN"),
    pytest.param({"Delete": ""}, id="empty Delete"),
    pytest.param({"Delete": 7}, id="Delete of a number"),
    pytest.param({"Recovered": {}}, id="Recovered"),
    pytest.param({"note": "\ud800"}, id="surrogate"),
    pytest.param("text", id="not an event"),
]


@pytest.mark.parametrize("event", BAD)
def test_a_bad_event_touches_nothing_and_takes_its_batch_along(log, event):
    with pytest.raises(BadEvent):
        log.append(event)
    with pytest.raises(BadEvent, match="event 1 of the batch"):
        log.append_many([Delete("a"), event])
    assert not log.root.parent.exists()


@pytest.mark.parametrize("key", ["", "x" * 65, "two words", 'quo"te', "back\\slash", "é", "line\n", 7])
def test_a_bad_key_touches_nothing(log, key):
    with pytest.raises(BadEvent, match="is not allowed"):
        log.append(Delete("a"), key=key)
    assert not log.root.parent.exists()


def test_an_empty_batch_is_refused(log):
    with pytest.raises(BadEvent, match="empty"):
        log.append_many([])


def test_the_key_stands_in_every_line_before_the_seq(log, read_log):
    log.append_many([Delete("a"), Insert(SolitonMemory(id="b")), Other("text")], key="order-7")
    log.append(Delete("c"))
    rows = read_log(log.root).rows
    assert [row.key for row in rows] == [b"order-7"] * 3 + [None]
    lines = (log.root / segment_name("20250707")).read_bytes().splitlines()
    assert all(b',"key":"order-7","seq":' in line for line in lines[:3])
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4]


def test_all_kinds_of_events_come_back_as_written(log, read_log):
    memory = SolitonMemory(id="a", content="é\n", extra={"x": [None, {"y": 1}]})
    events = [Insert(memory), Update(memory), Delete("a"), Other([1]), Other("s"), Other(None), {"free": True}]
    log.append_many(events)
    for event in events:
        log.append(event)
    found = read_log(log.root)
    assert [row.op for row in found.rows] == ["insert", "update", "delete", "other", "other", "other", "other"] * 2
    assert found.payloads[:7] == found.payloads[7:]
    assert {row.dialect for row in found.rows} == {"meshlab"}
    assert found.rejects == []


def test_a_dict_with_a_tag_and_more_is_other_for_every_reader(log, read_log):
    for value in ({"Delete": "a", "x": "b"}, {"Insert": {"id": "a"}, "x": {"y": 1}}, {"Recovered": {}, "x": 1}):
        log.append(value)
    found = read_log(log.root)
    assert ({row.op for row in found.rows}, found.parts[0].claims) == ({"other"}, [])


def test_a_batch_too_large_for_a_frame_is_refused_whole(log, read_log, monkeypatch):
    for module in (frame, writer):
        monkeypatch.setattr(module, "MAX_FRAME", 1000)
    with pytest.raises(FrameTooLarge, match="split the batch"):
        log.append_many([Delete("a" * 100)] * 9)
    assert not log.root.exists()
    log.append(Delete("b"))
    with pytest.raises(FrameTooLarge):
        log.append(Delete("c" * 2000))
    assert len(read_log(log.root).rows) == 1


@pytest.mark.parametrize("size", range(880, 930))
def test_the_largest_frame_has_exactly_the_limit(log, read_log, monkeypatch, size):
    for module in (frame, writer):
        monkeypatch.setattr(module, "MAX_FRAME", 1000)
    try:
        receipt = log.append(Delete("a" * (size - 60)))
    except FrameTooLarge:
        assert (size > 900 and not (log.root / segment_name("20250707")).exists()) or size < 925
    else:
        assert receipt.nbytes <= 1000
        assert read_log(log.root).rejects == []


def test_one_request_too_large_fails_alone_among_those_committed_together(log, monkeypatch):
    monkeypatch.setattr(frame, "MAX_FRAME", 1000)
    requests = [Request([b'{"Delete":"%b"}' % (b"x" * size)], None) for size in (10, 2000, 20)]
    log._commit(requests)
    assert [request.receipt is not None for request in requests] == [True, False, True]
    assert isinstance(requests[1].error, FrameTooLarge)
    assert [requests[0].receipt.last_seq, requests[2].receipt.last_seq] == [1, 2]


def test_many_threads_of_one_writer_share_writes_and_lose_nothing(log, read_log):
    receipts, failures = [], []

    def work(number):
        try:
            for step in range(40):
                receipts.append((log.append(Delete(f"t{number}-{step}")), f"t{number}-{step}"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    rows = {row.seq: row for row in read_log(log.root).rows}
    assert sorted(rows) == list(range(1, 321))
    for receipt, name in receipts:
        row = rows[receipt.first_seq]
        assert (row.payload, row.offset, row.nbytes) == (
            b'{"Delete":"%b"}' % name.encode(),
            receipt.offset,
            receipt.nbytes,
        )


def test_an_error_reaches_every_thread_that_waited(tmp_path):
    from meshlab.testing import FailingFiles

    files = FailingFiles(kind="sync", nth=5, name="wal-*", forever=True)
    log = Writer(tmp_path, files=files, clock=lambda: NOON)
    outcomes = []

    def work():
        for _ in range(10):
            try:
                outcomes.append(log.append(Delete("a")))
            except Exception as error:
                outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(outcomes) == 80
    assert any(isinstance(outcome, WriteFailed) for outcome in outcomes)


class Interrupting:
    """Stands in for a lock of ``commit.threading``: waiting for it is interrupted."""

    def __init__(self, before):
        self.before, self.held = before, False

    def acquire(self):
        if self.held:
            self.before()
            raise KeyboardInterrupt
        self.held = True

    def release(self):
        self.held = False


def interrupt_the_wait(log, monkeypatch, before):
    """Submit a request to a busy group whose thread is interrupted while it waits."""
    log._group._busy = True
    monkeypatch.setattr(commit.threading, "Lock", lambda: Interrupting(before))
    with pytest.raises(KeyboardInterrupt):
        log.append(Delete("interrupted"))
    monkeypatch.undo()


def test_an_interrupted_follower_leaves_the_queue_and_is_not_written(log, read_log, monkeypatch):
    log.append(Delete("a"))
    interrupt_the_wait(log, monkeypatch, lambda: None)
    assert log._group._queue == []
    log._group._busy = False
    log.append(Delete("b"))
    assert read_log(log.root).payloads == [b'{"Delete":"a"}', b'{"Delete":"b"}']


def test_an_interrupted_heir_still_serves_those_behind_it(log, read_log, monkeypatch):
    behind = Request([b'{"Delete":"behind"}'], None)
    behind.gate = Interrupting(None)
    behind.gate.acquire()

    def inherit():
        log._group._queue[0].heir = True
        log._group._queue.append(behind)

    interrupt_the_wait(log, monkeypatch, inherit)
    assert behind.receipt is not None and not behind.gate.held
    assert not log._group._busy
    assert len(read_log(log.root).rows) == 2


def test_a_thread_interrupted_on_its_way_to_the_lead_still_leads(log, read_log):
    lead, calls = log._group._lead, []

    def interrupted_at_first():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        lead()

    log._group._lead = interrupted_at_first
    with pytest.raises(KeyboardInterrupt):
        log.append(Delete("a"))
    assert (log._group._busy, log._group._queue) == (False, [])
    log.append(Delete("b"))
    assert len(read_log(log.root).rows) == 2


def test_an_interrupted_leader_wakes_its_followers_and_the_log_goes_on(log, read_log):
    log.append(Delete("a"))
    follower = Request([b'{"Delete":"follower"}'], None)
    follower.gate = threading.Lock()
    follower.gate.acquire()

    original = log._group._commit

    def interrupt(batch):
        log._group._commit = original
        raise KeyboardInterrupt

    log._group._commit = interrupt
    log._group._queue.append(follower)
    with pytest.raises(KeyboardInterrupt):
        log.append(Delete("b"))
    assert isinstance(follower.error, WriteFailed) and not follower.gate.locked()
    log.append(Delete("c"))
    assert read_log(log.root).payloads[-1] == b'{"Delete":"c"}'


def test_closing_beside_appends_waits_for_them(log, read_log):
    stop = threading.Event()
    failures = []

    def work():
        try:
            while not stop.is_set():
                log.append(Delete("a"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        log.close()
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    found = read_log(log.root)
    assert ([row.seq for row in found.rows], found.rejects) == (list(range(1, len(found.rows) + 1)), [])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_appends_with_files_of_its_own(log, read_log):
    log.append(Delete("parent"))
    fds = (log._fd, log._lock._fd)
    child = os.fork()
    if child == 0:
        try:
            log.append(Delete("child"))
            same = log._lock._fd in fds and log._fd in fds and os.fstat(log._fd).st_size == 0
            os._exit(int(same))
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    log.append(Delete("parent again"))
    assert [row.seq for row in read_log(log.root).rows] == [1, 2, 3]


def test_a_line_added_without_the_lock_in_between_is_kept_and_receipts_are_right(log, read_log, monkeypatch):
    """A foreign line that comes between the look at the end and the write."""
    log.append(Delete("a"))
    path = log.root / segment_name("20250707")
    write = type(log._files).write

    def slip(self, fd, data):
        with path.open("ab") as file:
            file.write(b'{"Delete":"foreign"}\n')
        return write(self, fd, data)

    monkeypatch.setattr(type(log._files), "write", slip, raising=False)
    receipt = log.append(Delete("b"))
    monkeypatch.undo()
    log.append(Delete("c"))
    found = read_log(log.root)
    assert found.payloads == [b'{"Delete":"%b"}' % name for name in (b"a", b"foreign", b"b", b"c")]
    assert (found.rejects, found.rows[2].offset) == ([], receipt.offset)
