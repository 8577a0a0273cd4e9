"""The write-ahead log: paths, frame format, writer, reader, recovery, verify, repair.

Imports neither pyarrow, pandas nor duckdb.  The byte format is docs/format.md, the
crash story docs/crash.md.
"""
