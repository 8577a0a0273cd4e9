"""``meshlab sync``: its results, its exit codes, and what it says."""

import json
import shutil
import signal
import subprocess
import sys

import pytest

from meshlab.remote.bucket import FolderBucket


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A bucket that is a directory, named in the environment."""
    (tmp_path / "bucket").mkdir()
    monkeypatch.setenv("MESH_REMOTE", f"file://{tmp_path}/bucket")
    return FolderBucket(tmp_path / "bucket")


@pytest.fixture
def sync(meshlab, store, remote):
    return lambda *args, to=store: meshlab("--store", to, "sync", *args)


def report(result):
    return json.loads(result.stdout)


def test_a_store_goes_into_the_bucket_and_comes_back(sync, meshlab, tmp_path):
    assert sync("push").exit_code == 0
    result = sync("pull", to=tmp_path / "new")
    assert result.exit_code == 0, result.stderr
    replays = [meshlab("--store", tmp_path / at, "replay", "ann", "--format", "json").stdout for at in ("store", "new")]
    assert replays[0] == replays[1] and "m1" in replays[0]
    assert report(sync("push", "--format", "json"))["users"][0]["status"] == "nothing new"


def test_a_dry_run_tells_bytes_and_requests_and_ends_with_2(sync, remote):
    result = sync("push", "--dry-run")
    assert result.exit_code == 2
    assert "would put" in result.stderr and "2 requests" in result.stderr
    assert list(remote.list("")) == []
    sync("push")
    assert sync("push", "--dry-run").exit_code == 0


def test_the_report_is_one_json_object_with_requests_and_users(sync):
    told = report(sync("push", "--format", "json"))
    assert told["requests"] == told["puts"] + told["gets"] + told["lists"] + told["deletes"]
    assert told["users"][0]["uid"] == "ann" and told["users"][0]["looked_at"].endswith("Z")
    rows = sync("push", "--format", "csv").stdout.splitlines()
    assert rows[0].startswith("uid,status,image") and rows[1].startswith("ann,nothing new")


def test_damage_ends_a_push_with_2_until_it_is_accepted(sync, store):
    (log,) = (store / "ann").glob("wal-*.log")
    place = log.stat().st_size
    with log.open("ab") as file:
        file.write(b"no event\n")
    result = sync("push")
    assert result.exit_code == 2
    assert f"--accept {log.name}:{place}" in result.stderr
    assert sync("push", "--accept", f"{log.name}:{place}").exit_code == 0


def test_a_pull_never_replaces_anybody_without_force(sync, store):
    sync("push")
    before = sorted((store / "ann").iterdir())
    result = sync("pull")
    assert result.exit_code == 1
    assert "--force" in result.stderr and "Traceback" not in result.stderr
    assert sorted((store / "ann").iterdir()) == before
    result = sync("pull", "--force")
    assert result.exit_code == 0
    (aside,) = (store / ".meshlab" / "remote" / "replaced").iterdir()
    assert str(aside) in result.stderr
    assert {path.name for path in aside.iterdir()} >= {path.name for path in before} - {"wal.lock"}


def test_the_plan_of_a_pull_is_shown_and_nothing_is_got(sync, tmp_path):
    sync("push")
    told = sync("windows", "ann", "--format", "json", to=tmp_path / "new")
    (window,) = report(told)
    assert (window["start"], window["source"]) == (None, "the beginning of the log")
    result = sync("pull", "ann", "--at", window["end"], "--dry-run", to=tmp_path / "new")
    assert result.exit_code == 2
    assert "from the beginning of the log, then wal-" in result.stderr
    assert not (tmp_path / "new").exists()
    after = sync("pull", "ann", "--at", "2999-01-01T00:00:00Z", to=tmp_path / "new")
    assert after.exit_code == 1 and "after the last push" in after.stderr


def test_proofs_end_with_0_1_or_2(sync, remote, tmp_path):
    sync("push")
    assert sync("prove").exit_code == 0
    result = sync("prove", to=tmp_path / "elsewhere")
    assert result.exit_code == 2 and "inconclusive" in result.stderr
    remote.delete([found.key for found in remote.list("data/")])
    result = sync("prove", "--format", "json")
    assert result.exit_code == 1 and report(result)["users"][0]["outcome"] == "failed"


def test_the_status_says_what_is_not_in_the_bucket(sync, meshlab, store):
    result = sync("status")
    assert result.exit_code == 2 and "not in the bucket: ann" in result.stderr
    sync("push")
    assert sync("status").exit_code == 0
    meshlab("--store", store, "append", "ann", stdin='{"Delete":"m1"}\n')
    told = report(sync("status", "--format", "json"))["users"][0]
    assert told["lag_bytes"] > 0 and told["lag_seconds"] > 0


def test_a_fork_ends_with_2_and_names_the_other_head(sync, meshlab, store, tmp_path):
    sync("push")
    shutil.copytree(store, tmp_path / "copy")
    for at in ("store", "copy"):
        meshlab("--store", tmp_path / at, "append", "ann", stdin='{"Insert":{"id":"%s"}}\n' % at)
    first = report(sync("push", "--format", "json"))["users"][0]["image"]
    result = sync("push", to=tmp_path / "copy")
    assert (
        result.exit_code == 2
        and f"forked: ann: another machine has pushed other events (image {first})" in result.stderr
    )
    result = sync("pull", to=tmp_path / "new")
    assert result.exit_code == 1 and "--image" in result.stderr
    assert sync("pull", "--image", first[:8], to=tmp_path / "new").exit_code == 0
    assert sync("status").exit_code == 2


def test_a_retention_is_a_dry_run_by_default(sync, remote, meshlab, store, monkeypatch):
    monkeypatch.setattr("meshlab.remote.retention.YOUNG", -1)
    sync("push")
    meshlab("--store", store, "append", "ann", stdin='{"Delete":"m1"}\n')
    sync("push")
    before = [found.key for found in remote.list("")]
    result = sync("retain", "--days", "0")
    assert result.exit_code == 2 and "--apply does it" in result.stderr
    assert [found.key for found in remote.list("")] == before
    assert sync("retain", "--days", "0", "--apply").exit_code == 0
    assert len(list(remote.list("images/"))) == 1


def test_one_round_of_the_daemon_pushes_and_proves(sync, remote, store):
    result = sync("push", "--watch", "--once")
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line)["event"] for line in result.stderr.splitlines()]
    assert events == ["started", "push", "proof", "stopped"]
    assert sync("push", "--watch", "ann").exit_code == 1


def test_the_daemon_ends_with_0_when_it_is_told_to(store, remote):
    command = [sys.executable, "-m", "meshlab", "--store", store, "sync", "push", "--watch"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        events = []
        while "push" not in events:
            events.append(json.loads(daemon.stderr.readline())["event"])
        daemon.send_signal(signal.SIGTERM)
        events += [json.loads(line)["event"] for line in daemon.stderr]
    assert daemon.returncode == 0
    assert (events[0], events[-1]) == ("started", "stopped")
    assert list(remote.list("images/"))


@pytest.mark.parametrize("command", ["push", "pull", "prove", "status", "windows", "retain"])
def test_without_a_bucket_every_command_says_what_is_missing(meshlab, store, command, monkeypatch):
    monkeypatch.delenv("MESH_REMOTE", raising=False)
    arguments = ["ann"] if command == "windows" else []
    result = meshlab("--store", store, "sync", command, *arguments)
    assert result.exit_code == 1 and "--remote" in result.stderr
    result = meshlab("--store", store, "sync", command, *arguments, "--remote", "/nowhere/at/all")
    assert result.exit_code == 1 and "no such directory" in result.stderr
