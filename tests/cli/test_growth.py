"""``growth``, ``forecast`` and ``simulate``: what logs are full of, where they lead, what to set."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
STORE = SAMPLES / "store"
KEYS = ("user", "day", "hour", "op", "dialect", "id", "field")
POLICIES = ("--policy", "bytes=50kB", "--policy", "age=1d,events=100")


def files_of(store):
    return sum(path.stat().st_size for path in store.glob("*/wal-2*.log"))


@pytest.mark.parametrize("key", KEYS)
def test_the_bytes_of_every_key_add_up_to_the_files(meshlab, key):
    for store in (STORE, SAMPLES / "damaged" / "nul-run"):
        result = meshlab("--store", store, "growth", "--by", key, "--format", "json")
        rows = json.loads(result.stdout)
        assert sum(row["bytes"] for row in rows) == files_of(store)
        assert all(key in row and "events" in row for row in rows)


def test_by_default_bytes_are_put_down_to_ops_the_largest_first(meshlab):
    result = meshlab("--store", STORE, "growth")
    assert result.exit_code == 0, result.stderr
    head, _, *rows = result.stdout.splitlines()
    assert head.split() == ["op", "bytes", "events", "share", "cumulative"]
    assert [row.split()[0] for row in rows] == ["insert", "update", "delete"]
    assert rows[-1].split()[-1] == "100.0%"


def test_the_rows_beyond_the_top_are_one(meshlab):
    result = meshlab("--store", STORE, "growth", "--by", "id", "--top", "2", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["id"] for row in rows[2:]] == ["(684 others)"]
    assert sum(int(row["bytes"]) for row in rows) == files_of(STORE)


def test_a_table_of_ids_is_short_and_json_is_whole(meshlab):
    table = meshlab("--store", STORE, "growth", "--by", "id").stdout.splitlines()
    rows = json.loads(meshlab("--store", STORE, "growth", "--by", "id", "--format", "json").stdout)
    assert (len(table), len(rows)) == (2 + 20 + 1, 686)


def test_rejects_are_a_row_and_damage_is_exit_code_2(meshlab):
    result = meshlab("--store", SAMPLES / "damaged" / "not-utf8", "growth")
    assert result.exit_code == 2
    assert "(rejects)" in result.stdout
    assert "2 damaged pieces" in result.stderr
    assert meshlab("--store", SAMPLES / "damaged" / "torn-tail", "growth").exit_code == 0


def test_users_are_read_side_by_side_with_the_same_result(meshlab):
    alone, together = (
        meshlab("--store", STORE, "growth", "--by", "field", "--jobs", jobs, "--format", "json") for jobs in (1, 2)
    )
    assert alone.stdout == together.stdout


@pytest.mark.parametrize(
    "command",
    [("growth",), ("growth", "--by", "user"), ("growth", "--by", "hour"), ("growth", "--by", "field")]
    + [("growth", "--changes"), ("growth", "--redundancy"), ("forecast",), ("simulate", *POLICIES)],
    ids=" ".join,
)
def test_a_figure_is_written_beside_the_table(meshlab, tmp_path, command):
    result = meshlab("--store", STORE, *command, "--plot", "figure.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "figure.png: " in result.stderr


@pytest.mark.parametrize("command", ["growth", "forecast", "simulate"])
def test_a_figure_of_no_known_kind_is_refused_before_anything_is_read(meshlab, command):
    result = meshlab("--store", "nowhere", command, "--plot", "figure.txt")
    assert result.exit_code == 1
    assert "end it in .png, .svg, .pdf" in result.stderr


@pytest.mark.parametrize("command", [("growth",), ("growth", "--changes"), ("forecast",), ("simulate", *POLICIES)])
def test_a_store_without_events_is_answered_not_refused(meshlab, tmp_path, command):
    (tmp_path / "store" / "ann").mkdir(parents=True)
    result = meshlab("--store", "store", *command)
    assert result.exit_code == 0, result.stderr
    assert result.stderr


def test_a_store_that_is_not_there_is_an_error_with_a_hint(meshlab):
    result = meshlab("--store", "nowhere", "growth")
    assert result.exit_code == 1
    assert "nowhere" in result.stderr
    assert "hint:" in result.stderr


def test_redundancy_tells_for_each_user_what_could_go(meshlab):
    result = meshlab("--store", STORE, "growth", "ada", "--redundancy", "--format", "json")
    rows = json.loads(result.stdout)
    parts = ("no_event_bytes", "no_effect_bytes", "superseded_bytes", "duplicate_bytes", "left_bytes")
    assert all(sum(row[part] for part in parts) == row["bytes"] for row in rows)
    table = meshlab("--store", STORE, "growth", "--redundancy").stdout
    assert table.splitlines()[0].split()[:3] == ["uid", "bytes", "superseded_bytes"]


def test_a_forecast_is_an_answer_and_its_days(meshlab):
    result = meshlab("--store", STORE, "forecast", "--limit", "1500kB", "--days", "5", "--format", "json")
    answer = json.loads(result.stdout)
    assert answer["size"] == files_of(STORE)
    assert answer["limit"] == 1_500_000
    assert 0 < answer["days_low"] <= answer["days_median"] <= answer["days_high"]
    assert [row["kind"] for row in answer["rows"]].count("forecast") == 5


def test_a_forecast_says_in_words_what_it_does_not_know(meshlab):
    said = meshlab("--store", STORE, "forecast").stderr
    assert "days of the week are told apart from 21 days of history on" in said
    assert "2.0 GB not within 730 days" in said


def test_policies_are_compared_and_one_is_recommended(meshlab):
    result = meshlab("--store", STORE, "simulate", *POLICIES)
    assert result.exit_code == 0, result.stderr
    assert {line.split()[0] for line in result.stdout.splitlines()[2:]} == {"bytes=50kB", "events=100,age=1d"}
    assert "Set " in result.stderr


@pytest.mark.parametrize(
    ("policy", "problem"),
    [("speed=3", "'speed=3' is no limit"), ("bytes=large", "'large' is no size"), ("bytes=0", "bytes=0 is none")],
)
def test_a_policy_that_is_none_is_an_error_that_says_what_is_possible(meshlab, policy, problem):
    result = meshlab("--store", STORE, "simulate", "--policy", policy)
    assert result.exit_code == 1
    assert problem in result.stderr


def test_a_vacuumed_day_stays_in_the_history_of_growth(meshlab, tmp_path):
    shutil.copytree(STORE / "farid", tmp_path / "store" / "farid")
    meshlab("--store", "store", "checkpoint", "farid", "--retain", "0")
    before = json.loads(meshlab("--store", "store", "growth", "--by", "op", "--format", "json").stdout)
    assert meshlab("--store", "store", "vacuum", "farid", "--apply").exit_code == 0
    after = json.loads(meshlab("--store", "store", "growth", "--by", "op", "--format", "json").stdout)
    assert sum(row["bytes"] for row in after) == files_of(tmp_path / "store") < sum(row["bytes"] for row in before)
    assert {row["op"]: row["bytes"] for row in before} == {
        row["op"]: row["bytes"] + row["deleted_bytes"] for row in after
    }
