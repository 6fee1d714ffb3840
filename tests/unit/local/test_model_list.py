"""A backend's list of models is read in any form, and costs at most itself (faults.md C11)."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deploy.embedded import upstreams
from deploy.embedded.model_list import MODELS_MAX, ModelList, naming, read_models
from deploy.embedded.upstreams import Unreachable, Upstream, discover_models, models_told
from tests.unit.cli.scripted_admin import Gateway, run

PATH, SPACES, AT = "/models/llama-3-8b-instruct", "My Model (v2).gguf", "@cf/meta/llama-3.1-8b"
LISTS: dict[str, tuple[Any, ModelList | None]] = {
    "OpenAI": ({"object": "list", "data": [{"id": "b"}, {"id": "a"}]}, ModelList(("b", "a"))),
    "a path": ({"data": [{"id": PATH}, {"id": "good"}]}, ModelList(("good",), (PATH,))),
    "spaces": ({"data": [{"id": SPACES}, {"id": "good"}]}, ModelList(("good",), (SPACES,))),
    "an @": ({"data": [{"id": AT}, {"id": "good"}]}, ModelList(("good",), (AT,))),
    "too long": ({"data": [{"id": "x" * 200}, {"id": "good"}]}, ModelList(("good",), ("x" * 200,))),
    "twice the same": ({"data": [{"id": "a"}, {"id": "a"}]}, ModelList(("a",))),
    "a number": ({"data": [{"id": 7}, {"id": "good"}]}, ModelList(("good",))),
    "nothing in it": ({"data": []}, ModelList()),
    "no list in it": ({"object": "list", "data": None}, None),
    "Ollama": (
        {"models": [{"name": "llama3:8b", "model": "llama3:8b"}]},
        ModelList(("llama3:8b",)),
    ),
    "an array": ([{"id": "a"}, {"name": "b"}], ModelList(("a", "b"))),
    "an array of texts": (["a", " b", ""], ModelList(("a",), (" b",))),
    "an array of anything": ([None, 5, [], {}, {"id": None}], ModelList()),
    "an error": ({"error": {"message": "no"}}, None),
    "a text": ("models", None),
    "a number alone": (5, None),
}


@pytest.mark.parametrize(("document", "found"), LISTS.values(), ids=LISTS)
def test_models_are_found_in_any_form_of_a_list(document: Any, found: ModelList | None) -> None:
    """What can be asked for is served; what cannot is kept to be named."""
    assert read_models(document) == found


def test_a_list_has_a_bound() -> None:
    """Each model is a call of the admin API."""
    found = read_models([f"m{number}" for number in range(2 * MODELS_MAX)])

    assert found is not None
    assert len(found.models) == MODELS_MAX


@pytest.mark.parametrize(
    ("name", "model"),
    [
        (PATH, "models/llama-3-8b-instruct"),
        (SPACES, "My-Model-v2-.gguf"),
        (AT, "cf/meta/llama-3.1-8b"),
        ("x" * 200, "x" * 128),
        ("--help", "help"),
        ("it's; rm -rf $HOME", "it-s-rm--rf-HOME"),
        ("模型", "model"),
    ],
)
def test_a_name_that_cannot_be_one_here_gets_the_command_that_adds_it(
    name: str, model: str
) -> None:
    """It is understood as it stands, by a shell and by the command line."""
    gateway = Gateway({f"PUT /models/{model.replace('/', '%2F')}": {"id": model, "version": 1}})

    tallygate, *arguments = shlex.split(naming("gpu-1", name))
    code, _, story = run(gateway, *arguments)

    assert (tallygate, code, story) == ("tallygate", 0, "")
    assert gateway.sent() == {
        "backends": [{"backend": "gpu-1", "weight": 1, "upstream_model": name}]
    }


@pytest.mark.parametrize("name", ["x" * 257, "a\x1b[2Jb", "a\nb", "\u202ea"])
def test_a_name_that_cannot_even_be_sent_is_not_shown(name: str) -> None:
    """It would move a cursor."""
    assert name not in naming("gpu-1", name)


def test_what_is_told_of_a_list_says_how_to_add_the_others() -> None:
    """One line each, and not for ever."""
    upstream = Upstream("gpu", "http://h/v1")
    served, path, spaces = models_told(upstream, ModelList(("good",), (PATH, SPACES)))
    (away,) = models_told(upstream, Unreachable(upstream, "status 404"))

    assert served == "http://h/v1 serves good"
    assert path.endswith(f": {naming('gpu', PATH)}")
    assert spaces.endswith("--upstream-model=My Model (v2).gguf'")
    assert away == (
        "http://h/v1 lists no models (status 404); add them: tallygate models set NAME --backend gpu"
    )
    many = ModelList((), tuple(f"/{number}" for number in range(50)))
    assert len(list(models_told(upstream, many))) == 1 + 20 + 1


Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _server(reply: Reply) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that answers every request so, and keeps what was asked."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0])
        try:
            await reply(writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def _sends(body: bytes, status: str = "200 OK") -> Reply:
    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return reply


async def _hangs(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{")
    await asyncio.sleep(30)


async def _never_ends(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    while True:
        writer.write(piece)
        await writer.drain()


async def _found(reply: Reply, path: str = "/v1") -> ModelList | Unreachable:
    async with _server(reply) as (address, _):
        return await discover_models(Upstream("gpu", f"http://{address}{path}"), {})


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (_sends(b"<html>no</html>"), "no JSON"),
        (_sends(b"[" * 100_000), "no JSON"),
        (_sends(b'"models"'), "no list of models"),
        (_sends(b"{}", "404 Not Found"), "status 404"),
        (_sends(b"", "302 Found\r\nlocation: http://127.0.0.1:9/"), "status 302"),
        (_hangs, "TimeoutError"),
        (_never_ends, "larger than"),
        (_sends(b"", "nonsense"), "RemoteProtocolError"),
    ],
    ids=["HTML", "too deep", "no list", "no such page", "elsewhere", "a hang", "no end", "no HTTP"],
)
async def test_a_list_that_cannot_be_read_says_why(
    reply: Reply, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And costs no more than the models of its backend."""
    monkeypatch.setattr(upstreams, "DISCOVERY_DEADLINE_S", 0.5)

    found = await _found(reply)

    assert isinstance(found, Unreachable)
    assert why in found.why


async def test_a_list_of_a_megabyte_is_read() -> None:
    """Catalogues of resellers are that large."""
    body = b'{"data":[' + b",".join(
        b'{"id":"m%d","x":"%s"}' % (n, b"x" * 2_000) for n in range(500)
    )

    assert await _found(_sends(body + b"]}")) == ModelList(tuple(f"m{n}" for n in range(500)))


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1", "GET /v1/models HTTP/1.1"),
        ("/openai?api-version=2024-10-21", "GET /openai/models?api-version=2024-10-21 HTTP/1.1"),
    ],
)
async def test_a_query_of_an_address_stays_last(path: str, asked: str) -> None:
    """Behind the path of the operation (faults.md D5)."""
    async with _server(_sends(b'{"data":[]}')) as (address, heard):
        await discover_models(Upstream("gpu", f"http://{address}{path}"), {})

    assert heard == [asked]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_no_proxy_of_the_environment_gets_a_discovery(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens there, and the backend's key is meant for nobody else."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9")

    assert await _found(_sends(b'{"data":[{"id":"a"}]}')) == ModelList(("a",))
