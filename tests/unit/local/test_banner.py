"""What the user sees."""

from __future__ import annotations

import json
import shlex

import pytest

from deploy.embedded.banner import Facts, render_banner, render_json, render_progress
from deploy.embedded.example_backend import echo
from deploy.embedded.process import LONGEST_DELAY_S, Progress, restart_delay_s

FACTS = Facts(
    apis=("http://127.0.0.1:8080/v1", "http://127.0.0.1:8090/v1"),
    grpc="127.0.0.1:8081",
    admins=("http://127.0.0.1:8443/admin/v1",),
    kafka="127.0.0.1:9092",
    ledger="redis://127.0.0.1:6390/0",
    bus="redis://127.0.0.1:6391/0",
    metrics=("http://127.0.0.1:9101",),
    key="tg_live_abc",
    models=("echo-1",),
    state_dir="/state",
)


def test_the_curl_line_carries_key_model_and_valid_json() -> None:
    """It works when pasted."""
    line = next(row for row in render_banner(FACTS).splitlines() if "curl" in row)

    arguments = shlex.split(line.removeprefix("Try"))

    assert arguments[:2] == ["curl", "http://127.0.0.1:8080/v1/chat/completions"]
    assert "Authorization: Bearer tg_live_abc" in arguments
    assert json.loads(arguments[-1])["model"] == "echo-1"


def test_the_json_line_has_the_documented_fields() -> None:
    """Programs read it."""
    assert json.loads(render_json(FACTS)) == {
        "api": FACTS.apis[0],
        "admin": FACTS.admins[0],
        "key": FACTS.key,
        "kafka": FACTS.kafka,
        "ledger": FACTS.ledger,
        "bus": FACTS.bus,
        "grpc": FACTS.grpc,
        "apis": list(FACTS.apis),
        "admins": list(FACTS.admins),
    }


def test_the_banner_says_where_grpc_is() -> None:
    """In a line of its own, which programs look for."""
    assert "gRPC     127.0.0.1:8081" in render_banner(FACTS).splitlines()


def test_the_banner_names_every_api() -> None:
    """Whoever distributes requests needs them all."""
    line = next(row for row in render_banner(FACTS).splitlines() if row.startswith("API"))

    assert line.split(maxsplit=1)[1] == "http://127.0.0.1:8080/v1, http://127.0.0.1:8090/v1"


def test_progress_says_name_address_and_time() -> None:
    """One line a process."""
    assert render_progress(Progress("kafka", True, "127.0.0.1:9092", 1.94)).split() == [
        "✓",
        "kafka",
        "127.0.0.1:9092",
        "1.9",
        "s",
    ]


def test_restart_delays_double_up_to_a_cap() -> None:
    """A child that dies at once does not busy the machine, nor stay away for ever."""
    delays = [restart_delay_s(failures) for failures in range(1, 12)]

    assert delays[:3] == [0.2, 0.4, 0.8]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY_S
    assert restart_delay_s(10_000) == LONGEST_DELAY_S


@pytest.mark.parametrize(
    ("max_tokens", "words", "reason"),
    [(None, 3, "stop"), (3, 3, "stop"), (2, 2, "length"), (0, 0, "length")],
)
def test_the_example_backend_counts_words_exactly(
    max_tokens: int | None, words: int, reason: str
) -> None:
    """All texts are prompt; the last one is repeated, up to the limit."""
    answer = echo(["be brief", "one two three"], max_tokens)

    assert answer.finish_reason == reason
    assert answer.usage == {
        "prompt_tokens": 5,
        "completion_tokens": words,
        "total_tokens": 5 + words,
    }
