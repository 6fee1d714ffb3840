"""A fake backend of Anthropic's protocol behind a running gateway, and a model that it answers for, with its prices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.fakes.call_log import Call
from tests.support.fakes.running_backend import RunningBackend, running_backend

CLAUDE: Final = "claude-fake"
PRICE_NANO_USD: Final = {"input": 500, "output": 1_500, "cached": 50, "written": 625, "written_1h": 1_000}  # fmt: skip
_PRICE: Final = {
    "input_usd_per_mtok": "0.50",
    "output_usd_per_mtok": "1.50",
    "cached_input_usd_per_mtok": "0.05",
    "cache_write_usd_per_mtok": "0.625",
    "cache_write_1h_usd_per_mtok": "1.00",
}


@contextmanager
def claude_model(
    admin: httpx.Client, folder: Path, model: str, others: Sequence[str] = (), **more: Any
) -> Iterator[RunningBackend]:
    """The backend, which is named as its key's variable says; ``others`` answer for the model beside it."""
    log = folder / "claude.jsonl"
    module = "tests.support.fakes.anthropic_backend"
    with running_backend("claude", log, module=module) as running:
        entity = {"url": running.url, "protocol": "anthropic", "api_key_env": "BACKEND_CLAUDE_API_KEY", **more}  # fmt: skip
        admin.put(f"/backends/{running.name}", json=entity).raise_for_status()
        targets = [{"backend": name} for name in (running.name, *others)]
        body = {"backends": targets, "prices": [_PRICE], "image_tokens": 100, "file_tokens": 100}
        admin.put(f"/models/{model}", json=body).raise_for_status()
        yield running
        admin.delete(f"/models/{model}")


def of_request(backend: RunningBackend, request_id: str) -> tuple[Call, ...]:
    """The calls made for a request."""
    return tuple(call for call in backend.calls() if call.start.request_id == request_id)


def asked_of(backend: RunningBackend, request_id: str) -> dict[str, Any]:
    """Headers and body of the last call made for a request, as they came."""
    lines = backend.log.with_suffix(backend.log.suffix + ".asked").read_text().splitlines()
    found = [line for line in map(json.loads, lines) if line["request_id"] == request_id]
    return dict(found[-1])
