"""Names that could leave the store are refused, wherever they come in, and touch nothing."""

import os
import re
from pathlib import Path

import pytest

import meshlab
from meshlab.errors import BadUserId, NotFound, StorageError
from meshlab.wal import paths

EVENT = {"Delete": "m1"}
HOSTILE = [
    pytest.param("", id="empty"),
    pytest.param(".", id="here"),
    pytest.param("..", id="parent"),
    pytest.param("../outside", id="path through the parent"),
    pytest.param("ann/../../outside", id="path through a user"),
    pytest.param("/", id="root"),
    pytest.param("/tmp/outside", id="absolute path"),
    pytest.param("ann/day", id="slash"),
    pytest.param("ann\\day", id="backslash"),
    pytest.param("ann\0", id="NUL at the end"),
    pytest.param("\0ann", id="NUL at the start"),
    pytest.param("x" * 129, id="129 bytes"),
    pytest.param("x" * 300, id="300 bytes"),
    pytest.param("\u0430nn", id="Cyrillic a"),
    pytest.param("a\u0301nn", id="combining accent"),
    pytest.param("\uff41\uff4e\uff4e", id="full width"),
    pytest.param("ann\u0661", id="Arabic digit"),
    pytest.param("\u2024\u2024", id="one dot leaders"),
    pytest.param("\u2025", id="two dot leader"),
    pytest.param("ann\u2215x", id="division slash"),
    pytest.param("ann\u202e", id="right-to-left override"),
    pytest.param("ann\u200b", id="zero width space"),
    pytest.param("\udcff", id="lone surrogate"),
    pytest.param("ann\n", id="newline at the end"),
    pytest.param(" ann", id="blank at the start"),
    pytest.param("ann ", id="blank at the end"),
    pytest.param(".meshlab", id="leading dot"),
    pytest.param("-rf", id="leading dash"),
    pytest.param("~", id="home"),
    pytest.param("$HOME", id="variable"),
    pytest.param("*", id="wildcard"),
    pytest.param("C:", id="drive"),
    pytest.param("\x1b[2J", id="escape sequence"),
    pytest.param("link", id="symbolic link to a directory"),
    pytest.param("loop", id="symbolic link to itself"),
    pytest.param("dangling", id="symbolic link to nothing"),
    pytest.param("Ann", id="case twin"),
]
BY_CHARACTERS = [param for param in HOSTILE if param.id.split()[0] not in ("symbolic", "case")]
WRONG_TYPES = [None, 7, b"ann", Path("ann"), ["ann"]]
DOORS = {
    "paths.user_root": lambda store, uid: paths.user_root(store, uid),
    "paths.existing_user": lambda store, uid: paths.existing_user(store, uid),
    "UserStore.root": lambda store, uid: meshlab.open(store)[uid].root,
    "UserStore.append": lambda store, uid: meshlab.open(store)[uid].append(EVENT),
    "UserStore.append_many": lambda store, uid: meshlab.open(store)[uid].append_many([EVENT]),
    "UserStore.events": lambda store, uid: meshlab.open(store)[uid].events(),
    "UserStore.state": lambda store, uid: meshlab.open(store)[uid].state(),
    "UserStore.verify": lambda store, uid: meshlab.open(store)[uid].verify(),
    "UserStore.repair": lambda store, uid: meshlab.open(store)[uid].repair(store / "copy"),
    "UserStore.seal": lambda store, uid: meshlab.open(store)[uid].seal(),
    "UserStore.stats": lambda store, uid: meshlab.open(store)[uid].stats(),
    "Store.events": lambda store, uid: meshlab.open(store).events([uid]),
    "Store.sql": lambda store, uid: meshlab.open(store).sql("select count(*) from events", users=[uid]),
    "append_to_wal": lambda store, uid: meshlab.append_to_wal(uid, EVENT),
    "user_root": lambda store, uid: meshlab.user_root(uid),
    "replay_wal": lambda store, uid: meshlab.replay_wal(uid),
}


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of one user, ann, that links lead out of; it is the default store."""
    store = tmp_path / "store"
    (store / "ann").mkdir(parents=True)
    (store / "ann" / "wal-20250701.log").write_bytes(b'{"Insert":{"id":"m1"}}\n')
    (tmp_path / "outside").mkdir()
    (store / "link").symlink_to(tmp_path / "outside")
    (store / "loop").symlink_to(store / "loop")
    (store / "dangling").symlink_to(tmp_path / "nothing")
    monkeypatch.setenv("MESH_STORE", str(store))
    monkeypatch.chdir(tmp_path)
    return store


def tree(root):
    """Everything below a directory: links by target, files by bytes, and the times of change."""
    found = {}
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(folder) / name
            held = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[path] = (held, path.lstat().st_mtime_ns)
    return found


@pytest.mark.parametrize("uid", HOSTILE)
@pytest.mark.parametrize("door", DOORS)
def test_a_hostile_uid_is_refused_at_every_door_and_touches_nothing(door, uid, store, tmp_path):
    before = tree(tmp_path)
    with pytest.raises(BadUserId) as refused:
        DOORS[door](store, uid)
    assert tree(tmp_path) == before
    assert refused.value.message.startswith("user id ")
    assert len(str(refused.value)) < 400 + len(str(store))
    assert refused.value.hint


@pytest.mark.parametrize("uid", BY_CHARACTERS)
def test_a_hostile_name_makes_no_store_either(uid, tmp_path, monkeypatch):
    monkeypatch.setenv("MESH_STORE", str(tmp_path / "new"))
    for refused in (lambda: meshlab.append_to_wal(uid, EVENT), lambda: meshlab.open(tmp_path / "new")[uid]):
        with pytest.raises(BadUserId):
            refused()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uid", WRONG_TYPES, ids=repr)
def test_a_uid_is_text(uid):
    with pytest.raises(BadUserId):
        paths.check_uid(uid)


@pytest.mark.parametrize("uid", ["a", "7", "x" * 128, "a.b-c_d", "A..", "21e2a99e-682f-4b57-b89d-a6c490891061"])
def test_a_plain_name_is_allowed_and_nothing_is_made(uid, tmp_path):
    assert paths.user_root(tmp_path, uid) == tmp_path / uid
    assert list(tmp_path.iterdir()) == []


def test_a_case_twin_is_refused_with_the_spelling_that_is_there(store):
    with pytest.raises(BadUserId, match=re.escape("differs only by case from the existing 'ann'")):
        paths.user_root(store, "ANN")
    assert paths.user_root(store, "ann") == store / "ann"
    assert paths.user_root(store, "anne") == store / "anne"


def test_a_link_to_a_users_own_directory_is_refused_too(store):
    (store / "alias").symlink_to(store / "ann")
    with pytest.raises(BadUserId, match="symbolic link"):
        paths.user_root(store, "alias")


def test_a_file_where_a_users_directory_should_be_is_an_error_of_storage(store):
    (store / "bob").write_bytes(b"mine")
    for refused in (lambda: paths.user_root(store, "bob"), lambda: meshlab.open(store)["bob"].append(EVENT)):
        with pytest.raises(StorageError, match="bob is not a directory"):
            refused()
    assert (store / "bob").read_bytes() == b"mine"


def test_a_file_where_the_store_should_be_is_an_error_of_storage(tmp_path):
    (tmp_path / "store").write_bytes(b"mine")
    for refused in (
        lambda: paths.user_root(tmp_path / "store", "ann"),
        lambda: paths.user_ids(tmp_path / "store"),
        lambda: meshlab.open(tmp_path / "store")["ann"].append(EVENT),
    ):
        with pytest.raises(StorageError, match="store"):
            refused()
    assert (tmp_path / "store").read_bytes() == b"mine"


def test_only_directories_with_allowed_names_are_users(store):
    (store / "file").write_bytes(b"")
    (store / ".meshlab").mkdir()
    (store / "t\u00fcr").mkdir()
    (store / "bob").mkdir()
    assert paths.user_ids(store) == ["ann", "bob"]


def test_a_store_that_is_not_there_has_no_users_to_list(tmp_path):
    with pytest.raises(NotFound, match="does not exist"):
        paths.user_ids(tmp_path / "nowhere")


def test_a_store_path_with_a_nul_is_not_found():
    with pytest.raises(NotFound, match="NUL"):
        paths.store_root("store\0x")


def test_the_store_is_the_one_named_then_the_variable_then_the_working_directory(monkeypatch):
    monkeypatch.setenv("MESH_STORE", "/by/variable")
    assert paths.store_root("/by/name") == Path("/by/name")
    assert paths.store_root() == Path("/by/variable")
    monkeypatch.setenv("MESH_STORE", "")
    assert paths.store_root() == Path("mesh_store")
    monkeypatch.delenv("MESH_STORE")
    assert paths.store_root() == Path("mesh_store")


@pytest.mark.parametrize(
    "name",
    [
        "wal-20250230.log",
        "wal-2025070.log",
        "wal-20250701.log.gz",
        "wal-20250701.LOG",
        "xwal-20250701.log",
        "wal-00000101.log",
        "wal-\u0662\u0660250701.log",
        "wal-20250701.log\n",
    ],
    ids=ascii,
)
def test_a_name_that_is_no_day_is_no_segment(name):
    assert paths.segment_day(name) is None


def test_segments_are_listed_oldest_first_and_nothing_else_is(tmp_path):
    for name in ("wal-20250702.log", "wal-20241231.log", "wal-20250701.log", "wal-20250799.log", "wal.lock"):
        (tmp_path / name).touch()
    assert paths.segment_days(tmp_path) == ["20241231", "20250701", "20250702"]
    assert [paths.segment_day(paths.segment_name(day)) for day in paths.segment_days(tmp_path)] == [
        "20241231",
        "20250701",
        "20250702",
    ]
