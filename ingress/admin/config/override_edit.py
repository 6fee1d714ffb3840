"""An override as an administrator sends it: the edit that puts it in force."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from ingress.admin.config.change import Edit
from ingress.admin.config.entities import replacement
from ingress.admin.http.refusal import Refusal
from schemas.config_state import parse_entity
from schemas.errors import ErrorCode
from schemas.overrides import Override, OverrideKind

__all__ = ["SPAN_MAX_S", "override_edit"]

SPAN_MAX_S: Final = 366 * 86_400

_Span = Annotated[float, msgspec.Meta(gt=0, le=SPAN_MAX_S)] | None
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def override_edit(kind: OverrideKind, body: bytes, now_ms: int) -> Edit | Refusal:
    """The edit that puts an override in force, from its fields.

    It ends at ``expires_at_ms``, or ``for_s`` seconds from now, whichever is given; not both, and not in the past.
    """
    try:
        fields = _FIELDS.decode(body)
        span_s = msgspec.json.decode(fields.pop("for_s", msgspec.Raw(b"null")), type=_Span)
    except msgspec.ValidationError as error:
        return Refusal(ErrorCode.INVALID_REQUEST, f"for_s: {error}")
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return Refusal(ErrorCode.INVALID_JSON, str(error))
    if span_s is not None:
        if "expires_at_ms" in fields:
            return Refusal(ErrorCode.INVALID_REQUEST, "give for_s or expires_at_ms, not both")
        fields["expires_at_ms"] = msgspec.Raw(b"%d" % (now_ms + round(span_s * 1_000)))
    whole = msgspec.json.encode(fields)
    entity = parse_entity(kind, whole)
    if isinstance(entity, Override) and entity.has_ended(now_ms):
        return Refusal(ErrorCode.INVALID_REQUEST, "expires_at_ms has passed already")
    return replacement(kind, whole)
