"""The figure of checkpoints shows the bytes their reports tell."""

import pytest

import meshlab
from meshlab.plots.checkpoints import plot_checkpoints
from meshlab.testing import build_log


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    user = meshlab.open(tmp_path_factory.mktemp("store"))["ann"]
    build_log([[{"Insert": {"id": "a", "content": "x" * 3000}}]]).write(user.root)
    return user.checkpoint(progress=False)


def is_png(plot):
    return plot.to_png().startswith(b"\x89PNG")


def names(plot):
    return [text.get_text() for text in plot.figure.axes[0].get_legend().get_texts()]


def test_the_numbers_are_those_of_the_reports(report):
    (row,) = plot_checkpoints([report], rewrites=[12345]).data.to_pylist()
    assert row == {
        "generation": 1,
        "events": 1,
        "folded": report.bytes_folded,
        "change": report.bytes_of_change,
        "merged": report.bytes_merged,
        "saved": report.bytes_saved,
        "rewrite": 12345,
    }


def test_change_and_merged_are_what_was_written(report):
    (row,) = plot_checkpoints([report]).data.to_pylist()
    assert row["change"] + row["merged"] == report.bytes_written


def test_without_rewrites_there_are_two_bars_a_checkpoint(report):
    plot = plot_checkpoints([report, report])
    assert plot.data["rewrite"].null_count == 2
    assert names(plot) == ["log folded", "written"]
    assert len(plot.figure.axes[0].patches) == 4


def test_merging_stands_on_top_of_what_was_new(report):
    merging = report._replace(bytes_merged=5000, bytes_written=report.bytes_of_change + 5000)
    plot = plot_checkpoints([report, merging], rewrites=[9000, 9000])
    assert names(plot) == ["log folded", "written", "written, merging older layers", "whole snapshot, written anew"]
    hatched = [bar for bar in plot.figure.axes[0].patches if bar.get_hatch() and bar.get_height()]
    assert [bar.get_y() * 1024 for bar in hatched] == [report.bytes_of_change]
    assert is_png(plot)


@pytest.mark.parametrize(
    "size, unit", [(900, "bytes"), (3 << 10, "KiB"), (3 << 20, "MiB"), (3 << 30, "GiB"), (3 << 40, "TiB")]
)
def test_the_axis_names_the_unit(report, size, unit):
    small = report._replace(bytes_folded=size, bytes_of_change=10, bytes_merged=0)
    axes = plot_checkpoints([small], rewrites=[20]).figure.axes[0]
    assert axes.get_ylabel() == f"size ({unit})"
    assert axes.get_xlabel() == "checkpoint (number)"


def test_many_checkpoints_have_fewer_names_than_bars(report):
    plot = plot_checkpoints([report._replace(generation=number) for number in range(1, 101)])
    assert len(plot.figure.axes[0].get_xticks()) <= 12
    assert is_png(plot)


def test_nothing_written_and_no_checkpoint_can_be_drawn(report):
    empty = report._replace(bytes_folded=0, bytes_of_change=0, bytes_merged=0)
    assert is_png(plot_checkpoints([empty]))
    assert is_png(plot_checkpoints([]))


def test_rewrites_are_one_for_each_report(report):
    with pytest.raises(ValueError, match="shorter"):
        plot_checkpoints([report], rewrites=[])
