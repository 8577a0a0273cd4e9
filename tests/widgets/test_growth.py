"""The dashboard tells of the users and days that are picked, and runs the simulation for the policy of its sliders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import meshlab
from meshlab.growth.policies import Policy
from meshlab.testing import build_log
from meshlab.widgets.growth import GrowthDashboard

from .conftest import DAYS, story

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
USERS = ("esi", "farid")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("growth")
    for uid in USERS:
        shutil.copytree(SAMPLES / "store" / uid, path / uid)
    return meshlab.open(path)


@pytest.fixture(scope="module")
def made(store):
    return GrowthDashboard(store)


@pytest.fixture
def dashboard(made):
    """One dashboard for all tests, with everything picked."""
    made.users.value, made.by.value = USERS, "op"
    made.days.value = made.days.options[0], made.days.options[-1]
    return made


def files_of(store, *uids, days=slice(None)):
    return sum(path.stat().st_size for uid in uids for path in sorted(store[uid].root.glob("wal-*.log"))[days])


def test_it_begins_with_everything(dashboard, store):
    assert repr(dashboard) == "<GrowthDashboard of 2 users: 167 kB in 10 days>"
    assert files_of(store, *USERS) == 167_474
    assert "167&nbsp;kB" in dashboard.told["attribution"].value
    assert all(figure.value[:4] == b"\x89PNG" for figure in dashboard.figures.values())
    assert dashboard.message.value == ""
    assert dashboard.to_png() == dashboard.figures["attribution"].value


def test_users_and_days_that_are_picked_are_those_told_of(dashboard, store):
    dashboard.users.value = ["farid"]
    assert "71&nbsp;kB" in dashboard.told["attribution"].value
    assert "71&nbsp;kB on disk now" in dashboard.told["forecast"].value
    dashboard.days.value = ("20250702", "20250704")
    part = files_of(store, "farid", days=slice(1, 4))
    assert f"{part / 1000:.0f}&nbsp;kB" in dashboard.told["attribution"].value
    assert "71&nbsp;kB on disk now" in dashboard.told["forecast"].value
    dashboard.users.value = USERS
    assert dashboard.days.value == ("20250702", "20250704"), "days that are picked stay so"
    assert dashboard.days.options[-1] == "20250710"


def test_of_many_users_it_begins_with_those_of_the_largest_logs(tmp_path):
    store = meshlab.open(tmp_path)
    for number in range(25):
        frames = [[{"Insert": {"id": str(event)}}] for event in range(1 + number * 7 % 25)]
        build_log(frames, per_day=9).write(store[f"u{number:02}"].root)
    dashboard = GrowthDashboard(store)
    sizes = sorted(((files_of(store, uid), uid) for uid in store.users()), reverse=True)
    assert sorted(dashboard.users.value) == sorted(uid for _, uid in sizes[:20])
    assert "20 of 25 users chosen" in dashboard.who.value
    dashboard.users.value = ["u03"]
    assert "1 of 25 users chosen" in dashboard.who.value


def test_bytes_are_put_down_to_any_key(dashboard, store):
    for key in ("user", "day", "hour", "dialect", "field"):
        dashboard.by.value = key
        assert f"By {key}</b>: <span>167&nbsp;kB" in dashboard.told["attribution"].value
        assert dashboard.figures["attribution"].value[:4] == b"\x89PNG"
        assert dashboard.message.value == ""


def test_the_limit_moves_the_forecast(dashboard):
    dashboard.limit.value = 1e6
    assert "1.0&nbsp;MB in" in dashboard.told["forecast"].value


def test_the_sliders_of_the_policy_redraw_the_simulation(dashboard, store):
    before = dashboard.figures["simulation"].value
    dashboard.bytes.value = 2e4
    dashboard.age.value = 48
    policy = Policy(bytes=20_000, age=48 * 3600.0)
    assert f"{policy} checkpoints" in dashboard.told["simulation"].value
    row = store.growth(progress=False).simulate([policy]).table.to_pylist()[0]
    assert f"checkpoints {row['checkpoints_per_day']:.2g} times a day" in dashboard.told["simulation"].value
    assert dashboard.figures["simulation"].value != before


def test_nobody_picked_is_told(dashboard):
    dashboard.users.value = []
    assert "choose a user" in dashboard.message.value
    assert [figure.value for figure in dashboard.figures.values()] == [b""] * 3
    dashboard.users.value = USERS
    assert dashboard.message.value == ""
    assert all(figure.value for figure in dashboard.figures.values())
    dashboard.users.value = ["esi"]
    assert dashboard.message.value == ""


def test_a_store_without_events_is_told(user):
    user.root.mkdir(parents=True)
    assert "no events" in GrowthDashboard(user.store).message.value


def test_a_store_that_is_not_there_or_vanishes_is_a_message(user):
    assert "does not exist" in GrowthDashboard(user.store).message.value
    story(user.root)
    dashboard = GrowthDashboard(user.store)
    shutil.rmtree(user.store.path)
    dashboard.by.value = "field"
    assert "does not exist" in dashboard.message.value
    dashboard.read()
    assert "does not exist" in dashboard.message.value


def test_a_damaged_log_is_shown_as_it_is(user):
    path = next(story(user.root).glob("*.log"))
    path.write_bytes(path.read_bytes() + b"<script>no event\n")
    dashboard = GrowthDashboard(user.store)
    assert dashboard.message.value == ""
    assert "<script" not in "".join(part.value for part in dashboard.told.values())


def test_a_user_that_cannot_be_read_is_told_of_and_takes_nobody_along(tmp_path):
    store = meshlab.open(tmp_path / "store")
    story(store["ann"].root)
    (story(store["bob"].root) / f"wal-{DAYS[0]}.log").unlink()
    (store["bob"].root / f"wal-{DAYS[0]}.log").mkdir()
    dashboard = GrowthDashboard(store)
    assert "bob: " in dashboard.message.value
    assert repr(dashboard).startswith("<GrowthDashboard of 1 user: ")
    assert all(figure.value for figure in dashboard.figures.values())
    dashboard.users.value = ["ann"]
    assert dashboard.message.value == ""


def test_read_again_it_shows_what_is_there_and_no_message_of_before(tmp_path):
    store = meshlab.open(tmp_path / "store")
    story(store["ann"].root)
    dashboard = GrowthDashboard(store)
    store.path.rename(tmp_path / "away")
    dashboard.by.value = "user"
    assert "does not exist" in dashboard.message.value
    dashboard.again.click()
    assert "does not exist" in dashboard.message.value
    assert [figure.value for figure in dashboard.figures.values()] == [b""] * 3
    (tmp_path / "away").rename(store.path)
    dashboard.again.click()
    assert dashboard.message.value == ""
    assert all(figure.value for figure in dashboard.figures.values())
