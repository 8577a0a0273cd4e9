"""Logs as Arrow tables: load, filter, seal, query (needs pyarrow and duckdb)."""
