"""Reads one object of a chat completion, a whole answer or an event: usage, an error, text where it is text. Pure.

Nothing else is read, and what is may have any type: a completion is not lost for a field that is only relayed.
Inputs: symfony/ai#2422, BerriAI/litellm#16434 (content as a list of parts), CherryHQ/cherry-studio#8065.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dispatcher.operations.binding import Answer
from dispatcher.operations.openai_json import ABSENT, is_there
from dispatcher.operations.spoken import spoken
from dispatcher.operations.usage.reading import Told, believed, elsewhere, tier, told
from dispatcher.upstream import foreign
from dispatcher.upstream.backend_words import (
    NO_WORDS,
    BackendError,
    BackendWords,
    is_error,
    words_of,
)
from dispatcher.upstream.json_reader import read_json, value_of
from dispatcher.upstream.tally import Tally

__all__ = ["COMPLETIONS", "Choice", "Completion", "error_in", "heard", "loosely", "read_completion"]

_BODY_OBJECTS_MAX: Final = 1_000_000
_BUILT_BYTES_MAX: Final = 64 * 1024
"""Where something rare is looked for, the whole object is built."""
_PLAIN: Final = ("content", "role")
"""What a message or delta has whose only text is its content; what else it has is empty then."""


class Choice(msgspec.Struct, frozen=True):
    """One choice of an answer, or a piece of it."""

    index: Any = 0
    message: Any = None
    delta: Any = None
    finish_reason: Any = None
    text: Any = None
    """Of a text completion, which has neither message nor delta."""


class Completion(msgspec.Struct, frozen=True):
    """What is read of an object."""

    id: Any = None
    choices: list[Choice] = []
    service_tier: Any = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    """Both raw: whatever they hold, nothing is built from it before its size is known."""


class _Loose(msgspec.Struct, frozen=True):
    id: Any = None
    choices: msgspec.Raw = ABSENT
    service_tier: Any = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


COMPLETIONS: Final = msgspec.json.Decoder(Completion)
_LOOSE: Final = msgspec.json.Decoder(_Loose)


def loosely(sent: bytes) -> Completion:
    """The same where choices are not a list of objects; those that are none are left out.

    Raises ``ValueError`` for what is no JSON object.
    """
    read = _LOOSE.decode(sent)
    found = value_of(memoryview(read.choices)) if is_there(read.choices) else None
    listed = found if isinstance(found, list) else [found]
    choices = [
        Choice(
            each.get("index"),
            each.get("message"),
            each.get("delta"),
            each.get("finish_reason"),
            each.get("text"),
        )
        for each in listed
        if isinstance(each, dict)
    ]
    return Completion(read.id, choices, read.service_tier, read.usage, read.error)


def read_completion(body: bytes) -> tuple[Answer, bytes]:
    """A whole answer, and the body to relay.

    Raises ``UpstreamGarbage`` when it is no JSON object, ``BackendError`` when it is an error.
    """
    read, body = read_json(COMPLETIONS, body, _BODY_OBJECTS_MAX, loosely)
    if (words := error_in(read, body)) is not None:
        raise BackendError(words)
    output = Tally()
    for choice in read.choices:
        heard(choice.message, output)
        if choice.text is not None:
            heard(choice.text, output)
    used = used_in(read, body)
    usage = believed(used.counts, has_text=output.has_text)
    return Answer(foreign.provider_id(read.id), usage, output, used.tier), body


def used_in(read: Completion, sent: bytes) -> Told:
    """What an object that may be the last of its answer says of its use, wherever it says it."""
    if is_there(read.usage):
        return told(read.usage, read.service_tier)
    found = elsewhere(value_of(sent)) if len(sent) <= _BUILT_BYTES_MAX else Told()
    return found if found.counts is not None else Told(None, tier(read.service_tier))


def heard(said: Any, output: Tally) -> None:
    """Note the texts of a message or delta."""
    if type(said) is dict and type(content := said.get("content")) is str and _is_plain(said):
        if content:
            output.add(content)
        return
    for text in spoken(said):
        output.add(text)


def _is_plain(said: dict[str, Any]) -> bool:
    """Whether nothing but the content can hold a text."""
    for name, value in said.items():  # noqa: SIM110  # a generator costs more than all of it
        if value and name not in _PLAIN:
            return False
    return True


def error_in(read: Completion, sent: bytes) -> BackendWords | None:
    """What the backend says went wrong; ``None`` where the object is no error."""
    if is_there(read.error):
        error = value_of(memoryview(read.error))
        if error is None or error:
            whole = value_of(sent) if len(sent) <= _BUILT_BYTES_MAX else None
            return words_of(whole or {"error": error}) or NO_WORDS
    elif not read.choices and not is_there(read.usage) and len(sent) <= _BUILT_BYTES_MAX:
        whole = value_of(sent)
        if isinstance(whole, dict) and is_error(whole):
            return words_of(whole) or NO_WORDS
    return None
