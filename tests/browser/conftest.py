"""One JupyterLab and one Chromium for all tests here; without a Chromium they are left out, and say so."""

from __future__ import annotations

import pytest

from .server import CHROMIUM, open_page, running_lab

MISSING = "the test in a real browser is left out: it needs Chromium (Debian, Ubuntu: apt-get install chromium)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with running_lab(tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("private")) as lab:
        yield lab


@pytest.fixture(scope="module")
def page(lab):
    with open_page(lab) as page:
        yield page
