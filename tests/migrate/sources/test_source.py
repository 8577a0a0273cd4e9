"""What is found under a path, by content and not by name; and what no plan may name."""

from __future__ import annotations

import os
import pickle
import shutil
import struct

import pytest

from meshlab.errors import NotFound, PlanRefused
from meshlab.migrate.plan import Input, PlannedUser
from meshlab.migrate.sources.source import find_sources, source_of
from meshlab.snapshot.bincode import write_bincode
from meshlab.snapshot.checkpoint import checkpoint
from meshlab.store import open as open_store

from .older import EXPECTED, PHASE1, SAMPLES, entry, one, records, whole, write_lines, write_map


def names(found):
    return [(source.kind, source.uid) for source in found.sources]


def told(problems):
    return {os.path.basename(problem.where): problem.what for problem in problems}


@pytest.fixture
def folder(tmp_path):
    """A folder with a user of every kind."""
    root = tmp_path / "mixed"
    write_map(root / "p1" / "snapshot.bin", whole("m1"))
    write_lines(root / "p1" / "wal-20250707.log", {"Delete": "m1"})
    write_lines(root / "p2" / "wal-20250707.log", {"Insert": {"id": "m1"}})
    write_lines(root / "sc.wal", entry(1, "add_concept", {"name": "sea"}))
    write_lines(root / "sc.wal.1751875200", entry(1, "add_concept", {"name": "salt"}))
    (root / "ex.json").write_text('[{"id":"m1"}]')
    return root


# Folders


def test_a_folder_may_hold_users_of_every_kind(folder):
    found = find_sources(folder)
    assert names(found) == [("export", "ex"), ("phase1", "p1"), ("phase1", "p2"), ("scoped", "sc")]
    assert found.problems == found.left == []


def test_the_samples_are_found():
    found = find_sources(PHASE1)
    assert names(found) == [("phase1", uid) for uid in sorted(EXPECTED)]
    assert told(found.left) == {"mesh_snapshot.bin": "a bincode map, which does not say whose it is"}
    assert names(find_sources(SAMPLES / "scoped")) == [("scoped", "ada"), ("scoped", "bela")]
    found = find_sources(SAMPLES / "exports")
    assert names(found) == [("export", "ada"), ("export", "bela")]
    assert "no map from id to record" in told(found.left)["settings.json"]


def test_what_nobody_knows_is_named_and_not_taken(folder):
    (folder / "README").write_text("hello")
    (folder / "catalogue.json").write_text('{"concepts":[]}')
    (folder / "numbers.json").write_text("[1]")
    (folder / "note.json").write_text("not json")
    (folder / "list.txt").write_text('[{"id":"m1"}]')
    (folder / "empty").write_text("")
    (folder / "lost+found").mkdir()
    (folder / "p1" / "notes.txt").write_text("x")
    found = find_sources(folder)
    assert len(found.sources) == 4 and found.problems == []
    left = told(found.left)
    assert sorted(left) == [
        "README",
        "catalogue.json",
        "empty",
        "list.txt",
        "lost+found",
        "note.json",
        "notes.txt",
        "numbers.json",
    ]
    assert left["numbers.json"] == "of no known form: a JSON list of something else than records: b'1]'"


def test_what_should_be_a_source_and_is_none_stops_a_plan(folder):
    (folder / "a.json").write_text("")
    (folder / "b.wal").write_bytes(write_bincode([whole("m1")]))
    (folder / "c.wal").write_text("")
    (folder / "d").mkdir()
    (folder / "d" / "snapshot.bin").write_bytes(b"")
    (folder / "e").mkdir()
    (folder / "e" / "snapshot.bin").write_bytes(struct.pack("<Q", 7) + bytes(90))
    (folder / "f.json").write_text('[{"theme":1}]')
    found = find_sources(folder)
    assert len(found.sources) == 4
    problems = told(found.problems)
    assert problems["a.json"] == "expected an export, found an empty file"
    assert problems["b.wal"] == "expected a scoped log, found a bincode map"
    assert problems["c.wal"] == "a scoped log without a byte"
    assert "byte 0: expected 8 bytes of record count" in problems["d"]
    assert "a count of 7" in problems["e"]
    assert "byte 1, record 1: expected a record" in problems["f.json"]
    assert all(problem.hint for problem in found.problems)


def test_a_map_over_the_snapshot_of_the_new_layout_is_a_problem(tmp_path):
    shutil.copytree(PHASE1, tmp_path / "old", ignore=shutil.ignore_patterns("mesh_snapshot.bin"))
    root = next((tmp_path / "old").iterdir())
    before = (root / "snapshot.bin").read_bytes()
    checkpoint(root, root.name, upgrade=True, progress=False)
    (root / "snapshot.bin").write_bytes(before)
    found = find_sources(tmp_path / "old")
    assert root.name not in [source.uid for source in found.sources]
    assert "a snapshot of an older program over its own" in told(found.problems)[root.name]


def test_a_user_may_have_a_name_like_those_of_a_rollback(tmp_path):
    shutil.copytree(next(one for one in PHASE1.iterdir() if one.is_dir()), tmp_path / "old" / "before-rollback-x")
    assert [source.uid for source in find_sources(tmp_path / "old").sources] == ["before-rollback-x"]


def test_a_user_of_the_new_layout_is_a_problem(tmp_path):
    with open_store(tmp_path / "store") as store:
        for uid in ("ada", "bela"):
            store[uid].append({"Insert": {"id": "m1"}})
            checkpoint(store[uid].root, uid, progress=False)
    (tmp_path / "store" / "bela" / "snapshot.bin").unlink()
    found = find_sources(tmp_path / "store")
    assert found.sources == []
    assert told(found.problems) == {
        "snapshot.bin": "its user is in the new layout already",
        "bela": "a user of the new layout, as layers and history show, that has lost its snapshot",
    }
    assert find_sources(tmp_path / "store" / "ada").problems


def test_uids_that_are_refused_are_problems(tmp_path):
    write_lines(tmp_path / "-x" / "wal-20250707.log", {"Delete": "m1"})
    (tmp_path / "ä.json").write_text("[]")
    write_lines(tmp_path / "a b.wal", entry(1, "x", {}))
    problems = told(find_sources(tmp_path).problems)
    assert problems == {
        "-x": "user id '-x' is not allowed",
        "ä.json": "user id 'ä' is not allowed",
        "a b.wal": "user id 'a b' is not allowed",
    }


def test_one_uid_twice_is_a_problem_that_names_both(folder):
    (folder / "p1.json").write_text("[]")
    (folder / "SC.json").write_text("[]")
    found = find_sources(folder)
    assert len(found.sources) == 4
    same, case = sorted(found.problems, key=lambda problem: "only" in problem.what or "SC" in problem.what)
    assert str(folder / "p1.json") in same.what and str(folder / "p1") + " " in same.what + " "
    assert "'p1' twice" in same.what
    assert str(folder / "SC.json") in case.what and str(folder / "sc.wal") in case.what
    assert "more than case" in case.hint
    assert "case" not in same.hint


def test_what_a_rollback_left_is_told_for_what_it_is(folder):
    for name in ("ex.json.left-over.ndjson", "ex.json.left-over-2.ndjson", "p1/snapshot.bin.before-rollback-01234567"):
        (folder / name).write_text("{}")
    found = find_sources(folder)
    assert found.problems == []
    assert told(found.left) == {
        "ex.json.left-over.ndjson": "the list of what a rollback could not give back",
        "ex.json.left-over-2.ndjson": "the list of what a rollback could not give back",
        "snapshot.bin.before-rollback-01234567": "set aside by a rollback",
    }


# Links, pipes, devices


def test_links_and_pipes_are_never_followed(folder, tmp_path):
    outside = tmp_path / "outside"
    write_lines(outside / "wal-20250707.log", {"Delete": "m1"})
    (folder / "linked").symlink_to(outside)
    (folder / "linked.json").symlink_to(folder / "ex.json")
    (folder / "a.link").symlink_to(folder / "ex.json")
    os.mkfifo(folder / "pipe.bin")
    os.mkfifo(folder / "x.wal")
    (folder / "p2" / "wal-20250708.log").symlink_to(outside / "wal-20250707.log")
    found = find_sources(folder)
    assert names(found) == [("export", "ex"), ("phase1", "p1"), ("scoped", "sc")]
    assert told(found.problems) == {
        "linked": "a symbolic link, no regular file",
        "linked.json": "a symbolic link, no regular file",
        "x.wal": "a pipe, no regular file",
        "wal-20250708.log": "a symbolic link, no regular file",
    }
    assert told(found.left) == {
        "a.link": "a symbolic link, no regular file",
        "pipe.bin": "a pipe, no regular file",
    }


@pytest.mark.parametrize("make", [os.symlink, lambda _, path: os.mkfifo(path)])
def test_a_source_that_is_a_link_or_a_pipe_is_a_problem(make, folder):
    make(folder, folder.parent / "link")
    found = find_sources(folder.parent / "link", user="ada")
    assert found.sources == [] and "no regular file" in found.problems[0].what


def test_a_device_is_a_problem():
    assert told(find_sources("/dev/null", user="ada").problems) == {"null": "a device, no regular file"}


# Single files and directories


def test_a_map_needs_a_uid(tmp_path):
    path = write_map(tmp_path / "mesh_snapshot.bin", whole("m1"))
    found = find_sources(path)
    assert found.sources == [] and "--user" in found.problems[0].hint
    assert one(path, "ada").uid == "ada"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (write_bincode([]), "map"),
        (write_bincode([whole("m1")]), "map"),
        (write_bincode([whole(f"m{number}") for number in range(0x5B)]), "map"),  # begins with "["
        (b"[]", "export"),
        (b' \n{ "m1" : {} }', "export"),
        (b'{"sequence": {"mode":"Dark"}}', "export"),
        (b'{"sequence": 1, "timestamp": 1.5, "operation": "x", "data": {}, "checksum": null}\n', None),
    ],
)
def test_a_file_is_known_by_its_content(data, kind, tmp_path):
    path = tmp_path / "a.file"
    path.write_bytes(data)
    found = find_sources(path, user="ada")
    assert names(found) == ([(kind, "ada")] if kind else [])
    assert bool(found.problems) == (kind is None)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "an empty file"),
        (b"hello", "of no known form: bytes b'hello', neither a count of records nor JSON"),
        (b"MESHSNAP\1\0\0\0", "a snapshot of the new layout"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"\0\0\0", "byte 0: expected 8 bytes of record count, found 3: the file is cut"),
        (
            b'{"concepts":[]}',
            "of no known form: a JSON object that is no map from id to record: 'concepts' is no object",
        ),
        (b'{"entries": []}', "of no known form: the checkpoint of a scoped log; it is read along with its <id>.wal"),
        (b"[[1]]", "of no known form: a JSON list of something else than records: b'[1]]'"),
        (b'{"m1', "of no known form: a JSON object cut short or without a name: b'{\"m1'"),
    ],
)
def test_a_file_of_no_known_form_is_a_problem(data, what, tmp_path):
    path = tmp_path / "a.file"
    path.write_bytes(data)
    (problem,) = find_sources(path, user="ada").problems
    assert (problem.where, problem.what) == (str(path), what)


def test_a_single_user_may_get_another_uid(folder):
    for name in ("p1", "sc.wal", "sc.wal.1751875200", "ex.json"):
        assert one(folder / name, "other").uid == "other"
    assert [path.name for path in one(folder / "sc.wal", "other").paths] == ["sc.wal", "sc.wal.1751875200"]
    assert one(folder / "ex.json").uid == "ex"
    assert one(folder / "p1").uid == "p1"


def test_a_uid_for_a_folder_goes_to_the_one_scoped_log_in_it(folder):
    found = find_sources(folder, user="ada")
    assert names(found) == [("scoped", "ada")]
    assert sorted(told(found.left)) == ["ex.json", "p1", "p2"]


def test_a_uid_for_a_folder_of_many_is_a_problem(folder):
    write_lines(folder / "other.wal", entry(1, "x", {}))
    (problem,) = find_sources(folder, user="ada").problems
    assert "expected the directory of one user" in problem.what


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(NotFound, match="does not exist"):
        find_sources(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="no source"):
        find_sources(None)


def test_paths_are_absolute(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for source in find_sources("mixed/../mixed").sources:
        assert all(path.is_absolute() and ".." not in path.parts for path in (source.base, *source.paths))


# A table of users


def table_of(folder, *lines, encoding="utf-8"):
    path = folder / "users.csv"
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def test_a_csv_names_paths_and_uids(folder, tmp_path):
    loose = write_map(tmp_path / "mesh_snapshot.bin", whole("m1"))
    lines = ["path,uid", "p1,u1", " sc.wal , u2 ", "", '"ex.json","u3"', f"{loose},u4", "../mixed/p2/,u5"]
    found = find_sources(None, users=table_of(folder, *lines, encoding="utf-8-sig"))
    assert names(found) == [("phase1", "u1"), ("scoped", "u2"), ("export", "u3"), ("map", "u4"), ("phase1", "u5")]
    assert found.problems == found.left == []


def test_files_that_the_csv_does_not_name_are_left(folder):
    found = find_sources(folder, users=table_of(folder, "p1,u1"))
    assert names(found) == [("phase1", "u1")]
    assert sorted(told(found.left)) == ["ex.json", "p2", "sc.wal", "sc.wal.1751875200"]


def test_bad_rows_are_problems_with_their_lines(folder):
    rows = ["p1,u1", "p2", "p2,", "nowhere,u2", "p1,u3", "ex.json,../u", "sc.wal,U1", "README,u9"]
    (folder / "README").write_text("hello")
    found = find_sources(None, users=table_of(folder, *rows))
    assert names(found) == [("phase1", "u1")]
    whats = [problem.what for problem in found.problems]
    assert whats == [
        "line 2: expected path,uid, found 'p2'",
        "line 3: expected path,uid, found 'p2,'",
        "it does not exist",
        f"named twice in {folder / 'users.csv'}: on lines 1 and 5",
        "user id '../u' is not allowed",
        "of no known form: bytes b'hello', neither a count of records nor JSON",
        f"'u1' and 'U1': at {folder / 'p1'} and at {folder / 'sc.wal'}",
    ]


@pytest.mark.parametrize("data", [b"p1,\xff\n", b'p1,"u1\n', b"p1\0,u1\n"])
def test_a_csv_that_is_none_is_a_problem(data, folder):
    (folder / "users.csv").write_bytes(data)
    found = find_sources(None, users=folder / "users.csv")
    assert found.sources == [] and len(found.problems) == 1


def test_a_csv_that_is_a_link_is_a_problem(folder):
    table_of(folder, "p1,u1").rename(folder / "real.csv")
    (folder / "users.csv").symlink_to(folder / "real.csv")
    assert "symbolic link" in find_sources(None, users=folder / "users.csv").problems[0].what
    with pytest.raises(NotFound):
        find_sources(None, users=folder / "nowhere.csv")


# Sources out of a plan


def planned(source, **changes):
    values = {"uid": source.uid, "kind": source.kind, "base": str(source.base), "operations": [], "notes": []}
    values["inputs"] = [Input(str(path), 1, "0" * 64) for path in source.paths]
    values |= {"records": 1, "state_hash": "0" * 32, "bytes_to_write": 1, "seconds": 1.0}
    return PlannedUser(**values | changes)


def test_a_source_comes_out_of_a_plan_as_it_went_in(folder):
    write_map(folder / "m.bin", whole("m1"))
    for source in [*find_sources(folder).sources, one(folder / "m.bin", "ma")]:
        again = source_of(planned(source), {source.uid: ["wal-20250707.log:1"]})
        assert again == type(source)(source.uid, source.base, source.paths, ("wal-20250707.log:1",))
        assert pickle.loads(pickle.dumps(again)) == again
        assert records(source_of(planned(source))) == records(source)
        assert source_of(planned(source)).operations()


def test_files_of_a_plan_need_not_be_there_any_more(folder):
    source = one(folder / "p1")
    (folder / "p1" / "wal-20250707.log").unlink()
    assert source_of(planned(source)).paths == source.paths


def test_hostile_plans_are_refused(folder, tmp_path):
    p1, sc, ex = one(folder / "p1"), one(folder / "sc.wal"), one(folder / "ex.json")
    (folder / "p1" / "wal-20250708.log").symlink_to(folder / "ex.json")

    def at(*paths):
        return [Input(str(path), 1, "0" * 64) for path in paths]

    hostile = [
        (p1, {"uid": "../etc"}, "not allowed"),
        (p1, {"kind": "tarball"}, "expected a kind of"),
        (p1, {"base": "old"}, "absolute"),
        (p1, {"inputs": at("p1/snapshot.bin")}, "absolute"),
        (p1, {"inputs": at(f"{folder}/p1/../p1/snapshot.bin")}, "plain path"),
        (p1, {"inputs": at("/etc/passwd")}, "expected a file below"),
        (p1, {"inputs": at(folder / "p1" / "passwd")}, "expected snapshot.bin and"),
        (p1, {"inputs": at(folder / "p1" / "deep" / "snapshot.bin")}, "expected snapshot.bin and"),
        (p1, {"inputs": at(folder / "p1" / "wal-20250708.log")}, "found a symbolic link"),
        (p1, {"inputs": []}, "once"),
        (p1, {"inputs": at(*p1.paths, *p1.paths)}, "once"),
        (sc, {"inputs": at(folder / "sc.wal", folder / "other.wal")}, "scoped log sc"),
        (sc, {"inputs": at(folder / "ex.json")}, "scoped log"),
        (ex, {"inputs": at(folder / "ex.json", folder / "sc.wal")}, "expected one file of an export"),
        (ex, {"base": str(tmp_path), "inputs": at(folder / "p1")}, "found a directory"),
    ]
    for source, changes, what in hostile:
        with pytest.raises(PlanRefused, match=what):
            source_of(planned(source, **changes))
