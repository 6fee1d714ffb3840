"""A coding agent that nobody here wrote, at work through a gateway in both protocols: `python -m tests.foreign.agents`.

pi (npm, MIT) gets a task in a folder of its own and the tools it brings: it reads files, runs commands and writes. What the model says is
scripted: each result of a tool says what is called next. A session is right when the work is done, every call of the backend was answered, and
what the gateway booked is what the backend's own log says. The backend of Anthropic's protocol refuses thoughts whose signature is not
its own, calls without their results, and fields that it does not know.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from tests.foreign.packages import PI, node_with
from tests.support.fakes.anthropic_backend import KEY
from tests.support.fakes.call_log import Call
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.claude import CLAUDE, claude_model
from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.running_stack import RunningStack, running_stack

TURNS: Final = 20
_WITHIN_S: Final = 200.0
_CATCH_UP_S: Final = 30.0
_EITHER: Final = "either"


class Session(NamedTuple):
    """What the agent speaks, and the model that it asks for."""

    api: str
    model: str
    asked: str
    """What its backend speaks, for people."""


SESSIONS: Final = (
    Session("anthropic-messages", CLAUDE, "Anthropic's protocol, passed"),
    Session("openai-completions", CLAUDE, "Anthropic's protocol, translated"),
    Session("anthropic-messages", MODEL, "OpenAI's protocol, translated"),
    Session("openai-completions", MODEL, "OpenAI's protocol"),
    Session("anthropic-messages", _EITHER, "both, Anthropic's first and full each time"),
)


def _call(tool: str, **arguments: Any) -> str:
    """What makes the backend call a tool."""
    call = {"name": tool, "arguments": json.dumps(arguments)}
    return steer(output_tokens=2, call=call)


def lay_out(folder: Path) -> str:
    """The task's folder: what each step finds says the next one; the first one is the prompt."""
    for number in range(1, TURNS - 1):
        is_last = number == TURNS - 2
        command = f"echo {number} >> notes.txt; cat step-{number + 1}.json"
        step = (
            _call("write", path="done.txt", content="done\n")
            if is_last
            else _call("bash", command=command)
        )
        (folder / f"step-{number}.json").write_text(step)
    return _call("read", path="step-1.json")


def is_done(folder: Path) -> bool:
    """Whether the agent did it all."""
    notes, done = folder / "notes.txt", folder / "done.txt"
    told = notes.read_text().split() if notes.exists() else []
    return told == [str(number) for number in range(1, TURNS - 2)] and done.exists()


def _run(home: Path, stack: RunningStack, session: Session, folder: Path) -> tuple[int, str]:
    """One session; its exit code and what it says at the end."""
    work, config = folder / "work", folder / "config"
    for each in (work, config):
        each.mkdir(parents=True)
    is_anthropic = session.api == "anthropic-messages"
    url = stack.api_url.removesuffix("/v1") if is_anthropic else stack.api_url
    provider = {
        "baseUrl": url,
        "api": session.api,
        "apiKey": stack.first_key,
        "models": [{"id": session.model, "reasoning": is_anthropic}],
    }
    (config / "models.json").write_text(json.dumps({"providers": {"tallygate": provider}}))
    told = {"PI_CODING_AGENT_DIR": str(config), "PI_TELEMETRY": "0", "HOME": str(folder)}
    program = [str(home / "node_modules/.bin/node"), str(home / "node_modules/.bin/pi")]
    options = ["-p", "--offline", "--no-session", "--provider", "tallygate", "--model", session.model]  # fmt: skip
    options += ["--thinking", "low"] if is_anthropic else []
    done = subprocess.run(
        [*program, *options, lay_out(work)],
        cwd=work,
        env={**os.environ, **told},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    return done.returncode, (done.stderr or done.stdout)[-300:]


def _configure(admin: httpx.Client, claude: RunningBackend, fake: RunningBackend) -> None:
    """A model that both answer for: the one of Anthropic's protocol is asked first, and full under the name it has there."""
    price = {"input_usd_per_mtok": "0.5", "output_usd_per_mtok": "1.5"}
    full = {"backend": claude.name, "weight": 1, "upstream_model": "fake-529"}
    targets = [full, {"backend": fake.name, "weight": 0, "upstream_model": MODEL}]
    admin.put(f"/models/{_EITHER}", json={"backends": targets, **price}).raise_for_status()
    time.sleep(2)


def _booked(log: KafkaLog, calls: list[Call]) -> Iterator[dict[str, Any]]:
    """The usage lines of the calls' requests that say they used anything."""
    wanted = {call.start.request_id for call in calls}

    def found(records: list[Any]) -> list[dict[str, Any]]:
        lines = [r.value for r in records if r.value["request_id"] in wanted]
        return [line for line in lines if line["input_tokens"]]

    yield from found(
        log.read("usage.records.v1", lambda read: len(found(read)) >= len(wanted), _CATCH_UP_S)
    )


def _judged(
    session: Session, code: int, said: str, folder: Path, calls: list[Call], lines: list[dict[str, Any]], took_s: float
) -> bool:  # fmt: skip
    """Says what came of a session, and whether it is right."""
    answered = [call for call in calls if call.end and call.end.status == 200]
    spent = (sum(c.prompt_tokens for c in answered), sum(c.completion_tokens for c in answered))
    booked = (sum(x["input_tokens"] for x in lines), sum(x["output_tokens"] for x in lines))
    exact = not any(line["estimated"] for line in lines)
    is_right = (
        code == 0 and is_done(folder) and len(answered) == TURNS and spent == booked and exact
    )
    word = "ok     " if is_right else "PROBLEM"
    cached, written = (
        sum(line[name] for line in lines) for name in ("cached_tokens", "cache_write_tokens")
    )
    print(
        f"{word} {session.api:20} {session.asked:45} exit {code}, {len(answered)} of {TURNS} turns, {len(calls) - len(answered)} calls "
        f"that another answered, backend {spent[0]} in {spent[1]} out, booked {booked[0]} in ({cached} read from a cache, {written} written) {booked[1]} out, {took_s:.1f} s"
    )
    if not is_right:
        print(f"        {said.strip()}")
    return is_right


def main() -> int:
    """All sessions; 1 where one is not right, 0 also when the agent could not be had."""
    home = node_with(PI)
    if home is None:
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as named, ExitStack() as running:
        folder = Path(named)
        fake = running.enter_context(running_backend("fake-a", folder / "fake-a.jsonl"))
        key = {"BACKEND_CLAUDE_API_KEY": KEY}
        stack = running.enter_context(running_stack(folder / "state", [fake], environment=key))
        admin = running.enter_context(
            httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False)
        )
        claude = running.enter_context(claude_model(admin, folder, CLAUDE))
        _configure(admin, claude, fake)
        log = KafkaLog(stack.kafka)
        for number, session in enumerate(SESSIONS):
            before = len(fake.calls()), len(claude.calls())
            begun = time.monotonic()
            own = folder / f"session-{number}"
            code, said = _run(home, stack, session, own)
            took_s = time.monotonic() - begun
            calls = [*fake.calls()[before[0] :], *claude.calls()[before[1] :]]
            lines = list(_booked(log, [c for c in calls if c.end and c.end.status == 200]))
            wrong += not _judged(session, code, said, own / "work", calls, lines, took_s)
    print(f"{len(SESSIONS) - wrong} of {len(SESSIONS)} sessions of {TURNS} turns")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
