"""How usage reads: which hours are asked for, what of them the caller may see, and their sums by bucket. Pure.

The parameters and pages are those of OpenAI's usage API, the figures those of the usage tables: what was booked, by the
hour in which an attempt ended. Sources: OpenAI's `GET /organization/usage/completions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypedDict, cast

from ingress.apis.parsed_request import invalid
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.money import usd
from schemas.times import DAY_MS, HOUR_MS
from schemas.usage import MEASURES, UsageRow, hour_of, read_cell

Dimension: TypeAlias = Literal["model", "key_id", "user"]
BucketWidth: TypeAlias = Literal["1h", "1d"]

DIMENSIONS: Final[tuple[Dimension, ...]] = ("model", "key_id", "user")
_WIDTHS_S: Final[Mapping[str, int]] = {"1h": HOUR_MS // 1_000, "1d": DAY_MS // 1_000}
_BUCKETS: Final = {"1h": (24, 168), "1d": (7, 31)}
"""By width, how many a page has where its caller says nothing, and at most."""
_HOUR_S: Final = HOUR_MS // 1_000
_KEPT_S: Final = 40 * DAY_MS // 1_000
_TIME_MAX_S: Final = 2**40
_PARAMETERS: Final = frozenset(
    {"start_time", "end_time", "bucket_width", "group_by", "limit", "page"}
)
ROWS_MAX: Final = 2_000
"""Of a page: about a megabyte, and some milliseconds to write it."""
_NO_USER: Final = "-"


class UsageResult(TypedDict):
    """What was used in a bucket, of those of whom it is told; what is not grouped by is `null`."""

    object: Literal["usage.result"]
    model: str | None
    key_id: str | None
    user: str | None
    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    audio_input_tokens: int
    image_input_tokens: int
    audio_output_tokens: int
    image_output_tokens: int
    tool_calls: int
    unpriced: int
    """Attempts whose model had no price."""
    cost_usd: str | None
    """`null` where no attempt had a price."""


class UsageBucket(TypedDict):
    """An hour or a day in UTC, from `start_time` until before `end_time`, in Unix seconds."""

    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[UsageResult]


class UsagePage(TypedDict):
    """Buckets, the oldest first; `next_page` goes on behind them."""

    object: Literal["page"]
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which buckets are asked for, in Unix seconds, and by what each is grouped."""

    start_s: int
    end_s: int
    width_s: int
    by: tuple[Dimension, ...]
    limit: int

    def buckets(self) -> Iterator[tuple[int, int]]:
        """The spans of the page; the first and the last one may be cut."""
        at_s = self.start_s
        for _ in range(self.limit):
            if at_s >= self.end_s:
                return
            until_s = min(at_s - at_s % self.width_s + self.width_s, self.end_s)
            yield at_s, until_s
            at_s = until_s


def parse_query(said: Sequence[tuple[str, str]], now_ms: int) -> UsageQuery | Refusal:
    """What the parameters of a query ask for; whole hours, because that is how usage is kept."""
    fields: dict[str, list[str]] = {}
    for name, value in said:
        fields.setdefault(name.removesuffix("[]"), []).append(value)
    unknown = sorted(fields.keys() - _PARAMETERS)
    if unknown:
        return invalid(
            unknown[0][:64], f"is no parameter; there are {', '.join(sorted(_PARAMETERS))}"
        )
    width = fields.get("bucket_width", ["1d"])[-1]
    if width not in _WIDTHS_S:
        return invalid("bucket_width", "must be 1h or 1d")
    by = _dimensions(fields.get("group_by", []))
    if by is None:
        return invalid("group_by", f"takes {', '.join(DIMENSIONS)}")
    numbers = _numbers(fields, width, now_ms // 1_000)
    if isinstance(numbers, Refusal):
        return numbers
    start_s, end_s, limit = numbers
    return UsageQuery(start_s, end_s, _WIDTHS_S[width], by, limit)


def _dimensions(said: Sequence[str]) -> tuple[Dimension, ...] | None:
    wanted = {name for each in said for name in each.split(",")}
    known = tuple(name for name in DIMENSIONS if name in wanted)
    return known if len(known) == len(wanted) else None


def _numbers(
    fields: Mapping[str, Sequence[str]], width: str, now_s: int
) -> tuple[int, int, int] | Refusal:
    """Start and end of what is asked for, on whole hours, and how many buckets."""
    default, most = _BUCKETS[width]
    limit = _integer(fields, "limit", default)
    if limit is None or not 1 <= limit <= most:
        return invalid("limit", f"must be an integer from 1 to {most}")
    end_s = _integer(fields, "end_time", now_s + 1)
    first_s = now_s - (default - 1) * _WIDTHS_S[width]
    start_s = _integer(fields, "start_time", first_s - first_s % _WIDTHS_S[width])
    page_s = _integer(fields, "page", start_s or 0)
    if end_s is None:
        return invalid("end_time", "must be Unix seconds")
    if start_s is None or start_s >= end_s:
        return invalid("start_time", "must be Unix seconds before end_time")
    if page_s is None or not start_s <= page_s <= end_s:
        return invalid("page", "must be the next_page of the page before")
    if page_s < now_s - _KEPT_S:
        return invalid("start_time", "must be within the last 40 days")
    end_s = min(end_s, now_s + 1)
    return page_s - page_s % _HOUR_S, end_s + -end_s % _HOUR_S, limit


def _integer(fields: Mapping[str, Sequence[str]], name: str, default: int) -> int | None:
    """The number; ``None`` of what is none."""
    said = fields.get(name)
    if said is None:
        return default
    text = said[-1]
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(_TIME_MAX_S))
    return int(text) if is_number else None


def hours_of(span: tuple[int, int]) -> Iterator[str]:
    """The names of the hours in a span."""
    for at_s in range(*span, _HOUR_S):
        yield hour_of(at_s * 1_000)


@dataclass(frozen=True, slots=True)
class View:
    """What of its organization's usage a caller may see: one key, one user, or all."""

    key_id: str | None = None
    user: str | None = None

    @classmethod
    def of(cls, caller: Caller, scope: str) -> View:
        """A user sees its own, a key of limited scopes without this one its own, any other program all."""
        if caller.owner is not None:
            return cls(caller.key_id, caller.user)
        if caller.scopes is not None and scope not in caller.scopes:
            return cls(caller.key_id)
        return cls()

    def shows(self, row: UsageRow) -> bool:
        """Whether a row is of it."""
        if self.key_id is None:
            return True
        return row.key == self.key_id and self.user in (None, row.user)


@dataclass(slots=True)
class Bucket:
    """The sums of one span, by what it is grouped by; backends are added up."""

    span: tuple[int, int]
    by: tuple[Dimension, ...]
    view: View
    sums: dict[tuple[str | None, ...], dict[str, int]] = field(default_factory=dict)

    def add(self, cells: Iterable[tuple[str, int]]) -> None:
        """Add cells of one of its hours, each once. Raises ``ValueError`` on a field of another shape."""
        for name, amount in cells:
            row, measure = read_cell(name)
            if not self.view.shows(row):
                continue
            user = None if row.user == _NO_USER else row.user
            said = {"model": row.model, "key_id": row.key, "user": user}
            group = tuple(said[name] if name in self.by else None for name in DIMENSIONS)
            sums = self.sums.setdefault(group, dict.fromkeys(MEASURES, 0))
            sums[measure] = sums.get(measure, 0) + amount

    def told(self) -> UsageBucket:
        """As an answer has it."""
        groups = sorted(self.sums.items(), key=lambda each: tuple(map(str, each[0])))
        start_s, end_s = self.span
        return {
            "object": "bucket",
            "start_time": start_s,
            "end_time": end_s,
            "results": [_result(group, sums) for group, sums in groups],
        }


def page_of(query: UsageQuery, buckets: Sequence[UsageBucket]) -> UsagePage:
    """The page of the buckets that were read."""
    reached_s = buckets[-1]["end_time"] if buckets else query.start_s
    has_more = bool(buckets) and reached_s < query.end_s
    return {
        "object": "page",
        "data": [*buckets],
        "has_more": has_more,
        "next_page": str(reached_s) if has_more else None,
    }


def _result(group: tuple[str | None, ...], sums: Mapping[str, int]) -> UsageResult:
    counts = {name: amount for name, amount in sums.items() if name != "cost_nano_usd"}
    cost, attempts = sums["cost_nano_usd"], sums["attempts"]
    is_unpriced = not cost and 0 < attempts <= sums["unpriced"]
    said: dict[str, object] = {"object": "usage.result", **counts}
    said |= dict(zip(DIMENSIONS, group, strict=True))
    said["cost_usd"] = None if is_unpriced else usd(cost)
    return cast("UsageResult", said)
