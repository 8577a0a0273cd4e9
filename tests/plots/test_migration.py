"""The figure of a migration holds the numbers it was given, users in order of their ids."""

import pyarrow as pa

from meshlab.plots.migration import plot_migration

PNG = b"\x89PNG"


def report(count):
    return pa.table(
        {
            "uid": [f"user-{number:04d}-with-a-long-name" for number in range(count)],
            "bytes_read": [1_000_000 * (number + 1) for number in range(count)],
            "bytes_written": [500_000 * (number + 1) for number in range(count)],
            "seconds": [0.1 * (number + 1) for number in range(count)],
            "error": [""] * count,
        }
    )


def test_users_stand_in_one_order_with_their_bytes_and_seconds():
    plot = plot_migration(report(3).sort_by([("uid", "descending")]))
    assert plot.data["uid"].to_pylist() == sorted(plot.data["uid"].to_pylist())
    assert [bar.get_width() for bar in plot.figure.axes[1].patches] == plot.data["seconds"].to_pylist()
    assert plot.data.column_names == ["uid", "bytes_read", "bytes_written", "seconds"]
    assert plot.to_png().startswith(PNG)


def test_axes_have_units_and_long_names_are_shortened():
    left, right = plot_migration(report(2)).figure.axes
    assert left.get_xlabel() == "read and written (MB)"
    assert right.get_xlabel() == "time (s)"
    assert [label.get_text() for label in left.get_yticklabels()] == ["user-000…name", "user-000…name"]


def test_many_users_and_none_are_drawn_too():
    many, none = plot_migration(report(200)), plot_migration(report(0))
    assert (many.data.num_rows, len(many.figure.axes[1].patches)) == (200, 20)
    assert min(bar.get_width() for bar in many.figure.axes[1].patches) == many.data["seconds"][180].as_py()
    assert many.caption.endswith("the 20 of 200 that took longest")
    assert none.data.num_rows == 0
    assert none.to_png().startswith(PNG)
