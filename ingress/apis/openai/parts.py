"""What the parts of messages bring beside text, each within a bound that its model states. Pure.

A text counts as its bytes. A picture, a recording or a file is read by no tokenizer: it counts as what the model
states for one, whatever its size, and the bytes that carry it count as nothing. Only those of a part that says so
are left out: a data URL in a text is text. What a detail such as ``detail: high`` makes of a picture is within its
model's bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ingress.apis.parsed_request import Fields, invalid
from ingress.auth.billing import BillingOf
from ingress.http.refusals import Refusal
from schemas.entities import Model

TEXTS: Final = frozenset(
    {"text", "input_text", "output_text", "refusal", "thinking", "redacted_thinking", "reasoning"}
)
"""OpenAI's, and those of reasoning models (Mistral's and Anthropic's) that clients send back as they came."""

_PICTURE: Final = re.compile(r"data:image/[^,]{1,100};base64,|https?://", re.IGNORECASE)
_FILE: Final = re.compile(r"data:[^,]{1,100};base64,|https?://", re.IGNORECASE)
_RECORDING: Final = re.compile(r"data:[^,]{1,100};base64,|[A-Za-z0-9+/]{64}", re.IGNORECASE)
"""A data URL names its medium and says that it is base64 (RFC 2397); OpenAI takes recordings as bare base64."""

BoundField: TypeAlias = Literal["image_tokens", "audio_tokens", "file_tokens"]


@dataclass(frozen=True, slots=True)
class Media:
    """What messages bring beside text: bounds of tokens by medium, and the bytes that carry it."""

    image_tokens: int = 0
    audio_tokens: int = 0
    file_tokens: int = 0
    unread_bytes: int = 0
    """At most as many as it takes in the body, where escapes may lengthen it."""
    tokens: int = 0
    """Of all media."""


NO_MEDIA: Final = Media()


class _Medium(NamedTuple):
    """One type of part."""

    bound: BoundField
    """The field of a model that says how many tokens one of them has at most."""
    carrier: Callable[[Fields], Any]
    """The text that carries it."""
    unread: re.Pattern[str]
    """How that begins where it is no text."""


def _url(part: Fields) -> Any:
    """OpenAI's object of an image, or the bare URL that others take."""
    image = part.get("image_url")
    return image.get("url") if isinstance(image, dict) else image


def _recording(part: Fields) -> Any:
    audio = part.get("input_audio")
    return audio.get("data") if isinstance(audio, dict) else None


def _file(part: Fields) -> Any:
    file = part.get("file", part)
    return file.get("file_data") if isinstance(file, dict) else None


_MEDIA: Final = {
    "image_url": _Medium("image_tokens", _url, _PICTURE),
    "input_image": _Medium("image_tokens", _url, _PICTURE),
    "input_audio": _Medium("audio_tokens", _recording, _RECORDING),
    "file": _Medium("file_tokens", _file, _FILE),
    "input_file": _Medium("file_tokens", _file, _FILE),
}


def read_media(messages: list[Any], model: Model, billing: BillingOf) -> Media | Refusal:
    """All media of the messages, or the first part whose tokens nothing bounds."""
    tokens: dict[str, int] = {}
    unread_bytes = 0
    for index, message in enumerate(messages):
        if message.get("audio") is not None:
            if model.audio_tokens is None:
                return invalid(
                    f"messages[{index}].audio", "brings audio: the model has no audio_tokens"
                )
            tokens["audio_tokens"] = tokens.get("audio_tokens", 0) + model.audio_tokens
        parts = message.get("content")
        for at, part in enumerate(parts if isinstance(parts, list) else ()):
            where = f"messages[{index}].content[{at}]"
            found = _medium(where, part, model, billing)
            if isinstance(found, Refusal):
                return found
            if found is not None:
                bound: int = getattr(model, found.bound)
                tokens[found.bound] = tokens.get(found.bound, 0) + bound
                unread_bytes += _unread(found, part)
    return Media(**tokens, unread_bytes=unread_bytes, tokens=sum(tokens.values()))


def _medium(where: str, part: Any, model: Model, billing: BillingOf) -> _Medium | Refusal | None:
    """What the part brings; ``None`` for text."""
    if not isinstance(part, dict):
        return invalid(where, "must be an object")
    kind = part.get("type")
    if not isinstance(kind, str):
        return invalid(f"{where}.type", "must be a string")
    if kind in TEXTS:
        return None
    medium = _MEDIA.get(kind)
    if medium is None:
        policy = model.unknown_fields
        if policy == "refuse" or (policy == "auto" and billing().is_bounded):
            return invalid(f"{where}.type", "is not known here, and nothing bounds its tokens")
        return None
    if getattr(model, medium.bound) is None:
        return invalid(
            f"{where}.type", f"brings what this model does not bound: it has no {medium.bound}"
        )
    return medium


def _unread(medium: _Medium, part: Fields) -> int:
    """Characters of what carries the medium; nothing where any other text stands in its place."""
    carrier = medium.carrier(part)
    is_unread = isinstance(carrier, str) and medium.unread.match(carrier)
    return len(carrier) if is_unread else 0
