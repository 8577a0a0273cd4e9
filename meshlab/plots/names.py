"""Names beside points, where they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

FONT = 9
_NEAR, _FAR = 1.0, 3.5
"""How far from its point a name is tried; from afar a line leads to it."""

_SIDES = ((9, 3), (-9, -3), (9, -3), (-9, 3), (0, 9), (0, -9))
"""Where a name is tried, in points (1/72 inch) from its own."""

_AIR = 5.0
"""Pixels around a name that are free of points."""


class Name(NamedTuple):
    """What stands beside a point of the data, and how."""

    at: tuple[float, float]
    text: str
    style: dict[str, Any]


def place_names(
    axes: Axes, names: Sequence[Name], points: Sequence[tuple[float, float]], *, most: int, needed: int = 0
) -> None:
    """Write up to ``most`` names beside their points, the most important first.

    A name without a place is left out, unless it is one of the first ``needed``.  Call it
    when all else is drawn.
    """
    figure: Any = axes.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")  # names take no room: what was laid out stays
    dots = axes.transData.transform(np.array(points, float))
    taken: list[Bbox] = []
    for number, name in enumerate(names):
        if len(taken) == most:
            return
        size = _size(axes, name, renderer)
        for distance, side in product((_NEAR, _FAR) if number < needed else (_NEAR,), _SIDES):
            offset = (distance * side[0], distance * side[1])
            box = _box(axes.transData.transform(name.at), offset, size, figure.dpi / 72)
            if _is_free(box, axes.bbox, dots, taken):
                break
        else:
            if number >= needed:
                continue
            offset, distance = _SIDES[0], _NEAR
        _write(axes, name, offset, distance == _FAR)
        taken.append(box)


def _size(axes: Axes, name: Name, renderer: Any) -> tuple[float, float]:
    """Width and height of a name, in pixels."""
    text = axes.text(0, 0, name.text, transform=None, fontsize=FONT, **name.style)
    box = text.get_window_extent(renderer)
    text.remove()
    return box.width, box.height


def _box(point: Any, offset: tuple[float, float], size: tuple[float, float], scale: float) -> Bbox:
    """The pixels of a name so far from a point: to its right or left or in the middle, above or below."""
    x, y = point[0] + offset[0] * scale, point[1] + offset[1] * scale
    left = x - size[0] * {1: 0.0, 0: 0.5, -1: 1.0}[int(np.sign(offset[0]))]
    low = y if offset[1] > 0 else y - size[1]
    return Bbox.from_bounds(left, low, *size)


def _is_free(box: Bbox, frame: Any, dots: Any, taken: Sequence[Bbox]) -> bool:
    """Whether a name lies in the axes, over no point and no other name."""
    inside = box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
    wide = box.padded(_AIR)
    covered = ((dots > wide.min) & (dots < wide.max)).all(axis=1)
    return inside and not covered.any() and not any(box.padded(3).overlaps(other) for other in taken)


def _write(axes: Axes, name: Name, offset: tuple[float, float], led: bool) -> None:
    line = {"arrowstyle": "-", "linewidth": 0.6, "color": name.style.get("color"), "shrinkA": 0, "shrinkB": 7}
    axes.annotate(
        name.text,
        name.at,
        xytext=offset,
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[int(np.sign(offset[0]))],
        va="bottom" if offset[1] > 0 else "top",
        fontsize=FONT,
        in_layout=False,
        arrowprops=line if led else None,
        **name.style,
    )
