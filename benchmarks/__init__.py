"""Benchmarks: meshlab beside what a user would do instead, as ratios within one run.

``python -m benchmarks`` (or ``make bench``) builds the log once under ``build/bench/``,
measures, prints a Markdown table and writes it to ``docs/benchmarks.md``.  These are
measurements, not tests: nothing here passes or fails.

``measure``   interleaved rounds and their medians
``inputs``    the log, its sealed copy, events to append
``report``    rows, verdicts, the Markdown
One module per piece of work: ``load``, ``verify``, ``append``, ``batches``, ``threads``,
``replay``, ``opening``; and the contenders: ``loaders``, ``sqlite``, ``plain``.
"""
