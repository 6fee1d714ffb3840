"""How usage reads: which hours are asked for, what of them the caller may see, and their sums by bucket. Pure.

The parameters and pages are those of OpenAI's usage API, the figures those of the usage tables: what was booked, by the
hour in which an attempt ended. How a result reads, and by what it is asked, is its path's (``UsageForm``).
Sources: OpenAI's `GET /organization/usage/completions` and `GET /organization/costs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias, TypedDict

from ingress.apis.parsed_request import invalid
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.times import DAY_MS, HOUR_MS
from schemas.usage import MEASURES, UsageRow, hour_of, read_cell

Dimension: TypeAlias = Literal["model", "key_id", "user", "project"]
Group: TypeAlias = Mapping[Dimension, str | None]
"""What a result is of; a dimension that it is not grouped by does not stand in it."""
ProjectOf: TypeAlias = Callable[[str], str | None]
"""The project that a key has now, by its id."""

DIMENSIONS: Final[tuple[Dimension, ...]] = ("model", "key_id", "user", "project")
_HOUR_S: Final = HOUR_MS // 1_000
_KEPT_S: Final = 40 * DAY_MS // 1_000
_TIME_MAX_S: Final = 2**40
_PARAMETERS: Final = frozenset(
    {"start_time", "end_time", "bucket_width", "group_by", "limit", "page"}
)
ROWS_MAX: Final = 2_000
"""Of a page: about a megabyte, and some milliseconds to write it."""
_NO_USER: Final = "-"


class Width(NamedTuple):
    """How long buckets are, and how many a page has: where its caller says nothing, and at most."""

    seconds: int
    default: int
    most: int


HOURS: Final = Width(_HOUR_S, 24, 168)
DAYS: Final = Width(DAY_MS // 1_000, 7, 31)


@dataclass(frozen=True, slots=True)
class UsageForm:
    """How one path has usage: by what it is grouped and filtered, in which buckets, and how a result reads."""

    dimensions: Mapping[str, Dimension]
    """By their names in ``group_by``."""
    filters: Mapping[str, Dimension]
    """Parameters, each of which may be repeated: only rows with one of these values count."""
    widths: Mapping[str, Width]
    """By their names in ``bucket_width``; a day is among them."""
    result: Callable[[Group, Mapping[str, int]], Mapping[str, object]]
    """A result, made of what it is of and the sums of its measures."""


class ToldBucket(TypedDict):
    """An hour or a day in UTC, from `start_time` until before `end_time`, in Unix seconds."""

    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[Mapping[str, object]]


class ToldPage(TypedDict):
    """Buckets, the oldest first; `next_page` goes on behind them."""

    object: Literal["page"]
    data: list[ToldBucket]
    has_more: bool
    next_page: str | None


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which buckets are asked for, in Unix seconds, of what, and by what each is grouped."""

    told_as: UsageForm
    start_s: int
    end_s: int
    width_s: int
    by: tuple[Dimension, ...]
    only: Mapping[Dimension, frozenset[str]]
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


def parse_query(
    form: UsageForm, said: Sequence[tuple[str, str]], now_ms: int
) -> UsageQuery | Refusal:
    """What the parameters of a query ask for; whole hours, because that is how usage is kept."""
    fields: dict[str, list[str]] = {}
    for name, value in said:
        fields.setdefault(name.removesuffix("[]"), []).append(value)
    known = _PARAMETERS | form.filters.keys()
    unknown = sorted(fields.keys() - known)
    if unknown:
        return invalid(unknown[0][:64], f"is no parameter; there are {', '.join(sorted(known))}")
    width = form.widths.get(fields.get("bucket_width", ["1d"])[-1])
    if width is None:
        return invalid("bucket_width", f"must be {' or '.join(form.widths)}")
    by = _dimensions(form, fields.get("group_by", []))
    if by is None:
        return invalid("group_by", f"takes {', '.join(form.dimensions)}")
    numbers = _numbers(fields, width, now_ms // 1_000)
    if isinstance(numbers, Refusal):
        return numbers
    start_s, end_s, limit = numbers
    only = {
        form.filters[name]: frozenset(values)
        for name, values in fields.items()
        if name in form.filters
    }
    return UsageQuery(form, start_s, end_s, width.seconds, by, only, limit)


def _dimensions(form: UsageForm, said: Sequence[str]) -> tuple[Dimension, ...] | None:
    wanted = {name for each in said for name in each.split(",")}
    if not wanted <= form.dimensions.keys():
        return None
    chosen = {form.dimensions[name] for name in wanted}
    return tuple(name for name in DIMENSIONS if name in chosen)


def _numbers(
    fields: Mapping[str, Sequence[str]], width: Width, now_s: int
) -> tuple[int, int, int] | Refusal:
    """Start and end of what is asked for, on whole hours, and how many buckets."""
    limit = _integer(fields, "limit", width.default)
    if limit is None or not 1 <= limit <= width.most:
        return invalid("limit", f"must be an integer from 1 to {width.most}")
    end_s = _integer(fields, "end_time", now_s + 1)
    first_s = now_s - (width.default - 1) * width.seconds
    start_s = _integer(fields, "start_time", first_s - first_s % width.seconds)
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
    query: UsageQuery
    view: View
    project_of: ProjectOf
    sums: dict[tuple[str | None, ...], dict[str, int]] = field(default_factory=dict)

    def add(self, cells: Iterable[tuple[str, int]]) -> None:
        """Add cells of one of its hours, each once. Raises ``ValueError`` on a field of another shape."""
        by, only = self.query.by, self.query.only
        for name, amount in cells:
            row, measure = read_cell(name)
            if not self.view.shows(row):
                continue
            said: Group = {
                "model": row.model,
                "key_id": row.key,
                "user": None if row.user == _NO_USER else row.user,
                "project": self.project_of(row.key),
            }
            if only and any(said[which] not in wanted for which, wanted in only.items()):
                continue
            group = tuple([said[which] for which in by])
            sums = self.sums.setdefault(group, dict.fromkeys(MEASURES, 0))
            sums[measure] = sums.get(measure, 0) + amount

    def told(self) -> ToldBucket:
        """As an answer has it."""
        groups = sorted(self.sums.items(), key=lambda each: tuple(map(str, each[0])))
        result, by = self.query.told_as.result, self.query.by
        start_s, end_s = self.span
        return {
            "object": "bucket",
            "start_time": start_s,
            "end_time": end_s,
            "results": [result(dict(zip(by, group, strict=True)), sums) for group, sums in groups],
        }


def page_of(query: UsageQuery, buckets: Sequence[ToldBucket]) -> ToldPage:
    """The page of the buckets that were read."""
    reached_s = buckets[-1]["end_time"] if buckets else query.start_s
    has_more = bool(buckets) and reached_s < query.end_s
    return {
        "object": "page",
        "data": [*buckets],
        "has_more": has_more,
        "next_page": str(reached_s) if has_more else None,
    }


def is_unpriced(sums: Mapping[str, int]) -> bool:
    """Whether none of the attempts had a price, so that nobody knows what they cost."""
    return not sums["cost_nano_usd"] and 0 < sums["attempts"] <= sums["unpriced"]
