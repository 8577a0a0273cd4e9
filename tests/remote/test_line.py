"""Two machines that push one user are seen, told, and cost neither its data."""

import os
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

import meshlab
from meshlab.remote.bucket import MemoryBucket
from meshlab.remote.image import ImageKey
from meshlab.remote.line import Images, list_images
from meshlab.wal.writer import Writer
from scoreboard.sites import Site, files_of, hash_of, insert, update

_numbers = count()


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "a", MemoryBucket())
    made.append(insert("m1"))
    made.append(insert("m2"), update("m1", amplitude=0.5))
    assert made.push().status == "pushed"
    return made


def pulled(site, image):
    """The state hash of one image."""
    path = site.path.parent / f"pulled{next(_numbers)}"
    user = Site(path, site.remote.bucket.inner).pull(image=image)
    assert user.status == "pulled", user
    return hash_of(path / "ann")


def test_machines_that_go_on_from_one_place_are_a_fork_and_both_are_kept(site, tmp_path):
    other = site.copy(tmp_path / "b")
    site.append(insert("here"))
    other.append(insert("there"))
    first, second = site.push(), other.push()
    assert (first.status, first.forks) == ("pushed", [])
    assert (second.status, second.forks) == ("pushed", [first.image])
    assert pulled(site, first.image) == site.state()
    assert pulled(site, second.image) == other.state()
    third = site.push()
    assert third.status == "nothing new"
    site.append(insert("more"))
    fourth = site.push()
    assert fourth.forks == [second.image]
    assert pulled(site, second.image) == other.state()
    assert pulled(site, fourth.image) == site.state()


def test_a_fork_is_not_chosen_from_silently(site, tmp_path):
    other = site.copy(tmp_path / "b")
    site.append(insert("here"))
    other.append(insert("there"))
    images = [site.push().image, other.push().image]
    user = Site(tmp_path / "c", site.remote.bucket.inner).pull()
    assert user.status == "failed"
    assert "2 lines of images" in user.error and all(image in user.error for image in images)
    assert not (tmp_path / "c" / "ann").exists()
    assert len(site.remote.status("ann").users[0].heads) == 2
    assert site.prove().outcome == "inconclusive"


def test_two_pushes_at_the_same_moment_are_seen_by_whoever_looks_next(site, tmp_path, monkeypatch):
    other = site.copy(tmp_path / "b")
    site.append(insert("here"))
    other.append(insert("there"))
    listed = list_images(site.remote.bucket, "ann")
    monkeypatch.setattr("meshlab.remote.push.list_images", lambda bucket, uid: listed)
    first, second = site.push(), other.push()
    assert first.number == second.number and not first.forks and not second.forks
    monkeypatch.undo()
    site.append(insert("more"))
    assert site.push().forks == [second.image]
    other.append(insert("more"))
    assert other.push().forks
    assert pulled(site, second.image)


def test_an_old_copy_pushes_nothing(site, tmp_path):
    other = site.copy(tmp_path / "b")
    site.append(insert("here"))
    site.push()
    os.utime(other.root / "wal-20250707.log")  # its prints are others than those it remembers
    before = list(site.remote.bucket.list(""))
    user = other.push()
    assert user.status == "behind" and user.forks
    assert list(site.remote.bucket.list("")) == before


def test_an_old_copy_that_a_vacuum_has_gone_past_is_behind_too(tmp_path):
    site = Site(tmp_path / "a", MemoryBucket())
    site.append(insert("m1"))
    site.checkpoint(retain=1)
    other = site.copy(tmp_path / "b")
    for _ in range(5):
        site.later()
        site.append(insert("m2"))
        site.checkpoint()
    site.vacuum()
    assert not (site.root / "wal-20250707.log").exists()
    site.push()
    assert other.push().status == "behind"


def test_a_user_who_moves_to_another_machine_is_no_fork(site, tmp_path):
    other = Site(tmp_path / "b", site.remote.bucket.inner, now=site.now)
    other.pull()
    other.append(insert("there"))
    assert (other.push().status, other.push().status) == ("pushed", "nothing new")
    site.root.rename(tmp_path / "gone")
    assert site.pull().status == "pulled"
    site.now = other.now
    site.append(insert("back"))
    user = site.push()
    assert (user.status, user.forks, user.number) == ("pushed", [], 3)
    assert len(list_images(site.remote.bucket, "ann")["ann"].heads()) == 1


def test_a_fork_ends_when_one_machine_takes_the_place_of_the_other(site, tmp_path):
    other = site.copy(tmp_path / "b")
    other.append(insert("there"))
    other.push()
    os.utime(site.root / "wal-20250707.log")
    assert site.push().status == "behind"
    assert site.pull(force=True).status == "pulled"
    site.now = other.now
    site.append(insert("on top"))
    assert site.push().forks == []


@pytest.mark.parametrize("checkpoints", [True, False])
def test_checkpoints_by_two_machines_are_a_fork_though_the_log_is_one(site, tmp_path, checkpoints):
    other = site.copy(tmp_path / "b")
    site.later(0.01)
    site.checkpoint()
    if checkpoints:
        other.checkpoint()
    other.append(insert("m3"))
    site.push()
    assert bool(other.push().forks) is True


def test_a_log_that_was_set_back_goes_on_as_a_line_of_its_own(site, tmp_path):
    kept = files_of(site.root)
    site.append(insert("soon lost"))
    newest = site.push()
    for name, data in kept.items():
        (site.root / name).write_bytes(data)
    site.append(insert("another"))
    user = site.push()
    assert (user.status, user.forks) == ("pushed", [newest.image])
    assert pulled(site, user.image) == site.state()


def test_a_log_that_was_damaged_since_does_not_go_on_from_what_is_in_the_bucket(site):
    path = site.root / "wal-20250707.log"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    site.append(insert("m3"))
    user = site.push()
    assert (user.status, user.kind) == ("failed", "DamageFound")
    assert "wal-20250707.log:0" in user.error and "--accept wal-20250707.log:0" in user.hint


def test_foreign_names_below_the_images_are_no_images(site):
    site.remote.bucket.put("images/ann/readme.txt", b"hello")
    site.remote.bucket.put("images/ann/00000009-xyz", b"hello")
    site.append(insert("m3"))
    assert site.push().number == 2


def test_a_program_that_has_the_log_open_while_its_user_is_replaced_leaves_a_gap_that_shows(site, tmp_path):
    """What it had acknowledged stands in the directory that was moved aside; the new log tells that it is missing."""
    site.append(insert("pushed"))
    site.push()
    with closing(Writer(site.root, clock=lambda: site.now)) as writer:
        writer.append(insert("since the push"))
        user = site.pull(force=True)
        assert user.status == "pulled"
        writer.append(insert("after the pull"))
    moved = meshlab.open(Path(user.replaced).parent)[Path(user.replaced).name]
    assert moved.state(progress=False).get("since the push") is not None
    here = meshlab.open(site.path)["ann"]
    assert {record["id"] for record in here.state(progress=False).to_pylist()} == {
        "m1",
        "m2",
        "pushed",
        "after the pull",
    }
    assert [reject.kind for reject in here.verify(progress=False).damage] == ["chain-gap"]
    assert site.push().kind == "DamageFound"


def test_a_long_line_is_followed_in_one_go(monkeypatch):
    """The name of an image is looked at a few times, however many there are."""
    keys, parent, looks = [], "0" * 16, []
    for number in range(1, 2001):
        keys.append(ImageKey("ann", number, parent, "aaaaaaaa", f"{number:016x}" + "0" * 48))
        parent = keys[-1].short
    short = ImageKey.short.fget
    monkeypatch.setattr(ImageKey, "short", property(lambda key: looks.append(1) or short(key)))
    images = Images(keys)
    assert list(images.line(images.heads()[0])) == keys[::-1]
    assert len(looks) <= 10 * len(keys)
