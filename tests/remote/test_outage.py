"""An outage at every request of a push, of a pull and of a retention; and kills of a pull at every file operation."""

import shutil
from contextlib import suppress
from functools import partial

import pytest

from meshlab.remote.bucket import MemoryBucket
from meshlab.remote.patience import Patience
from meshlab.testing import FailingFiles, ForgetfulFiles, PowerCut
from scoreboard.outages import Aged, following, image_first, outages, pulled
from scoreboard.sampling import EVERY
from scoreboard.sites import DAY, Faulty, Site, copy_of, files_of, grow, hash_of, insert, restorable

STEPS = 16 if EVERY else 5
STRIDE = 1 if EVERY else 3
"""One in so many places is cut, after the first two; all of them with ``MESHLAB_EVERY=1``."""
WAYS = {"for ever": {"forever": True}, "lost answer": {"lost": True}} | ({"once": {}} if EVERY else {})


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A user who was pushed, and has gained a checkpoint and days since; and the states of then and now."""
    path = tmp_path_factory.mktemp("scene")
    site = Site(path / "store", MemoryBucket())
    for step in range(2):
        grow(site, step)
    site.push()
    before = site.state()
    for step in range(2, STEPS):
        grow(site, step)
    return site, before, site.state()


@pytest.fixture(scope="module")
def pushed(scene, tmp_path_factory):
    """The same user, when all of it was pushed; and a moment long before, with its state."""
    site, _, _ = scene
    made = site.copy(tmp_path_factory.mktemp("pushed") / "store")
    made.remote.bucket.inner = copy_of(site.remote.bucket.inner)
    assert made.push().status == "pushed"
    moment = made.now - 2 * DAY
    return made, {None: made.state(), moment: made.state(at=moment)}


@pytest.mark.parametrize("way", WAYS)
def test_a_push_is_cut_at_every_request(scene, tmp_path, way):
    site, before, after = scene
    seen, points = [], 0
    for number, machine, inner in outages(site, tmp_path, lambda machine: machine.push(), stride=STRIDE, **WAYS[way]):
        found = restorable(inner, tmp_path / "restored" / f"{number}")
        assert found in (before, after), number
        seen.append(found == after)
        machine.append(insert("while it was out"))
        machine.remote.bucket.inner.nth = 0
        healed = machine.push()
        assert healed.status in ("pushed", "nothing new") and not healed.forks, number
        assert restorable(inner, tmp_path / "healed" / f"{number}") == machine.state(), number
        points += 1
    print(f"push, {way}: {points - 1} outages at {number} requests, {sum(seen)} behind the commit point")
    assert (points if EVERY else number) > 8
    assert seen[0] is False and seen[-1] is True


def test_the_check_of_a_push_finds_one_that_names_its_image_first(scene, tmp_path):
    """The twin: an image that is put before its blocks makes the loop above fail."""
    broken = 0
    with image_first() as late:
        for number, _, inner in outages(
            scene[0], tmp_path, lambda machine: machine.push(), stride=STRIDE, forever=True
        ):
            late.clear()
            try:
                restorable(inner, tmp_path / "restored" / f"{number}")
            except AssertionError:
                broken += 1
    assert broken


@pytest.mark.parametrize("way", [way for way in WAYS if way != "lost answer"])
def test_a_pull_is_cut_at_every_request(pushed, tmp_path, way):
    site, states = pushed
    points = reached = 0
    for at, state in states.items():
        for number, machine, inner in outages(
            site, tmp_path / str(at), partial(pulled, at=at), stride=STRIDE, **WAYS[way]
        ):
            target = machine.path.parent / "new"
            was_hit = machine.remote.bucket.inner.hits
            assert (target / "ann").exists() == (not was_hit), number
            again = Site(target, inner)
            if was_hit:
                assert again.pull(at=at).status == "pulled"
            assert again.state() == state
            assert not list((target / ".meshlab" / "remote" / "scratch").iterdir())
            points += 1
        reached += number
    print(f"pull, {way}: {points - 2} outages at {reached} requests")
    assert (points if EVERY else reached) > 10


@pytest.mark.parametrize("way", WAYS)
def test_a_retention_is_cut_at_every_request(tmp_path, way):
    site = Site(tmp_path / "store", Aged())
    for step in range(8 if EVERY else 4):
        grow(site, step)
        site.push()
        site.later()
    state, windows, before = site.state(), span(site), len(list(site.remote.bucket.list("")))
    points = number = 0
    while number < 99:
        number = following(number, STRIDE)
        aged = site.remote.bucket.inner.copy()
        faulty = Faulty(aged, number, **WAYS[way])
        machine = Site(site.path, faulty, now=site.now)
        with suppress(Exception):
            machine.remote.retain("ann", days=2, apply=True)
        assert restorable(aged, tmp_path / f"restored{number}") == state
        healed = Site(site.path, aged, now=site.now)
        (user,) = healed.remote.retain("ann", days=2, apply=True).users
        assert not user.error
        assert span(healed)[0] >= windows[0] and span(healed)[1] == windows[1]
        assert restorable(aged, tmp_path / f"healed{number}") == state
        (again,) = healed.remote.retain("ann", days=2, apply=True).users
        assert not again.gone_images and not again.gone_blocks
        assert len(list(aged.list(""))) < before
        points += 1
        if not faulty.hits:
            break
    print(f"retention, {way}: {points - 1} outages at {number} requests")
    assert (points if EVERY else number) > 3


def span(site):
    windows = site.remote.windows("ann")
    starts = [window.start.timestamp() if window.start else 0 for window in windows]
    return min(starts), max(window.end.timestamp() for window in windows)


def test_a_pull_is_killed_at_every_file_operation(pushed, tmp_path):
    site, states = pushed
    bucket, expected = site.remote.bucket.inner, None
    kills = 0
    for number in range(1, 999, 1 if EVERY else 4):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = ForgetfulFiles()
        files = FailingFiles(disk, "any", number, error=PowerCut(f"at operation {number}"), forever=True)
        with suppress(PowerCut):
            Site(folder / "new", bucket, files=files).pull()
        disk.crash(folder)
        root = folder / "new" / "ann"
        if root.exists() and any(root.iterdir()):
            found = files_of(root)
            expected = expected or found
            assert found == expected
        elif not files.hits:
            raise AssertionError("acknowledged, and gone")
        again = Site(folder / "new", bucket)
        assert again.pull(force=True).status == "pulled"
        assert hash_of(again.root) == states[None]
        shutil.rmtree(folder)
        kills += bool(files.hits)
        if not files.hits:
            break
    print(f"pull: killed at {kills} of {number} file operations")
    assert (kills if EVERY else number) > 10


def test_an_interrupted_push_does_not_put_again_what_it_has_put(scene, tmp_path, monkeypatch):
    monkeypatch.setattr("meshlab.remote.notes.WORTH_NOTING", 1)
    site, _, after = scene
    inner = copy_of(site.remote.bucket.inner)
    shutil.copytree(site.path, tmp_path / "store")
    whole = Faulty(copy_of(inner))
    shutil.copytree(site.path, tmp_path / "other")
    blocks = Site(tmp_path / "other", whole, now=site.now).push().blocks
    first = Site(tmp_path / "store", Faulty(inner, blocks, forever=True), now=site.now).push()
    assert first.status == "failed"
    there = len(list(inner.list("data/")))
    second = Site(tmp_path / "store", inner, now=site.now).push()
    assert second.status == "pushed"
    assert second.blocks < blocks and len(list(inner.list("data/"))) == there + second.blocks
    assert restorable(inner, tmp_path / "restored") == after


def test_a_short_outage_is_waited_out(scene, tmp_path):
    site, _, after = scene
    shutil.copytree(site.path, tmp_path / "store")
    faulty = Faulty(copy_of(site.remote.bucket.inner), 3)
    machine = Site(tmp_path / "store", faulty, now=site.now, patience=Patience(first=0.001))
    user = machine.push()
    assert (user.status, faulty.hits, machine.remote.bucket.traffic.again) == ("pushed", 1, 1)
    assert restorable(faulty.inner, tmp_path / "restored") == after
