"""What batches of this process come to, for its metrics: open ones, lines under way and ended, what waits and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ingress.batches.lines import EndedLine
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics

__all__ = ["BatchFigures"]


@dataclass(slots=True)
class BatchFigures:
    """Counts lines; a line is one from its first try to its end, however often it is tried."""

    metrics: Metrics
    clock: Clock
    open: int = 0
    """Batches that have not ended, whoever runs them, as far as the last look found."""
    _began_s: dict[object, float] = field(default_factory=dict)
    """When lines under way were first tried here; in that order."""
    _waiting: Counter[str] = field(default_factory=Counter)
    """How many of them wait to be tried again, by the code of what refused them last."""

    def expose(self) -> None:
        """Export all of it."""
        self.metrics.look("tallygate_batches_open", lambda: {(): float(self.open)})
        self.metrics.look("tallygate_batch_lines", self._lines)
        self.metrics.look("tallygate_batch_oldest_line_seconds", lambda: {(): self._oldest_s()})
        self.metrics.count("tallygate_batch_takeovers_total", by=0)
        for end in ("succeeded", "failed", "expired"):
            self.metrics.count("tallygate_batch_lines_total", end, by=0)

    @contextmanager
    def line(self) -> Iterator[None]:
        """While a line is under way."""
        token = object()
        self._began_s[token] = self.clock.monotonic_s()
        try:
            yield
        finally:
            del self._began_s[token]

    @contextmanager
    def waiting(self, code: str) -> Iterator[None]:
        """While it waits to be tried again."""
        self._waiting[code] += 1
        try:
            yield
        finally:
            self._waiting[code] -= 1

    def ended(self, line: EndedLine) -> None:
        """A line has ended."""
        end = "expired" if line.is_expired else "failed" if line.is_error else "succeeded"
        self.metrics.count("tallygate_batch_lines_total", end)

    def taken_over(self) -> None:
        """A batch was left by its last owner, and is gone on with here."""
        self.metrics.count("tallygate_batch_takeovers_total")

    def _lines(self) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {
            (code,): float(count) for code, count in self._waiting.items() if count
        }
        found["",] = len(self._began_s) - sum(found.values())
        return found

    def _oldest_s(self) -> float:
        oldest_s = next(iter(self._began_s.values()), None)
        return 0.0 if oldest_s is None else self.clock.monotonic_s() - oldest_s
