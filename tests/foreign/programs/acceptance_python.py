"""What a client in Python sees of the numbered items of acceptance: a line of JSON for each. Its environment says where and with which keys.

It runs under any openai from 1.50 on, and under anthropic where that is there; what a package does not have is told as such.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import time
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
MODEL, VICTIM = "fake-1", os.environ["VICTIM_MODEL"]
ABSENT = "the package has none"


def item(number: int, what: str, check: Callable[[], str | None]) -> None:
    """Run one check and tell what it came to: nothing, or what the package does not have."""
    try:
        saw = check() or "ok"
    except Exception as error:  # noqa: BLE001  # a table tells it
        saw = f"{type(error).__name__}: {error}"
    print(json.dumps({"item": number, "what": what, "saw": saw}), flush=True)


def openai_with(name: str = "GATEWAY_KEY", retries: int = 0) -> Any:
    return openai.OpenAI(
        base_url=URL, api_key=os.environ[name], max_retries=retries, timeout=30
    )  # fmt: skip


def steer(**behaviour: Any) -> str:
    return json.dumps({"fake": behaviour})


def ask(content: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}


def caught(kind: type[BaseException], call: Callable[[], Any]) -> Any:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


client = openai_with()


def chat() -> None:
    answer = client.chat.completions.create(**ask("the quick brown fox"))
    assert answer.object == "chat.completion"
    assert len(answer.choices[0].message.content.split()) == answer.usage.completion_tokens > 0


def plain_stream() -> None:
    chunks = list(
        client.chat.completions.create(**ask(steer(chunks=4, output_tokens=8)), stream=True)
    )
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert len("".join(chunk.choices[0].delta.content or "" for chunk in chunks).split()) == 8


def stream_with_usage() -> None:
    options = {"include_usage": True}
    asked = ask(steer(chunks=4, output_tokens=8))
    *_, last = client.chat.completions.create(**asked, stream=True, stream_options=options)
    assert last.choices == []
    assert last.usage.completion_tokens == 8


def completions() -> None:
    answer = client.completions.create(model=MODEL, prompt="one two", max_tokens=5)
    assert (answer.object, answer.usage.prompt_tokens > 0) == ("text_completion", True)
    assert answer.choices[0].text


def embeddings() -> None:
    asked = {"model": MODEL, "input": ["one", "two"]}
    unasked, floats = (
        client.embeddings.create(**asked),
        client.embeddings.create(**asked, encoding_format="float"),
    )
    coded = client.embeddings.create(**asked, encoding_format="base64")
    assert [each.embedding for each in unasked.data] == [each.embedding for each in floats.data]
    assert isinstance(floats.data[0].embedding[0], float)
    assert isinstance(coded.data[0].embedding, str)


def models() -> None:
    assert MODEL in {model.id for model in client.models.list()}
    assert client.models.retrieve(MODEL).id == MODEL


def background() -> str | None:
    if not hasattr(client, "responses"):
        return ABSENT
    response = client.responses.create(model=MODEL, input="hello there", background=True)
    assert response.status == "queued"
    until_s = time.monotonic() + 30
    while response.status in ("queued", "in_progress"):
        assert time.monotonic() < until_s, response.status
        time.sleep(0.2)
        response = client.responses.retrieve(response.id)
    assert response.status == "completed"
    assert response.output_text
    return None


def files_and_batches() -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": ask("hi")}
    content = json.dumps(line).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    assert client.files.content(file.id).read() == content
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    until_s = time.monotonic() + 60
    while batch.status != "completed":
        assert time.monotonic() < until_s, batch.status
        time.sleep(0.5)
        batch = client.batches.retrieve(batch.id)
    (result,) = client.files.content(batch.output_file_id).text.splitlines()
    assert json.loads(result)["custom_id"] == "a"
    assert client.files.delete(file.id).deleted


def usage_and_costs() -> str | None:
    if not hasattr(client, "admin"):
        return ABSENT
    usage: Any = openai.OpenAI(base_url=URL, admin_api_key=KEY).admin.organization.usage
    start_s = int(time.time()) - 86_400
    until_s = time.monotonic() + 20
    while True:
        pages = usage.completions(start_time=start_s), usage.costs(start_time=start_s)
        used, costs = ([each for bucket in page.data for each in bucket.results] for page in pages)
        if used and used[0].num_model_requests >= 5:
            break
        assert time.monotonic() < until_s, used
        time.sleep(0.5)
    assert costs[0].amount.value > 0
    assert costs[0].amount.currency == "usd"
    return None


def killed() -> None:
    stream = client.chat.completions.create(
        **ask(steer(chunks=200, output_tokens=200, delay_ms=50), model=VICTIM), stream=True
    )
    words: list[str] = []

    def read() -> None:
        for chunk in stream:
            words.extend((chunk.choices[0].delta.content or "").split())
            if len(words) == 10:
                os.kill(int(os.environ["VICTIM_PID"]), signal.SIGKILL)

    error = caught(openai.APIError, read)
    told = known(stream.response.headers["x-request-id"])
    assert error.code == "upstream_interrupted"
    assert [each["status"] for each in told["attempts"]] == ["interrupted"]
    assert told["usage"]["completion_tokens"] == len(words) < 200


def known(request_id: str) -> Any:
    return client.get(f"/requests/{request_id}", cast_to=object)


def real_429() -> None:
    rated = openai_with("RATED_KEY")
    list(rated.chat.completions.create(**ask("first"), stream=True))
    error = caught(
        openai.RateLimitError, lambda: rated.chat.completions.create(**ask("second"), stream=True)
    )
    headers = error.response.headers
    assert 0 < int(headers["retry-after-ms"]) <= 1_000 * int(headers["retry-after"])


def answered_402() -> float:
    with urllib.request.urlopen(f"{URL.removesuffix('/v1')}/metrics") as page:
        lines = page.read().decode().splitlines()
    counts = [each for each in lines if each.startswith("tallygate_requests_total{")]
    return sum(float(each.rpartition(" ")[2]) for each in counts if 'status="402"' in each)


def one_call(kind: type[Exception], create: Callable[[], Any]) -> None:
    before = answered_402()
    error = caught(kind, create)
    assert error.status_code == 402
    assert error.response.headers["x-should-retry"] == "false"
    assert answered_402() - before == 1


def idempotency() -> None:
    key, asked = uuid.uuid4().hex, ask(steer(delay_ms=1_500, output_tokens=3))
    quoted = {"Idempotency-Key": f'"{key}"', "Prefer": "wait=0"}
    with ThreadPoolExecutor(1) as beside:
        first = beside.submit(
            client.chat.completions.create, **asked, extra_headers={"Idempotency-Key": key}
        )
        time.sleep(0.5)
        error = caught(
            openai.ConflictError,
            lambda: client.chat.completions.create(**asked, extra_headers=quoted),
        )
        assert error.code == "idempotency_in_flight"
        again = openai_with(retries=5).chat.completions.create(**asked, extra_headers=quoted)
        assert again.id == first.result().id
    caught(
        openai.UnprocessableEntityError,
        lambda: client.chat.completions.create(**ask("other"), extra_headers={"Idempotency-Key": key}),
    )  # fmt: skip


def promises() -> None:
    raw = client.chat.completions.with_raw_response
    asked = ask(steer(delay_ms=1_500, output_tokens=2))
    promised = raw.create(**asked, extra_headers={"Prefer": "respond-async, wait=0"})
    assert promised.status_code == 202
    assert promised.headers["preference-applied"] == "respond-async"
    assert client.get(promised.headers["location"].removeprefix("/v1"), cast_to=object)["id"]
    assert raw.create(**asked).status_code == 200


def ids() -> None:
    raw = client.chat.completions.with_raw_response.create(**ask("hello"))
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    assert known(raw.headers["x-request-id"])["status"] == "completed"
    for call in (
        lambda: client.chat.completions.create(**ask("x", model="nope")),
        lambda: client.models.retrieve("nope"),
    ):
        assert caught(openai.NotFoundError, call).request_id


def errors() -> None:
    calls: list[tuple[type[Any], Callable[[], Any]]] = [
        (openai.BadRequestError, lambda: client.chat.completions.create(**ask("x", max_tokens=-1))),
        (
            openai.AuthenticationError,
            client.with_options(api_key="tg_live_no").models.list,
        ),
        (openai.NotFoundError, lambda: client.files.retrieve("file-nope")),
        (
            openai.InternalServerError,
            lambda: client.chat.completions.create(**ask(steer(mode="500"))),
        ),
    ]
    for kind, call in calls:
        body = caught(kind, call).body
        assert body.keys() >= {"message", "type", "param", "code"}, body
        assert isinstance(body["message"], str)
        assert isinstance(body["type"], str)


item(1, "chat", chat)
item(1, "stream without include_usage", plain_stream)
item(1, "stream with include_usage", stream_with_usage)
item(1, "completions", completions)
item(1, "embeddings, base64 and float", embeddings)
item(1, "models", models)
item(1, "response in the background", background)
item(1, "files and batches", files_and_batches)
item(1, "usage and costs", usage_and_costs)
item(3, "backend killed in mid-stream", killed)
item(4, "refused stream is a real 429", real_429)
item(5, "spent budget is one call", lambda: one_call(openai.APIStatusError, lambda: openai_with("SPENT_KEY", 5).chat.completions.create(**ask("dear"))))  # fmt: skip
item(6, "one idempotency key", idempotency)
item(7, "202 only for who prefers it", promises)
item(8, "one id", ids)
item(9, "form of errors", errors)

if importlib.util.find_spec("anthropic"):
    import anthropic

    def claude(name: str = "GATEWAY_KEY", retries: int = 0) -> Any:
        base_url = URL.removesuffix("/v1")
        return anthropic.Anthropic(
            base_url=base_url, api_key=os.environ[name], max_retries=retries, timeout=30
        )

    def message(content: str) -> dict[str, Any]:
        return ask(content, max_tokens=500)

    def create() -> None:
        answer = claude().messages.create(**message("the quick brown fox"))
        assert len(answer.content[0].text.split()) == answer.usage.output_tokens > 0
        assert answer._request_id

    def stream() -> None:
        with claude().messages.stream(**message(steer(chunks=4, output_tokens=8))) as events:
            pieces = list(events.text_stream)
            assert events.get_final_message().usage.output_tokens == 8
        assert len("".join(pieces).split()) == 8

    def broken() -> None:
        def read() -> None:
            with claude().messages.stream(
                **message(steer(mode="reset", chunks=4, output_tokens=8))
            ) as events:
                list(events.text_stream)

        assert (
            caught(anthropic.APIStatusError, read).body["error"]["code"] == "upstream_interrupted"
        )

    def rated() -> None:
        limited = claude("RATED_KEY_2")
        limited.messages.create(**message("first"))
        error = caught(
            anthropic.RateLimitError, lambda: limited.messages.create(**message("second"))
        )
        assert error.body["error"]["type"] == "rate_limit_error"
        assert int(error.response.headers["retry-after"]) > 0

    def full() -> None:
        asked = {**message(steer(mode="529")), "model": "claude-fake"}
        error = caught(anthropic.APIStatusError, lambda: claude().messages.create(**asked))
        assert error.body["error"]["type"] == "overloaded_error"

    item(2, "messages.create", create)
    item(2, "messages.stream", stream)
    item(2, "error in mid-stream", broken)
    item(2, "402", lambda: one_call(anthropic.APIStatusError, lambda: claude("SPENT_KEY", 5).messages.create(**message("dear"))))  # fmt: skip
    item(2, "429", rated)
    item(2, "529", full)
