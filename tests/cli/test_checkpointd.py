"""``checkpointd`` on the command line: what it would do, one round, and what it refuses."""

import csv
import io
import json

import pytest

from meshlab.service.checkpointd import daemon_lock


def log_of(result):
    stderr = result.stderr if isinstance(result.stderr, str) else result.stderr.decode()
    return [json.loads(line) for line in stderr.splitlines()]


def test_a_dry_run_shows_who_is_due_and_writes_nothing(meshlab, store):
    before = sorted(store.rglob("*"))
    result = meshlab("--store", store, "checkpointd", "--dry-run", "--bytes", "0", "--format", "json")
    assert result.exit_code == 2
    (row,) = json.loads(result.stdout)
    assert (row["uid"], row["due"]) == ("ann", ["bytes"])
    assert row["bytes"] == next((store / "ann").glob("wal-*.log")).stat().st_size
    assert "1 user due" in result.stderr
    assert sorted(store.rglob("*")) == before


def test_the_table_and_csv_show_the_same(meshlab, store):
    table = meshlab("--store", store, "checkpointd", "--dry-run", "--bytes", "0").stdout.splitlines()
    assert table[2].split()[:2] == ["ann", "bytes"]
    result = meshlab("--store", store, "checkpointd", "--dry-run", "--bytes", "0", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["uid"], row["due"]) == ("ann", '["bytes"]')


def test_nobody_due_is_exit_code_0(meshlab, store):
    result = meshlab("--store", store, "checkpointd", "--dry-run", "--age", "none")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "0 users due" in result.stderr


def test_a_dry_run_names_those_who_need_a_person(meshlab, store):
    (store / "ann" / "snapshot.bin").write_bytes(b"\0" * 8)
    result = meshlab("--store", store, "checkpointd", "--dry-run", "--bytes", "0")
    assert result.exit_code == 0
    assert "skipped: ann: its snapshot is from phase 1" in result.stderr


def test_one_round_checkpoints_and_logs_json_lines(meshlab_process, store):
    result = meshlab_process("--store", store, "checkpointd", "--once", "--bytes", "0")
    assert (result.returncode, result.stdout) == (0, b""), result.stderr
    assert [line["event"] for line in log_of(result)] == ["started", "checkpoint", "stopped"]
    assert (store / "ann" / "snapshot.bin").exists()


def test_a_round_with_a_failure_is_exit_code_1(meshlab_process, store):
    segment = next((store / "ann").glob("wal-*.log"))
    segment.write_bytes(segment.read_bytes().replace(b"second", b"recond"))
    result = meshlab_process("--store", store, "checkpointd", "--once", "--bytes", "0")
    assert result.returncode == 1
    assert [line["event"] for line in log_of(result)] == ["started", "failed", "stopped"]


def test_a_round_with_vacuum_deletes_what_is_of_no_more_use(meshlab_process, tmp_path):
    from meshlab.testing.log import build_log

    build_log([[{"Insert": {"id": f"m{at}"}}] for at in range(3)], per_day=1).write(tmp_path / "store" / "ann")
    assert meshlab_process("--store", "store", "checkpoint", "ann", "--retain", "0").returncode == 0
    result = meshlab_process("--store", "store", "checkpointd", "--once", "--vacuum")
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in log_of(result) if line["event"] == "vacuum"]
    assert (line["uid"], line["ledger"]["events"]) == ("ann", 2)
    assert [path.name for path in (tmp_path / "store" / "ann").glob("wal-*.log")] == ["wal-20250703.log"]


def test_a_second_daemon_is_refused_with_a_hint(meshlab_process, store):
    with daemon_lock(store):
        result = meshlab_process("--store", store, "checkpointd", "--once")
    assert result.returncode == 1
    message, hint = result.stderr.decode().splitlines()
    assert "has a checkpoint daemon already" in message
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--interval", "0"),
        ("--interval", "none"),
        ("--interval", "soon"),
        ("--budget", "0"),
        ("--budget", "-1"),
        ("--bytes", "12 parsecs"),
        ("--workers", "0"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments, meshlab, store):
    result = meshlab("--store", store, "checkpointd", "--dry-run", *arguments)
    assert result.exit_code == 1
    assert arguments[0] in result.stderr


def test_a_store_that_is_not_there_is_an_error(meshlab, tmp_path):
    for extra in ("--dry-run", "--once"):
        result = meshlab("--store", "nowhere", "checkpointd", extra)
        assert result.exit_code == 1
        assert "does not exist" in result.stderr
    assert list(tmp_path.iterdir()) == []
