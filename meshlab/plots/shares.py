"""Shares of the bytes, by op, dialect, id or field.

>>> from meshlab.growth.attribution import attribute
>>> from meshlab.testing.rates import Rates, totals_of
>>> plot_shares(attribute(totals_of(Rates(users=1, days=2), seed=1), "op")).data["key"].to_pylist()
['insert', 'update', 'delete']
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meshlab.growth.attribution import DELETED, ENVELOPE, NO_HOUR, NO_ID, Attribution
from meshlab.growth.ledger import NO_EVENT
from meshlab.plots.plot import COLOURS, GREY, Plot, new_axes, plain, say, unit_of
from meshlab.tables.totals import BLANKS, OPEN_TAIL, REJECTS
from meshlab.wording import size_text

NO_KEYS = frozenset((ENVELOPE, NO_ID, NO_HOUR, DELETED, REJECTS, BLANKS, OPEN_TAIL, NO_EVENT))
"""Rows that are no op, dialect, id or field: they are grey."""


def plot_shares(attribution: Attribution, most: int = 15) -> Plot:
    """Horizontal bars, the largest first, with the share of all bytes on disk behind each.

    Beyond ``most`` all others are one bar.  Light bars are what vacuum deleted.  ``data``
    is in ``ATTRIBUTION_SCHEMA``.  Raises ``MeshlabError`` when ``most`` is below 1.
    """
    data = attribution.top(most).table
    figure, axes = new_axes(attribution.by)
    texts = [f"{size_text(row['bytes'])}  {percent(row['share'])}" for row in data.to_pylist()]
    draw_bars(axes, data, texts)
    return Plot(figure, data, f"{size_text(attribution.bytes)} on disk, by {attribution.by}")


def percent(share: float) -> str:
    """A share in words.

    >>> percent(0.256), percent(0.0004), percent(0)
    ('26 %', '< 0.1 %', '0 %')
    """
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{share:.1%}".replace("%", " %") if 0 < share < 0.1 else f"{share:.0%}".replace("%", " %")


def draw_bars(axes: Any, data: pa.Table, texts: list[str]) -> None:
    """A bar for each row of an attribution, from above, with its text behind it.

    The x axis ends at the largest bar.  Where all others together are much more than any
    row with a name, their bar is cut, which is drawn and said.
    """
    axes.figure.set_figheight(max(1.6, 0.9 + 0.28 * data.num_rows))
    kept, gone = data["bytes"].to_numpy(), data["deleted_bytes"].to_numpy()
    texts = [f"{text}, and {size_text(size)} deleted" if size else text for text, size in zip(texts, gone.tolist())]
    end, cut = _end(data)
    divisor, unit = unit_of(end, 1000)
    scale = np.where(kept + gone > end, end / np.maximum(kept + gone, 1), 1.0) / divisor
    _draw(axes, data, kept * scale, gone * scale)
    for place, (text, tip) in enumerate(zip(texts, (kept + gone) * scale)):
        axes.annotate(text, (tip, place), xytext=(5, 0), annotation_clip=False, **_BEHIND)
    if cut:
        _cut(axes, data.num_rows - 1)
        axes.texts[-1].set_text(f"{texts[-1]} (bar is cut)")
    axes.set_xlim(0, 1.01 * end / divisor or 1)
    axes.set_xlabel(f"size ({unit})")
    if not data.num_rows:
        say(axes, "nothing is on disk")


_BEHIND: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 9}
_MUCH, _CUT = 1.5, 1.1
"""How many times the largest bar with a name that of all others may be, and is drawn as when it is more."""


def _end(data: pa.Table) -> tuple[float, bool]:
    """The bytes that the longest bar stands for, and whether that of all others is cut there."""
    size = pc.add(data["bytes"], data["deleted_bytes"]).to_numpy()
    largest = float(size.max(initial=0))
    if data.num_rows < 2 or not is_rest(data, data.num_rows - 1):
        return largest, False
    named = float(size[:-1].max())
    return (_CUT * named, True) if named and size[-1] > _MUCH * named else (largest, False)


def _cut(axes: Any, place: int) -> None:
    """A gap through a bar, near its end."""
    style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "color": "white", "linewidth": 3}
    for x in (0.93, 0.95):
        axes.plot([x - 0.005, x + 0.005], [place + 0.45, place - 0.45], **style)


def _draw(axes: Any, data: pa.Table, kept: Any, gone: Any) -> None:
    """The bars themselves, of what is there and of what was deleted, and their names."""
    keys = data["key"].to_pylist()
    colours = [GREY if key in NO_KEYS or is_rest(data, place) else COLOURS[0] for place, key in enumerate(keys)]
    places = np.arange(len(keys))
    axes.barh(places, kept, height=0.7, color=colours)
    if gone.any():
        pale = [(colour, 0.25) for colour in colours]
        bars = axes.barh(places, gone, left=kept, height=0.7, color=pale, label="deleted by vacuum")
        for bar, colour in zip(bars, colours):
            bar.set(edgecolor=colour, linewidth=0.6 if bar.get_width() else 0)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize=9, frameon=False, borderaxespad=0)
    axes.set_yticks(places, [plain(key) for key in keys])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)


def is_rest(data: pa.Table, place: int) -> bool:
    """Whether a row is the sum of all others: the last, with a name of its own."""
    last = place == data.num_rows - 1
    return last and bool(pc.match_substring_regex(data["key"][place], r"^\([\d,]+ others\)$").as_py())
