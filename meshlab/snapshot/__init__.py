"""Snapshots: reading what phase 1 left, and folding a log into records."""
