"""A pepper is replaced on a real stack: keys go on working, and it is told which are left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.harness.running_stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(400, func_only=True)


def _with_pepper(state: Path, pepper: str) -> str:
    """Give the stack another pepper; the one that it had."""
    file = state / "stack.json"
    memory = json.loads(file.read_text(encoding="utf-8"))
    before: str = memory["pepper"]
    file.write_text(json.dumps(memory | {"pepper": pepper}), encoding="utf-8")
    return before


def _admin(stack: RunningStack, method: str, path: str, **body: Any) -> dict[str, Any]:
    url = f"{stack.admin_url}{path}"
    sent = body if method == "POST" else None
    answer = httpx.request(method, url, json=sent, timeout=30, trust_env=False)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def _status(stack: RunningStack, key: str) -> int:
    url, headers = f"{stack.api_url}/models", {"x-api-key": key}
    return httpx.get(url, headers=headers, timeout=30, trust_env=False).status_code


def test_keys_of_the_previous_pepper_work_until_it_is_taken_away(tmp_path: Path) -> None:
    """Rotating a key moves it to the new one; what was not rotated ends with the old pepper."""
    state = tmp_path / "state"
    with running_stack(state) as stack:
        moved, left = (_admin(stack, "POST", "/keys", org="demo") for _ in range(2))
        assert stack.stop() == 0
    before = _with_pepper(state, "f" * 64)

    with running_stack(state, environment={"TALLYGATE_KEY_PEPPER_PREVIOUS": before}) as stack:
        assert [_status(stack, each["key"]) for each in (moved, left)] == [200, 200]
        new = _admin(stack, "POST", f"/keys/{moved['key_id']}/rotate", grace_s=3_600)
        ages = {key["id"]: key["pepper"] for key in _admin(stack, "GET", "/keys")["items"]}
        assert [ages[each["key_id"]] for each in (moved, left)] == ["current", "previous"]
        assert [_status(stack, each["key"]) for each in (new, moved)] == [200, 200]
        assert stack.stop() == 0

    with running_stack(state) as stack:
        statuses = [_status(stack, each["key"]) for each in (new, moved, left)]
        assert statuses == [200, 401, 401]
