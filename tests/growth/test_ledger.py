"""What vacuum deleted is known by the totals it had before."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from meshlab.growth.ledger import NO_EVENT, ledger_totals
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.snapshot.vacuum import vacuum
from meshlab.tables.load import Log
from meshlab.tables.totals import TOTALS_SCHEMA, totals
from meshlab.timeline import log_of
from meshlab.times import DAY, midnight
from meshlab.wal.paths import SNAPSHOT, segment_days, segment_size

SAMPLE = Path(__file__).parents[2] / "data" / "samples" / "store" / "ada"
NOW = midnight("20250801")


@pytest.fixture
def root(tmp_path):
    return Path(shutil.copytree(SAMPLE, tmp_path / "ada", ignore=shutil.ignore_patterns("sealed", "*.lock")))


def vacuumed(root):
    """Checkpoint and, when nobody needs the log any more, vacuum; the totals there were before."""
    before = totals(Log(root, "ada")).table
    checkpoint(root, "ada", retain=0, progress=False, clock=lambda: NOW)
    vacuum(root, "ada", apply=True, clock=lambda: NOW + 9 * DAY)
    return before


def summed(table):
    """Events and bytes by everything else."""
    keys = ["uid", "day", "hour", "op", "dialect", "deleted"]
    found = table.group_by(keys).aggregate([("events", "sum"), ("bytes", "sum")])
    return sorted(found.to_pylist(), key=str)


def deleted(table, days):
    """The rows of some days, as those of deleted segments."""
    gone = table.filter(pc.is_in(table["day"], pa.array(days, pa.string())))
    at = TOTALS_SCHEMA.names.index("deleted")
    return gone.set_column(at, "deleted", pa.array([True] * gone.num_rows))


def test_deleted_segments_have_the_totals_they_had(root):
    days = segment_days(root)
    before = vacuumed(root)
    gone = [day for day in days if day not in segment_days(root)]
    assert len(gone) >= 5
    assert summed(ledger_totals(root, "ada")) == summed(deleted(before, gone))


def test_the_ledger_and_the_log_are_what_was_written(root):
    before = vacuumed(root)
    left = totals(log_of(root, "ada")).table
    for name in ("events", "bytes"):
        written = pc.sum(before[name]).as_py()
        assert pc.sum(left[name]).as_py() + pc.sum(ledger_totals(root, "ada")[name]).as_py() == written


def test_a_file_that_a_crash_left_counts_once_and_as_on_disk(root):
    days = segment_days(root)
    files = {day: (root / f"wal-{day}.log").read_bytes() for day in days}
    vacuumed(root)
    day = next(day for day in days if day not in segment_days(root))
    (root / f"wal-{day}.log").write_bytes(files[day])
    found = pa.concat_tables([totals(log_of(root, "ada")).table, ledger_totals(root, "ada")])
    kept = found.filter(pc.invert(found["deleted"]))
    assert pc.sum(kept.filter(pc.equal(kept["day"], day))["bytes"]).as_py() == len(files[day])
    assert pc.sum(kept["bytes"]).as_py() == sum(segment_size(root, one) for one in segment_days(root))


def test_what_was_no_event_is_a_row_of_its_own(tmp_path):
    root = tmp_path / "ada"
    root.mkdir()
    for day in ("20250707", "20250708", "20250709"):
        (root / f"wal-{day}.log").write_text('{"Delete":"m1"}\n\n\n')
    vacuumed(root)
    found = ledger_totals(root, "ada")
    assert set(found["deleted"].to_pylist()) == {True}
    days = [row for row in found.to_pylist() if row["op"] == NO_EVENT]
    assert [(row["day"], row["bytes"], row["events"]) for row in days] == [("20250707", 2, 0), ("20250708", 2, 0)]
    assert pc.sum(found["bytes"]).as_py() == 2 * 18


def test_without_a_vacuum_nothing_was_deleted(root):
    assert ledger_totals(root, "ada").equals(TOTALS_SCHEMA.empty_table())
    checkpoint(root, "ada", progress=False, clock=lambda: NOW)
    assert ledger_totals(root, "ada").equals(TOTALS_SCHEMA.empty_table())


def test_a_snapshot_or_ledger_that_cannot_be_read_has_no_rows(root):
    vacuumed(root)
    assert ledger_totals(root, "ada").num_rows
    (root / SNAPSHOT).write_bytes(b"MESHSNAP and then nothing")
    assert ledger_totals(root, "ada").equals(TOTALS_SCHEMA.empty_table())
