"""Which blocks stay: few of them, and each byte put a few times, however a file grows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlab.remote import blocks
from meshlab.remote.blocks import FAN, cuts, requests_for, staying
from meshlab.remote.image import BLOCK, Block


def grown(sizes):
    """A file that grows by these sizes, pushed each time: its blocks, and the bytes put in all."""
    held, stop, put = [], 0, 0
    for size in sizes:
        stop += size
        kept = staying(held, stop)
        start = kept[-1].stop if kept else 0
        held = kept + [Block(low, high, b"") for low, high in cuts(start, stop)]
        put += stop - start
        assert [block.start for block in held] == [0, *[block.stop for block in held[:-1]]]
        assert held[-1].stop == stop
    return held, put


@settings(max_examples=30)
@given(st.lists(st.integers(1, 3 * BLOCK), min_size=1, max_size=80), st.integers(1, 4))
def test_blocks_have_no_gaps_and_are_few(sizes, scale):
    held, put = grown([-(-size // 10**scale) for size in sizes])
    total = held[-1].stop
    assert len(held) <= total // BLOCK + 1 + (FAN - 1) * 6
    assert max(block.nbytes for block in held) <= BLOCK
    assert put <= 6 * total


def test_a_log_that_is_pushed_every_minute_of_a_day_is_put_about_four_times():
    for size in (300, 5_000, 100_000):
        held, put = grown([size] * 1440)
        total = held[-1].stop
        print(f"{size} bytes a minute: {len(held)} blocks, {put / total:.1f} times the bytes")
        assert put <= 4.5 * total
        assert len(held) <= total / BLOCK + 28


def test_without_merging_there_is_a_block_for_every_push(monkeypatch):
    """The twin: it is the merging that keeps them few."""
    monkeypatch.setattr(blocks, "FAN", 10**9)
    held, put = grown([5_000] * 200)
    assert (len(held), put) == (200, held[-1].stop)


def test_a_file_that_has_not_grown_keeps_its_blocks():
    held, _ = grown([5, 5, 5])
    assert staying(held, 15) == held
    assert requests_for(0) == 0 and requests_for(1) == 1 and requests_for(BLOCK + 1) == 2
