"""Every field of an entity is bounded: what passes here can do no harm where it is used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec
import pytest

from schemas.config_references import Problem
from schemas.config_state import parse_entity
from schemas.entities import KINDS

_GOOD: dict[str, dict[str, Any]] = {
    "organization": {},
    "project": {"org": "acme"},
    "user": {"org": "acme"},
    "key": {"org": "acme", "hash": "0" * 64, "display": "tg_live_a…z", "created_at_ms": 0},
    "backend": {"url": "http://h/v1"},
    "model": {"backends": [{"backend": "b"}]},
    "pin": {"backend": "b"},
    "weights": {"weights": {"b": 1}},
    "canary": {"backend": "b", "percent": 5},
    "timeout": {"timeout_s": 20},
    "retries": {"retries": 0},
    "drain": {},
}
_BUDGET = {"usd": "1", "period": "day"}
_QUOTA = {"amount": 1, "unit": "tokens", "period": "day"}


def problem_of(kind: str, **more: Any) -> Problem | None:
    """What is wrong with a good body after these changes."""
    found = parse_entity(kind, json.dumps(_GOOD[kind] | more))
    return found if isinstance(found, Problem) else None


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_are_good(kind: str) -> None:
    """Else the tests below prove nothing."""
    assert problem_of(kind) is None


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("organization", {"name": "a\x1b[2Jb"}),
        ("organization", {"name": "a\nb"}),
        ("organization", {"name": "a\x9bb"}),
        ("organization", {"name": "a\N{RIGHT-TO-LEFT OVERRIDE}b"}),
        ("organization", {"name": "a" * 257}),
        ("organization", {"limits": {"requests_per_s": 0}}),
        ("organization", {"limits": {"requests_per_s": 1e7}}),
        ("organization", {"limits": {"burst": 2**63}}),
        ("organization", {"limits": {"concurrency": 0}}),
        ("organization", {"limits": {"budgets": [_BUDGET] * 17}}),
        ("organization", {"limits": {"quotas": [_QUOTA] * 17}}),
        ("organization", {"limits": {"budgets": [{"usd": "1\n", "period": "day"}]}}),
        ("pin", {"backend": "b\n"}),
        ("pin", {"reason": "a\x1b[2Jb"}),
        ("pin", {"expires_at_ms": -1}),
        ("weights", {"weights": {}}),
        ("weights", {"weights": {"b": -1}}),
        ("weights", {"weights": {"b\n": 1}}),
        ("weights", {"weights": {f"b{n}": 1 for n in range(65)}}),
        ("canary", {"percent": 100.1}),
        ("canary", {"percent": -1}),
        ("timeout", {"timeout_s": 0}),
        ("timeout", {"timeout_s": 601}),
        ("retries", {"retries": 2}),
        ("drain", {"backend": "b"}),
        ("project", {"org": "acme\n"}),
        ("project", {"org": "a" * 129}),
        ("project", {"org": "a\tb"}),
        ("key", {"hash": "0" * 64 + "\n"}),
        ("key", {"display": "x" * 257}),
        ("key", {"created_at_ms": -1}),
        ("key", {"created_at_ms": 10**18}),
        ("key", {"expires_at_ms": 10**18}),
        ("key", {"models": ["m"] * 1_025}),
        ("model", {"backends": [{"backend": f"b{n}"} for n in range(65)]}),
        ("model", {"backends": [{"backend": "b", "upstream_model": ""}]}),
        ("model", {"backends": [{"backend": "b", "upstream_model": "x" * 257}]}),
        ("model", {"backends": [{"backend": "b", "upstream_model": "a\r\nb"}]}),
        ("model", {"backends": [{"backend": "b", "weight": -1}]}),
        ("model", {"max_output_tokens": 2**62}),
        ("model", {"output_limit_field": "n_predict"}),
        ("model", {"output_limit_field": "none"}),
        ("model", {"audio_tokens": 0}),
        ("model", {"tokenizer_file": "own.json"}),
        ("model", {"tokenizer_sha256": "a" * 64}),
        ("model", {"tokenizer_file": "../own.json", "tokenizer_sha256": "a" * 64}),
        ("model", {"tokenizer_file": "/etc/passwd", "tokenizer_sha256": "a" * 64}),
        ("model", {"tokenizer_file": "..", "tokenizer_sha256": "a" * 64}),
        ("model", {"tokenizer_file": "a\\b", "tokenizer_sha256": "a" * 64}),
        ("model", {"tokenizer_file": "own.json\n", "tokenizer_sha256": "a" * 64}),
        ("model", {"tokenizer_file": "own.json", "tokenizer_sha256": "A" * 64}),
        ("model", {"tokenizer": "o200k_base", "tokenizer_file": "x", "tokenizer_sha256": "a" * 64}),
        ("model", {"file_tokens": 2**62}),
        ("backend", {"stream_options": "no"}),
        ("backend", {"timeout_s": 601}),
        ("backend", {"max_concurrency": 0}),
        ("backend", {"api_key_env": "PATH"}),
        ("backend", {"api_key_env": "TALLYGATE_KEY_PEPPER"}),
        ("backend", {"api_key_env": "BACKEND_A_API_KEY\n"}),
        ("backend", {"api_key_env": "BACKEND_A B_API_KEY"}),
        ("backend", {"api_key_env": ""}),
    ],
)
def test_what_is_out_of_bounds_is_refused(kind: str, more: dict[str, Any]) -> None:
    """One member of each class per field."""
    assert problem_of(kind, **more) is not None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 400])
def test_numbers_are_finite(number: str) -> None:
    """A rate that is no number would let everything pass."""
    body = '{"limits":{"requests_per_s":' + number + "}}"

    assert isinstance(parse_entity("organization", body), Problem)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"limits":' * 100_000,
        b'{"name":"\\ud800"}',
    ],
)
def test_a_body_that_is_no_entity_is_a_problem(body: bytes) -> None:
    """Never an exception, however deep or broken it is."""
    assert isinstance(parse_entity("organization", body), Problem)


def _leaves(wanted: Any) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Every field below a struct with its plain type and the bounds on it."""
    for field in msgspec.structs.fields(wanted):
        for alternative in get_args(field.type) if _is_union(field.type) else (field.type,):
            bounds = getattr(alternative, "__metadata__", ())
            plain = get_args(alternative)[0] if bounds else alternative
            inner = get_args(plain)[0] if get_origin(plain) is tuple else plain
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from _leaves(inner)
            yield f"{wanted.__name__}.{field.name}", plain, bounds


def _is_union(wanted: Any) -> bool:
    return type(None) in get_args(wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_is_without_bounds(kind: str) -> None:
    """A new field needs them as well: texts and lists by length, numbers by value."""
    unbounded = [
        name
        for name, plain, bounds in _leaves(KINDS[kind])  # type: ignore[index]
        if (plain in (str, int, float) or get_origin(plain) in (tuple, dict))
        and not any(_is_bound(meta, plain) for meta in bounds)
    ]

    assert unbounded == []


def _is_bound(meta: msgspec.Meta, plain: Any) -> bool:
    if plain in (int, float):
        return meta.le is not None and (meta.ge is not None or meta.gt is not None)
    return meta.max_length is not None or meta.pattern is not None
