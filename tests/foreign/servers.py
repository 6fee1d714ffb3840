"""Servers that nobody here wrote, behind a real gateway: `python -m tests.foreign.servers [--with NAME ...]`.

Each is asked by `tallygate backends check --write` first, and then through the gateway: sync, stream, tools, an error, a client that
leaves. What is booked must be what the server itself says: in its answer, and where it counts for itself, in its own counters.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from deploy.bench.running_backend import end_process
from tests.foreign.packages import AIMOCK, LLAMA_CPP, LLAMA_CPP_PYTHON, node_with, python_with
from tests.support.harness.running_stack import TALLYGATE, RunningStack, running_stack

PROGRAMS = Path(__file__).parent / "programs"
_READY_S = 60.0
_BOOKED_S = 20.0
_MANY_TOKENS = 6_000
"""More than the tiny model makes within the cap that a gateway reads on for."""
_TOOL_TOKEN = "259"
"""Of the tiny model: begins a call of a tool."""
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "report",
            "description": "Reports a state.",
            "parameters": {
                "type": "object",
                "properties": {"state": {"type": "string", "enum": ["on", "off"]}},
                "required": ["state"],
            },
        },
    }
]
_CALLED = {"toolCalls": [{"name": "report", "arguments": '{"state":"on"}'}]}
_FIXTURES = {
    "fixtures": [
        {"match": {"toolName": "report"}, "response": _CALLED},
        {"match": {"userMessage": "long"}, "response": {"content": "word " * 2_000}},
        {"match": {}, "response": {"content": "hello there, this is a mock"}},
    ]
}


@dataclass(frozen=True)
class Server:
    """How one is started, what it is asked for, and what it counts by itself."""

    name: str
    command: Callable[[Path, int], list[str] | None]
    """Of a folder and a port; ``None`` where its packages cannot be had."""
    counts_output: Callable[[str], float] | None = None
    """Its own counter of tokens that it made, from the URL of its root."""
    is_llama: bool = False
    tools: bool = True


@dataclass
class Row:
    """What one case showed."""

    server: str
    case: str
    ok: bool
    saw: str


def _llama_cpp(folder: Path, port: int) -> list[str] | None:
    python = python_with(LLAMA_CPP)
    if python is None:
        return None
    return [
        str(python),
        str(PROGRAMS / "llama_cpp.py"),
        str(_tiny_model(python, folder)),
        str(port),
    ]


def _llama_cpp_python(folder: Path, port: int) -> list[str] | None:
    python = python_with(LLAMA_CPP_PYTHON, is_built=True)
    if python is None:
        return None
    model = _tiny_model(python, folder)
    options = ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048", "--n_threads", "1"]
    return [str(python), "-m", "llama_cpp.server", "--model", str(model), *options]


def _aimock(folder: Path, port: int) -> list[str] | None:
    home = node_with(AIMOCK)
    if home is None:
        return None
    fixtures = folder / "fixtures.json"
    fixtures.write_text(json.dumps(_FIXTURES))
    node, program = home / "node_modules/.bin/node", home / "node_modules/.bin/llmock"
    return [str(node), str(program), "-f", str(fixtures), "-p", str(port), "-l", "20"]


def _tiny_model(python: Path, folder: Path) -> Path:
    model = folder / "tiny.gguf"
    subprocess.run([python, PROGRAMS / "tiny_model.py", model], check=True, timeout=60)
    return model


def _predicted(root: str) -> float:
    """llama.cpp's own counter."""
    lines = httpx.get(f"{root}/metrics", trust_env=False).text.splitlines()
    return sum(
        float(line.split()[1])
        for line in lines
        if line.startswith("llamacpp:tokens_predicted_total ")
    )


SERVERS = (
    Server("llama.cpp", _llama_cpp, _predicted, is_llama=True),
    Server("aimock", _aimock),
    Server("llama-cpp-python", _llama_cpp_python, is_llama=True, tools=False),
)


@contextmanager
def _running(server: Server, folder: Path) -> Iterator[str | None]:
    """Its root URL, when it answers; ``None`` when it cannot be had."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = server.command(folder, port)
    if command is None:
        yield None
        return
    with (folder / f"{server.name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        root = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, f"{root}/v1/models", folder / f"{server.name}.log")
        yield root
    finally:
        end_process(process, 10)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until_s = time.monotonic() + _READY_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"it did not become ready:\n{log.read_text()[-2_000:]}")


class Trial:
    """One server behind the gateway."""

    def __init__(self, server: Server, root: str, stack: RunningStack) -> None:
        self.server, self.root, self.stack = server, root, stack
        self.rows: list[Row] = []
        self.model = ""
        self.client = openai.OpenAI(
            base_url=stack.api_url, api_key=stack.first_key, max_retries=0, timeout=60
        )
        self.admin = httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False)

    def run(self) -> list[Row]:
        """All cases; one that fails hides no other."""
        cases: list[Callable[[], tuple[bool, str]]] = [
            self.check, self.sync, self.stream, self.stream_unasked, self.cancel, self.error,
        ]  # fmt: skip
        if self.server.tools:
            cases[4:4] = [self.tools, self.stream_of_tools]
        for case in cases:
            try:
                ok, saw = case()
            except Exception as error:  # noqa: BLE001  # a case that fails hides no other
                ok, saw = False, f"{type(error).__name__}: {error}"
            self.rows.append(Row(self.server.name, case.__name__, ok, saw[:200]))
        return self.rows

    def check(self) -> tuple[bool, str]:
        """The kit writes the entries; a price comes from nowhere but us."""
        name = self.server.name.replace(".", "-")
        command = [str(TALLYGATE), "backends", "check", f"{self.root}/v1", "--json", "--write"]
        command += ["--url", self.stack.admin_url, "--name", name, "--idle-s", "6"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        told = json.loads(done.stdout)
        (self.model,) = told["entries"]["models"]
        known = self.admin.get(f"/models/{self.model}").json()
        body = {k: v for k, v in known.items() if k not in ("id", "version")}
        body |= {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
        self.admin.put(f"/models/{self.model}", json=body).raise_for_status()
        time.sleep(1.5)
        print(json.dumps({"server": self.server.name, "findings": told["findings"]}), flush=True)
        says = {f["about"]: f["says"] for f in told["findings"]}
        return done.returncode == 0, " ".join(f"{about}={word}" for about, word in says.items())

    def sync(self) -> tuple[bool, str]:
        """A whole answer."""
        return self._same(lambda: self._whole(self._body("hello", 24)))

    def stream(self) -> tuple[bool, str]:
        """A stream whose client asks for usage."""
        options = {"stream_options": {"include_usage": True}}
        return self._same(lambda: self._streamed(self._body("hello", 24) | options))

    def stream_unasked(self) -> tuple[bool, str]:
        """A client that does not ask gets no usage, and is billed exactly all the same."""
        before = self._counted()
        _, relayed, request_id = self._streamed(self._body("hello", 24))
        booked = self._booked(request_id)
        made = self._counted() - before
        ok = relayed is None and not booked["estimated"] and booked["output_tokens"] > 0
        if self.server.counts_output:
            ok = ok and booked["output_tokens"] == made
        return ok, f"client was told {relayed}; booked {_short(booked)}; it counted {made:.0f}"

    def tools(self) -> tuple[bool, str]:
        """A call of a tool, whole."""
        ok, saw = self._same(lambda: self._whole(self._tool_body()), kind="tool")
        return ok, saw

    def stream_of_tools(self) -> tuple[bool, str]:
        """A call of a tool in pieces."""
        options = {"stream_options": {"include_usage": True}}
        return self._same(lambda: self._streamed(self._tool_body() | options), kind="tool")

    def cancel(self) -> tuple[bool, str]:
        """A client that leaves ends the work, and what was made until then is booked."""
        before, pieces = self._counted(), 0
        # A random model ends by chance, unless its last token cannot come.
        endless: dict[str, Any] = {"logit_bias": {"2": -100}} if self.server.is_llama else {}
        raw = self.client.chat.completions.with_raw_response.create(
            **self._body("long", _MANY_TOKENS), **endless, stream=True
        )
        stream = raw.parse()
        for _ in stream:
            pieces += 1
            if pieces >= 5:
                break
        stream.close()
        booked = self._booked(str(raw.headers["x-request-id"]))
        time.sleep(1.0)
        made = self._counted() - before
        ok = booked["output_tokens"] >= pieces - 1
        if self.server.counts_output:
            ok = ok and made < _MANY_TOKENS
        return (
            ok,
            f"left after {pieces} pieces; {booked['status']}, booked {_short(booked)}; it counted {made:.0f} of {_MANY_TOKENS}",
        )

    def error(self) -> tuple[bool, str]:
        """A prompt above the context is the client's error, in the server's words; a mock has no context."""
        bad = {"temperature": "hot"} if not self.server.is_llama else {}
        prompt = "hello" if bad else "a " * 9_000
        try:
            answer = self.client.chat.completions.create(**(self._body(prompt, 8) | bad))
        except openai.BadRequestError as error:
            return True, f"BadRequestError {error.status_code} {error.code} {error.message}"
        except openai.APIStatusError as error:
            return False, f"{type(error).__name__} {error.status_code} {error.message}"
        return bool(bad), f"answered {answer.usage}"

    def _same(
        self, ask: Callable[[], tuple[Any, Any, str]], kind: str = "text"
    ) -> tuple[bool, str]:
        """Whether the answer is one, and its usage, the booking and the server's counter agree."""
        before = self._counted()
        message, usage, request_id = ask()
        booked = self._booked(request_id)
        made = self._counted() - before
        said = (usage.prompt_tokens, usage.completion_tokens) if usage else None
        ok = (
            bool(message)
            and said == (booked["input_tokens"], booked["output_tokens"])
            and not booked["estimated"]
        )
        if self.server.counts_output:
            ok = ok and made == booked["output_tokens"]
        if kind == "tool":
            ok = (
                ok
                and isinstance(message, list)
                and message[0][0] == "report"
                and json.loads(message[0][1])["state"] in ("on", "off")
            )
        return (
            ok,
            f"said {said}, booked {_short(booked)}, it counted {made:.0f}, {kind} {str(message)[:60]!r}",
        )

    def _counted(self) -> float:
        return self.server.counts_output(self.root) if self.server.counts_output else 0.0

    def _body(self, prompt: str, tokens: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
        }

    def _tool_body(self) -> dict[str, Any]:
        more: dict[str, Any] = {
            "tools": _TOOLS,
            "tool_choice": "required",
            "parallel_tool_calls": False,
        }
        if self.server.is_llama:
            more["logit_bias"] = {_TOOL_TOKEN: 100}
        return self._body("tool", 256) | more

    def _whole(self, body: dict[str, Any]) -> tuple[Any, Any, str]:
        raw = self.client.chat.completions.with_raw_response.create(**body)
        answer = raw.parse()
        message = answer.choices[0].message
        calls = [(c.function.name, c.function.arguments) for c in message.tool_calls or []]
        return calls or message.content, answer.usage, str(raw.headers["x-request-id"])

    def _streamed(self, body: dict[str, Any]) -> tuple[Any, Any, str]:
        raw = self.client.chat.completions.with_raw_response.create(**body, stream=True)
        text, usage = "", None
        calls: dict[int, list[str]] = {}
        for chunk in raw.parse():
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for call in choice.delta.tool_calls or []:
                    known = calls.setdefault(call.index, ["", ""])
                    known[0] += call.function.name or ""
                    known[1] += call.function.arguments or ""
        return list(calls.values()) or text, usage, str(raw.headers["x-request-id"])

    def _booked(self, request_id: str) -> dict[str, Any]:
        """The usage line of the request, once it is written."""
        until_s = time.monotonic() + _BOOKED_S
        while time.monotonic() < until_s:
            steps = self.admin.get(f"/requests/{request_id}").json().get("steps", [])
            lines = [s["facts"] for s in steps if s["what"] == "usage"]
            attempts = [s["facts"] for s in steps if s["what"] == "attempt"]
            if lines and attempts:
                return {**attempts[-1]}
            time.sleep(0.2)
        raise RuntimeError(f"nothing was booked for {request_id}")


def _short(booked: dict[str, Any]) -> str:
    mark = ", estimated" if booked["estimated"] else ""
    return f"({booked['input_tokens']}, {booked['output_tokens']}{mark})"


def main() -> int:
    """Try each server that can be had; 1 when a case failed, 0 also when none could be had."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [server.name for server in SERVERS]
    parser.add_argument("--with", dest="wanted", nargs="+", choices=names, default=names[:2])
    wanted = parser.parse_args().wanted
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder) / "state") as stack:
        for server in (each for each in SERVERS if each.name in wanted):
            try:
                with _running(server, Path(folder)) as root:
                    if root is not None:
                        rows += Trial(server, root, stack).run()
            except RuntimeError as error:
                rows.append(Row(server.name, "start", ok=False, saw=str(error)))
    for row in rows:
        print(f"{'ok     ' if row.ok else 'PROBLEM'} {row.server:17} {row.case:16} {row.saw}")
    print(
        f"{sum(row.ok for row in rows)} of {len(rows)} cases; servers: {', '.join(dict.fromkeys(r.server for r in rows)) or 'NONE'}"
    )
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
