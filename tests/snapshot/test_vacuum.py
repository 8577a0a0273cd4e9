"""Vacuum: what goes, what stays and why, and that nothing anybody may ask for is lost."""

from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq
import pytest

import meshlab.replay
from meshlab.errors import NotRestorable, SnapshotError
from meshlab.replay import replay
from meshlab.snapshot.base import Base
from meshlab.snapshot.contents import read_texts
from meshlab.snapshot.manifest import CONTENTS, LEDGER, history, history_path, layer_path
from meshlab.snapshot.vacuum import YOUNG
from meshlab.tables.events import load_user
from meshlab.testing import RecordingFiles
from meshlab.times import DAY, SECOND, format_time
from meshlab.wal.paths import segment_days
from scoreboard import stories
from scoreboard.stories import LONG, NOON, Shop, insert, state, unreferenced, update


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path / "mesh" / "u")


def live(shop, days, *, retain=1):
    """Days with events and a checkpoint each; ends on the last one."""
    for number in range(days):
        if number:
            shop.later()
        shop.append(insert(f"m{number}", LONG + str(number)), update("m0", access_count=number))
        shop.checkpoint(retain=retain)
    shop.close()
    return shop


def segments(report):
    return {fate.name[4:12]: (fate.goes, fate.reason) for fate in report.segments}


def reasons(fates):
    return {fate.name: (fate.goes, fate.reason) for fate in fates}


# What goes and what stays


def test_without_a_checkpoint_nothing_goes(shop):
    shop.append(insert("m1"))
    report = shop.vacuum()
    assert segments(report) == {"20250707": (False, "no checkpoint yet")}
    assert (report.applied, report.bytes_freed, report.segments[0].nbytes) == (False, 0, shop.segment().stat().st_size)


@pytest.mark.parametrize("kind", ["records", "contents"])
@pytest.mark.parametrize("which", [0, -1])
def test_nothing_goes_while_a_layer_that_stands_for_it_is_damaged(shop, kind, which):
    live(shop, 5)
    path = layer_path(shop.root, shop.manifest.of_kind(kind)[which])
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    before = segment_days(shop.root)
    report = shop.vacuum(apply=False)
    assert not [fate for fate in (*report.segments, *report.layers) if fate.goes]
    assert "missing or damaged" in segments(report)["20250707"][1]
    with pytest.raises(SnapshotError, match=path.name):
        shop.vacuum()
    assert segment_days(shop.root) == before


def test_old_segments_that_are_folded_go_and_each_of_the_others_has_its_reason(shop):
    live(shop, 6)
    report = shop.vacuum(apply=False)
    gone = (True, "folded, and no moment of the last 1 days needs it")
    assert segments(report) == {
        "20250707": gone,
        "20250708": gone,
        "20250709": gone,
        "20250710": gone,
        "20250711": (False, "of today or yesterday"),
        "20250712": (False, "the newest segment"),
    }
    assert not report.applied and len(segment_days(shop.root)) == 6
    assert report.cutoff == shop.now - DAY
    sizes = sum(shop.segment(f"202507{day:02}").stat().st_size for day in range(7, 11))
    assert sum(fate.nbytes for fate in report.segments if fate.goes) == sizes
    applied = shop.vacuum()
    assert applied.segments == report.segments and applied.applied
    assert applied.bytes_freed == report.bytes_freed >= sizes
    assert segment_days(shop.root) == ["20250711", "20250712"]


def test_segments_that_moments_of_the_window_need_stay(shop):
    live(shop, 6, retain=3)
    found = segments(shop.vacuum())
    assert [day for day, (goes, _) in found.items() if goes] == ["20250707", "20250708", "20250709"]
    assert found["20250710"] == (False, "moments of the last 3 days need it")


def test_nothing_goes_before_a_checkpoint_is_older_than_the_retention(shop):
    live(shop, 4, retain=14)
    found = segments(shop.vacuum())
    assert found["20250707"] == (False, "no checkpoint is older than the retention of 14 days")
    assert not any(goes for goes, _ in found.values())


def test_age_is_measured_by_the_clock_or_the_log_whichever_is_earlier(shop):
    live(shop, 4, retain=5)
    shop.later(100)
    found = segments(shop.vacuum())
    assert not any(goes for goes, _ in found.values()), "the log has not gone on, whatever the clock says"


def test_a_segment_with_late_lines_stays_until_they_are_folded(shop):
    live(shop, 5)
    shop.foreign({"Delete": "m1"}, day="20250708")
    found = segments(shop.vacuum())
    assert found["20250708"] == (False, "not folded to its end: run a checkpoint")
    assert found["20250707"][0]
    shop.checkpoint()
    assert segments(shop.vacuum())["20250708"] == (False, "moments of the last 1 days need it")
    shop.later(2)
    shop.append(insert("m9"))
    shop.checkpoint()
    shop.later(1)
    shop.append(insert("m9"))
    shop.checkpoint()
    assert segments(shop.vacuum())["20250708"][0]
    assert "m1" not in shop.records()


def test_the_newest_segment_that_holds_a_frame_stays_so_that_the_log_goes_on_by_itself(shop):
    live(shop, 1)
    for _ in range(5):
        shop.later()
        shop.foreign({"Delete": "m0"})
        shop.checkpoint()
    found = segments(shop.vacuum())
    assert found["20250707"] == (False, "the newest that holds a frame")
    assert found["20250708"][0]
    assert shop.append(insert("m1")).first_seq == 3
    shop.checkpoint()
    assert len(shop.records()) == 1


def test_a_segment_that_is_not_what_was_folded_stays(shop):
    live(shop, 4, retain=14)
    path = shop.segment("20250708")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    goes, reason = segments(shop.vacuum())["20250708"]
    assert not goes and reason.startswith("wal-20250708.log differs before offset")


def test_a_log_that_is_not_what_was_folded_stops_a_vacuum_that_would_delete(shop):
    live(shop, 6)
    path = shop.segment("20250711")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SnapshotError, match="wal-20250711"):
        shop.vacuum()
    assert len(segment_days(shop.root)) == 6


def test_a_segment_that_a_crash_brought_back_goes(shop):
    live(shop, 6)
    data = shop.segment("20250708").read_bytes()
    shop.vacuum()
    shop.segment("20250708").write_bytes(data)
    expected = state(shop.root)
    assert segments(shop.vacuum(apply=False))["20250708"] == (
        True,
        "retired before; a crash kept it from being deleted",
    )
    shop.vacuum()
    assert segment_days(shop.root) == ["20250711", "20250712"]
    assert state(shop.root) == expected
    assert len(shop.manifest.retired) == 4


def test_a_file_that_is_made_again_under_a_retired_name_is_a_new_one_from_0(shop):
    live(shop, 6)
    shop.vacuum()
    shop.foreign({"Update": {"id": "m5", "content": "new"}}, day="20250708")
    assert shop.records()["m5"]["content"] == "new"
    assert segments(shop.vacuum(apply=False))["20250708"] == (False, "not folded to its end: run a checkpoint")
    assert shop.checkpoint().events == 1
    assert shop.records()["m5"]["content"] == "new"
    assert shop.manifest.folded[-1][:3] == ("20250708", 0, shop.segment("20250708").stat().st_size)
    for _ in range(3):
        shop.later()
        shop.append(insert("m9"))
        shop.checkpoint()
    assert segments(shop.vacuum())["20250708"][0]
    assert [gone.segment for gone in shop.manifest.retired].count("20250708") == 2
    assert shop.records()["m5"]["content"] == "new"


# Snapshots and layers


def test_earlier_snapshots_go_when_no_moment_is_restored_from_them(shop):
    live(shop, 6)
    found = reasons(shop.vacuum().history)
    assert found.pop("00000005.bin") == (False, "a moment of the window is restored from it")
    assert set(found.values()) == {(True, "before the window")}
    assert [entry.generation for entry in history(shop.root, "u")] == [5, 6]


def test_files_of_a_snapshot_younger_than_15_minutes_stay(shop):
    shop.append(insert("m0", LONG), insert("m1", LONG + "1"))
    shop.checkpoint(retain=0)
    for number in range(5):
        shop.append({"Delete": f"m{number}"}, insert(f"m{number + 1}", f"{LONG}{number}"))
        shop.checkpoint()
    shop.now += YOUNG - SECOND
    report = shop.vacuum()
    assert set(reasons(report.history).values()) == {(False, "younger than 15 minutes")}
    assert {reason for _, reason in reasons(report.layers).values()} == {"a snapshot refers to it"}
    shop.now += 2 * SECOND
    report = shop.vacuum(apply=False)
    assert (True, "before the window") in reasons(report.history).values()
    assert (True, "no snapshot that stays refers to it") in reasons(report.layers).values()
    expected = state(shop.root)
    shop.vacuum()
    assert state(shop.root) == expected
    assert unreferenced(shop.root) == []


def test_a_snapshot_that_cannot_be_read_and_the_one_of_phase_1_stay_and_say_so(tmp_path):
    shop = stories.upgrading(tmp_path / "u")
    shop.append(insert("n1"))
    shop.checkpoint(upgrade=True, retain=0)
    shop.append(insert("n2"))
    shop.checkpoint()
    history_path(shop.root, 1).write_bytes(b"MESHSNAPno more")
    shop.now += YOUNG + SECOND
    found = reasons(shop.vacuum().history)
    assert found["00000000.bin"] == (False, "the snapshot of phase 1: delete it by hand when it is no longer wanted")
    assert not found["00000001.bin"][0] and "00000001.bin: expected" in found["00000001.bin"][1]
    assert history_path(shop.root, 0).exists() and history_path(shop.root, 1).exists()


def test_a_layer_that_a_killed_vacuum_left_and_this_one_needs_again_stays(shop):
    """Unreferenced it would go; but the totals are the same, and so is the layer."""
    live(shop, 6)
    before = {path.name for path in (shop.root / "layers").iterdir()}
    rename = shop.files.rename

    def killed(source, target):
        if target.name == "snapshot.bin":
            raise KeyboardInterrupt
        rename(source, target)

    unlink = shop.files.unlink
    shop.files.rename, shop.files.unlink = killed, lambda path: None
    with pytest.raises(KeyboardInterrupt):
        shop.vacuum()
    del shop.files.rename, shop.files.unlink
    assert shop.files.unlink == unlink
    (left,) = {path.name for path in (shop.root / "layers").iterdir()} - before
    assert reasons(shop.vacuum(apply=False).layers)[left][0]
    shop.vacuum()
    (ledger,) = shop.manifest.of_kind(LEDGER)
    assert layer_path(shop.root, ledger).name == left
    assert layer_path(shop.root, ledger).exists()


def texts_in(shop, manifest):
    held = read_texts(layer_path(shop.root, layer) for layer in manifest.of_kind(CONTENTS))
    return set(held["text"].to_pylist())


def test_contents_that_nobody_refers_to_are_left_out_when_they_are_over_half(shop):
    shop.append(*(insert(f"m{number}", LONG + str(number)) for number in range(5)))
    shop.checkpoint(retain=1)
    shop.later()
    shop.append(*({"Delete": f"m{number}"} for number in range(2)))
    shop.checkpoint()
    for _ in range(3):
        shop.later()
        shop.append(insert("other"))
        shop.checkpoint()
    shop.vacuum()
    assert len(texts_in(shop, shop.manifest)) == 5, "two of five are not over half"
    shop.append({"Delete": "m2"})
    shop.checkpoint()
    shop.vacuum()
    assert len(texts_in(shop, shop.manifest)) == 5, "an earlier snapshot in the window refers to it"
    moment = shop.now - 1
    earlier = [json_ids(replay(shop.root, "u", at=moment, progress=False))]
    for _ in range(2):
        shop.later()
        shop.append(insert("other"))
        shop.checkpoint()
    shop.vacuum()
    assert texts_in(shop, shop.manifest) == {LONG + "3", LONG + "4"}
    for entry in history(shop.root, "u"):
        assert Base.open(shop.root, entry.manifest).state().num_rows == entry.manifest.records
    assert earlier == [["m2", "m3", "m4", "other"]]
    assert json_ids(replay(shop.root, "u", progress=False)) == ["m3", "m4", "other"]
    generation = shop.manifest.generation
    shop.vacuum()
    assert shop.manifest.generation == generation, "there is nothing more to shrink"
    shop.append(insert("m0", LONG + "0"))
    assert shop.checkpoint().bytes_saved == 0, "it was dropped, so it is written again"
    assert shop.records()["m0"]["content"] == LONG + "0"


@pytest.mark.parametrize("harm", ["flipped", "missing"])
def test_a_damaged_layer_of_contents_is_never_written_anew_under_a_good_name(shop, harm):
    shop.append(*(insert(f"m{number}", LONG + str(number)) for number in range(5)))
    shop.checkpoint(retain=0)
    shop.append(*({"Delete": f"m{number}"} for number in range(4)))
    shop.checkpoint()
    shop.now += YOUNG + SECOND
    path = layer_path(shop.root, shop.manifest.of_kind(CONTENTS)[0])
    data = bytearray(path.read_bytes())
    path.unlink()
    if harm == "flipped":
        data[data.index(b"long enough")] ^= 1
        path.write_bytes(data)
    before = shop.manifest
    with pytest.raises(SnapshotError, match=path.name):
        shop.vacuum()
    assert shop.manifest == before
    assert len(segment_days(shop.root)) == 1


def test_an_earlier_snapshot_that_lost_a_layer_does_not_stop_a_vacuum(shop):
    live(shop, 6, retain=4)
    now = shop.manifest.layers
    only = [layer for entry in history(shop.root, "u") for layer in entry.manifest.layers if layer not in now]
    layer_path(shop.root, only[0]).unlink()
    expected = state(shop.root)
    shop.append(*({"Delete": f"m{number}"} for number in range(5)))
    shop.checkpoint()
    shop.later(2)
    shop.append(insert("m5", LONG + "5"))
    shop.checkpoint()
    assert shop.vacuum().applied
    assert state(shop.root) == expected[-1:]


def json_ids(found):
    return [record["id"] for record in found.to_pylist()]


# Totals


def totals(shop):
    tables = [pq.read_table(layer_path(shop.root, layer)) for layer in shop.manifest.of_kind(LEDGER)]
    return [row for table in tables for row in table.to_pylist()]


def test_the_ledger_has_the_totals_of_what_was_deleted(shop):
    for number in range(6):
        shop.append(*(insert(f"m{n}", LONG) for n in range(number + 1)), {"Delete": "m0"}, {"ping": number})
        shop.foreign({"Update": {"id": "m1", "mode": "Dark"}})
        shop.checkpoint(retain=1)
        shop.later()
    shop.now -= DAY
    columns = ("segment", "effective_ts", "op", "dialect", "nbytes")
    before = load_user(shop.root, "u", columns=columns, progress=False).to_arrow().to_pylist()
    report = shop.vacuum()
    gone = [row for row in before if report_goes(report, row["segment"])]
    assert (report.events, report.event_bytes) == (len(gone), sum(row["nbytes"] for row in gone))
    events, nbytes = Counter(), Counter()
    for row in gone:
        key = row["segment"], row["effective_ts"].hour, row["op"], row["dialect"]
        events[key] += 1
        nbytes[key] += row["nbytes"]
    found = totals(shop)
    assert {(r["day"], r["hour"], r["op"], r["dialect"]): r["events"] for r in found} == events
    assert {(r["day"], r["hour"], r["op"], r["dialect"]): r["bytes"] for r in found} == nbytes
    assert len(found) == len(events) and len(events) >= 12
    shop.later()
    shop.append(insert("z"))
    shop.checkpoint()
    more = shop.vacuum()
    assert sum(row["events"] for row in totals(shop)) == report.events + more.events
    assert more.events == 8


def report_goes(report, segment):
    return any(fate.goes for fate in report.segments if fate.name == f"wal-{segment}.log")


# Time travel, readers and order


def test_every_moment_of_the_window_is_restored_as_before(shop):
    live(shop, 6, retain=2)
    moments = [NOON + day * DAY + shift for day in range(6) for shift in (-1, 0, 1)]
    cutoff = shop.now - 2 * DAY
    before = {at: replay(shop.root, "u", at=at, progress=False).to_pylist() for at in moments}
    assert shop.vacuum().cutoff == cutoff
    assert len(segment_days(shop.root)) == 2
    for at in moments:
        if at >= cutoff:
            assert replay(shop.root, "u", at=at, progress=False).to_pylist() == before[at]
        else:
            with pytest.raises(NotRestorable, match=r"cannot be restored"):
                replay(shop.root, "u", at=format_time(at), progress=False)


def test_a_reader_that_had_begun_when_files_went_still_finishes(shop, monkeypatch):
    live(shop, 6)
    shop.append(update("m0", mode="Dark"))
    expected = replay(shop.root, "u", progress=False).to_pylist()
    follow, calls = meshlab.replay.follow, []

    def slowly(root, uid, plan, **options):
        calls.append(plan)
        if len(calls) == 1:
            for _ in range(5):  # so many layers are merged, and the ones before go
                shop.append(update("m0", mode="Dark"))
                shop.checkpoint(retain=0)
            shop.now += YOUNG + SECOND
            shop.vacuum()
        return follow(root, uid, plan, **options)

    monkeypatch.setattr(meshlab.replay, "follow", slowly)
    assert replay(shop.root, "u", progress=False).to_pylist() == expected
    assert len(calls) == 2, "what it was about to read was gone, so it looked again"


def test_records_in_memory_outlive_their_layers(shop):
    live(shop, 6)
    (first,) = [entry.manifest for entry in history(shop.root, "u") if entry.generation == 1]
    table = Base.open(shop.root, first).state()
    shop.later(1)
    shop.append(insert("m9"))
    shop.checkpoint()
    shop.vacuum()
    assert table["content"].to_pylist() == [LONG + "0"]


def test_segments_are_sealed_first_then_retired_and_only_then_deleted(shop):
    live(shop, 6)
    files = RecordingFiles(shop.files)
    shop.vacuum(files)
    steps = [(step.name, step.path.name) for step in files.operations]
    sealed = max(at for at, (name, path) in enumerate(steps) if name == "rename" and path.endswith(".seal"))
    retired = steps.index(("rename", "snapshot.bin"))
    synced = steps.index(("sync_directory", "u"), retired)
    deleted = [at for at, (name, path) in enumerate(steps) if name == "unlink" and path.endswith(".log")]
    assert len(deleted) == 4
    assert sealed < retired < synced < min(deleted)
    assert [path.name for path in (shop.root / "sealed").iterdir()] == ["wal-20250711.parquet", "wal-20250711.seal"]
    assert len(replay(shop.root, "u", progress=False)) == 6


def test_the_log_goes_on_behind_a_vacuum(shop):
    live(shop, 6)
    expected = state(shop.root)
    shop.vacuum()
    assert state(shop.root) == expected
    receipt = shop.append(insert("m9"))
    assert receipt.first_seq == 13
    assert shop.checkpoint().events == 1
    assert shop.manifest.seq == 13
    assert load_user(shop.root, "u", progress=False).to_arrow().num_rows == 5
