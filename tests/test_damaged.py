"""Each named disaster: the damage is proved, reported, repaired beside the original, and appended behind."""

import json
from collections import Counter

import pytest
from click.testing import CliRunner

from meshlab.cli import main
from meshlab.testing.samples import DISASTERS, LAST, UID, build_disaster
from meshlab.times import midnight
from meshlab.wal.paths import segment_days, segment_name
from meshlab.wal.repair import LEFT_OUT, repair
from meshlab.wal.verify import LogScan, verify
from meshlab.wal.writer import Writer

pytestmark = pytest.mark.usefixtures("keeps_priority")

HOUR = 3_600_000_000
EVENING = midnight(LAST) + 23 * HOUR
NEXT_DAY = midnight(LAST) + 32 * HOUR
MORE = [{"Insert": {"id": f"more-{number}", "amplitude": number / 10}} for number in range(10)]
MORE_AS_WRITTEN = [json.dumps(event, separators=(",", ":")).encode() for event in MORE]


@pytest.fixture(params=DISASTERS)
def disaster(request, tmp_path):
    """A damaged store and its truth; the user's log is ``store / UID``."""
    store = tmp_path / "store"
    store.mkdir()
    return store, build_disaster(request.param, store)


def payloads(root):
    """The events of a log as written, without those the log wrote itself."""
    found = []
    for block in LogScan(root):
        data = bytes(block.data)
        found += [data[start:stop] for start, stop in zip(block.event_start, block.event_stop)]
    return [event for event in found if not event.startswith(b'{"Recovered":')]


def tree(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def kinds(rejects):
    """Rejects that hold bytes and findings, each counted by class."""
    return (
        Counter(reject.kind for reject in rejects if reject.nbytes),
        Counter(reject.kind for reject in rejects if not reject.nbytes),
    )


def append_ten(root, now):
    """Two batches and six single events, then the writer goes; the next one opens the log anew."""
    for part in (MORE[:5], MORE[5:]):
        writer = Writer(root, clock=lambda: now)
        writer.append_many(part[:2])
        for event in part[2:]:
            writer.append(event)
        writer.close()


def test_verify_finds_exactly_the_damage_that_was_done(disaster):
    store, truth = disaster
    before = tree(store)
    found = verify(store / UID)
    assert found.events == truth.readable
    assert kinds(found.rejects) == (truth.rejects, truth.findings)
    assert bool(found.damage) == truth.damage
    assert tree(store) == before


def test_the_command_line_ends_with_the_exit_code_of_the_damage(disaster):
    store, truth = disaster
    result = CliRunner().invoke(main, ["--store", str(store), "verify", UID, "--format", "json"])
    answer = json.loads(result.stdout)
    assert result.exit_code == (2 if truth.damage else 0)
    assert answer["damage"] is truth.damage
    assert Counter(row["class"] for row in answer["rejects"]) == Counter(truth.rejects) + Counter(truth.findings)


def test_every_reject_says_where_its_bytes_are(disaster):
    store, _ = disaster
    for reject in verify(store / UID).rejects:
        data = (store / UID / segment_name(reject.segment)).read_bytes()
        found = data[reject.offset : reject.offset + reject.nbytes]
        assert len(found) == reject.nbytes
        assert found == reject.raw
        assert reject.line == data[: reject.offset].count(b"\n") + 1
        assert reject.reason


def test_the_parts_of_every_segment_add_up_to_its_size(disaster):
    store, _ = disaster
    for tally in verify(store / UID).tallies:
        parts = (tally.event_bytes, tally.reject_bytes, tally.blank_bytes, tally.open_tail_bytes)
        assert sum(parts) == tally.bytes == (store / UID / segment_name(tally.segment)).stat().st_size


def test_the_repaired_copy_holds_the_readable_events_and_nothing_unreadable(disaster, tmp_path):
    store, truth = disaster
    report = repair(store / UID, tmp_path / "copy")
    copy = verify(tmp_path / "copy")
    assert report.events == copy.events == truth.readable
    assert payloads(tmp_path / "copy") == payloads(store / UID)
    assert [reject for reject in copy.rejects if reject.nbytes] == []


def test_repair_keeps_every_byte_it_left_out_where_it_says(disaster, tmp_path):
    store, truth = disaster
    repair(store / UID, tmp_path / "copy")
    kept = tmp_path / "copy" / LEFT_OUT
    rows = [json.loads(line) for line in (kept / "report.ndjson").read_bytes().splitlines()]
    assert Counter(row["class"] for row in rows) == truth.rejects
    total = Counter()
    for row in rows:
        original = (store / UID / segment_name(row["segment"])).read_bytes()
        held = (kept / f"wal-{row['segment']}.bin").read_bytes()
        assert row["position"] == total[row["segment"]]
        assert held[row["position"] :][: row["bytes"]] == original[row["offset"] :][: row["bytes"]]
        total[row["segment"]] += row["bytes"]
    assert {path.name: path.stat().st_size for path in kept.glob("*.bin")} == {
        f"wal-{day}.bin": size for day, size in total.items()
    }


def test_repair_leaves_the_original_as_it_was(disaster, tmp_path):
    store, _ = disaster
    before = tree(store)
    repair(store / UID, tmp_path / "copy")
    assert tree(store) == before


@pytest.mark.parametrize("now", [EVENING, NEXT_DAY], ids=["same-day", "next-day"])
def test_ten_more_appends_to_the_damaged_log_are_read_back_behind_all_the_others(disaster, now):
    store, truth = disaster
    root = store / UID
    readable, before = payloads(root), tree(root)
    append_ten(root, now)
    found = verify(root)
    assert payloads(root) == readable + MORE_AS_WRITTEN
    assert kinds(found.rejects) == (truth.rejects, truth.findings)
    for name, data in before.items():
        assert (root / name).read_bytes().startswith(data)


def test_ten_more_appends_to_the_repaired_copy_are_read_back(disaster, tmp_path):
    store, _ = disaster
    repair(store / UID, tmp_path / "copy")
    found = verify(tmp_path / "copy").rejects
    append_ten(tmp_path / "copy", EVENING)
    assert payloads(tmp_path / "copy") == payloads(store / UID) + MORE_AS_WRITTEN
    assert verify(tmp_path / "copy").rejects == found
    assert segment_days(tmp_path / "copy") == segment_days(store / UID)
