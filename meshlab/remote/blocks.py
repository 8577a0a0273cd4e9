"""Which blocks of a file stay, and which are put anew.

>>> blocks = [Block(at * 1000, at * 1000 + 1000, bytes(32)) for at in range(7)]
>>> [len(staying(blocks[:count], count * 1000 + 1000)) for count in (5, 6, 7)]
[5, 6, 0]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshlab.remote.image import BLOCK, Block

FAN = 8
"""Blocks of one size at the end of a file that are put anew as one."""

_SMALLEST = 4 << 10
"""Bytes up to which blocks count as of one size."""


def staying(blocks: Sequence[Block], stop: int) -> list[Block]:
    """The blocks that stay when a file has grown to ``stop`` bytes; what is behind them is put.

    All, unless what is new makes ``FAN`` blocks with those at the end that are no larger.
    Full blocks always stay, so a byte is put once per size its block passes through.
    """
    end = blocks[-1].stop if blocks else 0
    if stop <= end:
        return list(blocks)
    start, size = len(blocks), stop - end
    while start - (low := _first_of_size(blocks[:start], size)) + 1 >= FAN:
        start, size = low, stop - blocks[low].start
    return list(blocks[:start])


def _first_of_size(blocks: Sequence[Block], size: int) -> int:
    """Where the blocks at the end begin that are no larger than of one size."""
    low = len(blocks)
    while low and _size(blocks[low - 1].nbytes) <= _size(size) and blocks[low - 1].nbytes < BLOCK:
        low -= 1
    return low


def cuts(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The bytes between two places as those of blocks.

    >>> list(cuts(5, BLOCK + 7))
    [(5, 8388613), (8388613, 8388615)]
    """
    for at in range(start, stop, BLOCK):
        yield at, min(at + BLOCK, stop)


def requests_for(nbytes: int) -> int:
    """How many blocks so many bytes make."""
    return -(-nbytes // BLOCK)


def _size(nbytes: int) -> int:
    """The class of size of a block: each is eight times as large as the one before."""
    size, bound = 0, _SMALLEST
    while nbytes > bound:
        size, bound = size + 1, bound * FAN
    return size
