"""What `tallygate up` shows: progress lines, the banner, and its one-line twin for programs."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from deploy.embedded.process import Progress


@dataclass(frozen=True)
class Facts:
    """Where a running stack is reached. `key` is a secret that is meant to be shown."""

    apis: tuple[str, ...]
    grpc: str
    admins: tuple[str, ...]
    kafka: str
    ledger: str
    bus: str
    metrics: tuple[str, ...]
    key: str
    models: tuple[str, ...]
    state_dir: str


def render_progress(progress: Progress) -> str:
    """`✓ kafka  127.0.0.1:9092  1.9 s`."""
    mark = "✓" if progress.is_ok else "✗"
    seconds = "" if progress.seconds is None else f"{progress.seconds:6.1f} s"
    return f"{mark} {progress.name:<18} {progress.text:<26}{seconds}".rstrip()


def render_banner(facts: Facts) -> str:
    """The banner of a stack that is ready; the curl line works when pasted."""
    metrics = ", ".join(f"{url}/metrics" for url in facts.metrics)
    lines = [
        "",
        "Tallygate is ready.  One machine, one disk: not for production.  ^C to stop.",
        "",
        f"API      {', '.join(facts.apis)}",
        f"gRPC     {facts.grpc}",
        f"Admin    {', '.join(facts.admins)}",
        f"Kafka    {facts.kafka}",
        f"Ledger   {facts.ledger}",
        f"Metrics  {metrics}",
        f"Key      {facts.key}",
        f"Models   {', '.join(facts.models) or 'none yet; add one with tallygate models set'}",
        f"State    {facts.state_dir}",
    ]
    if facts.models:
        lines += ["", "Try      " + _curl(facts)]
    return "\n".join([*lines, ""])


def render_json(facts: Facts) -> str:
    """The same for programs, as one line."""
    shown = {"api": facts.apis[0], "admin": facts.admins[0], "key": facts.key, "kafka": facts.kafka}
    shown |= {"ledger": facts.ledger, "bus": facts.bus, "grpc": facts.grpc}
    return json.dumps({**shown, "apis": facts.apis, "admins": facts.admins})


def _curl(facts: Facts) -> str:
    message = {"role": "user", "content": "hello from the ledger"}
    body = json.dumps({"model": facts.models[0], "messages": [message]})
    arguments = [f"{facts.apis[0]}/chat/completions", "-H", f"Authorization: Bearer {facts.key}"]
    arguments += ["-H", "Content-Type: application/json", "-d", body]
    return shlex.join(["curl", *arguments])
