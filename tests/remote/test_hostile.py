"""A bucket somebody else writes into: images under their right SHA-256 that name other files, and foreign keys."""

import hashlib
import tempfile

import msgspec
import pytest
from click.testing import CliRunner

import meshlab
from meshlab.cli import main
from meshlab.errors import NotFound, RemoteDamaged
from meshlab.fleet.fleet import Fleet
from meshlab.remote.bucket import FolderBucket, MemoryBucket
from meshlab.remote.image import (
    LARGEST_NUMBER,
    Block,
    StoredFile,
    block_key,
    home_of,
    key_of,
    pack,
    parse_image_key,
    parse_link_key,
    unpack,
)
from meshlab.remote.line import Images, get_image, list_images
from meshlab.remote.notes import Note, Notes
from meshlab.remote.windows import choose_head
from meshlab.service.syncd import SyncDaemon
from meshlab.snapshot.manifest import Layer, Manifest, Range
from meshlab.snapshot.manifest import pack as pack_manifest
from meshlab.snapshot.manifest import unpack as unpack_manifest
from meshlab.wal.chain import LONG_AGO
from scoreboard.sites import Site, insert

SPOIL = b"written by somebody else"
SEGMENT = "wal-20250707.log"
ENDLESS = "x" * 300


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A user who was pushed; temporary files of all have a folder of their own."""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    made = Site(tmp_path / "store", FolderBucket(tmp_path / "bucket"))
    made.append(insert("m1"))
    assert made.push().status == "pushed"
    return made


def newest(site):
    (key,) = list_images(site.remote.bucket)["ann"].keys
    return key, get_image(site.remote.bucket, key)


def put(bucket, image):
    """An image as it is, under its right key."""
    data = pack(image)
    key = key_of(image, data)
    bucket.put(str(key), data)
    return key


def spoilt(site, name, home=SEGMENT, **fields):
    """An image that names one file more, whose bytes are there."""
    key, image = newest(site)
    file = StoredFile(name, home, [Block(0, len(SPOIL), hashlib.sha256(SPOIL).digest())])
    site.remote.bucket.put(block_key("ann", home, file.blocks[0]), SPOIL)
    kept = [one for one in image.files if one.name != name]
    changed = {"number": key.number + 1, "parents": [key.digest], "files": [*kept, file], **fields}
    return put(site.remote.bucket, msgspec.structs.replace(image, **changed))


def tree(folder, *but):
    """All files below a folder, but for some."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): path.read_bytes() for path in paths if not any(part in but for part in path.parts)}


OUTSIDE = [
    "../escaped",
    "../../../escaped",
    "{outside}/escaped",
    "history/../../escaped",
    "history/../../../escaped",
    "history/{outside}/escaped",
    "layers/../../../escaped",
    "wal-20250707.log/../../escaped",
    "checkpoint.lock",
    "snapshot.bin\n",
    "history/0000001.bin",
    "history/00000001.bin.pin",
    "layers/" + "ab" * 32 + ".exe",
    "layers/" + "AB" * 32 + ".parquet",
    "",
    "y" * 5000,
]
WAYS = {
    "pull": lambda site: site.pull().error,
    "pull of now": lambda site: site.pull(at=site.now).error,
    "dry run": lambda site: site.pull(at=site.now, dry_run=True).error,
    "prove": lambda site: site.prove().reason,
    "retain": lambda site: site.remote.retain("ann").users[0].error,
    "status": lambda site: site.remote.status("ann").users[0].error,
    "fleet": lambda site: Fleet(site.remote.url, 1, progress=False).verify("ann").failed.to_pylist()[0]["message"],
}


@pytest.mark.parametrize("name", OUTSIDE, ids=lambda name: name[:40])
def test_an_image_that_names_another_file_is_refused_and_nothing_is_touched(site, tmp_path, name):
    (tmp_path / "outside").mkdir()
    named = name.format(outside=tmp_path / "outside")
    key = spoilt(site, named)
    other = Site(tmp_path / "other", site.remote.bucket.inner, now=site.now)
    other.path.mkdir()
    before = tree(tmp_path, ".meshlab")
    for way, ask in WAYS.items():
        error = ask(other)
        assert str(key) in error and repr(named[:100]) in error, (way, error)
        assert tree(tmp_path, ".meshlab") == before, way
    with pytest.raises(RemoteDamaged, match="names of files that a push puts"):
        other.remote.windows("ann")
    assert tree(tmp_path, ".meshlab") == before
    assert SPOIL not in tree(tmp_path, "bucket").values()
    assert not other.root.exists() and not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("home", ["../bob/wal-20250707.log", "/etc/passwd", "history/00000009.bin", "../../images/ann"])
def test_blocks_under_another_name_than_that_of_their_file_are_refused(tmp_path, home):
    site = Site(tmp_path / "store", MemoryBucket())
    site.append(insert("m1"))
    site.push()
    key = spoilt(site, "history/00000007.bin", home)
    error = Site(tmp_path / "other", site.remote.bucket.inner).pull().error
    assert str(key) in error and "history/00000007.bin" in error and repr(home) in error


BLOCKS = {
    "not from 0": [(1, 9)],
    "a gap": [(0, 4), (5, 9)],
    "one over another": [(0, 4), (3, 9)],
    "backwards": [(0, 9), (9, 3)],
    "nothing": [(0, 0), (0, 9)],
    "too large": [(0, 1 << 40)],
    "below nothing": [(-5, 9)],
}


@pytest.mark.parametrize("rows", BLOCKS.values(), ids=BLOCKS)
def test_blocks_that_are_not_one_behind_the_other_are_refused(site, tmp_path, rows):
    key, image = newest(site)
    blocks = [Block(start, stop, bytes(32)) for start, stop in rows]
    files = [StoredFile(SEGMENT, SEGMENT, blocks)]
    bad = put(site.remote.bucket, msgspec.structs.replace(image, files=files, number=2, parents=[key.digest]))
    other = Site(tmp_path / "other", site.remote.bucket.inner)
    for error in (other.pull().error, other.prove().reason, other.remote.retain("ann").users[0].error):
        assert str(bad) in error and SEGMENT in error and "without gaps" in error


def test_what_else_an_image_cannot_say_is_refused(site):
    key, image = newest(site)
    short = [StoredFile(SEGMENT, SEGMENT, [Block(0, 9, b"short")])]
    for changed, said in (
        ({"files": image.files * 2}, "found it again"),
        ({"files": short}, "5 bytes of SHA-256"),
        ({"looked_at": 1 << 62}, "looked_at"),
        ({"retain_days": -1}, "retain_days"),
    ):
        data = pack(msgspec.structs.replace(image, **changed))
        with pytest.raises(RemoteDamaged, match=said):
            unpack(key._replace(digest=hashlib.sha256(data).hexdigest()), data)
    for changed in ({"uid": "bob"}, {"number": 2}, {"machine": "00000000"}, {"parents": ["ab" * 32]}):
        data = pack(msgspec.structs.replace(image, **changed))
        with pytest.raises(RemoteDamaged, match="expected an image of"):
            unpack(key._replace(digest=hashlib.sha256(data).hexdigest()), data)


def test_a_push_puts_nothing_that_a_pull_refuses(site, tmp_path):
    """Files beside those of a checkpoint stay here, whatever they are called."""
    site.checkpoint()
    site.append(insert("m2"))
    site.checkpoint()
    for name in ("1 copy.bin", "00000001.bin.pin", "000000001.pin", "00000001.pin"):
        (site.root / "history" / name).write_bytes(b"a reason")
    assert site.push().status == "pushed"
    other = Site(tmp_path / "other", site.remote.bucket.inner)
    assert other.pull().status == "pulled"
    assert sorted(path.name for path in (other.root / "history").glob("*.pin")) == ["00000001.pin"]
    assert other.state() == site.state()


def test_a_snapshot_of_another_generation_than_its_image_says_is_refused(site, tmp_path):
    site.checkpoint()
    site.push()
    key, image = choose_head(site.remote.bucket, "ann")[0]
    file, home = image.by_name["snapshot.bin"], home_of("snapshot.bin", 9)
    for block in file.blocks:
        data = site.remote.bucket.get(block_key("ann", file.home, block))
        site.remote.bucket.put(block_key("ann", home, block), data)
    files = [one._replace(home=home) if one == file else one for one in image.files]
    changed = {"files": files, "generation": 9, "number": key.number + 1, "parents": [key.digest]}
    put(site.remote.bucket, msgspec.structs.replace(image, **changed))
    other = Site(tmp_path / "other", site.remote.bucket.inner, now=site.now)
    assert "which its snapshot is" in other.pull(at=site.now).error


def test_a_manifest_that_names_a_path_is_refused():
    for fields in (
        {"layers": [Layer("../../../escaped", "records", 1, 1)]},
        {"layers": [Layer("/etc/passwd", "records", 1, 1)]},
        {"folded": [Range("x/../../escaped", 0, 1, b"", 1, LONG_AGO)]},
    ):
        with pytest.raises(ValueError, match=r"expected (layers|segments) named by"):
            unpack_manifest(pack_manifest(Manifest(uid="ann", **fields)))


# Keys

DIGITS = "0" * 16
FOREIGN = [
    f"images/a b/00000001-{DIGITS}-aaaaaaaa-" + "cd" * 32,
    f"images/{ENDLESS}/00000001-{DIGITS}-aaaaaaaa-" + "cd" * 32,
    f"images/-rf/00000001-{DIGITS}-aaaaaaaa-" + "cd" * 32,
    f"images/../00000001-{DIGITS}-aaaaaaaa-" + "cd" * 32,
    f"images/ann/{'9' * 5000}-{DIGITS}-aaaaaaaa-" + "cd" * 32,
    f"images/a b/link-{DIGITS}-{'1' * 16}",
    f"images/ann/link-{DIGITS}-{DIGITS}",
    "images/readme.txt",
]


@pytest.mark.parametrize("key", FOREIGN, ids=lambda key: key[:40])
def test_a_foreign_key_is_no_image_and_no_link(key):
    assert parse_image_key(key) is None and parse_link_key(key) is None


def test_foreign_keys_are_counted_and_told_and_stop_nobody(tmp_path):
    site = Site(tmp_path / "store", MemoryBucket())
    site.append(insert("m1"))
    site.push()
    for key in FOREIGN:
        site.remote.bucket.put(key, b"by somebody else")
    other = Site(tmp_path / "other", site.remote.bucket.inner)
    reports = [site.remote.prove(progress=False), site.remote.status(), site.remote.retain(), other.remote.pull()]
    for report in reports:
        assert ([user.uid for user in report.users], report.foreign) == (["ann"], len(FOREIGN))
    assert reports[0].users[0].outcome == "proved" and reports[-1].users[0].status == "pulled"
    assert site.remote.prove("ann", progress=False).foreign == 0


def test_the_commands_tell_of_foreign_keys(site, tmp_path):
    site.remote.bucket.put("images/a b/readme.txt", b"by somebody else")
    for command in ("prove", "status", "retain", "pull --dry-run"):
        store = site.path if "pull" not in command else tmp_path / "other"
        line = ["--store", str(store), "sync", *command.split(), "--remote", site.remote.url]
        result = CliRunner().invoke(main, line, catch_exceptions=False)
        assert "passed over 1 object among the images" in result.stderr, command


def test_a_mark_that_is_a_path_is_none(tmp_path):
    site = Site(tmp_path / "store", MemoryBucket())
    site.remote.bucket.put("remote/../../../../escaped", b"")
    site.remote.bucket.put("remote/" + "0" * 15, b"")
    site.append(insert("m1"))
    assert site.push().status == "pushed" and site.prove().outcome == "proved"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
    assert len(site.remote.mark()) == 16


def test_links_and_parents_in_a_circle_leave_a_head_and_lines_that_end(site, tmp_path):
    first, _ = newest(site)
    site.append(insert("m2"))
    site.push()
    (second,) = list_images(site.remote.bucket)["ann"].heads()
    bucket = site.remote.bucket
    for follower, followed in ((first, second), (second, second), (first, first)):
        bucket.put(f"images/ann/link-{follower.short}-{followed.short}", b"")
    bucket.put(f"images/ann/link-{DIGITS}-{second.short}", b"")  # of an image nobody has
    images = list_images(bucket)["ann"]
    assert images.heads() == [second] and list(images.line(second)) == [second, first]
    turned = first._replace(parent=second.short)
    circle = Images([turned, second])
    assert circle.heads() == [second] and list(circle.line(second)) == [second, turned]
    assert Site(tmp_path / "other", bucket.inner).pull().status == "pulled"
    assert len(site.remote.windows("ann")) == 1
    assert not site.remote.retain("ann").users[0].error


def test_a_user_without_a_head_is_told_of(site):
    with pytest.raises(RemoteDamaged, match="ann: expected an image that no other follows"):
        choose_head(site.remote.bucket, "ann", None, Images([]))


def test_a_number_behind_which_there_is_none_is_refused_before_anything_is_put(site):
    key, image = newest(site)
    put(site.remote.bucket, msgspec.structs.replace(image, number=LARGEST_NUMBER, parents=[key.digest]))
    site.append(insert("m2"))
    before = list(site.remote.bucket.list(""))
    user = site.push()
    assert (user.status, user.kind) == ("failed", "RemoteDamaged") and "no number is left" in user.error
    assert [one.key for one in before if one.key.startswith("images/")] == [
        one.key for one in site.remote.bucket.list("images/")
    ]


# Proofs that cannot be noted


def test_a_proof_that_cannot_be_noted_is_told_with_its_outcome_and_the_next_user_has_a_turn(site, monkeypatch):
    site.append(insert("m1"), uid="bob")
    site.push("bob")
    (site.path / ".meshlab" / "remote" / site.remote.mark() / "proofs").write_text("a file in the way")
    proofs = site.remote.prove(progress=False).users
    assert [(proof.uid, proof.outcome) for proof in proofs] == [("ann", "proved"), ("bob", "proved")]
    assert all("could not be noted" in proof.reason for proof in proofs)


def test_a_store_without_room_for_a_restored_user_is_inconclusive_user_by_user(site):
    site.append(insert("m1"), uid="bob")
    site.push("bob")
    (site.path / ".meshlab" / "remote" / "scratch").write_text("a file in the way")
    proofs = site.remote.prove(progress=False).users
    assert [proof.outcome for proof in proofs] == ["inconclusive", "inconclusive"]


def test_a_user_who_is_not_there_is_not_found(site):
    assert site.prove("bob").outcome == "failed"
    with pytest.raises(NotFound):
        site.remote.windows("bob")
    assert meshlab.open(site.path).users() == ["ann"]


def test_a_note_whose_image_is_refused_ends_no_daemon(site):
    notes = Notes(site.path, site.remote.mark())
    key = spoilt(site, "history/1 copy.bin")
    notes.remember("ann", Note(str(key), site.remote.bucket.get(str(key)), notes.note("ann").prints))
    daemon = SyncDaemon(site.remote)
    assert daemon.run(once=True) is True and daemon.metrics().users == 1
    site.append(insert("m2"))
    assert daemon.run(once=True) is False and daemon.metrics().users_failed == 1


def test_a_user_may_be_called_what_the_lock_of_a_scratch_directory_once_was(site, tmp_path):
    site.append(insert("m1"), uid="in-use")
    site.push("in-use")
    assert site.prove("in-use").outcome == "proved"
    assert Site(tmp_path / "other", site.remote.bucket.inner).pull("in-use").status == "pulled"
