"""The configuration log of a test."""

from __future__ import annotations

import pytest

from schemas.runtime.config import feed
from tests.unit.runtime.config_log import ConfigLog, entry


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> ConfigLog:
    """A config log of one organization."""
    found = ConfigLog(entry("acme"))
    monkeypatch.setattr(feed, "AIOKafkaConsumer", found.consumer)
    monkeypatch.setattr(feed, "_RECONNECT_PAUSE_S", 0.01)
    monkeypatch.setattr(feed, "_NEWER_AGAIN_S", 0.05)
    return found
