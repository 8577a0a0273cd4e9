"""Figures of logs: one function per module, each ``plot_<what>(data, selection, options) -> Plot``.

Colours are Okabe and Ito's, told apart by colour-blind readers too; lines carry their
names; axes carry units.  Nothing here needs a display or touches ``matplotlib.pyplot``.
"""
