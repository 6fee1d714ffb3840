"""An OpenAI-compatible backend that does what it is asked: calls the tools it is given, answers in the form that is wanted.

`python -m tests.support.fakes.obliging_backend --port P --log FILE --name ID --latency-ms N`; it prints its URL when it is ready. Suites
of other people want a model that calls tools. This one knows no words of theirs: a text in an argument is the prompt's, a
number the first that stands in it. What was asked before is cached.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from aiohttp import web

from tests.support.fakes import embeddings, text_completions

_TEXT: Final = "Hello there, how are you today?"
_REASONING_TOKENS: Final = 5
_PIECES: Final = 4


class Obliging:
    """The handlers, and what was asked before."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    async def chat(self, http: web.Request) -> web.StreamResponse:
        """A chat completion."""
        asked = await http.json()
        said = answer_to(asked)
        usage = self._usage(asked, said)
        head = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            reason = "tool_calls" if "tool_calls" in said else "stop"
            choices = [
                {"index": n, "message": said, "finish_reason": reason, "logprobs": None}
                for n in range(asked.get("n") or 1)
            ]
            whole = {**head, "object": "chat.completion", "choices": choices, "usage": usage}
            return web.json_response(whole)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(http)
        for delta, ended in deltas(said):
            choice = {"index": 0, "delta": delta, "finish_reason": ended}
            await _send(response, {**head, "object": "chat.completion.chunk", "choices": [choice]})
        if (asked.get("stream_options") or {}).get("include_usage"):
            last = {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
            await _send(response, last)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def embed(self, http: web.Request) -> web.Response:
        """Vectors."""
        return web.json_response(embeddings.answer(embeddings.parse(await http.read())))

    async def complete(self, http: web.Request) -> web.StreamResponse:
        """A text completion."""
        request = text_completions.parse(await http.read())
        answer = text_completions.Answer(request, "cmpl-1", 1)
        if not request.stream:
            return web.json_response(answer.whole())
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(http)
        for chunk in answer.chunks():
            await _send(response, chunk)
        await response.write(b"data: [DONE]\n\n")
        return response

    def _usage(self, asked: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        prompt = json.dumps(asked["messages"]).encode()
        mark = hashlib.sha256(prompt).digest()
        is_known = mark in self._seen
        self._seen.add(mark)
        tokens = len(prompt.split()) + 1
        parts = {
            "cached_tokens": tokens if is_known else 0,
            "cache_write_tokens": 0 if is_known else tokens,
        }
        reasoning = _REASONING_TOKENS if asked.get("reasoning_effort") else 0
        output = len(json.dumps(said).split()) + reasoning
        return {
            "prompt_tokens": tokens,
            "completion_tokens": output,
            "total_tokens": tokens + output,
            "prompt_tokens_details": parts,
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }


def answer_to(asked: dict[str, Any]) -> dict[str, Any]:
    """The message: a call of a tool where one is offered and none was answered, else a text in the form that is wanted."""
    messages = asked["messages"]
    asking = [each for each in messages if each["role"] not in ("assistant", "tool", "function")]
    prompt = _text(asking[-1]) if asking else ""
    tool = _wanted_tool(asked)
    if tool is not None and (messages[-1]["role"] != "tool" or _is_forced(asked)):
        arguments = json.dumps(value_of(tool.get("parameters") or {}, prompt), ensure_ascii=False)
        function = {"name": tool["name"], "arguments": arguments}
        call = {"id": "call_1", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": "assistant", "content": _formed(asked, prompt), "refusal": None}


def _is_forced(asked: dict[str, Any]) -> bool:
    return asked.get("tool_choice") not in (None, "auto", "none")


def _wanted_tool(asked: dict[str, Any]) -> dict[str, Any] | None:
    choice = asked.get("tool_choice")
    tools: list[dict[str, Any]] = asked.get("tools") or []
    offered: list[dict[str, Any]] = [each["function"] for each in tools if "function" in each]
    if choice == "none" or not offered:
        return None
    named = choice["function"]["name"] if isinstance(choice, dict) else offered[0]["name"]
    return next(each for each in offered if each["name"] == named)


def _formed(asked: dict[str, Any], prompt: str) -> str:
    wanted = asked.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(value_of(wanted["json_schema"]["schema"], prompt))
    if wanted.get("type") == "json_object":
        return json.dumps(dict.fromkeys(re.findall(r"['`\"](\w+)['`\"]", prompt), prompt))
    stops = asked.get("stop") or []
    text = _TEXT
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0]
    return text


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def value_of(schema: dict[str, Any], prompt: str, root: dict[str, Any] | None = None) -> Any:
    """A value that a schema allows, made of the prompt."""
    root = schema if root is None else root
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return value_of(schema[several][0], prompt, root)
    if "$ref" in schema:
        return value_of(root["$defs"][schema["$ref"].rpartition("/")[2]], prompt, root)
    if fixed := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return fixed[0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: value_of(each, prompt, root) for name, each in properties.items()}
    if kind == "array":
        return [value_of(schema.get("items", {"type": "string"}), prompt, root)]
    number = re.search(r"\d+", prompt)
    count = int(number.group()) if number else 1
    return {"integer": count, "number": count, "boolean": True, "null": None}.get(kind, prompt)


def deltas(said: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The same message in pieces, with the reason why it ends at its last."""
    yield {"role": "assistant", "content": ""}, None
    if calls := said.get("tool_calls"):
        call = calls[0]
        begun = {"name": call["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{"index": 0, **call, "function": begun}]}, None
        for piece in _pieces(call["function"]["arguments"]):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None
        yield {}, "tool_calls"
        return
    for piece in _pieces(said["content"]):
        yield {"content": piece}, None
    yield {}, "stop"


def _pieces(text: str) -> list[str]:
    size = max(1, -(-len(text) // _PIECES))
    return [text[at : at + size] for at in range(0, len(text), size)]


async def _send(response: web.StreamResponse, event: object) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


async def _serve(port: int) -> None:
    obliging = Obliging()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", obliging.chat)
    app.router.add_post("/v1/embeddings", obliging.embed)
    app.router.add_post("/v1/completions", obliging.complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    for unused in ("--log", "--name", "--latency-ms"):
        parser.add_argument(unused)
    asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
