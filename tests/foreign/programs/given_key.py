"""A plugin of pytest that gives suites of SDKs the gateway's key, which is a constant of theirs. GATEWAY_KEY."""

from __future__ import annotations

import os
import sys


def pytest_collection_finish() -> None:
    """Before anything runs."""
    module = sys.modules["tests.conftest"]
    for name in ("api_key", "admin_api_key"):
        if hasattr(module, name):
            setattr(module, name, os.environ["GATEWAY_KEY"])
