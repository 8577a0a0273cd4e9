"""The scoreboard: every promise of the log as a figure anyone can reproduce.

``python -m scoreboard`` (or ``make scoreboard``) runs every row with a count and a seed,
and then the row's *control*, the same run over a twin that is broken on purpose: a check
that a broken twin passes proves nothing.  It prints a table, writes ``docs/scoreboard.md``
and exits with 1 when a row fails or a control does not.

``row``       a row, what came of it, and how failures are gathered
``board``     all rows, run in processes of their own
``page``      the table, the Markdown
``twins``     disks, locks and readers that are broken on purpose
``sampling``  how much the tests try
One module per promise: ``kills`` ``commands`` ``power`` ``points`` ``cuts`` ``flips`` ``frames``
``crowd`` ``clocks`` ``uids`` ``requests`` ``outages`` ``histories``.  And the scenes they
play in, which the tests share: ``stories`` (one user and its checkpoints), ``scenes``
(migrations), ``sites`` (machines and buckets), ``gate`` and ``hostile`` (the gateway).
"""
