"""Models as Anthropic lists them, page by page. Pure.

Source: Anthropic's Models API: ``limit``, and ``after_id`` or ``before_id`` as cursors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from ingress.apis.anthropic.contract import ModelInfo, ModelPage
from ingress.http.refusals import Refusal
from ingress.http.request import page_limit
from schemas.entities import Model
from schemas.errors import ErrorCode

__all__ = ["LIMIT_DEFAULT", "LIMIT_MAX", "model_info", "model_page"]

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 1_000


def model_info(name: str, model: Model, created_s: int) -> ModelInfo:
    """A model, as Anthropic tells it."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": model.context_window_tokens,
        "max_tokens": model.max_output_tokens,
    }


def model_page(
    names: Sequence[str], query: Mapping[str, str], info_of: Callable[[str], ModelInfo]
) -> ModelPage | Refusal:
    """The models that a query asks for; a cursor that is none of the sorted ``names`` stands where it would stand among them."""
    limit = page_limit(query.get("limit"), LIMIT_DEFAULT, LIMIT_MAX)
    if isinstance(limit, Refusal):
        return limit
    after, before = query.get("after_id"), query.get("before_id")
    if after is not None and before is not None:
        message = "after_id and before_id exclude each other."
        return Refusal(ErrorCode.INVALID_REQUEST, message, param="before_id")
    if before is not None:
        ahead = [name for name in names if name < before]
        shown = ahead[-limit:]
    else:
        ahead = [name for name in names if after is None or name > after]
        shown = ahead[:limit]
    return {
        "data": list(map(info_of, shown)),
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
        "has_more": len(shown) < len(ahead),
    }
