"""openai-python through the gateway: a line of JSON for each case. GATEWAY_URL, GATEWAY_KEY."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import openai

client = openai.OpenAI(
    base_url=os.environ["GATEWAY_URL"], api_key=os.environ["GATEWAY_KEY"], max_retries=0, timeout=30
)
MESSAGES: Any = [{"role": "user", "content": "hi"}]
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
]


def show(case: str, saw: Callable[[], Any]) -> None:
    try:
        told = saw()
    except openai.APIStatusError as error:
        told = f"{type(error).__name__} {error.status_code} {error.code}"
    except openai.OpenAIError as error:
        told = f"{type(error).__name__} {error}"
    print(json.dumps({"case": case, "saw": told}, default=str), flush=True)


def ask(model: str, retries: int = 0, **more: Any) -> Any:
    return client.with_options(max_retries=retries).chat.completions.create(
        model=f"fake-{model}", messages=MESSAGES, **more
    )


def stream(model: str, **more: Any) -> Any:
    text, total = "", None
    for chunk in ask(model, stream=True, **more):
        total = chunk.usage.total_tokens if chunk.usage else total
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    return [text, total]


def whole(answer: Any) -> Any:
    return [answer.choices[0].message.content, answer.usage.total_tokens]


def call(model: str) -> Any:
    answer = ask(model, tools=TOOLS).choices[0]
    return [answer.finish_reason, json.loads(answer.message.tool_calls[0].function.arguments)]


def streamed_call(model: str) -> Any:
    with client.chat.completions.stream(
        model=f"fake-{model}", messages=MESSAGES, tools=TOOLS
    ) as events:
        answer = events.get_final_completion().choices[0]
    return [answer.finish_reason, json.loads(answer.message.tool_calls[0].function.arguments)]  # type: ignore[index]


def left() -> Any:
    events = ask("slow", stream=True)
    for _ in zip(range(3), events, strict=False):
        pass
    events.close()
    return "left"


show("sync", lambda: whole(ask("plain")))
show("stream", lambda: stream("plain"))
show("stream usage", lambda: stream("plain", stream_options={"include_usage": True}))
show("stream without [DONE]", lambda: stream("without-done"))
show("tools", lambda: call("tools"))
show("tools in a stream", lambda: streamed_call("tools"))
show("n=2", lambda: len(ask("plain", n=2).choices))
show("reasoning", lambda: ask("reasoning").choices[0].message.model_extra.get("reasoning_content"))
show("bad value", lambda: ask("hot", temperature=2))
show("too long", lambda: ask("too-long"))
show("rate limit", lambda: ask("tired"))
show("retry of a 429", lambda: whole(ask("tired-once", retries=3)))
show("retry of a 500", lambda: whole(ask("broken-once", retries=3)))
show("no such model", lambda: ask("nowhere"))
show(
    "bad key",
    lambda: client.with_options(api_key="tg_live_no").chat.completions.create(
        model="fake-plain", messages=MESSAGES
    ),
)
show("breaks off", lambda: stream("breaks-off"))
show("cancel", left)
