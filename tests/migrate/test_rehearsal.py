"""A rehearsal runs the real code on a scratch store; every planted fault makes it fail, by name."""

import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

import meshlab
from meshlab.errors import MeshlabError, NotFound, PlanRefused, PlanStale
from meshlab.migrate import audit, build, make_plan, read_plan, rehearsal, rehearse, survey
from meshlab.migrate.plan import Measured, rehearsal_path
from meshlab.migrate.rehearsal import check_rehearsal, passed_rehearsal, read_rehearsal, require_passed
from meshlab.migrate.sources.maps import MapSource
from meshlab.snapshot.bincode import write_bincode
from meshlab.testing import FailingFiles

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
WHOLE = {
    **dict.fromkeys(("concept_id", "content"), "c"),
    **dict.fromkeys(("creation_time", "last_accessed"), "2025-07-01T00:00:00Z"),
    **dict.fromkeys(("phase_tag", "amplitude", "frequency", "width", "position", "stability"), 0.5),
    "access_count": 1,
    "content_type": "Conversation",
    "vault_status": "Active",
    "mode": "Dark",
    "emotional_signature": {"valence": 0.0, "arousal": 0.0, "dominance": 0.0, "trauma_indicators": []},
    "comfort_metrics": {"energy": 1.0, "stress": 0.0, "flux": 0.0, "perturbation": 0.0},
}
ANN, BEN = ("a1", "a2", "a3"), ("b1", "b2")


def record(id):
    return {"id": id, **WHOLE}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing is measured: estimates have tests of their own."""
    one = Measured(kind="map", what="all", records=1, bytes_read=1000, bytes_written=900, seconds=0.5)
    monkeypatch.setattr(survey, "measure", lambda sample: msgspec.structs.replace(one, kind=sample.source.kind))


@pytest.fixture
def plan(tmp_path):
    """The path of a plan for two users, each in a map."""
    for uid, ids in (("ann", ANN), ("ben", BEN)):
        (tmp_path / f"{uid}.bin").write_bytes(write_bincode([record(id) for id in ids]))
    (tmp_path / "users.csv").write_text(f"path,uid\n{tmp_path}/ann.bin,ann\n{tmp_path}/ben.bin,ben\n")
    made = make_plan(None, tmp_path / "store", users=tmp_path / "users.csv", progress=False)
    return made.save(tmp_path / "plan.json")


@pytest.fixture
def damaged(monkeypatch):
    """Have a function damage the scratch store after the real code has run."""

    def plant(damage):
        real = rehearsal.carry_out

        def wrapper(plan, store, **options):
            report = real(plan, store, **options)
            damage(store)
            return report

        monkeypatch.setattr(rehearsal, "carry_out", wrapper)

    return plant


def append(store, uid, *events, fold=True):
    """Change what a user of a store holds, as a program would."""
    with meshlab.open(store) as opened:
        opened[uid].append_many(events)
        if fold:
            opened[uid].checkpoint(progress=False)


def run(plan, **options):
    return rehearse(plan, jobs=1, progress=False, **options)


def told(found):
    return [str(finding) for finding in found.findings]


def tree(folder):
    return {path: path.is_file() and path.read_bytes() for path in Path(folder).rglob("*")}


# Clean runs


def test_a_clean_rehearsal_passes_and_leaves_only_its_report(plan, tmp_path):
    before = tree(tmp_path)
    found = run(plan)
    assert found.passed
    assert found.verdict == "passed: 5 records of 2 users are in the new layout as they were in the old one"
    assert found.findings == []
    assert found.counts == {}
    report = rehearsal_path(plan)
    assert tree(tmp_path) == before | {report: report.read_bytes()}
    assert passed_rehearsal(read_plan(plan), plan) == found


def test_the_report_has_records_bytes_and_seconds_of_every_user(plan):
    found = run(plan)
    assert found.table["uid"].to_pylist() == ["ann", "ben"]
    assert found.table["records"].to_pylist() == found.table["records_after"].to_pylist() == [3, 2]
    assert all(bytes > 0 for bytes in found.table["bytes_written"].to_pylist())
    assert found.bytes_read == sum(one.bytes_to_read for one in read_plan(plan).users)
    assert found.seconds > 0
    assert found.plan_id == read_plan(plan).id
    assert found.table["state_hash"].to_pylist() == [one.state_hash for one in read_plan(plan).users]
    assert {"system", "processors", "python"} <= set(found.machine)
    assert repr(found) == f"<Rehearsal of plan {found.plan_id[:16]}: {found.verdict}>"


def test_a_phase_1_store_passes(tmp_path):
    made = make_plan(SAMPLES / "phase1", tmp_path / "store", progress=False)
    found = run(made)
    assert found.passed, told(found)
    assert list(tmp_path.iterdir()) == [], "a plan that is no file has no report beside it"


def test_floats_that_are_not_finite_pass(tmp_path):
    odd = record("m1") | {"amplitude": float("nan"), "width": float("-inf"), "phase_tag": -0.0}
    (tmp_path / "odd.bin").write_bytes(write_bincode([odd]))
    assert run(make_plan(tmp_path / "odd.bin", tmp_path / "store", user="ann", progress=False)).passed


def test_accepted_damage_is_left_out_on_both_sides(tmp_path):
    log = tmp_path / "old" / "ann" / "wal-20250701.log"
    log.parent.mkdir(parents=True)
    log.write_text('{"Insert":{"id":"m1","amplitude":0.5}}\n{nonsense\n{"Insert":{"id":"m2"}}\n')
    refused = make_plan(tmp_path / "old", tmp_path / "store", progress=False)
    assert "wal-20250701.log:39" in refused.problems[0].what
    accepted = make_plan(tmp_path / "old", tmp_path / "store", accept=["ann/wal-20250701.log:39"], progress=False)
    assert accepted.problems == []
    found = run(accepted)
    assert found.passed, told(found)
    assert found.users[0].records == 2


def test_users_side_by_side_come_to_the_same(plan):
    found = rehearse(plan, jobs=2, progress=False)
    assert found.passed
    assert found.machine["users at once"] == "2"


# Planted faults


def test_a_dropped_record_is_lost(plan, damaged):
    damaged(lambda store: append(store, "ann", {"Delete": "a2"}))
    found = run(plan)
    assert told(found) == ["ann: lost: memory a2"]
    assert found.counts == {"lost": 1}
    assert found.verdict == "FAILED: 1 lost (ann: lost: memory a2)"
    assert not found.passed


def test_a_float_changed_in_its_last_digit_is_changed_and_named(plan, damaged):
    other = float(np.nextafter(0.5, 1))
    damaged(lambda store: append(store, "ben", {"Update": {"id": "b2", "stability": other}}))
    found = run(plan)
    assert told(found) == ["ben: changed: memory b2: stability: 0.5 became 0.5000000000000001"]
    assert found.counts == {"changed": 1}


def test_swapped_directories_are_users_who_moved(plan, damaged):
    def swap(store):
        os.rename(store / "ann", store / "x")
        os.rename(store / "ben", store / "ann")
        os.rename(store / "x", store / "ben")

    damaged(swap)
    found = run(plan)
    assert found.counts == {"failed": 2, "moved": 5}
    assert "ann: moved: memory a1: stands with user ben" in told(found)
    assert "ben: moved: memory b1: stands with user ann" in told(found)
    assert any("found that of 'ben'" in one for one in told(found))
    assert [one.received for one in found.users] == [2, 3]


def test_swapped_records_are_moved(plan, damaged):
    def swap(store):
        append(store, "ann", *({"Delete": id} for id in ANN), *({"Insert": record(id)} for id in BEN))
        append(store, "ben", *({"Delete": id} for id in BEN), *({"Insert": record(id)} for id in ANN))

    damaged(swap)
    found = run(plan)
    assert found.counts == {"moved": 5}
    assert found.verdict.startswith("FAILED: 5 moved to the wrong user (ann: moved: memory a1: stands with user ben")


def test_a_memory_that_also_stands_with_another_user_is_duplicated(plan, damaged):
    damaged(lambda store: append(store, "ben", {"Insert": record("a1")}))
    found = run(plan)
    assert told(found) == ["ben: duplicated: memory a1: also stands with user ann, whose it is"]


def test_an_id_that_is_read_twice_is_duplicated(plan, monkeypatch):
    real = audit.holdings

    def twice(root, uid):
        yield from real(root, uid)
        yield next(iter(real(root, uid))).slice(1, 1)

    monkeypatch.setattr(audit, "holdings", twice)
    found = run(plan)
    assert told(found) == [f"{uid}: duplicated: memory {uid[0]}2: stands there twice" for uid in ("ann", "ben")]


def test_an_invented_record_is_named_also_when_it_is_not_folded(plan, damaged):
    damaged(lambda store: append(store, "ann", {"Insert": record("new")}, fold=False))
    found = run(plan)
    assert told(found) == ["ann: invented: memory new"]


def test_users_who_are_missing_or_invented_are_named(plan, damaged):
    def replace(store):
        shutil.rmtree(store / "ben")
        append(store, "zoe", {"Insert": record("z")})

    damaged(replace)
    found = run(plan)
    assert [(one.uid, one.kind) for one in found.findings] == [("ben", "user missing"), ("zoe", "user invented")]
    assert found.users[1].error == "the user is not in the new store"
    assert not found.passed


def test_a_source_that_is_truncated_while_the_plan_is_carried_out_fails(plan, damaged, tmp_path):
    damaged(lambda store: os.truncate(tmp_path / "ann.bin", (tmp_path / "ann.bin").stat().st_size - 1))
    found = run(plan)
    assert found.counts == {"failed": 1}
    assert "ann.bin" in told(found)[0]
    assert "the file" in found.users[0].error


def test_a_source_that_was_truncated_before_makes_the_plan_stale(plan, tmp_path):
    os.truncate(tmp_path / "ben.bin", 100)
    with pytest.raises(PlanStale, match=r"ben\.bin.*found 100 bytes"):
        run(plan)
    assert not rehearsal_path(plan).exists()


def test_a_log_truncated_on_the_way_is_compared_record_by_record(tmp_path, monkeypatch):
    (tmp_path / "old" / "ann").mkdir(parents=True)
    lines = "".join(f'{{"Insert":{{"id":"m{at}","amplitude":0.5}}}}\n' for at in range(4))
    (tmp_path / "old" / "ann" / "wal-20250701.log").write_text(lines)
    real = build._copy_inputs

    def cut(user, folder, files):
        copies = real(user, folder, files)
        os.truncate(copies[0], len(lines) * 3 // 4)
        return copies

    monkeypatch.setattr(build, "_copy_inputs", cut)
    found = run(make_plan(tmp_path / "old", tmp_path / "store", progress=False))
    assert found.counts == {"failed": 1, "lost": 1}
    assert "ann: lost: memory m3" in told(found)
    assert "expected 4 records" in found.users[0].error


def test_a_record_dropped_by_the_code_itself_is_named(plan, monkeypatch):
    real = MapSource.build

    def forgetful(self, root, inputs, files, clock):
        inputs[0].write_bytes(write_bincode([record(id) for id in ("a1", "a3")] if self.uid == "ann" else []))
        real(self, root, inputs, files, clock)

    monkeypatch.setattr(MapSource, "build", forgetful)
    found = run(plan)
    assert {"ann: lost: memory a2", "ben: lost: memory b1", "ben: lost: memory b2"} <= set(told(found))
    assert found.counts == {"failed": 2, "lost": 3}
    assert [one.lost for one in found.users] == [1, 2]


def test_thousands_of_faults_are_counted_and_the_first_are_listed(plan, damaged, monkeypatch):
    monkeypatch.setattr(audit, "LISTED", 2)
    damaged(
        lambda store: append(store, "ann", *({"Update": {"id": id, "width": 0.25, "mode": "Bright"}} for id in ANN))
    )
    found = run(plan)
    assert found.counts == {"changed": 3}
    assert len({one.id for one in found.findings}) == 2
    assert len(found.findings) == 4


# The scratch copy


def test_the_scratch_goes_also_when_it_is_interrupted(plan, damaged, tmp_path):
    def interrupt(store):
        assert store.is_dir()
        raise KeyboardInterrupt

    damaged(interrupt)
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(plan)
    assert tree(tmp_path) == before


def test_a_disk_that_fails_is_a_finding_or_an_error_and_nothing_stays(plan, tmp_path):
    before = tree(tmp_path)
    for nth in (1, 5, 20):
        with pytest.raises(MeshlabError):
            assert run(plan, files=FailingFiles(nth=nth, forever=True)).passed
        after = tree(tmp_path)
        after.pop(rehearsal_path(plan), None)
        assert after == before


def test_an_existing_store_is_rehearsed_within_and_left_as_it_was(plan, tmp_path):
    append(tmp_path / "store", "zoe", {"Insert": {"id": "m1"}})
    before = tree(tmp_path / "store")
    assert run(plan).passed
    assert tree(tmp_path / "store") == before


def test_keep_leaves_the_scratch_store(plan, tmp_path):
    (tmp_path / "scratch").mkdir()
    found = run(plan, scratch=tmp_path / "scratch", keep=True)
    assert meshlab.open(Path(found.scratch) / "store").users() == ["ann", "ben"]
    assert Path(found.scratch).parent == tmp_path / "scratch"
    assert run(plan, scratch=tmp_path / "scratch").scratch == ""
    assert [str(path) for path in (tmp_path / "scratch").iterdir()] == [found.scratch], "what was kept stays"


def test_too_little_disk_is_refused_with_figures(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "disk_free", lambda path: 1000)
    before = tree(tmp_path)
    with pytest.raises(PlanRefused, match=r"needs [\d,]+ bytes there, 1,000 are free"):
        run(plan)
    assert tree(tmp_path) == before


def test_a_scratch_in_nowhere_is_an_error(plan, tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        run(plan, scratch=tmp_path / "nowhere" / "scratch")


def test_a_plan_with_problems_or_without_users_is_refused(plan, tmp_path):
    made = read_plan(plan)
    (tmp_path / "store" / "ann").mkdir(parents=True)
    again = make_plan(None, tmp_path / "store", users=tmp_path / "users.csv", progress=False)
    with pytest.raises(PlanRefused, match="user ann is in the store"):
        run(again)
    with pytest.raises(PlanRefused, match="no users"):
        run(msgspec.structs.replace(made, users=[]).sealed())


# The report as a ticket


def test_a_rehearsal_is_asked_for_and_must_be_of_this_plan(plan, damaged, tmp_path):
    made = read_plan(plan)
    with pytest.raises(PlanRefused, match="has not been rehearsed"):
        require_passed(plan)
    with pytest.raises(PlanRefused, match="has not been rehearsed"):
        require_passed(made)
    found = run(plan)
    assert require_passed(plan) == require_passed(made, found) == found
    other = msgspec.structs.replace(made, notes=["other"]).sealed()
    with pytest.raises(PlanRefused, match="the report is of plan"):
        check_rehearsal(other, found)
    damaged(lambda store: append(store, "ann", {"Delete": "a2"}))
    run(plan)
    with pytest.raises(PlanRefused, match="did not pass: FAILED: 1 lost"):
        require_passed(plan)


@pytest.mark.parametrize(
    "fields",
    [{"passed": True}, {"counts": {}}, {"users": []}, {"plan_id": "0" * 64}, {"passed": True, "counts": {}}],
)
def test_an_edited_report_is_refused(plan, damaged, fields):
    damaged(lambda store: append(store, "ann", {"Delete": "a2"}))
    found = msgspec.structs.replace(run(plan), **fields)
    found.save(rehearsal_path(plan))
    with pytest.raises(PlanRefused):
        require_passed(plan)
    msgspec.structs.replace(found, id=found.digest).save(rehearsal_path(plan))
    with pytest.raises(PlanRefused):
        require_passed(plan)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{}", b"[" * 100_000])
def test_what_is_no_report_is_refused(tmp_path, data):
    (tmp_path / "report.json").write_bytes(data)
    with pytest.raises(PlanRefused, match=r"report\.json"):
        read_rehearsal(tmp_path / "report.json")
