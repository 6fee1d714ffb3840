"""Message requests as tests make them, by Anthropic's own package."""

from __future__ import annotations

import json
from typing import Any, Final

import anthropic

from tests.support.harness.gateway_client import steer
from tests.support.harness.kafka_log import KafkaLog

__all__ = ["TURNS", "messages_client", "tool_loop", "usage_line"]

TURNS: Final = 50
"""Of a tool loop: as many calls of the backend."""
_CATCH_UP_S: Final = 30.0


def messages_client(api_url: str, key: str, **more: Any) -> anthropic.Anthropic:
    """A client that makes one call and no second one."""
    options: dict[str, Any] = {"max_retries": 0, "timeout": 30, **more}
    return anthropic.Anthropic(base_url=api_url.removesuffix("/v1"), api_key=key, **options)


def usage_line(kafka_log: KafkaLog, request_id: str) -> dict[str, Any]:
    """The usage line of a request, once it is there."""

    def of_it(records: list[Any]) -> list[dict[str, Any]]:
        return [r.value for r in records if r.value["request_id"] == request_id]

    (line,) = of_it(kafka_log.read("usage.records.v1", lambda read: bool(of_it(read)), _CATCH_UP_S))
    return line


def tool_loop(sdk: anthropic.Anthropic, model: str, *, streamed: bool, **more: Any) -> list[Any]:
    """The messages of a loop: each result of the tool says what the backend calls next."""
    seen: list[int] = []

    @anthropic.beta_tool
    def step(number: int) -> str:
        """Go one step on.

        Args:
            number: Which step.
        """
        seen.append(number)
        return _next(number + 1)

    asked: Any = [{"role": "user", "content": _next(1)}]
    runner: Any = sdk.beta.messages.tool_runner(
        model=model, messages=asked, tools=[step], stream=streamed, **more
    )
    turns = [turn.get_final_message() if streamed else turn for turn in runner]
    assert seen == list(range(1, TURNS))
    assert len(turns) == TURNS
    assert (turns[-1].stop_reason, turns[-1].content[-1].type) == ("end_turn", "text")
    return turns


def _next(number: int) -> str:
    """What makes the backend ask for a step, or end."""
    if number == TURNS:
        return steer(output_tokens=3)
    call = {"name": "step", "arguments": json.dumps({"number": number})}
    return steer(output_tokens=2, call=call)
