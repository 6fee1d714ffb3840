"""langchain-openai through the gateway: a line of JSON for each case. GATEWAY_URL, GATEWAY_KEY."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import openai
from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "d",
        "parameters": {"type": "object", "properties": {}},
    },
}


def show(case: str, saw: Callable[[], Any]) -> None:
    try:
        told = saw()
    except openai.APIStatusError as error:
        told = f"{type(error).__name__} {error.status_code} {error.code}"
    except Exception as error:  # noqa: BLE001  # whatever the library raises is what is shown
        told = f"{type(error).__name__} {error}"
    print(json.dumps({"case": case, "saw": told}, default=str), flush=True)


def chat(model: str, retries: int = 0, **more: Any) -> Any:
    where = {"base_url": os.environ["GATEWAY_URL"], "api_key": os.environ["GATEWAY_KEY"]}
    return ChatOpenAI(model=f"fake-{model}", max_retries=retries, timeout=30, **where, **more)


def whole(answer: Any) -> Any:
    return [answer.content, answer.usage_metadata["total_tokens"]]


def stream(model: str, **more: Any) -> Any:
    text, total = "", None
    for chunk in chat(model, **more).stream("hi"):
        text += chunk.content
        total = chunk.usage_metadata["total_tokens"] if chunk.usage_metadata else total
    return [text, total]


def call(model: str) -> Any:
    answer = chat(model).bind_tools([TOOL]).invoke("hi")
    return [answer.response_metadata["finish_reason"], answer.tool_calls[0]["args"]]


def streamed_call(model: str) -> Any:
    merged = None
    for chunk in chat(model).bind_tools([TOOL]).stream("hi"):
        merged = chunk if merged is None else merged + chunk
    return [merged.response_metadata["finish_reason"], merged.tool_calls[0]["args"]]  # type: ignore[union-attr]


show("sync", lambda: whole(chat("plain", max_tokens=20).invoke("hi")))
show("stream usage", lambda: stream("plain", stream_usage=True))
show("stream without [DONE]", lambda: stream("without-done", stream_usage=False))
show("tools", lambda: call("tools"))
show("tools in a stream", lambda: streamed_call("tools"))
show("bad value", lambda: chat("hot", temperature=2).invoke("hi"))
show("too long", lambda: chat("too-long").invoke("hi"))
show("rate limit", lambda: chat("tired").invoke("hi"))
show("retry of a 429", lambda: whole(chat("tired-once", retries=3).invoke("hi")))
show("retry of a 500", lambda: whole(chat("broken-once", retries=3).invoke("hi")))
show("no such model", lambda: chat("nowhere").invoke("hi"))
show("breaks off", lambda: stream("breaks-off"))
