"""Tells the end of a batch by a webhook: a message in the outbox, before the batch counts as closed.

Whoever is killed between the two leaves it to the next owner, who makes the same message: its id follows from the batch and its
end, and everything in it from the batch's last state.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ingress.batches.batch import Batch
from schemas.config_state import Snapshot
from schemas.events import WebhookMessage
from schemas.outgoing import webhook_record
from schemas.runtime.kafka.produce import ProduceFailed, Producer
from schemas.webhook_messages import new_message
from schemas.webhooks import Webhooks

__all__ = ["end_message", "tell_end"]

_WITHIN_S: Final = 30.0


def end_message(batch: Batch, webhooks: Webhooks) -> WebhookMessage | None:
    """What is told of an ended batch; ``None`` where nobody wants to hear of it. Pure."""
    if batch.webhook_url is None and not webhooks.tells("batch"):
        return None
    at_s = batch.times[batch.status]
    data = {
        "id": batch.id,
        "object": "batch",
        "status": batch.status,
        "created_at": batch.created_at_s,
        "ended_at": at_s,
        "endpoint": batch.endpoint,
        "input_file_id": batch.input_file_id,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "request_counts": batch.counts,
        "usage": {
            "input_tokens": batch.input_tokens,
            "output_tokens": batch.output_tokens,
            "total_tokens": batch.input_tokens + batch.output_tokens,
        },
    }
    org, happened = batch.caller.org, f"batch.{batch.status}"
    return new_message(org, happened, batch.id, 1_000 * at_s, data, batch.webhook_url)


async def tell_end(batch: Batch, snapshot: Snapshot, producer: Producer) -> None:
    """Return once the log has what is to be told. Raises ``ProduceFailed``: the batch is closed later."""
    org = snapshot.organizations.get(batch.caller.org)
    message = None if org is None or org.webhooks is None else end_message(batch, org.webhooks)
    if message is None:
        return
    try:
        async with asyncio.timeout(_WITHIN_S):
            await producer.send(webhook_record(message, "ingress"))
    except TimeoutError as error:
        raise ProduceFailed(f"no acknowledgement within {_WITHIN_S} s") from error
