"""Files on the running stack, as OpenAI's own SDK and hostile peers use them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.harness.grants import MakeKey
from tests.support.harness.running_stack import RunningStack


def test_the_sdk_leaves_a_file_reads_it_and_takes_it_away(
    stack: RunningStack, make_key: MakeKey, tmp_path: Path
) -> None:
    """A path as programs give it; its content comes back as it was, and others do not see it."""
    mine, stranger = make_key("filing"), make_key("not-filing")
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"custom_id": "a"}\n' * 50_000)

    with (
        openai.OpenAI(base_url=stack.api_url, api_key=mine.key, max_retries=0) as client,
        openai.OpenAI(base_url=stack.api_url, api_key=stranger.key, max_retries=0) as other,
    ):
        made = client.files.create(file=path, purpose="batch")
        listed = [file.id for file in client.files.list(purpose="batch")]
        content = client.files.content(made.id).content
        with pytest.raises(openai.NotFoundError):
            other.files.content(made.id)
        with pytest.raises(openai.BadRequestError, match="purpose"):
            client.files.create(file=path, purpose="vision")
        assert client.files.delete(made.id).deleted
        assert [file.id for file in client.files.list()] == []

    assert (made.filename, made.bytes) == ("lines.jsonl", path.stat().st_size)
    assert listed == [made.id]
    assert content == path.read_bytes()


async def test_a_peer_that_leaves_in_the_middle_leaves_nothing(
    stack: RunningStack, make_key: MakeKey
) -> None:
    """And a client after it is served."""
    grant = make_key("leaving-files")
    url = httpx.URL(stack.api_url)
    head = (
        f"POST {url.path}/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {grant.key}\r\n"
        "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 1000000\r\n\r\n"
        '--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    for _ in range(6):
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(head.encode() + b"x" * 100_000)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with httpx.AsyncClient(
        base_url=stack.api_url, headers={"authorization": f"Bearer {grant.key}"}, trust_env=False
    ) as client:
        answer = await client.post("/files", data={"purpose": "batch"}, files={"file": ("a", b"x")})
        listed = (await client.get("/files")).json()["data"]

    assert answer.status_code == 200
    assert [file["id"] for file in listed] == [answer.json()["id"]]
    kept = [path for path in (stack.state_dir / "files/leaving-files").rglob("*") if path.is_file()]
    assert len(kept) == 2
