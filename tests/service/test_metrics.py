"""What is measured is what is told, in a form Prometheus takes, and the page, alerts and dashboard know no other."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import meshlab
from meshlab.growth.forecast import forecast
from meshlab.service import survey as survey_module
from meshlab.service import syncd
from meshlab.service.measure import COUNTER, GAUGE, HISTOGRAM
from meshlab.service.metrics import BY_NAME, METRICS, Metrics
from meshlab.service.survey import Survey, free_bytes
from meshlab.service.textfile import SYNC_METRICS
from meshlab.service.textfile import text as sync_text
from meshlab.testing import build_log
from meshlab.times import SECOND, midnight

DOCS = Path(meshlab.__file__).parent.parent / "docs"
MONITORING = DOCS / "monitoring"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: rules and text are not checked"
)


def told(metrics):
    families = text_string_to_metric_families(metrics.text("")[0].decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for f in families for sample in f.samples}


def filled(**options):
    """Metrics in which every one has a value."""
    metrics = Metrics(**options)
    for measure in METRICS:
        labels = tuple(f"a {label}" for label in measure.labels)
        if measure.kind == COUNTER:
            metrics.add(measure.name, 2, *labels, uid="ann")
        elif measure.kind == HISTOGRAM:
            metrics.observe(measure.name, measure.buckets[1], *labels)
        else:
            metrics.feed(measure.name, lambda labels=labels: {labels: 0.5})
    return metrics


def test_counters_add_up_and_gauges_are_asked():
    metrics = Metrics()
    metrics.add("meshlab_rejects_total", 1, "rate")
    metrics.add("meshlab_rejects_total", 2, "rate")
    metrics.feed("meshlab_connections", lambda: 7)
    metrics.feed("meshlab_checkpoint_age_seconds", lambda: {("newest",): 3.0})
    metrics.feed("meshlab_write_amplification", lambda: None)
    values = told(metrics)
    assert values["meshlab_rejects_total", (("class", "rate"),)] == 3
    assert values["meshlab_connections", ()] == 7
    assert values["meshlab_checkpoint_age_seconds", (("which", "newest"),)] == 3
    assert values["meshlab_appends_total", ()] == 0
    assert not [name for name, _ in values if name == "meshlab_write_amplification"]


def test_a_histogram_counts_what_is_not_above_each_bound():
    metrics = Metrics()
    for value in (1, 1, 2, 3, 5000):
        metrics.observe("meshlab_frames_per_sync", value)
    values = told(metrics)
    counts = {labels[0][1]: value for (name, labels), value in values.items() if name.endswith("_bucket")}
    assert (counts["1.0"], counts["2.0"], counts["4.0"], counts["4096.0"], counts["+Inf"]) == (2, 3, 4, 4, 5)
    assert values["meshlab_frames_per_sync_sum", ()] == 5007
    assert values["meshlab_frames_per_sync_count", ()] == 5


def test_nothing_is_told_by_user_unless_users_are_named():
    metrics = Metrics()
    metrics.add("meshlab_appends_total", 1, uid="ann")
    assert told(metrics)["meshlab_appends_total", ()] == 1
    named = Metrics(["ann"])
    for uid in ("ann", "bob", "eve"):
        named.add("meshlab_appends_total", 1, uid=uid)
    named.add("meshlab_duplicates_total", 1, uid="ann")
    values = told(named)
    assert values["meshlab_appends_total", (("user", "ann"),)] == 1
    assert values["meshlab_appends_total", (("user", "_other"),)] == 2
    assert values["meshlab_duplicates_total", ()] == 1


@needs_promtool
@pytest.mark.parametrize("users", [[], ["ann"]])
def test_promtool_has_nothing_to_say_about_the_text(users):
    run = subprocess.run([PROMTOOL, "check", "metrics"], input=filled(users=users).text("")[0], capture_output=True)
    problems = [line for line in run.stderr.decode().splitlines() if line.startswith("meshlab")]
    assert (run.returncode, problems) == (0, [])


@needs_promtool
def test_promtool_does_object_to_a_bad_name():
    """The twin: what it says nothing about it has looked at."""
    run = subprocess.run([PROMTOOL, "check", "metrics"], input=b"# HELP a_total x\n# TYPE a_total gauge\na_total 1\n",
                         capture_output=True)  # fmt: skip
    assert run.returncode != 0


SYNC = syncd.Metrics(*range(1, 1 + len(syncd.Metrics._fields)))


def test_every_number_of_the_push_daemon_is_told_once():
    families = list(text_string_to_metric_families(sync_text(SYNC)))
    assert [f"{f.name}{'_total' * (f.type == 'counter')}" for f in families] == [m.name for m in SYNC_METRICS]
    for family, measure in zip(families, SYNC_METRICS, strict=True):
        assert (family.type, family.documentation) == (measure.kind, measure.help)
        assert {tuple(sample.labels) for sample in family.samples} == {measure.labels}
    assert sorted(sample.value for family in families for sample in family.samples) == sorted(SYNC)


@needs_promtool
def test_promtool_has_nothing_to_say_about_the_push_daemon():
    run = subprocess.run([PROMTOOL, "check", "metrics"], input=sync_text(SYNC).encode(), capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")


def labels_of(measure):
    labels = (*measure.labels, *(["user"] if measure.per_user else []))
    return ", ".join(f"`{label}`" for label in labels) or "-"


def test_the_page_lists_every_metric_with_its_kind_unit_and_help():
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert rows == [(m.name, m.kind, m.unit or "-", labels_of(m), m.help) for m in (*METRICS, *SYNC_METRICS)]


def series_of(text):
    return {re.sub(r"_(bucket|sum|count)$", "", name) if name not in BY_NAME else name
            for name in re.findall(r"\bmeshlab_\w+", text)}  # fmt: skip


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_alerts_and_dashboard_ask_only_for_what_is_told(name):
    asked = series_of((MONITORING / name).read_text(encoding="utf-8"))
    assert asked <= {*BY_NAME, *(measure.name for measure in SYNC_METRICS)}
    if name == "dashboard.json":
        assert set(BY_NAME) - asked <= {"meshlab_users", "meshlab_event_bytes_total", "meshlab_append_bytes_total",
                                        "meshlab_survey_seconds"}  # fmt: skip


@needs_promtool
def test_the_alerts_are_rules_and_fire_as_their_tests_say():
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts-test.yml"]):
        run = subprocess.run([PROMTOOL, *command], cwd=MONITORING, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr


@needs_promtool
def test_every_query_of_the_dashboard_is_one(tmp_path):
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    plain = [query.replace("$__rate_interval", "5m").replace("$instance", ".*") for query in queries]
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(plain)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run = subprocess.run([PROMTOOL, "check", "rules", str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(plain) > 15


# The store as a whole


def test_a_survey_tells_users_bytes_and_checkpoints(make_user, tmp_path):
    now = [2_000_000_000.0]
    survey, metrics = Survey(tmp_path / "store", now=lambda: now[0]), Metrics()
    survey.feed(metrics)
    survey.look()
    assert survey.sums.users == 0
    ann, bob = make_user("ann"), make_user("bob")
    survey.look()
    size = sum(path.stat().st_size for path in (tmp_path / "store").rglob("wal-*.log"))
    assert (survey.sums.users, survey.sums.log, survey.sums.unfolded) == (2, size, size)
    assert survey.sums.ages == {}
    report = ann.checkpoint(progress=False)
    survey.look()
    assert survey.sums.checkpoints == 1
    assert survey.sums.unfolded < size
    assert survey.written == report.bytes_written > 0
    assert set(survey.sums.ages) == {("newest",)}
    bob.checkpoint(progress=False)
    ann.append({"Delete": "m0"})
    now[0] += 100
    survey.look()
    assert survey.sums.checkpoints == 2
    assert survey.sums.ages["oldest",] > survey.sums.ages["newest",] >= 100
    values = told(metrics)
    assert values["meshlab_checkpoints_total", ()] == 2
    assert values["meshlab_checkpoint_bytes_total", ()] == survey.written
    assert values["meshlab_disk_free_bytes", ()] > 0


def test_write_amplification_is_what_was_written_for_each_byte_of_events(tmp_path):
    metrics = Metrics()
    survey = Survey(tmp_path)
    survey.feed(metrics)
    assert not [name for name, _ in told(metrics) if name == "meshlab_write_amplification"]
    metrics.add("meshlab_event_bytes_total", 100)
    metrics.add("meshlab_append_bytes_total", 250)
    survey.written = 150
    assert told(metrics)["meshlab_write_amplification", ()] == 4.0


def test_the_forecast_is_that_of_the_log_and_drawn_anew_every_ten_minutes(tmp_path):
    now = [midnight("20250715") / SECOND]
    store = meshlab.open(tmp_path / "store")
    frames = [[{"Insert": {"id": f"m{day}", "content": "x" * (20 * day + day * 397 % 101)}}] for day in range(14)]
    build_log(frames, day="20250701", per_day=1).write(store["ann"].root)
    sizes = {path.stem[4:]: path.stat().st_size for path in store["ann"].root.glob("wal-*.log")}
    size = sum(sizes.values())
    survey, metrics = Survey(store.path, limit=3 * size, now=lambda: now[0]), Metrics()
    survey.feed(metrics)
    assert not [name for name, _ in told(metrics) if "forecast" in name]
    survey.look()
    expected = forecast(survey_module._totals(sizes, {}, now[0]), limit=3 * size).days
    left = {labels[0][1]: days / 86_400 for (name, labels), days in told(metrics).items() if "forecast" in name}
    assert left == pytest.approx(expected._asdict())
    assert 0 < left["low"] < left["high"]
    (store["ann"].root / "wal-20250714.log").unlink()
    now[0] += 599
    survey.look()
    assert told(metrics)["meshlab_limit_forecast_seconds", (("estimate", "low"),)] == left["low"] * 86_400
    now[0] += 1
    survey.look()
    assert told(metrics)["meshlab_limit_forecast_seconds", (("estimate", "low"),)] != left["low"] * 86_400


def test_a_day_under_way_is_no_whole_day_of_the_forecast_and_deleted_segments_are(tmp_path):
    log, deleted = {"20250709": 100, "20250710": 50}, {"20250708": 100}
    table = survey_module._totals(log, deleted, midnight("20250710") / SECOND + 43_200)
    found = forecast(table, limit=1_000)
    kinds = [(row["kind"], row["bytes"]) for row in found.table.to_pylist()[:3]]
    assert (found.size, kinds) == (150, [("past", 100.0), ("past", 100.0), ("partial", 50.0)])


def test_a_limit_that_is_far_away_is_told_as_infinite_and_one_of_a_day_not_at_all(tmp_path):
    store, metrics = meshlab.open(tmp_path / "store"), Metrics()
    build_log([[{"Insert": {"id": "a"}}]], day="20250708").write(store["ann"].root)
    survey = Survey(store.path, now=lambda: midnight("20250710") / SECOND)
    survey.feed(metrics)
    survey.look()
    assert not [name for name, _ in told(metrics) if "forecast" in name]
    build_log([[{"Insert": {"id": "a"}}]], day="20250709").write(store["bob"].root)
    survey = Survey(store.path, now=lambda: midnight("20250710") / SECOND)
    survey.feed(metrics)
    survey.look()
    assert told(metrics)["meshlab_limit_forecast_seconds", (("estimate", "high"),)] == math.inf


def test_free_space_is_told_of_a_store_that_is_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.05)


def test_names_follow_the_rules_of_prometheus():
    for measure in (*METRICS, *SYNC_METRICS):
        assert measure.name.endswith("_total") == (measure.kind == COUNTER)
        assert measure.kind in (COUNTER, GAUGE, HISTOGRAM)
        assert measure.buckets == tuple(sorted(measure.buckets))
        assert bool(measure.buckets) == (measure.kind == HISTOGRAM)
