"""Which fields a backend takes of those that every call may carry, and what its refusal teaches about them. Pure.

A model may call the limit of its output ``max_tokens``, as the first chat models do, ``max_completion_tokens``, as
OpenAI's reasoning models do, or take none; strict servers refuse ``stream_options``. A refusal that names such a
field as unknown has spent nothing, so the call may be made again without it. What bounds the output is only left out
where no limit counts on it. Sources of the shapes that are read: OpenAI's ``unsupported_parameter``, pydantic's
``extra_forbidden`` as FastAPI and Mistral send it, Azure's "Unrecognized request argument supplied".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Final

from schemas.entities import OutputLimitField

STATUSES: Final = frozenset({400, 422})
"""With which backends refuse a field."""
TEXT_BYTES_MAX: Final = 4_096
"""Of a refusal are read."""
STREAM_OPTIONS: Final = "stream_options"
_OTHER: Final[Mapping[str, OutputLimitField]] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
"""Each name of the limit, and what else it may be called."""

_IS_STRICT: Final = re.compile(
    r"extra[_ ](?:forbidden|inputs?|fields?)|additional[_ ]?propert|unrecogni[sz]ed|unknown|unexpected"
)
"""Who refuses unknown fields by these words refuses the other name as well, unless it obeys it."""
_IS_UNSUPPORTED: Final = re.compile(
    r"unsupported|not (?:\w+ )?(?:supported|permitted|allowed|recogni[sz]ed)|do(?:es)?(?: not|n'?t) support|deprecated"
)
_IS_ABOUT_A_VALUE: Final = re.compile(
    r"too (?:large|long|many|small)|greater|less than|at (?:most|least)|exceed|maximum|minimum|range|between"
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a backend takes calls of a model."""

    limit: OutputLimitField | None = None
    """What the limit of the output is called; ``None`` as the call has it."""
    stream_options: bool = True

    @property
    def told(self) -> str:
        """For people."""
        limit = self.limit or "as the call has it"
        options = "taken" if self.stream_options else "not taken"
        return f"limit of the output: {limit}; stream_options: {options}"

    def apply(self, body: MutableMapping[str, Any]) -> None:
        """Change the fields of a body to it."""
        if not self.stream_options:
            body.pop(STREAM_OPTIONS, None)
        if self.limit is not None:
            limits = [body.pop(name) for name in _OTHER if name in body]
            if limits and self.limit != "none":
                body[self.limit] = limits[0]


AS_IT_IS: Final = Dialect()


def lesson(
    said: bytes, sent: Collection[str], spoken: Dialect, *, may_be_unlimited: bool
) -> Dialect | None:
    """The dialect to try after a refusal of the fields ``sent``; ``None`` when it teaches nothing new.

    ``may_be_unlimited``: whether nobody counts on the bound of the output, so that it may be left out.
    """
    text = said[:TEXT_BYTES_MAX].decode(errors="replace").lower()
    is_strict = _IS_STRICT.search(text) is not None
    if _IS_ABOUT_A_VALUE.search(text) or not (is_strict or _IS_UNSUPPORTED.search(text)):
        return None
    if STREAM_OPTIONS in sent and _names(text, STREAM_OPTIONS):
        return replace(spoken, stream_options=False)
    for name, other in _OTHER.items():
        if name not in sent or not _names(text, name):
            continue
        # Only who knows the other name, or refuses what it does not know, is bound by it.
        is_bound_by_other = is_strict or _names(text, other)
        if spoken.limit is None and (is_bound_by_other or may_be_unlimited):
            return replace(spoken, limit=other)
        return replace(spoken, limit="none") if may_be_unlimited else None
    return None


def _names(text: str, field: str) -> bool:
    return re.search(rf"(?<!\w){field}(?!\w)", text) is not None
