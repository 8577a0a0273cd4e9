"""``--jobs`` and ``--dask``: the same answers by several workers, with a row for whoever fails."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pyarrow.parquet as pq
import pytest

import meshlab as library
from meshlab.fleet import crew
from meshlab.testing import build_store

UIDS = ["ada", "bela", "chiara"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Three users; processes are threads, which start at once."""
    monkeypatch.setattr(crew, "_processes", ThreadPoolExecutor)
    build_store(tmp_path / "store", users=UIDS, days=2, events=60)
    return tmp_path / "store"


@pytest.fixture
def bad(store):
    """A fourth user who cannot be read."""
    (store / "bad" / "wal-20250707.log").mkdir(parents=True)
    return store


def same(meshlab, store, *command):
    """The answers and exit codes of one job and of two."""
    results = [meshlab("--store", store, *command, "--jobs", jobs, "--format", "json") for jobs in (1, 2)]
    assert results[0].exit_code == results[1].exit_code
    return [json.loads(result.stdout) for result in results]


@pytest.mark.parametrize(
    "command",
    [["verify"], ["verify", "ada"], ["growth", "--by", "user"], ["growth", "--by", "id"], ["stats"], ["windows"]],
)
def test_answers_are_the_same(meshlab, store, command):
    one, two = same(meshlab, store, *command)
    assert one == two


def test_redundancy_and_changes_too(meshlab, store):
    for flag in ("--redundancy", "--changes"):
        one, two = same(meshlab, store, "growth", flag)
        assert one == two


def test_damage_is_exit_code_2_for_several_workers_too(meshlab, store):
    path = next((store / "ada").glob("wal-*.log"))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    one, two = same(meshlab, store, "verify")
    assert one == two and one["damage"]
    assert meshlab("--store", store, "verify", "--jobs", "2").exit_code == 2
    assert meshlab("--store", store, "growth", "--jobs", "2").exit_code == 2


@pytest.mark.parametrize("command", [["verify"], ["growth"], ["growth", "--by", "id"], ["growth", "--by", "field"]])
def test_a_bad_user_is_told_and_the_others_are_done(meshlab, bad, command):
    result = meshlab("--store", bad, *command, "--jobs", "2", "--format", "json")
    assert result.exit_code == 1
    assert "meshlab: error: bad: " in result.stderr and "hint: " in result.stderr
    assert json.loads(result.stdout)


def test_load_fills_a_folder_and_goes_on_where_it_was(meshlab, bad, tmp_path):
    result = meshlab("--store", bad, "load", "--jobs", "2", "--out", "out", "--format", "json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["events"], told["users"]) == (60, 4)
    summary = pq.read_table(tmp_path / "out" / "summary.parquet")
    assert summary["ok"].to_pylist() == [True, False, True, True]
    (bad / "bad" / "wal-20250707.log").rmdir()
    assert meshlab("--store", bad, "load", "--jobs", "2", "--out", "out").exit_code == 0
    refused = meshlab("--store", bad, "load", "--jobs", "2", "--out", "out.parquet")
    assert refused.exit_code == 1 and "folder" in refused.stderr
    other = meshlab("--store", bad, "load", "--op", "delete", "--jobs", "2", "--out", "out")
    assert other.exit_code == 1 and "another run" in other.stderr


def test_checkpoints_side_by_side_give_the_same_rows(meshlab, bad):
    planned = meshlab("--store", bad, "checkpoint", *UIDS, "--dry-run", "--jobs", "2", "--format", "json")
    assert planned.exit_code == 2
    alone = meshlab("--store", bad, "checkpoint", *UIDS, "--dry-run", "--format", "json")
    rows, others = ([{**row, "seconds": 0} for row in json.loads(one.stdout)] for one in (planned, alone))
    assert rows == others and list(rows[0]) == list(others[0])
    done = meshlab("--store", bad, "checkpoint", "--all", "--jobs", "2", "--format", "json")
    assert done.exit_code == 1 and "meshlab: error: bad" in done.stderr
    failed = [row for row in json.loads(done.stdout) if "error" in row]
    assert [(row["uid"], row["kind"]) for row in failed] == [("bad", "StorageError")]
    assert "leave out" in meshlab("--store", bad, "checkpoint", "ada", "--accept", "x:1", "--jobs", "2").stderr


def test_vacuum_side_by_side_tells_who_failed_and_does_the_others(meshlab, bad):
    meshlab("--store", bad, "checkpoint", *UIDS, "--retain", "0")
    planned = meshlab("--store", bad, "vacuum", "--all", "--jobs", "2", "--format", "json")
    rows = json.loads(planned.stdout)
    assert [row["uid"] for row in rows if row["files"]] == UIDS
    result = meshlab("--store", bad, "vacuum", *UIDS, "--apply", "--jobs", "2")
    assert result.exit_code == 0, result.stderr
    again = meshlab("--store", bad, "vacuum", *UIDS, "--jobs", "2")
    assert again.exit_code == 0 and "nothing to delete" in again.stderr


def test_a_store_in_a_bucket_is_not_vacuumed(meshlab, store, tmp_path):
    (tmp_path / "bucket").mkdir()
    library.open(store).remote(f"file://{tmp_path}/bucket").push(progress=False)
    result = meshlab("--store", f"file://{tmp_path}/bucket", "vacuum", "--all", "--apply", "--jobs", "2")
    assert result.exit_code == 1 and "are copies" in result.stderr


def test_a_store_in_a_bucket_is_read_from_there(meshlab, store, tmp_path):
    (tmp_path / "bucket").mkdir()
    url = f"file://{tmp_path}/bucket"
    library.open(store).remote(url).push(progress=False)
    for command in (["verify"], ["growth", "--by", "day"]):
        here = meshlab("--store", store, *command, "--format", "json")
        there = meshlab("--store", url, *command, "--format", "json")
        assert (there.exit_code, there.stdout) == (here.exit_code, here.stdout)
    alone = meshlab("--store", store, "sync", "prove", "--remote", url, "--format", "json")
    many = meshlab("--store", store, "sync", "prove", "--remote", url, "--jobs", "2", "--format", "json")
    one, two = (json.loads(result.stdout) for result in (alone, many))
    assert many.exit_code == alone.exit_code == 0 and list(one) == list(two)
    assert [{**user, "seconds": 0} for user in one["users"]] == [{**user, "seconds": 0} for user in two["users"]]


def test_a_proof_that_failed_is_exit_code_1_for_several_workers_too(meshlab, store, tmp_path):
    (tmp_path / "bucket").mkdir()
    url = f"file://{tmp_path}/bucket"
    library.open(store).remote(url).push(progress=False)
    block = next(path for path in (tmp_path / "bucket" / "data" / "bela").rglob("*") if path.is_file())
    block.write_bytes(block.read_bytes()[:-1])
    for jobs in (1, 2):
        result = meshlab("--store", store, "sync", "prove", "--remote", url, "--jobs", jobs, "--format", "json")
        outcomes = [user["outcome"] for user in json.loads(result.stdout)["users"]]
        assert (result.exit_code, outcomes) == (1, ["proved", "failed", "proved"]), jobs


def test_who_names_no_scheduler_is_told(meshlab, store):
    result = meshlab("--store", store, "verify", "--jobs", "2", "--dask", "tcp://127.0.0.1:1")
    assert result.exit_code == 1 and "exclude each other" in result.stderr
    result = meshlab("--store", store, "verify", "--dask", "nonsense://")
    assert result.exit_code == 1 and "no Dask scheduler" in result.stderr and "hint" in result.stderr


def test_ctrl_c_ends_all_workers_at_once_and_without_a_word_from_them(tmp_path):
    """It reaches the whole group of processes, workers that are only starting too."""
    build_store(tmp_path / "store", users=UIDS, days=2, events=20_000)
    command = [
        sys.executable,
        "-m",
        "meshlab",
        "--store",
        str(tmp_path / "store"),
        "growth",
        "--by",
        "id",
        "--jobs",
        "2",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        asked = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        while len(workers := [one for one in asked.children() if "spawn_main" in str(one.cmdline())]) < 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"Traceback" not in said and b"Exception" not in said
    assert not psutil.wait_procs(workers, timeout=10)[1]
