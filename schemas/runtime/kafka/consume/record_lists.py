"""Lists of fetched records as messages of Faust's: one event for all of them, on the way that each would go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faust import Schema
from faust.types import TP, ConsumerMessage

__all__ = ["RecordLists", "list_message"]


class RecordLists(Schema):  # type: ignore[type-arg]  # of keys and values that are never decoded
    """Hands the list on as it is; decoding is the handler's, which has a way for what it cannot decode."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        """A list has no key of its own."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The records as aiokafka gave them."""
        del app
        return message.value


def list_message(records: Sequence[Any], generation: int) -> ConsumerMessage:
    """Fetched records of one topic as a message of the group's generation. It stands where its first record
    does, which is of a partition that is ours."""
    first = records[0]
    return ConsumerMessage(
        first.topic,
        first.partition,
        first.offset,
        first.timestamp / 1000,
        first.timestamp_type,
        None,
        None,
        records,  # type: ignore[arg-type]  # a list, which only our own agent takes
        None,
        tp=TP(first.topic, first.partition),
        generation_id=generation,
    )
