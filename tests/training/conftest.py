"""Fixtures of the training tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def zoo(tiny_zoo, monkeypatch):
    """The cache with the tiny pair, as the cache of this process."""
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tiny_zoo))
    return tiny_zoo / "zoo"
