"""A plan reads everything once, writes nothing, and its file is believed only as far as it can be checked."""

import os
import random
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

import meshlab
from meshlab.errors import MeshlabError, NotFound, PlanRefused, PlanStale
from meshlab.migrate import inspect, make_plan, read_plan, survey
from meshlab.migrate.plan import Measured, check_fresh
from meshlab.migrate.sources import discovery
from meshlab.migrate.sources.maps import MapSource
from meshlab.replay import replay
from meshlab.snapshot.bincode import write_bincode
from meshlab.snapshot.hashing import state_hash
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


def write_map(path, ids, **fields):
    """A bincode map of records with these ids."""
    path.write_bytes(write_bincode([{"id": id, **WHOLE, **fields} for id in ids]))
    return path


def write_csv(path, pairs):
    path.write_text("path,uid\n" + "".join(f"{name},{uid}\n" for name, uid in pairs), encoding="utf-8")
    return path


def tree(folder):
    """Everything below a directory: names, times, bytes."""
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in (folder, *Path(folder).rglob("*"))
    }


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """A directory for temporary files that can be looked at."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def measuring():
    """Ask for this to have a sample converted for real."""


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Nothing is measured but where it matters."""
    if "measuring" not in request.fixturenames:
        monkeypatch.setattr(survey, "measure", lambda sample: measured_as(sample.source.kind))


def measured_as(kind):
    return Measured(kind=kind, what="all", records=1, bytes_read=1000, bytes_written=900, seconds=0.5)


@pytest.fixture
def old(tmp_path):
    """A phase-1 store of three users, and the older single file."""
    return Path(shutil.copytree(SAMPLES / "phase1", tmp_path / "old"))


@pytest.fixture
def plan(old, tmp_path):
    return make_plan(old, tmp_path / "store", progress=False)


@pytest.fixture(scope="module")
def made():
    """A plan whose sources nobody touches."""
    return make_plan(SAMPLES / "phase1", "/nowhere/store", progress=False)


def two_maps(tmp_path, ann=("m1", "m2"), ben=("m3",)):
    """Two users, each in a map of its own, and the CSV that names them."""
    write_map(tmp_path / "ann.bin", ann)
    write_map(tmp_path / "ben.bin", ben)
    return write_csv(tmp_path / "users.csv", [(tmp_path / "ann.bin", "ann"), (tmp_path / "ben.bin", "ben")])


# Making


def test_the_plan_says_what_the_source_holds(plan, old):
    assert [user.kind for user in plan.users] == ["phase1"] * 3
    for user in plan.users:
        expected = replay(old / user.uid, user.uid, progress=False).to_arrow()
        assert (user.records, user.state_hash) == (expected.num_rows, state_hash(expected).hexdigest())
        assert user.bytes_to_read == sum(path.stat().st_size for path in (old / user.uid).iterdir())
        assert user.operations
        assert user.bytes_to_write > 0
        assert user.seconds > 0
    assert [Path(one.where).name for one in plan.left] == ["mesh_snapshot.bin"]
    assert plan.problems == []
    assert plan.free_needed > plan.bytes_to_write == sum(user.bytes_to_write for user in plan.users)
    assert plan.id == plan.digest


def test_planning_writes_nothing_anywhere(old, tmp_path, temporary, measuring):
    meshlab.open(tmp_path / "store")["zoe"].append({"Insert": {"id": "m1"}})
    before = tree(tmp_path)
    make_plan(old, tmp_path / "store", progress=False)
    assert tree(tmp_path) == before
    assert list(temporary.iterdir()) == []


def test_the_plan_says_what_was_measured(made):
    (measured,) = made.measured
    assert measured.kind == "phase1"
    assert measured.records in [user.records for user in made.users]
    assert measured.bytes_written > 0
    assert 0 < measured.fixed_seconds < measured.seconds


def test_inspect_finds_the_same_users(old, plan):
    found = inspect(old)
    assert [one.uid for one in found.sources] == [user.uid for user in plan.users]
    assert found.problems == []


def test_a_file_needs_a_uid_and_takes_it(old, tmp_path):
    plan = make_plan(old / "mesh_snapshot.bin", tmp_path / "store", user="ann", progress=False)
    (user,) = plan.users
    assert (user.uid, user.kind) == ("ann", "map")
    assert make_plan(old / "mesh_snapshot.bin", tmp_path / "store", progress=False).problems


def test_a_plan_shows_itself(made):
    assert repr(made).startswith(f"<Plan {made.short_id}: ready to be rehearsed: 3 users, ")
    assert "\n" not in repr(made)
    assert pa.table(made)["uid"].to_pylist() == [user.uid for user in made.users]
    assert made.to_pandas()["records"].sum() == made.records
    assert len(made) == 3


# Problems and notes


def problems_of(plan):
    return [f"{one.where}: {one.what}" for one in plan.problems]


def test_a_problem_with_one_source_never_stops_the_others(old, tmp_path):
    first, second, third = sorted(path.name for path in old.iterdir() if path.is_dir())
    (old / first / "snapshot.bin").write_bytes((old / first / "snapshot.bin").read_bytes()[:-1])
    log = sorted((old / second).glob("wal-*"))[0]
    log.write_bytes(b"{nonsense\n" + log.read_bytes())
    plan = make_plan(old, tmp_path / "store", progress=False)
    assert [user.uid for user in plan.users] == [third]
    one, other = problems_of(plan)
    assert "snapshot.bin" in one
    assert f"{log.name}" in other


def test_refused_uids_and_uids_given_twice_are_problems(tmp_path):
    for name in ("one.bin", "two.bin", "three.bin", "four.bin"):
        write_map(tmp_path / name, ["m1"])
    uids = {"one.bin": "../etc", "two.bin": "ann", "three.bin": "ann", "four.bin": "ANN", "nowhere.bin": "ben"}
    table = write_csv(tmp_path / "users.csv", [(tmp_path / name, uid) for name, uid in uids.items()])
    plan = make_plan(None, tmp_path / "store", users=table, progress=False)
    assert [user.uid for user in plan.users] == ["ann"]
    told = "\n".join(problems_of(plan))
    for words in ("'../etc' is not allowed", "user 'ann' twice", "'ANN'", "nowhere.bin"):
        assert words in told
    assert plan.verdict.startswith("NOT ready, ")


@pytest.mark.parametrize("there", ["ann", "Ann"])
def test_a_user_who_is_in_the_store_is_a_conflict(tmp_path, there):
    (tmp_path / "store" / there).mkdir(parents=True)
    plan = make_plan(None, tmp_path / "store", users=two_maps(tmp_path), progress=False)
    (problem,) = problems_of(plan)
    assert str(tmp_path / "ann.bin") in problem
    assert there in problem
    assert [user.uid for user in plan.users] == ["ann", "ben"]


@pytest.mark.parametrize(
    ("store", "words"),
    [("old", "is the directory of the source"), ("old/sub/store", "is inside the source"), ("old/link", "is inside")],
)
def test_the_store_is_never_in_the_source(old, tmp_path, store, words):
    (old / "link").symlink_to(tmp_path / "elsewhere" / ".." / "old" / "deep")
    (tmp_path / "elsewhere").mkdir()
    assert any(words in one for one in problems_of(make_plan(old, tmp_path / store, progress=False)))


def test_a_map_in_the_directory_of_the_store_is_refused_and_beside_it_is_not(tmp_path):
    (tmp_path / "store").mkdir()
    write_map(tmp_path / "store" / "mesh_snapshot.bin", ["m1"])
    inside = make_plan(tmp_path / "store" / "mesh_snapshot.bin", tmp_path / "store", user="ann", progress=False)
    assert any("is the directory of the source" in one for one in problems_of(inside))
    write_map(tmp_path / "mesh_snapshot.bin", ["m1"])
    assert not make_plan(tmp_path / "mesh_snapshot.bin", tmp_path / "store", user="ann", progress=False).problems


def test_too_little_disk_is_a_problem_with_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "disk_free", lambda path: 1000)
    plan = make_plan(None, tmp_path / "store", users=two_maps(tmp_path), progress=False)
    (problem,) = problems_of(plan)
    assert f"{plan.free_needed:,} bytes must be free there, 1,000 are" in problem


def test_damage_accepted_for_nobody_is_a_problem(tmp_path):
    table = two_maps(tmp_path)
    plan = make_plan(None, tmp_path / "store", users=table, accept=["nan/wal-20250701.log:0"], progress=False)
    assert problems_of(plan) == ["nan: damage was accepted for a user who is not in the source"]
    assert plan.accept == {"nan": ["wal-20250701.log:0"]}
    with pytest.raises(MeshlabError, match="names no place"):
        make_plan(None, tmp_path / "store", users=table, accept=["wal-20250701.log:0"], progress=False)


def test_a_memory_id_with_two_users_is_a_note_on_the_first(tmp_path):
    table = two_maps(tmp_path, ann=["m1", "m2", "m3"], ben=["m3", "m2", "m9"])
    plan = make_plan(None, tmp_path / "store", users=table, progress=False)
    assert plan.problems == []
    (note,), none = [user.notes for user in plan.users]
    assert note.startswith("2 memory ids also stand with user ben ")
    assert "m2" in note
    assert "m3" in note
    assert none == []


def test_one_memory_id_with_two_users_is_told_in_the_singular(tmp_path):
    plan = make_plan(None, tmp_path / "store", users=two_maps(tmp_path, ann=["m1"], ben=["m1"]), progress=False)
    assert plan.users[0].notes == ["1 memory id also stands with user ben (each keeps its own): m1"]


def test_a_source_without_a_user_is_a_problem(tmp_path):
    (tmp_path / "old").mkdir()
    table = write_csv(tmp_path / "users.csv", [])
    for found in (
        make_plan(tmp_path / "old", tmp_path / "store", progress=False),
        make_plan(None, tmp_path / "store", users=table, progress=False),
    ):
        (problem,) = found.problems
        assert "no user of an older layout" in problem.what
        assert problem.hint == "check the path"
    map_file = tmp_path / "old" / "mesh_snapshot.bin"
    write_map(map_file, ["m1"])
    (problem,) = make_plan(tmp_path / "old", tmp_path / "store", progress=False).problems
    assert "may need a uid" in problem.hint


def test_what_cannot_be_listed_keeps_nobody_else_from_being_planned(old, tmp_path, monkeypatch):
    first, *others = sorted(path.name for path in old.iterdir() if path.is_dir())
    listdir = os.listdir

    def refusing(path):
        if Path(path).name == first:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    plan = make_plan(old, tmp_path / "store", progress=False)
    assert [user.uid for user in plan.users] == others
    assert problems_of(plan) == [f"{old / first}: cannot list: Permission denied"]


def test_an_input_that_cannot_be_read_is_a_problem_of_its_own(tmp_path, monkeypatch):
    table = two_maps(tmp_path)
    shape_of = discovery.shape_of

    def refusing(path):
        if path.name == "ann.bin":
            raise OSError(5, "Input/output error", str(path))
        return shape_of(path)

    monkeypatch.setattr(discovery, "shape_of", refusing)
    plan = make_plan(None, tmp_path / "store", users=table, progress=False)
    assert [user.uid for user in plan.users] == ["ben"]
    assert problems_of(plan) == [f"{tmp_path / 'ann.bin'}: cannot read: Input/output error"]


def test_damage_names_its_file_once_and_says_what_helps(tmp_path):
    table = two_maps(tmp_path)
    path = tmp_path / "ann.bin"
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = make_plan(None, tmp_path / "store", users=table, progress=False).problems
    assert problem.where == str(path)
    assert str(path) not in problem.what
    assert "log" not in problem.hint
    assert "take it from a copy" in problem.hint


def test_a_phase_1_store_that_is_the_target_may_be_upgraded_in_place(old):
    problem = next(one for one in make_plan(old, old, progress=False).problems if "is the directory of" in one.what)
    assert "meshlab checkpoint --upgrade" in problem.hint


def test_floats_that_are_not_finite_are_notes(tmp_path):
    write_map(tmp_path / "ann.bin", ["m1"], amplitude=float("nan"), width=float("-inf"))
    plan = make_plan(tmp_path / "ann.bin", tmp_path / "store", user="ann", progress=False)
    (user,) = plan.users
    assert any("m1 amplitude NaN" in note and "m1 width -Infinity" in note for note in user.notes)
    assert read_plan(plan.save(tmp_path / "plan.json")) == plan


def test_a_file_that_changes_while_it_is_read_is_a_problem(tmp_path, monkeypatch):
    table = two_maps(tmp_path)

    class Growing(MapSource):
        def batches(self, *, progress=True):
            yield from super().batches(progress=progress)
            if self.uid == "ann":
                with open(self.paths[0], "ab") as file:
                    file.write(b"\0")

    monkeypatch.setattr("meshlab.migrate.sources.discovery.MapSource", Growing)
    plan = make_plan(None, tmp_path / "store", users=table, progress=False)
    assert [user.uid for user in plan.users] == ["ben"]
    assert "ann.bin: the file changed while it was read" in problems_of(plan)[0]


def test_names_that_are_no_utf8_are_problems_and_not_errors(tmp_path):
    name = os.fsdecode(b"m\xff.json")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / name).write_text('[{"id":"m1"}]', encoding="utf-8")
    plan = make_plan(tmp_path / "old" / name, tmp_path / "store", user="ann", progress=False)
    assert "the name of the file is not UTF-8" in problems_of(plan)[0]
    assert read_plan(plan.save(tmp_path / "plan.json")) == plan


def test_a_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        make_plan(tmp_path / "nowhere", tmp_path / "store", progress=False)


# The file


def test_a_saved_plan_reads_back_equal(made, tmp_path):
    path = made.save(tmp_path / "plan.json")
    assert read_plan(path) == made
    assert path.read_bytes().count(b"\n") > 50, "people read it"
    path.write_bytes(msgspec.json.encode(made))
    assert read_plan(path) == made, "white space is not content"


@pytest.mark.parametrize("kind", ["open", "write", "sync", "rename", "sync_directory"])
def test_a_save_that_fails_leaves_a_whole_file(made, tmp_path, kind):
    path = made.save(tmp_path / "plan.json")
    other = msgspec.structs.replace(made, notes=["other"]).sealed()
    with pytest.raises(MeshlabError, match=r"plan\.json"):
        other.save(path, files=FailingFiles(kind=kind))
    assert read_plan(path) in (made, other)
    assert [one.name for one in tmp_path.glob(".*")] == []


def edited(plan, **fields):
    return msgspec.structs.replace(plan, **fields).sealed()


def with_user(plan, **fields):
    return edited(plan, users=[msgspec.structs.replace(plan.users[0], **fields)])


def with_input(plan, **fields):
    return with_user(plan, inputs=[msgspec.structs.replace(plan.users[0].inputs[0], **fields)])


HOSTILE = {
    "edited": lambda plan: msgspec.structs.replace(plan, seconds=1.5),
    "uid": lambda plan: with_user(plan, uid="../etc"),
    "twins": lambda plan: edited(plan, users=[plan.users[0], plan.users[0]]),
    "kind": lambda plan: with_user(plan, kind="zip"),
    "hash": lambda plan: with_user(plan, state_hash="0" * 31),
    "records": lambda plan: with_user(plan, records=-1),
    "huge": lambda plan: with_user(plan, bytes_to_write=1 << 63),
    "time": lambda plan: with_user(plan, seconds=-0.5),
    "nothing": lambda plan: with_user(plan, inputs=[]),
    "base": lambda plan: with_user(plan, base="old"),
    "elsewhere": lambda plan: with_user(plan, base="/etc"),
    "relative": lambda plan: with_input(plan, path="snapshot.bin"),
    "dots": lambda plan: with_input(plan, path=plan.users[0].base + "/../x"),
    "nul": lambda plan: with_input(plan, path=plan.users[0].base + "/x\0y"),
    "size": lambda plan: with_input(plan, size=-1),
    "sum": lambda plan: with_input(plan, sha256="g" * 64),
    "store": lambda plan: edited(plan, store="store"),
    "source": lambda plan: edited(plan, source="/a//b"),
    "made": lambda plan: edited(plan, created_at="yesterday"),
    "accepted": lambda plan: edited(plan, accept={"..": []}),
    "newer": lambda plan: edited(plan, format=2),
    "older": lambda plan: edited(plan, format=0),
    "free": lambda plan: edited(plan, free=-1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_plan_is_refused_in_one_line(made, tmp_path, name):
    path = HOSTILE[name](made).save(tmp_path / "plan.json")
    with pytest.raises(PlanRefused, match=r"plan\.json: ") as caught:
        read_plan(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format":1}', b'{"format":"1"}', b"[" * 100_000, b'{"format":1e999}'],
)
def test_what_is_no_plan_is_refused(tmp_path, data):
    path = tmp_path / "plan.json"
    path.write_bytes(data)
    with pytest.raises(PlanRefused, match=r"plan\.json"):
        read_plan(path)


def test_an_unknown_field_is_refused(made, tmp_path):
    rows = msgspec.to_builtins(made) | {"colour": "red"}
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(rows))
    with pytest.raises(PlanRefused, match="colour"):
        read_plan(tmp_path / "plan.json")


def test_links_directories_and_nothing_are_no_plans(made, tmp_path):
    made.save(tmp_path / "plan.json")
    (tmp_path / "link.json").symlink_to(tmp_path / "plan.json")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("link.json", "folder.json", "pipe.json", "nothing.json"):
        with pytest.raises(MeshlabError, match=name):
            read_plan(tmp_path / name)


def test_a_flipped_byte_never_changes_what_is_planned(made, tmp_path):
    data = bytearray((made.save(tmp_path / "plan.json")).read_bytes())
    dice = random.Random(4)
    path = tmp_path / "flipped.json"
    for _ in range(300):
        at, bit = dice.randrange(len(data)), 1 << dice.randrange(8)
        data[at] ^= bit
        path.write_bytes(data)
        data[at] ^= bit
        with suppress(MeshlabError):
            assert read_plan(path) == made


# Staleness


def test_a_fresh_plan_passes(plan):
    check_fresh(plan)
    seen = []
    check_fresh(plan, plan.users[0].uid, progress=seen.append)
    assert sum(seen) == plan.users[0].bytes_to_read


def test_one_changed_byte_is_named_with_both_sums(plan):
    user = plan.users[1]
    one = user.inputs[-1]
    data = bytearray(Path(one.path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(one.path).write_bytes(data)
    for which in (None, user.uid):
        with pytest.raises(PlanStale, match="stale") as caught:
            check_fresh(plan, which)
        assert one.path in str(caught.value)
        assert one.sha256 in str(caught.value)
        assert f"{one.size:,} bytes with SHA-256 " in str(caught.value)
    check_fresh(plan, plan.users[0].uid)


def test_a_file_cut_gone_replaced_or_added_makes_a_plan_stale(plan, tmp_path):
    one, other, third = plan.users
    os.truncate(one.inputs[0].path, 10)
    with pytest.raises(PlanStale, match="found 10 bytes"):
        check_fresh(plan, one.uid)
    os.rename(other.inputs[0].path, tmp_path / "away")
    with pytest.raises(PlanStale, match="found none"):
        check_fresh(plan, other.uid)
    os.symlink(tmp_path / "away", other.inputs[0].path)
    with pytest.raises(PlanStale, match="no regular file"):
        check_fresh(plan, other.uid)
    (Path(third.base) / "wal.lock").write_text("")
    check_fresh(plan, third.uid)
    (Path(third.base) / "wal-20250709.log").write_text("")
    with pytest.raises(PlanStale, match=r"wal-20250709\.log: expected no such file"):
        check_fresh(plan, third.uid)


def test_a_user_who_is_not_in_the_plan_is_an_error(made):
    with pytest.raises(NotFound, match="nobody"):
        made.find("nobody")


def test_estimates_are_finite_numbers(made):
    assert np.isfinite([made.seconds, *(user.seconds for user in made.users)]).all()
