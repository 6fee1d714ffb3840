"""A check of schemathesis: a status of 500 or above is one of an overload, an outage or a deadline, and says so."""

from __future__ import annotations

from typing import Any

import schemathesis

_STATED = {
    503: {"service_unavailable", "server_is_overloaded", "no_backend_available", "body_lost"},
    504: {"deadline_exceeded"},
}


@schemathesis.check
def stated_server_errors(_: Any, response: Any, case: Any) -> None:
    """Raises ``AssertionError`` for any other."""
    if response.status_code < 500:
        return
    told = response.json()
    error = told.get("error")
    code = told.get("code") or (error.get("code") if isinstance(error, dict) else None)
    readiness = told.get("status") if case.path.endswith(("/readyz", "/startupz")) else None
    assert code in _STATED.get(response.status_code, ()) or readiness == "unavailable", told
