"""Names beside points, where they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

_FONT = 9
_NEAR, _FAR = 9, 30
"""Points between a point and its name; from the farther ones a line leads to it."""

_SIDES = ((1, 0.3), (1, -1), (1, 1), (-1, 0.3), (-1, -1), (-1, 1), (0, 1), (0, -1))
"""Where a name is tried, from its point."""

_DOT = 5.0
"""Half the width of a point, in pixels, with some air."""


def place_names(
    axes: Axes,
    names: Sequence[tuple[float, float, str, dict[str, Any]]],
    points: Sequence[tuple[float, float]],
    *,
    most: int,
    needed: int = 0,
) -> None:
    """Write up to ``most`` names, given as (x, y, text, style) by importance, beside their points.

    A name without a place is left out, unless it is one of the first ``needed``.  Call it
    when all else is drawn.
    """
    canvas = FigureCanvasAgg(axes.figure)
    axes.figure.draw_without_rendering()
    renderer, dots = canvas.get_renderer(), axes.transData.transform(np.array(points, float))
    taken: list[Any] = []
    for number, (x, y, text, style) in enumerate(names):
        if len(taken) == most:
            break
        found = None
        for distance in (_NEAR, _FAR) if number < needed else (_NEAR,):
            for side in _SIDES:
                label = _annotate(axes, (x, y), text, side, distance, style)
                box = label.get_window_extent(renderer)
                if _is_free(box, axes.bbox, dots, taken):
                    found = box
                    break
                label.remove()
            if found is not None:
                break
        if found is None and number < needed:
            found = _annotate(axes, (x, y), text, _SIDES[0], _NEAR, style).get_window_extent(renderer)
        if found is not None:
            taken.append(found)


def _annotate(
    axes: Axes, at: tuple[float, float], text: str, side: tuple[float, float], distance: float, style: dict[str, Any]
) -> Any:
    across, up = side
    line = {"arrowstyle": "-", "linewidth": 0.6, "color": style["color"], "shrinkA": 0, "shrinkB": 7}
    return axes.annotate(
        text,
        at,
        xytext=(distance * across, distance * up),
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[int(across)],
        va="center" if abs(up) < 1 else "bottom" if up > 0 else "top",
        fontsize=_FONT,
        in_layout=False,
        arrowprops=line if distance == _FAR else None,
        **style,
    )


def _is_free(box: Any, frame: Any, dots: Any, taken: list[Any]) -> bool:
    """Whether a name lies in the axes, over no point and no other name."""
    inside = box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
    wide = Bbox.from_extents(box.x0 - _DOT, box.y0 - _DOT, box.x1 + _DOT, box.y1 + _DOT)
    covers = (dots[:, 0] > wide.x0) & (dots[:, 0] < wide.x1) & (dots[:, 1] > wide.y0) & (dots[:, 1] < wide.y1)
    return inside and not covers.any() and not any(wide.overlaps(other) for other in taken)
