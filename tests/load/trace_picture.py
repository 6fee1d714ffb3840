"""Draws one trace that covers all hops, of a real run: `python -m tests.load.trace_picture [--out FILE]`.

A stack, two backends, a receiver of traces. Requests are sent until one fails over, so that both of its attempts are in the
picture; the last of some that came before it is drawn, because a process that has just begun is slow.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx

from tests.support.fakes.behaviour import PLAIN_MODEL
from tests.support.fakes.running_backend import running_backend
from tests.support.harness.gateway_client import steer
from tests.support.harness.running_stack import REPOSITORY, RunningStack, running_stack
from tests.support.otlp_receiver import Receiver, Seen, otlp_receiver
from tests.support.trace_drawing import draw_trace

OUT: Final = REPOSITORY / "docs" / "pictures" / "trace.svg"
_WARM_UP: Final = 100
_TRIES: Final = 40
_CLIENTS_SPAN: Final = "00f067aa0ba902b7"
_ATTEMPTS: Final = 2
_TITLE: Final = "POST /v1/chat/completions: the first backend answers 500, the second answers"


def traced(stack: RunningStack, receiver: Receiver) -> list[Seen]:
    """The spans of a request that failed over. Raises ``RuntimeError`` where none does."""
    headers = {"authorization": f"Bearer {stack.first_key}"}
    with httpx.Client(base_url=stack.api_url, headers=headers, trust_env=False) as client:

        def ask(content: str) -> list[Seen]:
            trace_id = secrets.token_hex(16)
            client.post(
                "/chat/completions",
                json={"model": PLAIN_MODEL, "messages": [{"role": "user", "content": content}]},
                headers={"traceparent": f"00-{trace_id}-{_CLIENTS_SPAN}-01"},
            ).raise_for_status()
            return receiver.wait_for(trace_id, _is_whole)

        for _ in range(_WARM_UP):
            body = {"model": PLAIN_MODEL, "messages": [{"role": "user", "content": "warm"}]}
            client.post("/chat/completions", json=body).raise_for_status()
        for _ in range(_TRIES):
            spans = ask(steer(mode="500", only="fake-a", delay_ms=20))
            if sum(span.name.startswith("chat ") for span in spans) == _ATTEMPTS:
                return spans
    raise RuntimeError("no request failed over")


def _is_whole(spans: list[Seen]) -> bool:
    """Whether each process has told the last of its part."""
    names = {span.name for span in spans}
    workers = {f"process inference.{topic}.v1" for topic in ("requests", "dispatch", "outcomes")}
    return workers <= names and any(span.kind == "server" for span in spans)


def main() -> int:
    """Run and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    out: Path = parser.parse_args().out
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="tallygate-trace-")))
        receiver = running.enter_context(otlp_receiver())
        backends = [
            running.enter_context(running_backend(name, folder / f"{name}.jsonl"))
            for name in ("fake-a", "fake-b")
        ]
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        }
        stack = running.enter_context(
            running_stack(folder / "state", backends, environment=environment)
        )
        spans = traced(stack, receiver)
    out.parent.mkdir(exist_ok=True)
    out.write_text(draw_trace(spans, _TITLE), encoding="utf-8")
    print(f"{out}: {len(spans)} spans of {len({span.process for span in spans})} processes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
