"""What commands find besides the admin API, always the same: Kafka, this machine, the current folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import schemas.runtime.kafka.topic_admin
from deploy.cli import tail
from deploy.cli.doctor import asking
from deploy.cli.doctor.facts import Kafka
from deploy.cli.doctor.finding import Finding
from schemas.runtime.kafka.topic_admin import TopicState
from schemas.topic_facts import TopicFacts
from tests.support.calls_in_code import ROOT
from tests.unit.cli.commands_with_answers import FILE

_TOPICS = [TopicState("audit.router", 3, True, False), TopicState("t", 0, False, False)]
_RECORD = {"topic": "t", "offset": 7, "key": "ü", "value": {"a": [1, None, 0.1]}}


@contextmanager
def fixed_world(record: dict[str, Any] = _RECORD) -> Iterator[None]:
    """Two topics, two records of one of them, a Python, no Java, a ``tallygate.yaml``."""

    async def topics(*_: object) -> list[TopicState]:
        return _TOPICS

    async def follow(*arguments: Any, oldest: bool) -> int:
        arguments[3](record | {"asked": [*arguments[:3], oldest]})
        arguments[3](record | {"malformed": "too short"})
        return 1

    with ExitStack() as stack:
        stack.enter_context(chdir(stack.enter_context(TemporaryDirectory())))
        Path("tallygate.yaml").write_text(FILE, encoding="utf-8")
        shutil.copy(ROOT / "tests" / "support" / "price_files" / "model_prices.json", "prices.json")
        for target, name, value in (
            (schemas.runtime.kafka.topic_admin, "list_topics", topics),
            (schemas.runtime.kafka.topic_admin, "apply_topics", topics),
            (tail, "tail", follow),
            (
                asking,
                "of_this_machine",
                lambda: [Finding("java", "/j", "is missing", "pip install x")],
            ),
            (asking, "ask_kafka", lambda *_: Kafka("h:1", [TopicFacts("audit.router", 3, 1)])),
            (asking, "_ports", list),
            (asking, "_LOOKS", 1),
        ):
            stack.enter_context(patch.object(target, name, value))
        yield
