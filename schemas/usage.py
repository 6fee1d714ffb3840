r"""Usage tables: their rows, what is counted in them, and how both are written. Pure.

A table is one hour (UTC) of one organization, a hash in the ledger and a record in ``usage.tables.v1``. Its
fields are ``key\tuser\tmodel\tbackend\tmeasure``: a row, and one of ``MEASURES``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

__all__ = [
    "COUNTED",
    "MEASURES",
    "Counted",
    "UsageRow",
    "amounts_of",
    "cell",
    "hour_of",
    "hours_between",
    "measures_of",
    "read_cell",
]

MEASURES: Final = (
    "requests",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "unpriced",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "tool_calls",
)
"""What stands behind ``unpriced`` was added later; tables without it have none."""
COUNTED: Final = (*(name for name in MEASURES if name.endswith("_tokens")), "tool_calls")
"""Measures that are fields of an attempt and of its line."""
_NO_USER: Final = "-"
_TAB: Final = "\t"
_HOUR: Final = "%Y-%m-%dT%H"


class UsageRow(NamedTuple):
    """What amounts are added up by."""

    key: str
    """Id of the API key."""
    user: str
    model: str
    backend: str

    @classmethod
    def of(cls, key: str, user: str | None, model: str, backend: str) -> UsageRow:
        """The row of an attempt; requests without a user share one."""
        return cls(key, user or _NO_USER, model, backend)

    def encoded(self) -> str:
        """As the ledger knows it. Names of entities have no tabs in them."""
        return _TAB.join(self)


def cell(row: str, measure: str) -> str:
    """The field of a table that counts the measure of an encoded row."""
    return f"{row}{_TAB}{measure}"


def read_cell(field: str) -> tuple[UsageRow, str]:
    """Row and measure of a table's field. Raises ``ValueError`` on a field of another shape."""
    key, user, model, backend, measure = field.split(_TAB)
    return UsageRow(key, user, model, backend), measure


class Counted(Protocol):
    """An attempt, or a usage line; of a correction its amounts are signed differences."""

    @property
    def attempt(self) -> int: ...  # noqa: D102
    @property
    def input_tokens(self) -> int: ...  # noqa: D102
    @property
    def output_tokens(self) -> int: ...  # noqa: D102
    @property
    def cached_tokens(self) -> int: ...  # noqa: D102
    @property
    def reasoning_tokens(self) -> int: ...  # noqa: D102
    @property
    def cost_nano_usd(self) -> int | None: ...  # noqa: D102
    @property
    def cache_write_tokens(self) -> int: ...  # noqa: D102
    @property
    def cache_write_1h_tokens(self) -> int: ...  # noqa: D102
    @property
    def audio_input_tokens(self) -> int: ...  # noqa: D102
    @property
    def image_input_tokens(self) -> int: ...  # noqa: D102
    @property
    def audio_output_tokens(self) -> int: ...  # noqa: D102
    @property
    def image_output_tokens(self) -> int: ...  # noqa: D102
    @property
    def tool_calls(self) -> int: ...  # noqa: D102


def amounts_of(counted: Counted, revision: int) -> tuple[int, ...]:
    """What one line adds, in the order of ``MEASURES``; a correction adds no request and no attempt.

    A request counts where its first attempt does; ``unpriced`` are attempts whose cost nobody knows.
    """
    is_original = revision == 0
    return (
        int(is_original and counted.attempt == 1),
        int(is_original),
        counted.input_tokens,
        counted.output_tokens,
        counted.cached_tokens,
        counted.reasoning_tokens,
        counted.cost_nano_usd or 0,
        int(is_original and counted.cost_nano_usd is None),
        counted.cache_write_tokens,
        counted.cache_write_1h_tokens,
        counted.audio_input_tokens,
        counted.image_input_tokens,
        counted.audio_output_tokens,
        counted.image_output_tokens,
        counted.tool_calls,
    )


def measures_of(counted: Counted, revision: int) -> dict[str, int]:
    """The same by name and without zeros, which would only fill the tables."""
    named = zip(MEASURES, amounts_of(counted, revision), strict=True)
    return {name: amount for name, amount in named if amount}


def hour_of(at_ms: int) -> str:
    """The UTC hour that contains the time, as in the names of tables: ``2026-11-21T12``."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(_HOUR)


def hours_between(start: datetime, end: datetime) -> list[str]:
    """The names of the UTC hours that overlap [start, end)."""
    hour = start.replace(minute=0, second=0, microsecond=0)
    hours = []
    while hour < end:
        hours.append(hour.strftime(_HOUR))
        hour += timedelta(hours=1)
    return hours
