"""Reading --backend, and what is seeded for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.problem import StackError
from deploy.local.seed import Entity, backend_entity, model_entities, needs_put, read_desired_state
from deploy.local.upstreams import Upstream, parse_upstream


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("gpu=http://host:8000", "http://host:8000/v1"),
        ("gpu=http://host:8000/", "http://host:8000/v1"),
        ("gpu=http://host:8000/v1/", "http://host:8000/v1"),
        ("gpu=https://host/openai?x=1", "https://host/openai?x=1"),
    ],
)
def test_v1_is_added_to_a_bare_host_only(text: str, url: str) -> None:
    """The address is what OPENAI_BASE_URL would be."""
    assert parse_upstream(text) == Upstream("gpu", url)


@pytest.mark.parametrize(
    "text", ["gpu", "=http://host", "GPU=http://host", "a=ftp://b", "a=", "a=host:1"]
)
def test_what_is_not_id_and_url_is_refused(text: str) -> None:
    """The refusal shows how it should have been written."""
    with pytest.raises(StackError, match="--backend"):
        parse_upstream(text)


def test_a_backend_names_its_key_variable_only_if_it_is_set() -> None:
    """The key itself never enters the configuration."""
    upstream = Upstream("my-gpu", "http://h/v1")
    variable = "BACKEND_MY_GPU_API_KEY"

    assert backend_entity(upstream, {variable: "secret"}).body["api_key_env"] == variable
    assert backend_entity(upstream, {}).body["api_key_env"] is None


def test_a_model_of_two_backends_is_one_entity() -> None:
    """Both backends share its traffic evenly."""
    (model,) = model_entities({"a": ("m",), "b": ("m",)}, {})

    assert model.body == {
        "backends": [{"backend": "a", "weight": 1}, {"backend": "b", "weight": 1}]
    }


def test_the_id_of_a_model_is_one_path_segment() -> None:
    """Model ids contain slashes."""
    assert Entity("models", "meta/llama 3", {}).path == "/models/meta%2Fllama%203"


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        (None, True),
        ({"url": "http://h/v1", "api_key_env": None, "weight": 3}, False),
        ({"url": "http://old/v1", "api_key_env": None}, True),
    ],
)
def test_only_missing_or_moved_backends_are_written(
    current: dict[str, object] | None, expected: bool
) -> None:
    """What a user changed stays."""
    entity = Entity("backends", "a", {"url": "http://h/v1", "api_key_env": None})

    assert needs_put(entity, current) is expected


def test_desired_state_is_applied_in_the_order_of_references(tmp_path: Path) -> None:
    """A key comes after its org, a model after its backend, however the file is ordered."""
    file = tmp_path / "tallygate.yaml"
    file.write_text("orgs: {acme: {}}\nmodels: {m: {}}\nbackends: {b: {url: 'http://b/v1'}}\n")

    assert [entity.path for entity in read_desired_state(file)] == [
        "/backends/b",
        "/models/m",
        "/orgs/acme",
    ]


@pytest.mark.parametrize("text", ["- a", "org: {}", "orgs: [a]", "orgs: {"])
def test_a_desired_state_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    """The file is named."""
    file = tmp_path / "tallygate.yaml"
    file.write_text(text)

    with pytest.raises(StackError, match=r"tallygate\.yaml"):
        read_desired_state(file)
