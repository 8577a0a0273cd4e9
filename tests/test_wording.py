"""Counts, sizes and spans as people read them."""

from meshlab.wording import counted, size_text, span_text


def test_sizes_and_spans():
    assert [size_text(count) for count in (0, 999, 1000, 999_999, 25e9)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.0 MB",
        "25 GB",
    ]
    assert [span_text(seconds) for seconds in (0.25, 12, 90, 7200)] == ["0.25 s", "12 s", "1.5 m", "2 h"]


def test_one_of_something_is_not_many():
    assert [counted(count, "memory", "memories") for count in (0, 1, 1200)] == [
        "0 memories",
        "1 memory",
        "1,200 memories",
    ]
