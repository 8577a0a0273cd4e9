"""The figure of windows shows what windows() says, and why there are holes."""

import pytest

import meshlab
from meshlab.errors import NotFound
from meshlab.plots.windows import DATA_SCHEMA, MOST_REASONS, plot_windows
from meshlab.testing import build_log
from meshlab.wal.paths import segment_name

DAYS = 8
BATCHES = [[{"Insert": {"id": f"m{day}", "amplitude": 0.5}}, {"Delete": f"m{day - 2}"}] for day in range(DAYS)]


@pytest.fixture
def user(tmp_path):
    """A user with a checkpoint after every second day, all but the last."""
    whole = meshlab.open(tmp_path / "whole")["ann"]
    build_log(BATCHES, per_day=1).write(whole.root)
    user = meshlab.open(tmp_path / "store")["ann"]
    user.root.mkdir(parents=True)
    for index, path in enumerate(sorted(whole.root.glob("wal-*.log"))):
        (user.root / path.name).write_bytes(path.read_bytes())
        if index % 2 and index < DAYS - 1:
            user.checkpoint(progress=False)
    return user


def days_of(user):
    return sorted(path.name[4:12] for path in user.root.glob("wal-*.log"))


def rows(plot, kind):
    return [row for row in plot.data.to_pylist() if row["kind"] == kind]


def texts(plot):
    return [text.get_text() for text in plot.figure.axes[0].texts]


def is_png(plot):
    return plot.to_png().startswith(b"\x89PNG")


def test_a_whole_log_is_one_window_without_ends(user):
    plot = plot_windows(user)
    assert rows(plot, "window") == [{"kind": "window", "start": None, "end": None, "label": "the beginning of the log"}]
    assert not rows(plot, "hole")
    assert "now" in texts(plot)
    assert plot.data.schema == DATA_SCHEMA


def test_each_checkpoint_is_a_marker_with_its_number(user):
    plot = plot_windows(user)
    marks = rows(plot, "checkpoint")
    assert [mark["label"] for mark in marks] == ["1", "2", "3"]
    assert [mark["start"] for mark in marks] == sorted(mark["start"] for mark in marks)
    assert [text for text in texts(plot) if text.isdigit()] == ["1", "2", "3"]
    assert is_png(plot)


def test_a_missing_day_is_a_hole_with_its_reason(user):
    day = days_of(user)[2]
    (user.root / segment_name(day)).unlink()
    plot = plot_windows(user)
    before, after = user.windows()
    assert rows(plot, "hole") == [
        {"kind": "hole", "start": before.end, "end": after.start, "label": f"wal-{day}.log is missing"}
    ]
    assert f"a  wal-{day}.log is missing" in texts(plot)
    assert is_png(plot)


def test_reasons_name_files_from_the_folder_of_the_user(user):
    path = user.root / "history" / "00000002.bin"
    path.write_bytes(b"nothing of the sort")
    (user.root / segment_name(days_of(user)[2])).unlink()
    (hole,) = rows(plot_windows(user), "hole")
    assert "history/00000002.bin" in hole["label"]
    assert str(user.root) not in hole["label"]


def test_a_checkpoint_nothing_is_restored_from_is_hollow(user):
    for path in (user.root / "layers").iterdir():
        path.unlink()
    for day in days_of(user)[:2]:
        (user.root / segment_name(day)).unlink()
    faces = {line.get_markerfacecolor() for line in plot_windows(user).figure.axes[0].lines if line.get_marker() == "D"}
    assert faces == {"white"}


def test_more_holes_than_fit_are_hatched_and_in_the_data(tmp_path):
    whole = meshlab.open(tmp_path / "whole")["ann"]
    count = 2 * MOST_REASONS + 4
    build_log([[{"Insert": {"id": f"m{day}"}}] for day in range(2 * count)], per_day=2).write(whole.root)
    user = meshlab.open(tmp_path / "store")["ann"]
    user.root.mkdir(parents=True)
    paths = sorted(whole.root.glob("wal-*.log"))
    for path in paths:
        (user.root / path.name).write_bytes(path.read_bytes())
        user.checkpoint(progress=False)
    for path in paths[2::2]:
        (user.root / path.name).unlink()
    plot = plot_windows(user)
    assert len(rows(plot, "hole")) > MOST_REASONS
    assert sum("is missing" in text for text in texts(plot)) == MOST_REASONS
    assert is_png(plot)


def test_a_log_without_checkpoints_and_an_empty_one_can_be_drawn(tmp_path):
    store = meshlab.open(tmp_path)
    store["ann"].append({"Insert": {"id": "a"}})
    (tmp_path / "bob").mkdir()
    for uid in ("ann", "bob"):
        plot = plot_windows(store[uid])
        assert not rows(plot, "checkpoint")
        assert is_png(plot)


def test_a_user_that_is_not_there_is_not_drawn(tmp_path):
    with pytest.raises(NotFound):
        plot_windows(meshlab.open(tmp_path)["nobody"])


def test_rows_and_axes_have_names_and_time_says_its_zone(user):
    plot = plot_windows(user)
    axes = plot.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["restorable", "checkpoints"]
    assert "UTC" in axes.get_xlabel()
    assert plot.caption in repr(plot)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_the_ends_of_the_calendar_can_be_drawn(tmp_path, day):
    user = meshlab.open(tmp_path)["ann"]
    user.root.mkdir(parents=True)
    line = f'{{"ts":"{day}T00:00:00Z","Insert":{{"id":"a"}}}}\n'
    (user.root / segment_name(day.replace("-", ""))).write_text(line)
    assert plot_windows(user).to_png().startswith(b"\x89PNG")
