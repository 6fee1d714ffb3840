"""The oracle of end-to-end tests: what the backends' own logs say happened, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.fakes.call_log import Call, read_calls
from tests.support.fakes.running_backend import RunningBackend

INPUT_NANO_USD_PER_TOKEN = 500
OUTPUT_NANO_USD_PER_TOKEN = 1_500


class Oracle:
    """What really happened at the backends, from their own logs."""

    def __init__(self, backends: Iterable[RunningBackend]) -> None:
        self._logs = tuple(backend.log for backend in backends)

    def calls(self) -> tuple[Call, ...]:
        """Every call of the session."""
        return read_calls(*self._logs)

    def calls_of(self, request_ids: Iterable[str]) -> tuple[Call, ...]:
        """The calls made for these requests, known by the id they carried."""
        wanted = set(request_ids)
        return tuple(call for call in self.calls() if call.start.request_id in wanted)


def cost_nano_usd(call: Call) -> int:
    """What a call costs at the price of the test's model; exact, without rounding."""
    return (
        call.prompt_tokens * INPUT_NANO_USD_PER_TOKEN
        + call.completion_tokens * OUTPUT_NANO_USD_PER_TOKEN
    )
