"""Users whose story has everything a widget must stand."""

from __future__ import annotations

import pytest

import meshlab
from meshlab.testing import LogBuilder

DAYS = ("20250701", "20250702", "20250703")
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">$\\frac{$"


@pytest.fixture
def user(tmp_path):
    return meshlab.open(tmp_path / "store")["ann"]


def story(root, days=DAYS):
    """Three days of four events: a memory that is recalled, one that goes, one nobody knows."""
    log = LogBuilder(days[0])
    for number, day in enumerate(days):
        log.frame([{"Insert": {"id": f"m{number}", "content": f"day {number}", "amplitude": 0.5}}], day=day)
        log.frame([{"Update": {"id": "m0", "amplitude": 1.0 + number, "access_count": number}}])
        log.frame([{"Update": {"id": "ghost", "amplitude": 1.0}}])
        log.frame([{"Delete": f"m{number}" if number == 1 else "nobody"}])
    return log.write(root)
