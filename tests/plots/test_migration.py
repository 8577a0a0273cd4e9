"""The figure of a migration holds the numbers it was given, longest user first."""

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


def test_users_stand_longest_first_with_their_bytes_and_seconds():
    plot = plot_migration(report(3))
    assert plot.data["uid"].to_pylist()[0] == "user-0002-with-a-long-name"
    assert plot.data["seconds"].to_pylist() == sorted(plot.data["seconds"].to_pylist(), reverse=True)
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
    assert none.data.num_rows == 0
    assert none.to_png().startswith(PNG)
