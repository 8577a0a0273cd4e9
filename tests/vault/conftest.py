"""A user and its vault."""

from __future__ import annotations

import pytest

from .desk import Clock, open_vault, user_at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def user(tmp_path, clock):
    return user_at(tmp_path, clock)


@pytest.fixture
def vault(user, clock):
    return open_vault(user, clock)
