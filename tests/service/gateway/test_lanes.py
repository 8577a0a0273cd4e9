"""Lanes: requests of one moment share a sync, keep their order, and one key is one event."""

import asyncio
import errno

import pytest

import meshlab
from meshlab.errors import StorageError, WriteFailed
from meshlab.service.gateway.admission import Admission, Limits
from meshlab.service.gateway.keys import KeyIndex, KeysFull
from meshlab.service.gateway.lanes import Lanes
from meshlab.service.gateway.posts import Draft
from meshlab.service.gateway.refusals import Conflict, Overloaded, Unavailable
from meshlab.store import Store

from .disk import Watch, events


def draft(number, uid="ann", key=None):
    return Draft(uid, key, b'{"Delete":"m%d"}' % number)


def test_what_comes_at_one_moment_shares_a_sync_and_keeps_its_order(run, tmp_path, disk):
    async def work(lanes):
        drafts = [draft(number) for number in range(64)]
        await asyncio.gather(*[lanes.outcome(one) for one in drafts])
        assert [one.receipt.last_seq for one in drafts] == list(range(1, 65))
        assert lanes.watch.commits == [(64, 64)]

    run(work)
    assert events(tmp_path) == [f"m{number}" for number in range(64)]
    assert disk.syncs == 1


def test_what_comes_during_a_commit_waits_for_the_next(run, tmp_path, disk):
    async def work(lanes):
        disk.gate.clear()
        first = lanes.outcome(draft(0))
        await asyncio.sleep(0.05)
        later = [lanes.outcome(draft(number)) for number in range(1, 10)]
        await asyncio.sleep(0.05)
        assert not first.done()
        disk.gate.set()
        await asyncio.gather(first, *later)
        assert lanes.watch.commits == [(1, 1), (9, 9)]

    run(work)
    assert events(tmp_path) == [f"m{number}" for number in range(10)]


def test_users_do_not_wait_for_one_another(run, disk):
    async def work(lanes):
        drafts = [draft(0, uid=f"u{number}") for number in range(20)]
        await asyncio.gather(*[lanes.outcome(one) for one in drafts])
        assert [one.receipt.last_seq for one in drafts] == [1] * 20

    run(work)
    assert disk.syncs == 20


def test_one_key_is_one_event_in_flight_and_after(run, tmp_path):
    async def work(lanes):
        together = [draft(1, key=b"k") for _ in range(5)]
        await asyncio.gather(*[lanes.outcome(one) for one in together])
        later = draft(1, key=b"k")
        await lanes.outcome(later)
        assert {one.receipt.lsn for one in [*together, later]} == {together[0].receipt.lsn}
        assert [one.duplicate for one in [*together, later]] == [False] + [True] * 5

    run(work)
    assert events(tmp_path) == ["m1"]


def test_without_keys_equal_events_are_events_each(run, tmp_path):
    async def work(lanes):
        await asyncio.gather(*[lanes.outcome(draft(1)) for _ in range(5)])

    run(work)
    assert events(tmp_path) == ["m1"] * 5


def test_a_key_for_another_event_is_a_conflict_in_flight_and_after(run, tmp_path):
    async def work(lanes):
        first, meanwhile, after = draft(1, key=b"k"), draft(2, key=b"k"), draft(2, key=b"k")
        await asyncio.gather(lanes.outcome(first), lanes.outcome(meanwhile))
        await lanes.outcome(after)
        assert first.receipt
        assert isinstance(meanwhile.error, Conflict)
        assert isinstance(after.error, Conflict)

    run(work)
    assert events(tmp_path) == ["m1"]


def test_a_retry_is_acknowledged_while_another_event_with_its_key_is_under_way(run, tmp_path):
    async def work(lanes):
        await lanes.outcome(draft(1, key=b"k"))
        drafts = [draft(number, key=b"k") for number in (2, 1, 2, 3, 1)]
        await asyncio.gather(*[lanes.outcome(one) for one in drafts])
        assert [type(one.error) for one in drafts] == [Conflict, type(None), Conflict, Conflict, type(None)]
        assert [one.duplicate for one in drafts] == [False, True, False, False, True]
        assert lanes.watch.joins == 1

    run(work)
    assert events(tmp_path) == ["m1"]


def test_two_gateways_over_one_store_write_a_key_once(run, tmp_path):
    async def work(lanes):
        other = Lanes(Store(tmp_path / "store"), Admission(Limits(rate=None), lambda: 0.0), Watch())
        pairs = []
        for number in range(40):
            pair = [draft(number, key=b"k%d" % number) for _ in range(2)]
            pairs.append(pair)
            await asyncio.gather(lanes.outcome(pair[0]), other.outcome(pair[1]))
        await other.drain()
        assert all(one.receipt.lsn == two.receipt.lsn for one, two in pairs)
        assert all(one.duplicate != two.duplicate for one, two in pairs)

    run(work)
    assert sorted(events(tmp_path)) == sorted(f"m{number}" for number in range(40))


def test_a_duplicate_is_acknowledged_only_when_it_is_on_disk(run, tmp_path, disk):
    """It may be another process's, written and not yet synced."""

    async def work(lanes):
        with meshlab.open(tmp_path / "store", durability="os") as other:
            other["ann"].append({"Delete": "m1"}, key="k")
        again = draft(1, key=b"k")
        await lanes.outcome(again)
        assert again.duplicate

    run(work)
    assert disk.syncs == 1


def test_a_duplicate_is_not_acknowledged_when_the_sync_it_waits_for_fails(run, tmp_path, disk):
    """Beside a new event, and alone: it may be another process's, written and not yet synced."""

    async def work(lanes):
        await lanes.outcome(draft(1, key=b"k1"))
        with meshlab.open(tmp_path / "store", durability="os") as other:
            other["bob"].append({"Delete": "m1"}, key="k1")
        disk.error = OSError(errno.EIO, "Input/output error")
        drafts = [draft(1, key=b"k1"), draft(2, key=b"k2"), draft(3), draft(1, uid="bob", key=b"k1")]
        await asyncio.gather(*[lanes.outcome(one) for one in drafts])
        assert [type(one.error) for one in drafts] == [WriteFailed] * 4
        assert not any(one.receipt or one.duplicate for one in drafts)
        disk.error = None
        await lanes.mend()
        again = [draft(1, key=b"k1"), draft(1, uid="bob", key=b"k1")]
        await asyncio.gather(*[lanes.outcome(one) for one in again])
        assert all(one.duplicate and one.error is None for one in again)

    run(work)
    assert events(tmp_path, "bob") == ["m1"]


def test_a_failed_sync_answers_those_behind_it_and_a_mended_log_goes_on(run, tmp_path, disk):
    async def work(lanes):
        disk.gate.clear()
        first, behind = draft(0, key=b"k0"), draft(1, key=b"k1")
        outcomes = [lanes.outcome(first)]
        await asyncio.sleep(0.05)
        outcomes.append(lanes.outcome(behind))
        others = [draft(number, key=b"k1") for number in (7, 8, 7)]
        outcomes += [lanes.outcome(one) for one in others]
        disk.error = OSError(errno.EIO, "Input/output error")
        disk.gate.set()
        await asyncio.gather(*outcomes)
        assert isinstance(first.error, WriteFailed)
        assert [type(one.error) for one in [behind, *others]] == [Unavailable] * 4
        assert [uid for uid, _ in lanes.watch.failures] == ["ann"]
        with pytest.raises(Unavailable):
            lanes.outcome(draft(2))
        await lanes.outcome(draft(0, uid="bob"))  # fails too, for itself
        await lanes.mend()
        assert set(lanes.trouble) == {"ann", "bob"}
        disk.error = None
        await lanes.mend(lambda error: False)
        assert lanes.trouble
        await lanes.mend()
        assert lanes.trouble == {}
        again = [draft(0, key=b"k0"), draft(1, key=b"k1")]
        await asyncio.gather(*[lanes.outcome(one) for one in again])
        assert [one.duplicate for one in again] == [True, False]

    run(work)
    assert events(tmp_path) == ["m0", "m1"]


def test_a_log_whose_keys_cannot_be_read_stays_in_trouble_until_they_can(run, monkeypatch):
    load = KeyIndex.load

    def fail(self):
        raise StorageError("cannot read the keys")

    async def work(lanes):
        monkeypatch.setattr(KeyIndex, "load", fail)
        one = draft(0, key=b"k")
        await lanes.outcome(one)
        assert isinstance(one.error, StorageError)
        await lanes.mend()
        assert set(lanes.trouble) == {"ann"}
        assert len(lanes.watch.failures) == 1
        monkeypatch.setattr(KeyIndex, "load", load)
        await lanes.mend()
        assert lanes.trouble == {}
        again = draft(0, key=b"k")
        await lanes.outcome(again)
        assert again.receipt

    run(work)


def test_whatever_goes_wrong_in_a_thread_a_lane_has_its_outcome_and_goes_on(run, disk, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    async def work(lanes):
        monkeypatch.setattr(lanes._store, "_close_writer", fail)
        monkeypatch.setattr(lanes.watch, "failed", fail)
        disk.error = RuntimeError("odd")
        one = draft(0)
        await asyncio.wait_for(lanes.outcome(one), 5)
        assert isinstance(one.error, WriteFailed)
        await asyncio.wait_for(lanes.mend(), 5)
        assert set(lanes.trouble) == {"ann"}
        monkeypatch.undo()
        disk.error = None
        await lanes.mend()
        again = draft(0)
        await lanes.outcome(again)
        assert again.receipt

    run(work)


def test_the_end_waits_for_a_log_that_is_being_mended(run, disk):
    async def work(lanes):
        disk.error = OSError(errno.EIO, "Input/output error")
        await lanes.outcome(draft(0))
        disk.error = None
        disk.gate.clear()
        mending = asyncio.create_task(lanes.mend())
        await asyncio.sleep(0.05)
        mending.cancel()
        await asyncio.gather(mending, return_exceptions=True)
        ending = asyncio.create_task(lanes.drain())
        await asyncio.sleep(0.05)
        assert not ending.done()
        disk.gate.set()
        await asyncio.wait_for(ending, 5)
        assert lanes.trouble == {}
        lanes.drain = lambda: asyncio.sleep(0)

    run(work)


def test_a_store_that_was_moved_away_is_not_begun_anew(run, tmp_path):
    store, aside = tmp_path / "store", tmp_path / "aside"

    async def work(lanes):
        for uid in ("ann", "ben"):
            await lanes.outcome(draft(0, uid=uid))
        store.rename(aside)
        for uid in ("ann", "carl"):
            lost = draft(1, uid=uid)
            await lanes.outcome(lost)
            assert isinstance(lost.error, StorageError) and "is gone" in lost.error.message
        store.mkdir()
        await lanes.mend()
        assert {str(error.message).partition(" is ")[2] for error in lanes.trouble.values()} == {
            "not the directory that was opened"
        }
        store.rmdir()
        aside.rename(store)
        await lanes.mend()
        assert not lanes.trouble
        await lanes.outcome(draft(2))

    run(work)
    assert events(tmp_path) == ["m0", "m2"]


def test_what_waits_is_bounded(run, disk):
    async def work(lanes):
        disk.gate.clear()
        waiting = [lanes.outcome(draft(number)) for number in range(10)]
        with pytest.raises(Overloaded):
            lanes.outcome(draft(11))
        await asyncio.sleep(0)
        elsewhere = lanes.outcome(draft(0, uid="bob"))
        disk.gate.set()
        await asyncio.gather(*waiting, elsewhere)
        await lanes.outcome(draft(12))

    run(work, waiting=40)


def test_retries_that_join_what_is_under_way_are_counted_too(run, disk):
    async def work(lanes):
        disk.gate.clear()
        waiting = [lanes.outcome(draft(1, key=b"k")) for _ in range(10)]
        assert lanes.admission.events == 10
        with pytest.raises(Overloaded):
            lanes.outcome(draft(1, key=b"k"))
        disk.gate.set()
        await asyncio.gather(*waiting)

    run(work, waiting=40)


def test_a_user_with_too_many_keys_is_told_so_and_writes_on_without(run, tmp_path, monkeypatch):
    monkeypatch.setattr("meshlab.service.gateway.keys._RECENT", 4)

    async def work(lanes):
        for number in range(12):
            one = draft(number, key=b"k%d" % number)
            await lanes.outcome(one)
            assert one.receipt
        with pytest.raises(KeysFull) as caught:
            lanes.outcome(draft(12, key=b"k12"))
        assert caught.value.retry_after == 600
        assert lanes._room.taken == 0
        await lanes.outcome(draft(20))
        lanes._lanes["ann"].full = None  # ten minutes later they are read anew, and are too many still
        drafts = [draft(21), draft(22, key=b"k22"), draft(23)]
        await asyncio.gather(*[lanes.outcome(one) for one in drafts])
        assert [type(one.error) for one in drafts] == [type(None), KeysFull, KeysFull]
        other = draft(1, uid="bob", key=b"k")
        await lanes.outcome(other)
        assert other.receipt

    run(work, keys=16)
    assert events(tmp_path) == [f"m{number}" for number in [*range(12), 20, 21]]


def test_keys_of_users_who_rest_are_let_go_when_there_is_little_room(run, monkeypatch):
    monkeypatch.setattr("meshlab.service.gateway.keys._RECENT", 4)

    async def work(lanes):
        for uid in "abcdef":
            drafts = [draft(number, uid=uid, key=b"k%d" % number) for number in range(8)]
            await asyncio.gather(*[lanes.outcome(one) for one in drafts])
            assert all(one.receipt for one in drafts)
        assert lanes._room.taken <= 24
        again = draft(0, uid="a", key=b"k0")
        await lanes.outcome(again)
        assert again.duplicate

    run(work, keys=32)


def test_an_event_too_large_for_a_frame_fails_alone(run, tmp_path):
    async def work(lanes):
        large = Draft("ann", b"k", b'"' + b"x" * (64 << 20) + b'"')
        small = draft(1)
        await asyncio.gather(lanes.outcome(large), lanes.outcome(small))
        assert type(large.error).__name__ == "FrameTooLarge"
        assert small.receipt is not None

    run(work, waiting_bytes=1 << 30)


def test_only_so_many_logs_stay_open(run, tmp_path, monkeypatch):
    monkeypatch.setattr("meshlab.service.gateway.lanes._OPEN", 4)

    async def work(lanes):
        for number in range(12):
            await lanes.outcome(draft(0, uid=f"u{number}"))
        await asyncio.gather(*[lanes.outcome(draft(0, uid=f"v{number}")) for number in range(100)])
        while len(lanes._lanes) > 4:
            await asyncio.sleep(0.01)
        assert len(lanes._store._writers) == 4
        again = draft(1, uid="u0")
        await lanes.outcome(again)
        assert again.receipt.last_seq == 2

    run(work)


def test_no_more_logs_are_open_than_may_be_however_many_users_come(run, disk):
    async def work(lanes):
        lanes._logs = lanes._keep = 4
        disk.gate.clear()
        first = [lanes.outcome(draft(0, uid=f"u{number}")) for number in range(4)]
        with pytest.raises(Overloaded) as caught:
            lanes.outcome(draft(0, uid="one-more"))
        assert caught.value.retry_after
        waiting = lanes.outcome(draft(1, uid="u0"))
        disk.gate.set()
        await asyncio.gather(*first, waiting)
        for number in range(4, 40):
            new, old = draft(0, uid=f"u{number}"), draft(2, uid=f"u{number - 4}")
            await lanes.outcome(new)
            await lanes.outcome(old)  # perhaps while its log is being closed
            assert (new.receipt.last_seq, new.error, old.error) == (1, None, None)
            assert len(lanes._lanes) - lanes._closing <= 4

    run(work)
