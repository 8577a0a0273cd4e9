"""What is in the bucket, and what is not in it yet."""

import msgspec
import pytest

from meshlab.errors import NotFound
from meshlab.remote.bucket import MemoryBucket
from meshlab.remote.line import get_image, list_images
from meshlab.remote.windows import windows_of
from meshlab.times import from_datetime
from scoreboard.sites import DAY, NOON, Site, grow, insert, update


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path / "store", MemoryBucket())
    made.append(insert("m1"))
    return made


def standing(site, uid="ann"):
    (user,) = site.remote.status(uid).users
    return user


def test_the_lag_is_what_losing_the_disk_would_lose(site):
    assert standing(site).lag_bytes == (site.root / "wal-20250707.log").stat().st_size
    site.push()
    told = standing(site)
    assert (told.images, told.lag_bytes, told.lag_seconds, told.seq) == (1, 0, 0.0, 1)
    before = (site.root / "wal-20250707.log").stat().st_size
    pushed_at = site.now
    site.append(update("m1", amplitude=0.5))
    site.now += 90_000_000
    told = standing(site)
    assert told.lag_bytes == (site.root / "wal-20250707.log").stat().st_size - before
    assert told.lag_seconds == (site.now - pushed_at) / 1e6


def test_users_who_are_only_here_or_only_there_are_listed(site, tmp_path):
    site.push()
    other = Site(tmp_path / "other", site.remote.bucket.inner)
    other.append(insert("m1"), uid="bob")
    users = {user.uid: user for user in other.remote.status().users}
    assert (users["ann"].images, users["ann"].lag_bytes) == (1, None)
    assert (users["bob"].images, users["bob"].lag_bytes > 0) == (0, True)


def test_the_status_of_known_users_costs_two_requests(site):
    for number in range(20):
        site.append(insert("m1"), uid=f"u{number}")
    site.remote.push(progress=False)
    assert site.remote.status().traffic.requests == 2


def test_windows_of_the_bucket_reach_as_far_back_as_its_images(tmp_path):
    site = Site(tmp_path / "store", MemoryBucket())
    for step in range(9):
        grow(site, step)
        site.push()
    windows = site.remote.windows("ann")
    assert windows[0].start is None
    assert from_datetime(windows[-1].end) == site.now
    assert len({window.image for window in windows}) < len(list(site.remote.bucket.list("images/")))
    only_newest = Site(tmp_path / "store", MemoryBucket(), now=site.now)
    only_newest.push()
    (window,) = only_newest.remote.windows("ann")
    assert window.start is not None and "deleted by vacuum" in window.hole_before


def test_a_layer_that_is_not_in_the_bucket_is_a_hole_with_a_reason(site):
    site.checkpoint()
    site.push()
    (key,) = list_images(site.remote.bucket)["ann"].keys
    image = get_image(site.remote.bucket, key)
    files = [file for file in image.files if not file.name.startswith("layers/")]
    window = windows_of(site.remote.bucket, key, msgspec.structs.replace(image, files=files))
    assert window and 1 not in window[0].generations
    logless = [file for file in image.files if file.day is None]
    (window,) = windows_of(site.remote.bucket, key, msgspec.structs.replace(image, files=logless))
    assert "is not in the bucket" in window.hole_before


def test_nobody_has_no_windows(site):
    with pytest.raises(NotFound, match="not in the bucket"):
        site.remote.windows("nobody")


def test_moments_are_told_by_the_clock_of_the_machine_or_the_newest_event(site):
    site.now = NOON + 30 * DAY
    site.push()
    (window,) = site.remote.windows("ann")
    assert from_datetime(window.end) == NOON + 30 * DAY
