"""What is published of the API is answered to anybody, whole once and by its ETag from then on."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette

from schemas.api_pages import API_PAGE, API_PATHS, LLMS, LLMS_FULL, OPENAPI
from schemas.runtime.process.published import FOLDER, api_routes
from tests.support.gateway import Gateway


def _client() -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Starlette(routes=[*api_routes()]))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


@pytest.mark.parametrize(
    ("path", "name", "media"),
    [
        (OPENAPI, "openapi.json", "application/json"),
        (API_PAGE, "docs.html", "text/html"),
        (LLMS, "llms.txt", "text/markdown"),
        (LLMS_FULL, "llms-full.txt", "text/markdown"),
    ],
)
async def test_the_file_is_answered_as_it_is(path: str, name: str, media: str) -> None:
    """Under its content type."""
    answer = await _client().get(path)

    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == media
    assert answer.content == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("asked", ["{}", 'W/"x", {}'])
@pytest.mark.parametrize("path", sorted(API_PATHS))
async def test_whoever_has_it_gets_no_body_again(path: str, asked: str) -> None:
    """Also one who knows several."""
    client = _client()
    etag = (await client.get(path)).headers["etag"]

    answer = await client.get(path, headers={"if-none-match": asked.format(etag)})

    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


async def test_whoever_has_another_gets_this_one() -> None:
    """A version later the file is another."""
    answer = await _client().get(OPENAPI, headers={"if-none-match": '"another"'})

    assert answer.status_code == 200
    assert answer.content


async def test_a_browser_may_load_nothing_for_the_page() -> None:
    """Whatever stands in it."""
    answer = await _client().get(API_PAGE)

    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_it_does_not_wait_for_the_gateway_to_open() -> None:
    """Nothing that it says depends on a broker or a store."""
    gateway = Gateway()
    gateway.gatekeeper.is_open = False

    answer = await gateway.client.get(OPENAPI)

    assert answer.status_code == 200
