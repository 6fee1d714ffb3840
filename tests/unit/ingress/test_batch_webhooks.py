"""Ends of batches that are told by webhooks: each at least once, always as the same message."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import openai
import pytest

from ingress.batches import run as batch_run
from ingress.batches.batch import ENDED, Batch
from ingress.batches.ends import end_message
from ingress.batches.run import BatchRun
from ingress.batches.store import BatchStore
from ingress.files.stock import FilesAway
from schemas.codec import decode_as
from schemas.events import WebhookMessage
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.topics import WEBHOOKS
from schemas.webhook_messages import ENDS
from schemas.webhooks import Webhooks
from tests.support.batches import (
    batch_gateway,
    batch_store,
    begin_batch,
    input_line,
    own_batch,
    sdk_client,
)
from tests.support.gateway import Gateway

_OWN: Final = Webhooks(url="https://a.example/hook", allowed=("https://a.example/batches",))


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at by the second is looked at at once."""
    monkeypatch.setattr(batch_run, "_LOOK_S", 0.01)


def _gateway(folder: Path, webhooks: Webhooks | None = _OWN) -> Gateway:
    gateway = batch_gateway(folder)
    known = gateway.config.snapshot
    acme = msgspec.structs.replace(known.organizations["acme"], webhooks=webhooks)
    gateway.config.snapshot = replace(known, organizations={**known.organizations, "acme": acme})
    return gateway


def _told(gateway: Gateway) -> list[WebhookMessage]:
    records = [record for record in gateway.log.records if record.topic == WEBHOOKS]
    assert all(record.key == b"acme" for record in records)
    return [decode_as(record.value, WebhookMessage) for record in records]


async def _batch(gateway: Gateway, headers: dict[str, str] | None = None) -> Any:
    """A batch of one line."""
    file = (await begin_batch(gateway, [input_line("a")])).input_file_id
    return await sdk_client(gateway).batches.create(
        input_file_id=file,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        extra_headers=headers,
    )


async def test_a_completed_batch_is_told_where_its_results_are(tmp_path: Path) -> None:
    """By the ids of its files; nothing of what stands in them, nor of what its client calls it."""
    gateway = _gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line("a"), input_line("b")])
    await (await own_batch(gateway, begun.id)).run()

    (message,) = _told(gateway)
    ended = await sdk_client(gateway).batches.retrieve(begun.id)
    data = msgspec.json.decode(message.body)["data"]
    assert (message.type, data["id"], data["status"]) == ("batch.completed", begun.id, "completed")
    assert data["output_file_id"] == ended.output_file_id
    assert data["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert data["usage"] == {"input_tokens": 10, "output_tokens": 14, "total_tokens": 24}
    assert b"metadata" not in message.body


async def test_a_batch_of_a_wrong_file_is_told_as_failed(tmp_path: Path) -> None:
    """None of its lines ran."""
    gateway = _gateway(tmp_path)
    begun = await begin_batch(gateway, ["no json"])
    await (await own_batch(gateway, begun.id)).run()

    assert [message.type for message in _told(gateway)] == ["batch.failed"]


async def test_a_cancelled_batch_is_told_as_cancelled(tmp_path: Path) -> None:
    """Whatever had ended of it."""
    gateway = _gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line("a")])
    await sdk_client(gateway).batches.cancel(begun.id)
    await (await own_batch(gateway, begun.id)).run()

    assert [message.type for message in _told(gateway)] == ["batch.cancelled"]


async def test_a_batch_without_time_is_told_as_expired(tmp_path: Path) -> None:
    """Though its lines stand in a file, too."""
    gateway = _gateway(tmp_path)
    run = await own_batch(gateway, (await begin_batch(gateway, [input_line("a")])).id)
    run.batch = msgspec.structs.replace(run.batch, expires_at_s=0)
    await run.run()

    assert [message.type for message in _told(gateway)] == ["batch.expired"]


async def test_whoever_is_killed_before_it_is_closed_leaves_the_same_message_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, and in the status that was told: nothing of the batch is done again, though it was cancelled meanwhile."""
    gateway = _gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line("a")])
    close = BatchStore.close

    async def dies(_: BatchStore, __: Batch) -> None:
        raise FilesAway("killed")

    monkeypatch.setattr(BatchStore, "close", dies)
    with pytest.raises(FilesAway):
        await (await own_batch(gateway, begun.id)).run()
    monkeypatch.setattr(BatchStore, "close", close)
    await batch_store(gateway).ask_cancel("acme", begun.id)
    await (await own_batch(gateway, begun.id)).run()

    first, second = _told(gateway)
    assert first == second
    assert len(gateway.log.accepted) == 1
    assert await batch_store(gateway).open() == []


async def test_a_batch_stays_open_until_the_log_has_its_message(tmp_path: Path) -> None:
    """While the log is away nothing is told, and nothing is lost."""
    gateway = _gateway(tmp_path)
    begun = await begin_batch(gateway, ["no json"])
    gateway.log.is_away = True
    with pytest.raises(ProduceFailed):
        await (await own_batch(gateway, begun.id)).run()
    assert [batch for _, batch in await batch_store(gateway).open()] == [begun.id]

    gateway.log.is_away = False
    gateway.log.records.clear()
    await (await own_batch(gateway, begun.id)).run()

    assert [message.type for message in _told(gateway)] == ["batch.failed"]
    assert await batch_store(gateway).open() == []


@pytest.mark.parametrize(
    "webhooks", [None, Webhooks(allowed=_OWN.allowed), Webhooks(url=_OWN.url, events=("job",))]
)
async def test_who_does_not_want_to_hear_of_batches_is_told_nothing(
    tmp_path: Path, webhooks: Webhooks | None
) -> None:
    """And the log has no record for nobody."""
    gateway = _gateway(tmp_path, webhooks)
    begun = await begin_batch(gateway, [input_line("a")])
    await (await own_batch(gateway, begun.id)).run()

    assert _told(gateway) == []


async def test_a_batch_is_told_at_the_address_that_its_client_named(tmp_path: Path) -> None:
    """If its organization allows it; else there is no batch."""
    gateway = _gateway(tmp_path, Webhooks(allowed=_OWN.allowed))
    url = "https://a.example/batches/7"
    begun = await _batch(gateway, {"x-tallygate-webhook-url": url})
    for wrong in ("https://b.example/", "nonsense"):
        with pytest.raises(openai.BadRequestError) as caught:
            await _batch(gateway, {"x-tallygate-webhook-url": wrong})
        assert caught.value.param == "X-Tallygate-Webhook-Url"
    await (await own_batch(gateway, begun.id)).run()

    assert [message.url for message in _told(gateway)] == [url]


async def test_other_ends_and_other_batches_have_other_ids(tmp_path: Path) -> None:
    """An id is of a batch and its end."""
    gateway = _gateway(tmp_path)
    runs: list[BatchRun] = [
        await own_batch(gateway, (await begin_batch(gateway, [input_line("a")])).id)
        for _ in range(2)
    ]
    ended = [run.batch.to(status, 7) for run in runs for status in ("completed", "expired")]
    messages = [end_message(batch, _OWN) for batch in ended]

    assert len({message.message_id for message in messages if message is not None}) == 4


def test_all_ends_of_batches_are_in_the_list_of_events() -> None:
    """And the other way round."""
    assert set(ENDS["batch"]) == ENDED
