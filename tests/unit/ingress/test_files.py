"""Files of clients, over a folder: uploaded, listed, read and deleted, and what is refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import httpx2
import obstore
import openai
import pytest

from ingress.files import upload
from ingress.files.names import content_path, file_id
from schemas.entities import Key, Organization
from schemas.ids import api_key_hash
from tests.support.configuration import NOW_MS, PEPPER, SECRET, UNKNOWN_SECRET
from tests.support.gateway import Gateway

_DAY_S: Final = 86_400
_STRANGER: Final = {"x-api-key": UNKNOWN_SECRET}


def _gateway(folder: Path, **settings: Any) -> Gateway:
    """With a second organization, whose key is as good."""
    gateway = Gateway(files_url=f"file://{folder}/files", **settings)
    known = gateway.config.snapshot
    key = Key(org="other", hash=api_key_hash(PEPPER, UNKNOWN_SECRET), display="", created_at_ms=0)
    gateway.config.snapshot = replace(
        known,
        organizations={**known.organizations, "other": Organization()},
        keys={**known.keys, "key_other": key},
        key_id_by_hash={**known.key_id_by_hash, key.hash: "key_other"},
    )
    return gateway


async def _upload(
    gateway: Gateway, content: bytes = b"{}\n", name: str = "in.jsonl", **more: Any
) -> httpx.Response:
    fields = {"purpose": "batch", **more.pop("fields", {})}
    return await gateway.client.post(
        "/v1/files", data=fields, files={"file": (name, content)}, **more
    )


def _stored(folder: Path) -> list[str]:
    found = (Path(at, name) for at, _, names in os.walk(folder) for name in names)
    return sorted(str(path.relative_to(folder / "files")) for path in found)


async def test_the_sdk_uploads_lists_reads_and_deletes(tmp_path: Path) -> None:
    """OpenAI's own client, unmodified, through all of its calls of files."""
    gateway = _gateway(tmp_path)
    http = openai.DefaultAsyncHttpxClient(transport=httpx2.ASGITransport(gateway.app))
    client = openai.AsyncOpenAI(base_url="http://gateway/v1", api_key=SECRET, http_client=http)
    content = b'{"custom_id": "\xc3\xa4"}\n' * 1_000

    made = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    brief = await client.files.create(
        file=("b", b"x"),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    listed = [file async for file in client.files.list(limit=1)]
    upwards = [file.id async for file in client.files.list(order="asc")]

    assert (made.bytes, made.filename, made.purpose) == (len(content), "lines.jsonl", "batch")
    assert (made.status, made.created_at) == ("processed", NOW_MS // 1_000)
    assert made.expires_at == made.created_at + 30 * _DAY_S
    assert brief.expires_at == brief.created_at + 3_600
    assert {file.id for file in listed} == {made.id, brief.id}
    assert upwards == [file.id for file in listed][::-1]
    assert (await client.files.retrieve(made.id)) == made
    assert (await client.files.content(made.id)).content == content
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)
    assert len(_stored(tmp_path)) == 2


async def test_a_file_of_another_organization_is_none(tmp_path: Path) -> None:
    """The same words as for an id that never was, and nothing is done to it."""
    gateway = _gateway(tmp_path)
    mine = (await _upload(gateway)).json()["id"]
    never = file_id(NOW_MS, b"\1" * 10)

    told = [
        await gateway.client.request(method, f"/v1/files/{name}{below}", headers=_STRANGER)
        for name in (mine, never)
        for method, below in (("GET", ""), ("GET", "/content"), ("DELETE", ""))
    ]

    assert {answer.status_code for answer in told} == {404}
    assert len({answer.text for answer in told}) == 1
    assert (await gateway.client.get("/v1/files", headers=_STRANGER)).json()["data"] == []
    assert (await gateway.client.get(f"/v1/files/{mine}/content")).content == b"{}\n"


@pytest.mark.parametrize("name", ["../../etc/passwd", "ä b.jsonl", 'q"uote', "x" * 255, ".", "a/b"])
async def test_a_file_may_be_called_anything_printable(tmp_path: Path, name: str) -> None:
    """Names are told and lead nowhere."""
    gateway = _gateway(tmp_path)

    made = (await _upload(gateway, name=name)).json()

    assert (await gateway.client.get(f"/v1/files/{made['id']}")).json()["filename"] == name
    assert all(path.startswith("acme/") for path in _stored(tmp_path))


@pytest.mark.parametrize(
    ("request_", "status", "word"),
    [
        ({"data": {"purpose": "batch"}, "files": {"other": ("a", b"x")}}, 400, "file"),
        ({"data": {"purpose": "evals"}, "files": {"file": ("a", b"x")}}, 400, "purpose"),
        ({"files": {"file": ("a", b"x")}}, 400, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"file": ("x" * 256, b"x")}}, 400, "name"),
        ({"data": {"purpose": "batch"}, "files": {"file": ("a\u202eb", b"x")}}, 400, "name"),
        (
            {
                "data": {"purpose": "batch", "expires_after[seconds]": "1"},
                "files": {"file": ("a", b"x")},
            },
            400,
            "expires_after[seconds]",
        ),
        (
            {
                "data": {"purpose": "batch", "expires_after[anchor]": "now"},
                "files": {"file": ("a", b"x")},
            },
            400,
            "expires_after[anchor]",
        ),
        ({"json": {"purpose": "batch"}}, 415, "multipart/form-data"),
        (
            {
                "content": b"--B\r\nContent-Dis",
                "headers": {"content-type": "multipart/form-data; boundary=B"},
            },
            400,
            "last boundary",
        ),
        ({"data": {"purpose": "b" * 5_000}, "files": {"file": ("a", b"x")}}, 413, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"file": ("a", b"x" * 2_000)}}, 413, "1024"),
        (
            {"data": {"purpose": "batch"}, "files": [("file", ("a", b"1")), ("file", ("b", b"2"))]},
            400,
            "two parts",
        ),
    ],
)
async def test_what_is_no_upload_is_refused_and_leaves_nothing(
    tmp_path: Path, request_: dict[str, Any], status: int, word: str
) -> None:
    """With what is wrong in words."""
    gateway = _gateway(tmp_path, file_bytes_max=1_024)

    answer = await gateway.client.post("/v1/files", **request_)

    assert answer.status_code == status
    assert word in answer.json()["error"]["message"]
    assert _stored(tmp_path) == []


async def test_an_upload_announced_as_too_large_is_refused_before_it_is_read(
    tmp_path: Path,
) -> None:
    """Nobody has to send it."""
    gateway = _gateway(tmp_path, file_bytes_max=1_024)
    headers = {"content-type": "multipart/form-data; boundary=B", "content-length": str(10**9)}

    answer = await gateway.client.post("/v1/files", content=_Never(), headers=headers)

    assert answer.status_code == 413


class _Never:
    """A body that nobody may read."""

    def __aiter__(self) -> _Never:
        return self

    async def __anext__(self) -> bytes:
        raise AssertionError("it is not read")


@pytest.mark.parametrize("settings", [{"org_files_max": 2}, {"org_files_bytes_max": 2_000}])
async def test_an_organization_has_a_quota_of_its_own(
    tmp_path: Path, settings: dict[str, int]
) -> None:
    """Which is full until something is deleted, and which others do not notice."""
    gateway = _gateway(tmp_path, **settings)
    first = (await _upload(gateway, b"x" * 900)).json()["id"]
    await _upload(gateway, b"x" * 900)

    refused = await _upload(gateway, b"x" * 900)
    other = await _upload(gateway, b"x" * 900, headers=_STRANGER)
    await gateway.client.delete(f"/v1/files/{first}")
    again = await _upload(gateway, b"x" * 900)

    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
    assert (other.status_code, again.status_code) == (200, 200)


async def test_uploads_at_once_do_not_exceed_a_quota(tmp_path: Path) -> None:
    """Each is compared with what is there behind its content, too."""
    gateway = _gateway(tmp_path, org_files_bytes_max=2_000)

    answers = await asyncio.gather(*(_upload(gateway, b"x" * 900) for _ in range(4)))

    listed = (await gateway.client.get("/v1/files")).json()["data"]
    assert {answer.status_code for answer in answers} <= {200, 413}
    assert sum(file["bytes"] for file in listed) <= 2_000
    assert len(_stored(tmp_path)) == 2 * len(listed)


async def test_what_is_over_or_was_left_is_taken_away_by_the_next_upload(tmp_path: Path) -> None:
    """A file past its end, and content that a killed process never described, which count no more."""
    gateway = _gateway(tmp_path, org_files_max=1)
    shelf = gateway.public.files
    assert shelf is not None
    late_ms = NOW_MS - 26 * 3_600_000
    left, young = (file_id(at_ms, bytes(10)) for at_ms in (late_ms, NOW_MS))
    await shelf.store.write(content_path("acme", left), _pieces(b"left"))
    made = (await _upload(gateway)).json()
    assert "id" in made

    gateway.gatekeeper.clock.now_ms = lambda: NOW_MS + 31 * _DAY_S * 1_000  # type: ignore[method-assign]
    over = await gateway.client.get(f"/v1/files/{made['id']}")
    again = await _upload(gateway)

    assert (over.status_code, again.status_code) == (404, 200)
    assert len(_stored(tmp_path)) == 2
    await shelf.store.write(content_path("acme", young), _pieces(b"under way"))
    assert (await shelf.store.stock("acme", NOW_MS)).sizes[young] == 9


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_peer_that_never_sends_the_rest_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is free again."""
    monkeypatch.setattr(upload, "_SILENT_S", 0.05)
    gateway = _gateway(tmp_path)
    headers = {"content-type": "multipart/form-data; boundary=B"}

    async def stalls() -> AsyncIterator[bytes]:
        yield (
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            + b"x" * 9_000
        )
        await asyncio.sleep(60)

    answers = [
        await gateway.client.post("/v1/files", content=stalls(), headers=headers) for _ in range(5)
    ]

    assert {answer.status_code for answer in answers} == {408}
    assert (await _upload(gateway)).status_code == 200
    assert len(_stored(tmp_path)) == 2


async def test_uploads_at_once_are_bounded(tmp_path: Path) -> None:
    """Each holds memory: one organization has four, and others have theirs beside them."""
    gateway, gate = _gateway(tmp_path), asyncio.Event()

    async def waits() -> AsyncIterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        await gate.wait()
        yield b'\r\n--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--B--'

    headers = {"content-type": "multipart/form-data; boundary=B"}
    running = [
        asyncio.create_task(gateway.client.post("/v1/files", content=waits(), headers=headers))
        for _ in range(4)
    ]
    await asyncio.sleep(0.05)
    refused, other = await _upload(gateway), await _upload(gateway, headers=_STRANGER)
    gate.set()

    assert (refused.status_code, other.status_code) == (429, 200)
    assert [answer.status_code for answer in await asyncio.gather(*running)] == [200] * 4


async def test_a_store_that_is_away_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with a hint, whatever was asked for."""
    gateway = _gateway(tmp_path)
    mine = (await _upload(gateway)).json()["id"]

    async def away(*_: object, **__: object) -> None:
        raise PermissionError("not permitted")

    def listed(*_: object, **__: object) -> _Broken:
        return _Broken()

    monkeypatch.setattr(obstore, "list", listed)
    monkeypatch.setattr(obstore, "put_async", away)
    answers = [
        await gateway.client.get("/v1/files"),
        await gateway.client.get(f"/v1/files/{mine}"),
        await gateway.client.get(f"/v1/files/{mine}/content"),
        await gateway.client.delete(f"/v1/files/{mine}"),
        await _upload(gateway),
    ]

    assert {(a.status_code, a.json()["error"]["code"]) for a in answers} == {
        (503, "service_unavailable")
    }
    assert all("retry-after" in answer.headers for answer in answers)
    assert "not permitted" not in "".join(answer.text for answer in answers)


class _Broken:
    """A listing that fails."""

    def __aiter__(self) -> _Broken:
        return self

    async def __anext__(self) -> Any:
        raise PermissionError("not permitted")


async def test_without_a_store_there_are_no_files() -> None:
    """And the answer says which setting is missing."""
    gateway = Gateway()

    for answer in (
        await gateway.client.get("/v1/files"),
        await gateway.client.get(f"/v1/files/{file_id(NOW_MS, bytes(10))}"),
        await _upload(gateway),
    ):
        assert answer.status_code == 404
        assert "TALLYGATE_FILES_URL" in answer.json()["error"]["message"]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=10001", "order=up"])
async def test_what_a_page_cannot_be_is_refused(tmp_path: Path, query: str) -> None:
    """By the name of the field."""
    answer = await _gateway(tmp_path).client.get(f"/v1/files?{query}")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.partition("=")[0])
