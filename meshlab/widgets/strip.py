"""A figure over time with a line at one moment, which can be moved without drawing the figure again.

>>> import pyarrow as pa
>>> from meshlab.plots.plot import Plot, new_axes
>>> figure, axes = new_axes("events")
>>> _ = axes.plot([0, 1], [0, 1])
>>> Strip(Plot(figure, pa.table({}), "")).at(43_200_000_000)[:4]
b'\\x89PNG'
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.dates import date2num
from PIL import Image

from meshlab.plots.plot import COLOURS, DPI, Plot

_COLOUR = [round(255 * part) for part in to_rgb(COLOURS[3])]
_LAST = 255
"""The place in the palette of the colour of the line."""

_WIDTH = 2
"""Pixels."""


class Strip:
    """The pixels of a figure whose x axis is time, in at most 256 colours: these are written four times as fast."""

    def __init__(self, plot: Plot) -> None:
        plot.figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(plot.figure)
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        picture = picture.quantize(_LAST, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        self._palette = [*(picture.getpalette() or []), *[0] * 3 * _LAST][: 3 * _LAST] + _COLOUR
        self._pixels = np.asarray(picture)
        self._axes = plot.figure.axes[0]

    def at(self, moment: int | None) -> bytes:
        """The figure with a line at a moment (µs), or at the edge it lies beyond, as PNG; None: without a line."""
        pixels = self._pixels.copy()
        if moment is not None:
            box = self._axes.bbox
            x = self._axes.transData.transform((date2num(np.datetime64(moment, "us")), 0))[0]
            left = int(np.clip(x, box.x0, box.x1 - _WIDTH))
            pixels[len(pixels) - int(box.y1) : len(pixels) - int(box.y0), left : left + _WIDTH] = _LAST
        picture = Image.fromarray(pixels)
        picture.putpalette(self._palette)
        buffer = BytesIO()
        picture.save(buffer, "png", compress_level=1)
        return buffer.getvalue()
