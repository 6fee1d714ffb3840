"""A small OpenAI-compatible model server that echoes, so that a fresh stack answers at once.

It counts a token per whitespace-separated word and reports exactly that, so usage can be checked
by hand. `python -m deploy.embedded.example_backend [--host H] --port P --name N [--call-log FILE]`.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import json
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from deploy.embedded.ports import HOST

MODEL = "echo-1"
MAX_BODY_BYTES = 8 << 20
DIMENSIONS = 8


@dataclass(frozen=True)
class Shape:
    """How an endpoint spells an answer; everything else is the same."""

    id_prefix: str
    whole: str
    chunk: str
    choice: Callable[[str], dict[str, Any]]
    delta: Callable[[str], dict[str, Any]]


CHAT = Shape(
    id_prefix="chatcmpl",
    whole="chat.completion",
    chunk="chat.completion.chunk",
    choice=lambda text: {"message": {"role": "assistant", "content": text}},
    delta=lambda text: {"delta": {"role": "assistant", "content": text}},
)
TEXT = Shape(
    id_prefix="cmpl",
    whole="text_completion",
    chunk="text_completion",
    choice=lambda text: {"text": text},
    delta=lambda text: {"text": text},
)


@dataclass(frozen=True)
class Echo:
    """The answer to one call: its words, and what it cost."""

    words: tuple[str, ...]
    prompt_tokens: int
    finish_reason: Literal["stop", "length"]

    @property
    def usage(self) -> dict[str, int]:
        spoken = len(self.words)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": spoken,
            "total_tokens": self.prompt_tokens + spoken,
        }


def echo(texts: list[str], max_tokens: int | None) -> Echo:
    """Repeat the last text, at most `max_tokens` words of it; all texts count as prompt."""
    words = texts[-1].split() if texts else []
    kept = words if max_tokens is None else words[:max_tokens]
    return Echo(
        words=tuple(kept),
        prompt_tokens=sum(len(text.split()) for text in texts),
        finish_reason="stop" if len(kept) == len(words) else "length",
    )


async def _embeddings(call_log: Path | None, http: web.Request) -> web.Response:
    try:
        answer = embed(json.loads(await http.read()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _refuse(f"{type(error).__name__}: {error}")
    if call_log is not None:
        _note(call_log, http, answer["usage"])
    return web.json_response(answer)


def embed(body: Any) -> dict[str, Any]:
    """Vectors that depend on their input and nothing else; a word or a number is a token."""
    given = body["input"]
    is_one = isinstance(given, str) or isinstance(given[0], int)
    inputs = [given] if is_one else given
    dimensions = body.get("dimensions") or DIMENSIONS
    vectors = [vector(each, dimensions) for each in inputs]
    tokens = sum(len(each.split() if isinstance(each, str) else each) for each in inputs)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(floats, body)}
        for index, floats in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body.get("model", MODEL), "usage": usage}


def vector(given: str | list[int], dimensions: int) -> list[float]:
    """Numbers from -1 to 1 that a float of 32 bits holds exactly."""
    seed = hashlib.shake_256(json.dumps(given).encode()).digest(dimensions)
    return [byte / 128 - 1 for byte in seed]


def _encoded(floats: list[float], body: Any) -> list[float] | str:
    if body.get("encoding_format") != "base64":
        return floats
    return base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()


def create_app(name: str, clock: Callable[[], float], call_log: Path | None) -> web.Application:
    """The server. `clock` gives Unix seconds; `call_log` gets one JSON line per call."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    calls = 0

    async def answer(http: web.Request, shape: Shape, texts: Callable[[Any], list[str]]) -> Any:
        nonlocal calls
        calls += 1
        try:
            body = json.loads(await http.read())
            spoken = echo(texts(body), body.get("max_completion_tokens") or body.get("max_tokens"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return _refuse(f"{type(error).__name__}: {error}")
        if call_log is not None:
            _note(call_log, http, spoken.usage)
        head = {"id": f"{shape.id_prefix}-{name}-{calls}", "created": int(clock())}
        head["model"] = body.get("model", MODEL)
        if body.get("stream"):
            return await _stream(http, head, shape, spoken, with_usage=_wants_usage(body))
        choice = {"index": 0, "finish_reason": spoken.finish_reason}
        choice |= shape.choice(" ".join(spoken.words))
        whole = {**head, "object": shape.whole, "choices": [choice], "usage": spoken.usage}
        return web.json_response(whole)

    async def chat(http: web.Request) -> Any:
        return await answer(http, CHAT, _chat_texts)

    async def completions(http: web.Request) -> Any:
        return await answer(http, TEXT, _prompt_texts)

    async def models(_: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": name}
        return web.json_response({"object": "list", "data": [model]})

    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/completions", completions)
    app.router.add_post("/v1/embeddings", functools.partial(_embeddings, call_log))
    return app


async def _stream(
    http: web.Request, head: dict[str, Any], shape: Shape, spoken: Echo, *, with_usage: bool
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)

    async def send(choices: list[dict[str, Any]], **more: Any) -> None:
        chunk = {**head, "object": shape.chunk, "choices": choices, **more}
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    for n, word in enumerate(spoken.words):
        text = word if n == 0 else f" {word}"
        await send([{"index": 0, "finish_reason": None, **shape.delta(text)}])
    empty: dict[str, Any] = {"delta": {}} if shape is CHAT else {"text": ""}
    await send([{"index": 0, "finish_reason": spoken.finish_reason, **empty}])
    if with_usage:
        await send([], usage=spoken.usage)
    await response.write(b"data: [DONE]\n\n")
    return response


def _wants_usage(body: dict[str, Any]) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _chat_texts(body: Any) -> list[str]:
    return [_text(message.get("content")) for message in body["messages"]]


def _prompt_texts(body: Any) -> list[str]:
    prompt = body["prompt"]
    return [prompt] if isinstance(prompt, str) else [str(part) for part in prompt]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return content or ""


def _refuse(message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "code": None, "param": None}
    return web.json_response({"error": error}, status=400)


def _note(call_log: Path, http: web.Request, usage: dict[str, int]) -> None:
    line = {"path": http.path, "usage": usage, "headers": dict(http.headers)}
    with call_log.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def create_parser() -> argparse.ArgumentParser:
    """The command line. It listens on loopback unless told otherwise, as a container must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--call-log", type=Path)
    return parser


def main() -> None:
    """Read the command line and serve until a signal."""
    options = create_parser().parse_args()
    app = create_app(options.name, time.time, options.call_log)
    web.run_app(app, host=options.host, port=options.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
