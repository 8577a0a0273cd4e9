"""The index of keys says what the log says: no key too many, none too few, none too old."""

import tracemalloc

import pytest

from meshlab.events import Delete
from meshlab.service.gateway import keys as module
from meshlab.service.gateway.keys import WINDOW, KeyIndex, KeysFull, Room
from meshlab.times import DAY, SECOND, midnight
from meshlab.wal.files import Files
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.writer import Writer

NOON = midnight("20250707") + DAY // 2


class Clock:
    now = NOON

    def __call__(self):
        return self.now


class FastFiles(Files):
    def sync(self, fd):
        pass

    def sync_directory(self, path):
        pass


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "ann"


@pytest.fixture
def writer(root, clock):
    return Writer(root, files=FastFiles(), clock=clock)


def loaded(root, clock):
    index = KeyIndex(root, clock=clock)
    index.load()
    return index


def caught_up(index, root):
    day = segment_days(root)[-1]
    index.catch_up(day, (root / segment_name(day)).stat().st_size)
    return index


def test_a_user_without_a_log_has_no_keys(root, clock):
    assert loaded(root, clock).find(b"k") is None


def test_a_key_is_found_with_its_event_and_its_place(root, clock, writer):
    writer.append({"Delete": "a"})
    receipt = writer.append({"Delete": "b"}, key="k")
    known = loaded(root, clock).find(b"k")
    assert known.event == b'{"Delete":"b"}'
    assert known.receipt == receipt


def test_a_key_nobody_used_is_not_found_though_it_stands_in_an_event(root, clock, writer):
    writer.append({"note": 'x,"key":"k","seq":9', "key": "k", "seq": 9})
    writer.append(Delete("k"), key="other")
    assert loaded(root, clock).find(b"k") is None
    assert loaded(root, clock).find(b"other")


def test_what_another_process_appends_is_found_after_catching_up_and_not_before(root, clock, writer):
    writer.append(Delete("a"), key="k1")
    index = loaded(root, clock)
    writer.append(Delete("b"), key="k2")
    assert index.find(b"k2") is None
    caught_up(index, root)
    assert index.find(b"k2").event == b'{"Delete":"b"}'
    assert len(index) == 2


def test_catching_up_reads_only_what_is_new(root, clock, writer, monkeypatch):
    writer.append(Delete("a"), key="k1")
    index = loaded(root, clock)
    receipt = writer.append(Delete("b"), key="k2")
    offsets = []
    scan = module.scan_segment
    monkeypatch.setattr(
        module, "scan_segment", lambda *args, **options: offsets.append(options["offset"]) or scan(*args, **options)
    )
    caught_up(caught_up(index, root), root)
    assert offsets == [receipt.offset]


def test_after_a_day_a_key_is_free_again(root, clock, writer):
    writer.append(Delete("a"), key="k")
    index = loaded(root, clock)
    clock.now += WINDOW
    assert index.find(b"k")
    assert loaded(root, clock).find(b"k")
    clock.now += 1
    assert index.find(b"k") is None
    assert loaded(root, clock).find(b"k") is None


def test_a_key_that_was_used_again_stands_for_its_newest_event(root, clock, writer):
    index = KeyIndex(root, clock=clock)
    for name in ("old", "new"):
        receipt = writer.append(Delete(name), key="k")
        index.add(b"k", receipt.segment, receipt.offset)
        index._freeze(*map(module.np.asarray, ([hash(b"k")], [index._recent.pop(hash(b"k"))])))
        clock.now += WINDOW + SECOND
    clock.now -= WINDOW
    assert index.find(b"k").event == b'{"Delete":"new"}'
    assert loaded(root, clock).find(b"k").event == b'{"Delete":"new"}'


def test_keys_of_yesterday_are_found_across_midnight(root, clock, writer):
    writer.append(Delete("a"), key="k1")
    clock.now += DAY // 2 + 60 * SECOND
    writer.append(Delete("b"), key="k2")
    index = loaded(root, clock)
    assert index.find(b"k1").receipt.segment == "20250707"
    assert index.find(b"k2").receipt.segment == "20250708"


def test_the_key_of_a_batch_is_no_key_of_one_event(root, clock, writer):
    writer.append_many([Delete("a"), Delete("b")], key="k")
    known = loaded(root, clock).find(b"k")
    assert known is not None
    assert known.event is None


def test_a_line_that_was_damaged_since_stands_for_nothing(root, clock, writer):
    writer.append(Delete("a"), key="k")
    index = loaded(root, clock)
    path = root / segment_name("20250707")
    path.write_bytes(path.read_bytes().replace(b'"Delete":"a"', b'"Delete":"b"'))
    assert index.find(b"k") is None


def test_a_segment_that_was_replaced_by_a_shorter_one_is_read_anew(root, clock, writer):
    for number in range(3):
        writer.append(Delete("a"), key=f"k{number}")
    index = loaded(root, clock)
    path = root / segment_name("20250707")
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    caught_up(index, root)
    assert len(index) == 1
    assert index.find(b"k2") is None


def test_a_long_line_is_read_whole(root, clock, writer):
    writer.append({"text": "x" * 300_000}, key="k")
    assert len(loaded(root, clock).find(b"k").event) > 300_000


def test_a_torn_line_has_no_key(root, clock, writer):
    writer.append(Delete("a"), key="k1")
    writer.append(Delete("b"), key="k2")
    path = root / segment_name("20250707")
    path.write_bytes(path.read_bytes()[:-9])
    index = loaded(root, clock)
    assert index.find(b"k1")
    assert index.find(b"k2") is None
    assert len(index) == 1


def test_a_hundred_thousand_keys_are_all_found_and_no_others(root, clock, monkeypatch):
    monkeypatch.setattr(module, "_RECENT", 4096)
    index = KeyIndex(root, clock=clock)
    for number in range(100_000):
        index.add(b"key-%d" % number, "20250707", number)
    assert len(index) == 100_000
    assert len(index._runs) < 20
    places = [next(iter(index._places(hash(b"key-%d" % number))), None) for number in range(0, 101_000, 100)]
    assert [place & ((1 << 40) - 1) for place in places[:1000]] == list(range(0, 100_000, 100))
    assert places[1000:] == [None] * 10


def test_keys_that_expired_are_dropped_when_runs_are_merged(root, clock, monkeypatch):
    monkeypatch.setattr(module, "_RECENT", 100)
    index = KeyIndex(root, clock=clock)
    for number in range(1000):
        index.add(b"old-%d" % number, "20250707", number)
    clock.now += 3 * DAY
    for number in range(4000):
        index.add(b"new-%d" % number, "20250710", number)
    assert len(index) == 4000


def test_what_runs_hold_is_merged_in_order_with_the_newest_place_first(root, clock):
    run = module._Run.of
    numbers = module.np.array
    both = run(numbers([5, 1, 3]), numbers([1, 2, 3])).merged(run(numbers([3, 5, 9, 0]), numbers([4, 5, 6, 7])))
    assert both.hashes.tolist() == [0, 1, 3, 3, 5, 5, 9]
    assert both.places.tolist() == [7, 2, 4, 3, 5, 1, 6]


def test_a_merge_takes_little_more_memory_than_what_it_merges(root, clock):
    numbers = module.np.arange(500_000, dtype="int64")
    before, newer = module._Run(numbers * 2, numbers), module._Run(numbers * 2 + 1, numbers)
    tracemalloc.start()
    try:
        both = before.since(0).merged(newer.since(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(both.hashes) == 1_000_000
    assert peak < 25 * 1_000_000  # sixteen of them are the result


def test_there_is_room_for_so_many_keys_in_all_and_half_of_them_of_one_user(root, clock, monkeypatch):
    monkeypatch.setattr(module, "_RECENT", 10)
    room = Room(100)
    one, two, three = (KeyIndex(root, clock=clock, room=room) for _ in range(3))

    def fill(index, count):
        for number in range(count):
            index.add(b"k%d" % number, "20250707", number)

    fill(one, 50)
    with pytest.raises(KeysFull, match="this user has used 50 keys"):
        fill(one, 10)
    fill(two, 40)
    assert room.is_short
    with pytest.raises(KeysFull, match="the gateway keeps"):
        fill(three, 20)
    one.forget()
    three.forget()
    assert (room.taken, len(one)) == (40, 0)
    fill(three, 50)


def test_a_log_with_more_keys_than_there_is_room_for_is_not_loaded(root, clock, writer):
    for number in range(30):
        writer.append(Delete("a"), key=f"k{number}")
    room = Room(40)
    index = KeyIndex(root, clock=clock, room=room)
    with pytest.raises(KeysFull):
        index.load()
    index.forget()
    assert room.taken == 0
