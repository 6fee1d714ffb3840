"""Reading --backend, and what is seeded for it."""

from __future__ import annotations

import pytest

from deploy.embedded.problem import StackError
from deploy.embedded.seed import Entity, backend_entity, model_entities, needs_put
from deploy.embedded.upstreams import Upstream, read_upstreams


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
    assert read_upstreams([text], "") == (Upstream("gpu", url),)


@pytest.mark.parametrize(
    "text", ["gpu", "=http://host", "GPU=http://host", "a=ftp://b", "a=", "a=host:1"]
)
def test_what_is_not_id_and_url_is_refused(text: str) -> None:
    """The refusal shows how it should have been written."""
    with pytest.raises(StackError, match="--backend"):
        read_upstreams([text], "")


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


def test_the_list_in_the_environment_means_the_same_as_the_options() -> None:
    """A backend may be named in both, as long as the address is one."""
    found = read_upstreams(["a=http://h:1"], "a:http://h:1/v1, b:https://h/openai,")

    assert found == (Upstream("a", "http://h:1/v1"), Upstream("b", "https://h/openai"))


def test_every_contradiction_among_backends_is_a_line_of_its_own() -> None:
    """Nothing has to be corrected one start at a time."""
    with pytest.raises(StackError) as failed:
        read_upstreams(["a=http://h:1"], "a:http://h:2,b:,http://h:3,c")

    assert [line.strip() for line in failed.value.why.splitlines()] == [
        "BACKEND_ENDPOINTS a:http://h:2: a is http://h:1/v1 already",
        "BACKEND_ENDPOINTS b:: it has no http:// or https:// address",
        "BACKEND_ENDPOINTS http://h:3: it has no http:// or https:// address",
        "BACKEND_ENDPOINTS c: it has no http:// or https:// address",
    ]
