"""Whose bytes they are.

>>> from meshlab.growth.attribution import attribute
>>> from meshlab.testing.rates import Rates, totals_of
>>> plot_growth_users(attribute(totals_of(Rates(users=3, days=2), seed=1), "user"), most=1).data["key"].to_pylist()
['user-0001', '(2 others)']
"""

from __future__ import annotations

from meshlab.growth.attribution import Attribution
from meshlab.plots.plot import Plot, new_axes
from meshlab.plots.shares import draw_bars, is_rest, percent
from meshlab.wording import size_text


def plot_growth_users(attribution: Attribution, most: int = 10) -> Plot:
    """Horizontal bars by user, the largest first, with their share and that of them and all above.

    That of all others has no need of it.  Otherwise as
    ``plots.shares``.  Raises ``MeshlabError`` when ``most`` is below 1.
    """
    data = attribution.top(most).table
    figure, axes = new_axes("user")
    texts = [
        f"{size_text(row['bytes'])}  {percent(row['share'])}"
        + (f", together {percent(row['cumulative'])}" if at and not is_rest(data, at) else "")
        for at, row in enumerate(data.to_pylist())
    ]
    draw_bars(axes, data, texts)
    return Plot(figure, data, f"{size_text(attribution.bytes)} on disk, by user")
