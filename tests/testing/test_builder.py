"""Built stores: the same bytes for a seed, a sound chain, traffic as described."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from meshlab.errors import BadUserId, MeshlabError
from meshlab.records import FIELDS
from meshlab.testing import build_benchmark_log, build_log, build_store
from meshlab.times import day_of, parse_time
from meshlab.wal.frame import NO_SUM, read_frame


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("built"), users=4, days=7, events=3000, seed=5)


def files_of(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def lines_of(built):
    for path in sorted(built.path.rglob("wal-*.log")):
        for line in path.read_bytes().splitlines():
            yield path, json.loads(line)


def frames_of(segments):
    """The frames of a user's segments, cut where a line says it is the last of its frame."""
    for data in segments:
        frame = b""
        for line in data.splitlines(keepends=True):
            frame += line
            if b'","sum":"' in line[-28:]:
                yield frame
                frame = b""
        assert frame == b""


def assert_chained(segments):
    seq, prev = 0, NO_SUM
    for frame in frames_of(segments):
        tail = read_frame(frame)
        assert tail is not None
        assert (tail.seq - tail.n, tail.prev) == (seq, prev)
        seq, prev = tail.seq, tail.sum
    return seq


def test_a_seed_gives_the_same_bytes(built, tmp_path):
    again = build_store(tmp_path / "again", users=4, days=7, events=3000, seed=5)
    assert files_of(again.path) == files_of(built.path)


def test_another_seed_gives_other_bytes(built, tmp_path):
    other = build_store(tmp_path / "other", users=4, days=7, events=3000, seed=6)
    assert files_of(other.path) != files_of(built.path)


def test_every_frame_is_whole_and_follows_the_one_before(built):
    for uid, count in built.users.items():
        segments = [path.read_bytes() for path in sorted((built.path / uid).glob("wal-*.log"))]
        assert assert_chained(segments) == count


def test_the_summary_counts_what_is_there(built):
    assert sum(built.users.values()) == built.events == sum(built.kinds.values()) == 3000
    assert built.nbytes == sum(len(data) for data in files_of(built.path).values())
    assert len(list(lines_of(built))) == 3000


def test_six_in_ten_events_are_recalls(built):
    assert 0.57 < built.kinds["recall"] / built.events < 0.63
    recalls = [line["event"]["Update"] for _, line in lines_of(built) if "amplitude" in line["event"].get("Update", ())]
    assert len(recalls) == built.kinds["recall"]
    assert {tuple(recall) for recall in recalls} == {("id", "amplitude", "stability", "last_accessed", "access_count")}


def test_recalls_and_new_memories_follow_the_formulas(built):
    known = {}
    for path, line in lines_of(built):
        ((tag, body),) = line["event"].items()
        key = (path.parent.name, body if tag == "Delete" else body["id"])
        if tag == "Insert":
            assert tuple(body) == FIELDS
            assert body["width"] == 1 / len(body["content"]) ** 0.5
            assert (body["frequency"], body["stability"], body["access_count"]) == (1.0, 0.8, 0)
            known[key] = [body["amplitude"], 0.8, 0]
        elif "amplitude" in body:
            before = known[key]
            known[key] = [min(1.01 * before[0], 2.0), min(1.005 * before[1], 1.0), before[2] + 1]
            assert [body["amplitude"], body["stability"], body["access_count"]] == known[key]


def test_times_never_go_back_and_stay_in_their_day(built):
    last: dict[str, str] = {}
    for path, line in lines_of(built):
        time = line["timestamp"]
        assert day_of(parse_time(time)) == path.stem[4:]
        assert time >= last.get(path.parent.name, "")
        last[path.parent.name] = time


def test_nights_and_weekends_are_quiet(built):
    days, hours = Counter(), Counter()
    for path, line in lines_of(built):
        if path.parent.name == "ada":
            days[path.stem[4:]] += 1
            hours[line["timestamp"][11:13]] += 1
    weekend = days["20250705"] + days["20250706"]
    assert weekend < days["20250701"] + days["20250702"]
    assert max(hours.values()) > 5 * min(hours.get(f"{hour:02d}", 0) for hour in range(24))


def test_few_memories_are_very_popular(built):
    popular = Counter(
        line["event"]["Update"]["id"]
        for path, line in lines_of(built)
        if path.parent.name == "ada" and "Update" in line["event"]
    )
    top = sum(count for _, count in popular.most_common(len(popular) // 10))
    assert top > 0.3 * sum(popular.values())


def test_contents_repeat_and_need_escapes(built):
    contents = [line["event"]["Insert"]["content"] for _, line in lines_of(built) if "Insert" in line["event"]]
    assert len(set(contents)) < len(contents)
    text = "".join(contents)
    assert all(character in text for character in '"\t\n\\🙂ψ')


def test_some_recalls_come_too_late(built):
    live, late = set(), 0
    for path, line in lines_of(built):
        ((tag, body),) = line["event"].items()
        key = (path.parent.name, body if tag == "Delete" else body["id"])
        if tag == "Delete":
            live.remove(key)
        elif tag == "Insert":
            live.add(key)
        else:
            late += key not in live
    assert 0 < late < 30


def test_some_frames_are_batches_and_some_carry_a_key(built):
    lines = [line for _, line in lines_of(built)]
    assert 20 < sum(line.get("n", 1) > 1 for line in lines) < 150
    assert 20 < sum("key" in line for line in lines) < 150


def test_progress_adds_up(tmp_path):
    seen = []
    build_store(tmp_path / "store", users=3, days=2, events=500, progress=seen.append)
    assert sum(seen) == 500


def test_names_of_users_may_be_given(tmp_path):
    assert set(build_store(tmp_path / "store", users=["x", "y"], days=1, events=10).users) == {"x", "y"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": 0},
        {"days": 0},
        {"users": 5, "events": 4},
        {"recall_share": 0.99, "delete_share": 0.5},
        {"seal_share": -1},
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong, tmp_path):
    with pytest.raises(MeshlabError):
        build_store(tmp_path / "store", **wrong)
    assert not (tmp_path / "store").exists()


def test_a_uid_that_could_leave_the_store_is_refused(tmp_path):
    with pytest.raises(BadUserId):
        build_store(tmp_path / "store", users=["../x"])


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(MeshlabError, match="not empty"):
        build_store(tmp_path)
    assert files_of(tmp_path) == {"precious": b"data"}


def test_the_benchmark_log_has_its_shape(tmp_path):
    path = build_benchmark_log(tmp_path / "bench", events=20_000)
    data = path.read_bytes()
    assert 430 < len(data) / 20_000 < 450
    assert assert_chained([data]) == 20_000
    assert data.count(b',"n":1,"prev":"') == 20_000
    shares = {tag: data.count(b'"event":{"%b":' % tag) / 20_000 for tag in (b"Insert", b"Update", b"Delete")}
    assert shares[b"Insert"] == pytest.approx(0.30, abs=0.01)
    assert shares[b"Update"] == pytest.approx(0.63, abs=0.01)
    assert shares[b"Delete"] == pytest.approx(0.07, abs=0.01)


def test_a_log_by_hand_is_chained_across_days():
    log = build_log([[{"Delete": f"m{number}"}] * (1 + number % 3) for number in range(9)], per_day=4)
    assert log.days() == ["20250701", "20250702", "20250703"]
    assert assert_chained([log.bytes(day) for day in log.days()]) == log.seq == 18


def test_a_log_by_hand_takes_times_keys_raw_bytes_and_gaps(tmp_path):
    log = build_log([[b'{"Delete":"a"}']])
    log.seq += 5
    frame = log.frame([b"42"], time="2025-07-01T12:00:00.000000Z", key="k1")
    log.raw(b"rest")
    assert b'"timestamp":"2025-07-01T12:00:00.000000Z","event":42,"key":"k1","seq":7,"n":1' in frame.data
    root = log.write(tmp_path / "ada")
    assert (root / "wal-20250701.log").read_bytes() == log.bytes() == log.frames[0].data + frame.data + b"rest"
    log.replace("20250701", None)
    assert log.days() == []
