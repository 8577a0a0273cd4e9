"""``migrate`` from the first look to the end, as an operator types it."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
ANN = "15009280-3996-4b8e-ae6d-36c44a9ce5d9"


@pytest.fixture
def old(tmp_path):
    """The single file of one user."""
    return Path(shutil.copy(SAMPLES / "phase1" / "mesh_snapshot.bin", tmp_path / "mesh_snapshot.bin"))


@pytest.fixture
def planned(meshlab, old):
    """A plan for it, in plan.json."""
    result = meshlab("--store", "store", "migrate", "plan", old, "--user", "ann", "--out", "plan.json")
    assert result.exit_code == 0, result.stderr
    return Path("plan.json")


@pytest.fixture
def applied(meshlab, planned):
    """The plan rehearsed and carried out."""
    for step in ("rehearse", "apply"):
        result = meshlab("migrate", step, planned, "--jobs", "1")
        assert result.exit_code == 0, result.stderr
    return planned


def tree(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in Path(folder).rglob("*")}


def replayed(meshlab, store, uid):
    result = meshlab("--store", store, "replay", uid, "--format", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_inspect_names_users_and_what_nobody_takes(meshlab):
    result = meshlab("migrate", "inspect", SAMPLES / "phase1", "--format", "json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0
    assert [(row["kind"], row["files"]) for row in answer["users"]] == [("phase1", 4)] * 3
    assert [Path(one["where"]).name for one in answer["left"]] == ["mesh_snapshot.bin"]
    assert "not taken: " in result.stderr


def test_the_plan_is_a_table_json_csv_a_file_and_a_page(meshlab, old):
    command = ("--store", "store", "migrate", "plan", old, "--user", "ann")
    table = meshlab(*command, "--out", "plan.json", "--html", "plan.html")
    assert table.exit_code == 0, table.stderr
    assert "next: meshlab migrate rehearse plan.json" in table.stderr
    assert "ann" in table.stdout
    (row,) = csv.DictReader(io.StringIO(meshlab(*command, "--format", "csv").stdout))
    plan = json.loads(meshlab(*command, "--format", "json").stdout)
    (user,) = plan["users"]
    assert int(row["records"]) == user["records"] == 122
    assert row["state_hash"] == user["state_hash"]
    (saved,) = json.loads(Path("plan.json").read_bytes())["users"]
    assert saved == user | {"seconds": saved["seconds"]}, "the time is measured anew"
    page = Path("plan.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert user["state_hash"] in page
    assert not Path("store").exists()


def test_a_damaged_source_is_named_and_ends_with_2(meshlab, old):
    old.write_bytes(old.read_bytes()[:-1])
    result = meshlab("--store", "store", "migrate", "plan", old, "--user", "ann", "--out", "plan.json")
    assert result.exit_code == 2
    assert "mesh_snapshot.bin" in result.stderr
    assert "cannot be carried out" in result.stderr
    assert meshlab("migrate", "rehearse", "plan.json").exit_code != 0
    assert not Path("store").exists()


def test_where_problems_hide_all_users_there_is_no_empty_table(meshlab, old):
    old.write_bytes(old.read_bytes()[:-1])
    for step in ("plan", "inspect"):
        Path("empty.json").write_text("")
        result = meshlab(
            "--store", "store", "migrate", step, *((old,) if step == "plan" else ("empty.json",)), "--user", "ann"
        )
        assert result.exit_code == 2
        assert "problem: " in result.stderr
        assert "nothing to show" not in result.stderr


def test_an_empty_source_is_not_saved_as_if_it_could_be_carried_out(meshlab):
    Path("old").mkdir()
    result = meshlab("--store", "store", "migrate", "plan", "old", "--out", "plan.json")
    assert result.exit_code == 2
    assert "next: " not in result.stderr


def test_a_file_of_which_nothing_can_be_read_stops_nobody_else(meshlab, old):
    Path("users.csv").write_text("path,uid\n/proc/self/mem,eve\nmesh_snapshot.bin,ann\n")
    for step in ("inspect", "plan"):
        result = meshlab("--store", "store", "migrate", step, "--users", "users.csv")
        assert result.exit_code == 2, result.stderr
        assert "ann" in result.stdout
        assert "problem: /proc/self/mem: cannot read: " in result.stderr


def test_the_help_names_a_page_that_tells_the_story(meshlab):
    text = meshlab("migrate", "--help").stdout
    assert "docs/migration.md" in text
    assert (Path(__file__).parents[2] / "docs" / "migration.md").exists()


def test_apply_asks_for_a_rehearsal(meshlab, planned):
    refused = meshlab("migrate", "apply", planned)
    assert refused.exit_code == 1
    assert "rehears" in refused.stderr
    assert not Path("store", "ann").exists()
    assert meshlab("migrate", "apply", planned, "--without-rehearsal", "--jobs", "1").exit_code == 0


def test_the_verdict_is_the_last_line_of_a_rehearsal(meshlab, planned):
    result = meshlab("migrate", "rehearse", planned, "--jobs", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("passed")
    assert not Path("store", "ann").exists()


def test_a_changed_input_makes_the_plan_stale_and_is_named(meshlab, planned, old):
    assert meshlab("migrate", "rehearse", planned, "--jobs", "1").exit_code == 0
    data = bytearray(old.read_bytes())
    data[len(data) // 2] ^= 1
    old.write_bytes(data)
    result = meshlab("migrate", "apply", planned)
    assert result.exit_code == 1
    assert "stale" in result.stderr
    assert str(old) in result.stderr
    assert not Path("store", "ann").exists()


def test_applied_the_store_holds_the_memories_and_takes_more(meshlab, applied):
    expected = json.loads((Path(__file__).parents[1] / "data" / "phase1-expected.json").read_text(encoding="utf-8"))
    assert {record["id"]: record for record in replayed(meshlab, "store", "ann")} == expected[ANN]
    again = meshlab("migrate", "apply", applied, "--jobs", "1", "--format", "json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["users"][0]["status"] == "already"
    appended = meshlab("--store", "store", "append", "ann", stdin='{"Insert":{"id":"new"}}\n')
    assert appended.exit_code == 0, appended.stderr
    verified = meshlab("migrate", "verify", applied, "--format", "json")
    assert verified.exit_code == 0, verified.stderr
    assert json.loads(verified.stdout)["users"][0]["holds"] is True


def test_rolled_back_the_old_file_holds_what_was_written_since(meshlab, applied, old):
    before = old.read_bytes()
    (first, *_) = replayed(meshlab, "store", "ann")
    lines = [{"Update": {"id": first["id"], "amplitude": 0.125}}, {"Insert": {"id": "half", "mode": "Dark"}}]
    meshlab("--store", "store", "append", "ann", stdin="".join(json.dumps(line) + "\n" for line in lines))
    result = meshlab("migrate", "rollback", applied, "--format", "json")
    assert result.exit_code == 2, "one memory lacks fields"
    (user,) = json.loads(result.stdout)["users"]
    assert user["left_over"] == 1
    assert "half" in Path(user["kept_beside"]).read_text(encoding="utf-8")
    assert not Path("store", "ann").exists()
    assert before in [path.read_bytes() for path in old.parent.glob("mesh_snapshot.bin?*")]
    assert meshlab("--store", "other", "migrate", "plan", old, "--user", "ann", "--out", "new.json").exit_code == 0
    meshlab("migrate", "apply", "new.json", "--without-rehearsal", "--jobs", "1")
    now = {record["id"]: record for record in replayed(meshlab, "other", "ann")}
    assert now[first["id"]]["amplitude"] == 0.125
    assert len(now) == 122


def test_finish_lets_go_and_deletes_originals_only_when_told(meshlab, applied, old):
    assert meshlab("migrate", "finish", applied).exit_code == 0
    assert old.exists()
    assert meshlab("migrate", "rollback", applied).exit_code == 1
    assert len(replayed(meshlab, "store", "ann")) == 122


def test_finish_deletes_the_originals_when_told(meshlab, applied, old):
    result = meshlab("migrate", "finish", applied, "--delete-originals")
    assert result.exit_code == 0, result.stderr
    assert not old.exists()
    assert len(replayed(meshlab, "store", "ann")) == 122


@pytest.mark.parametrize("step", ["apply", "rollback", "finish"])
def test_a_dry_run_says_so_first_and_last_and_writes_nothing(meshlab, planned, step, tmp_path):
    meshlab("migrate", "rehearse", planned, "--jobs", "1")
    if step != "apply":
        meshlab("migrate", "apply", planned, "--jobs", "1")
    before = tree(tmp_path)
    result = meshlab("migrate", step, planned, "--dry-run")
    said = result.stderr.strip().splitlines()
    assert result.exit_code == 0, result.stderr
    assert said[0].startswith("DRY RUN")
    assert said[-1].startswith("DRY RUN")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan"],
        ["plan", "nowhere"],
        ["plan", "mesh_snapshot.bin", "--user", "../etc"],
        ["plan", "mesh_snapshot.bin", "--users", "map.csv"],
        ["plan", "mesh_snapshot.bin", "--user", "ann", "--accept", "wal-20250707.log"],
        ["apply", "nowhere.json"],
        ["apply", "mesh_snapshot.bin"],
        ["rehearse", "mesh_snapshot.bin"],
    ],
)
def test_a_mistake_is_one_line_and_a_hint(meshlab, old, arguments):
    result = meshlab("--store", "store", "migrate", *arguments)
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.stderr
    assert "meshlab: error: " in result.stderr or "problem: " in result.stderr


def test_another_store_than_that_of_the_plan_is_refused(meshlab, planned):
    result = meshlab("--store", "elsewhere", "migrate", "rehearse", planned)
    assert result.exit_code == 1
    assert "leave --store out" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["plan", "--user", "ann", "--out"], ["plan", "--user", "ann", "--html"], ["rehearse", "--html"]]
)
def test_no_output_is_written_over_a_file_somebody_may_need(meshlab, planned, old, arguments):
    before = old.read_bytes()
    step, *options = arguments
    target = planned if step == "rehearse" else old
    result = meshlab("--store", "store", "migrate", step, target, *options, old)
    assert result.exit_code == 1
    assert "found another file" in result.stderr
    assert old.read_bytes() == before


def test_an_earlier_plan_report_or_page_is_replaced(meshlab, planned, old):
    for _ in range(2):
        assert meshlab("--store", "store", "migrate", "plan", old, "--user", "ann", "-o", planned).exit_code == 0
        assert meshlab("migrate", "rehearse", planned, "--jobs", "1", "--html", "page.html").exit_code == 0


def test_ctrl_c_says_that_it_can_be_started_again(meshlab, planned, monkeypatch):
    from meshlab import migrate

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(migrate, "apply", interrupted)
    result = meshlab("migrate", "apply", planned)
    assert result.exit_code == 130
    assert "start it again" in result.stderr
