"""Retention deletes what no moment of the window needs, and never what one does."""

from threading import Barrier

import pytest

from meshlab.errors import MeshlabError, NotRestorable, RemoteRefused
from meshlab.remote.bucket import Found, MemoryBucket
from meshlab.remote.line import get_image, images_in, list_images
from meshlab.times import DAY
from scoreboard.sites import Site, grow, insert, restorable


class Dated(MemoryBucket):
    """A bucket whose clock is that of the tests."""

    now = 0

    def put(self, key, data):
        super().put(key, data)
        self._held[key] = bytes(data), Dated.now


class Life(Site):
    """A machine that pushes after every step, and knows every moment it went through."""

    def __init__(self, path):
        super().__init__(path, Dated())
        self.told = []

    def step(self, step, days=1.1):
        grow(self, step)
        Dated.now = self.now
        assert self.push().status == "pushed"
        self.told.append((self.now, self.state()))
        self.later(days)

    def wait(self, days):
        """Time goes by; an event at the end of it, pushed."""
        self.later(days)
        self.append(insert("much later"))
        Dated.now = self.now
        self.push()

    def retain(self, **options):
        (user,) = self.remote.retain("ann", **options).users
        assert not user.error, user.error
        return user


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    made = Life(tmp_path_factory.mktemp("life") / "store")
    for step in range(8):
        made.step(step, days=0.6)
    made.kept = dict(made.remote.bucket.inner._held)
    return made


@pytest.fixture
def site(life):
    life.remote.bucket.inner._held = dict(life.kept)
    return life


def reachable(site, tmp_path, tag):
    """Which of the moments the bucket alone restores, and rightly."""
    found = []
    for number, (moment, state) in enumerate(site.told):
        copy = Site(tmp_path / f"{tag}{number}", site.remote.bucket.inner)
        user = copy.pull(at=moment)
        if user.status == "pulled":
            assert copy.state() == state
            found.append(moment)
        else:
            assert user.kind == NotRestorable.__name__, user
    return found


def test_a_dry_run_deletes_nothing_and_tells_what_would_go(site):
    before = dict(site.remote.bucket.inner._held)
    planned = site.retain(days=3)
    assert site.remote.bucket.inner._held == before
    assert planned.gone_images and planned.gone_blocks and not planned.applied
    done = site.retain(days=3, apply=True)
    assert done.gone_images == planned.gone_images and done.gone_blocks == planned.gone_blocks
    left = [key for key in site.remote.bucket.inner._held if "/link-" not in key]
    assert len(left) == len(before) - done.gone_blocks - len(done.gone_images)


@pytest.mark.parametrize("days", [0, 3, 1000])
def test_every_moment_of_the_window_stays(site, tmp_path, days):
    before = [moment for moment, _ in site.told]
    user = site.retain(days=days, apply=True)
    after = reachable(site, tmp_path, "after")
    assert [moment for moment in after if moment >= user.cutoff] == [m for m in before if m >= user.cutoff]
    if days == 1000:
        assert after == [moment for moment, _ in site.told]
        assert user.gone_images, "images that say nothing newer ones do not say go at any age"
    else:
        assert len(after) < len(site.told)
    print(f"{days} days: {len(user.gone_images)} images and {user.gone_blocks} blocks went, {len(after)} moments stay")


def test_without_the_check_of_the_window_moments_are_lost(site, tmp_path, monkeypatch):
    """The twin: keeping heads alone loses what a vacuum has retired."""
    monkeypatch.setattr("meshlab.remote.retention.is_within", lambda mine, reached: True)
    site.retain(days=1000, apply=True)
    assert len(reachable(site, tmp_path, "after")) < len(site.told)


def test_what_was_put_within_a_day_stays(site):
    inner = site.remote.bucket.inner
    Dated.now = max(found.modified for found in inner.list("")) + DAY // 2
    inner.put("data/ann/wal-20250707.log/0-1-" + "ab" * 32, b"x")
    user = site.retain(days=0, apply=True)
    assert user.young_blocks >= 1
    assert any("ab" * 32 in found.key for found in inner.list("data/"))
    newest = images_in(found.key for found in inner.list("images/"))["ann"].keys[-1]
    assert len(list(inner.list("images/"))) >= 2, "the head, and the one it follows, which was a head until lately"
    Dated.now += 2 * DAY
    inner.put("data/ann/wal-20250707.log/0-2-" + "cd" * 32, b"xx")
    site.retain(days=0, apply=True)
    assert images_in(found.key for found in inner.list("images/"))["ann"].keys == [newest]


@pytest.mark.parametrize("skew", [-400, 400])
def test_a_clock_that_is_wrong_here_takes_nothing_from_the_window(site, tmp_path, skew):
    kept = [moment for moment, _ in site.told if moment >= site.now - 5 * DAY]
    right = site.now
    site.now = right + skew * DAY
    try:
        site.retain(days=6, apply=True)
    finally:
        site.now = right
    assert set(kept) <= set(reachable(site, tmp_path, "after"))


def test_a_retention_twice_does_nothing_the_second_time(site):
    site.retain(days=2, apply=True)
    again = site.retain(days=2, apply=True)
    assert (again.gone_images, again.gone_blocks) == ([], 0)


def test_both_heads_of_a_fork_stay(site, tmp_path):
    other = site.copy(tmp_path / "other")
    site.append(insert("here"))
    other.append(insert("there"))
    heads = {site.push().image, other.push().image}
    Dated.now = site.now + 500 * DAY
    site.remote.bucket.put("remote/later", b"")
    site.retain(days=0, apply=True)
    for image in heads:
        copy = Site(tmp_path / image, site.remote.bucket.inner)
        assert copy.pull(image=image).status == "pulled"


def test_a_push_goes_on_after_a_retention(site, tmp_path):
    site.retain(days=0, apply=True)
    store = site.copy(tmp_path / "copy")
    store.append(insert("after"))
    assert store.push().status == "pushed"
    assert restorable(site.remote.bucket.inner, tmp_path / "restored") == store.state()


def test_images_that_stay_are_one_line_though_those_between_went(site):
    site.retain(days=1000, apply=True)
    images = images_in(found.key for found in site.remote.bucket.list("images/"))["ann"]
    assert len(images.keys) > 1 and images.links
    assert len(images.heads()) == 1
    assert list(images.line(images.heads()[0])) == images.keys[::-1]
    assert len(images._replace(links=[]).heads()) > 1


def test_a_number_of_days_that_is_none_is_refused(site):
    for days in (-1, 10**6):
        with pytest.raises(MeshlabError, match="is none"):
            site.remote.retain("ann", days=days)


def test_what_is_in_no_image_of_ours_is_left_alone(site):
    site.remote.bucket.put("images/ann/notes.txt", b"by hand")
    site.retain(days=0, apply=True)
    assert site.remote.bucket.get("images/ann/notes.txt") == b"by hand"
    assert isinstance(next(iter(site.remote.bucket.list("images/"))), Found)


class Meanwhile(Dated):
    """A bucket in which something happens at one request of a retention: ``at`` says which, ``then`` what."""

    at, then, url = "", staticmethod(lambda: None), "memory:"

    def list(self, prefix):
        found = super().list(prefix)
        self._happen(f"list {prefix.split('/')[0]}")
        return found

    def delete(self, keys):
        keys = list(keys)
        self._happen(f"delete {keys[0].split('/')[0]}")
        super().delete(keys)

    def _happen(self, request):
        if request == self.at:
            self.at = ""
            self.then()


class Interrupted(Life):
    """A machine whose last push put its blocks, long ago, and no image."""

    def __init__(self, path):
        super().__init__(path)
        self.bucket = self.remote.bucket.inner = Meanwhile()

    def interrupt(self):
        self.append(insert("put and not named"))
        Dated.now = self.now
        put, self.bucket.put = self.bucket.put, self._put_blocks
        assert self.push().status == "failed"
        self.bucket.put = put
        self.later(3)
        Dated.now = self.now
        self.bucket.put("data/ann/wal-20250707.log/0-1-" + "ab" * 32, b"x")  # by which the bucket tells the time

    def _put_blocks(self, key, data):
        if key.startswith("images/"):
            raise RemoteRefused("not now")
        Dated.put(self.bucket, key, data)

    def again(self):
        """The push that was cut off, made again: the same blocks, and the image."""
        Dated.now = self.now
        self.pushed = self.push()
        assert self.pushed.status == "pushed" and self.pushed.blocks


@pytest.fixture
def interrupted(tmp_path):
    made = Interrupted(tmp_path / "store")
    for step in range(5):
        made.step(step)
    made.interrupt()
    return made


def retained(site, **options):
    (user,) = Site(site.path, site.bucket, now=site.now).remote.retain("ann", **options).users
    return user


@pytest.mark.parametrize("at", ["list data", "list images", "delete images"])
def test_a_push_that_ends_while_a_retention_is_at_work_loses_nothing(interrupted, tmp_path, at):
    """It puts blocks again that were old and named by none, and an image that names them."""
    site = interrupted
    assert retained(site, days=0).gone_blocks
    site.bucket.at, site.bucket.then = at, site.again
    user = retained(site, days=0, apply=True)
    assert site.bucket.at == "" and not user.error
    assert restorable(site.bucket, tmp_path / "restored") == site.state()
    assert site.prove().outcome == "proved"


def test_a_retention_beside_which_somebody_pushes_all_the_time_deletes_nothing(interrupted):
    site, puts = interrupted, []

    def push():
        puts.append(1)
        site.append(insert(f"more {len(puts)}"))
        site.again()
        site.bucket.at = "list images"

    site.again()
    site.bucket.at, site.bucket.then = "list images", push
    before = set(site.bucket._held)
    user = retained(site, days=0, apply=True)
    site.bucket.at = ""
    assert "it is being pushed, and nothing was deleted" in user.error and "when that push is over" in user.hint
    assert before <= set(site.bucket._held) and len(puts) >= 3


def test_a_block_that_was_put_again_since_it_was_listed_stays(interrupted):
    """Whether an image names it or not: one may be on its way."""
    site = interrupted
    doomed = {one.key for one in site.bucket.list("data/ann/") if "/0-1-" not in one.key} - _named(site)
    planned = retained(site, days=0)
    assert doomed and planned.gone_blocks >= len(doomed)

    def put_again():
        Dated.now = site.now
        for key in doomed:
            site.bucket.put(key, site.bucket.get(key))

    site.bucket.at, site.bucket.then = "delete images", put_again
    done = retained(site, days=0, apply=True)
    assert doomed <= set(site.bucket._held)
    assert done.gone_blocks == planned.gone_blocks - len(doomed) and not done.error


def _named(site):
    keys = list_images(site.remote.bucket, "ann")["ann"].keys
    return {name for key in keys for name in get_image(site.remote.bucket, key).blocks()}


def test_images_are_read_a_few_at_a_time(site, monkeypatch):
    """Two gets wait for each other: one at a time they would wait in vain."""
    both, get = Barrier(2, timeout=20), Dated.get
    first = iter([True, True])

    def waiting(self, key):
        if key.startswith("images/") and next(first, False):
            both.wait()
        return get(self, key)

    monkeypatch.setattr(Dated, "get", waiting)
    site.retain()
    assert not both.broken
