"""Reading a tallygate.yaml: every problem at once, by its path, and the order of application."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.desired_state.document import (
    parse_desired_state,
    read_desired_state,
    reference_problems,
)
from deploy.embedded.problem import StackError
from deploy.embedded.seed import Entity
from deploy.embedded.state import UserFolders
from deploy.embedded.up import UpOptions, make_plan

LIMITS = "requests_per_s, burst, tokens_per_min, concurrency, budgets, quotas, on_limit, thresholds_percent"
ID_GRAMMAR = "'^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}\\\\Z'"


def problems(text: str) -> list[str]:
    return [str(problem) for problem in parse_desired_state(text).problems]


def test_entities_come_in_the_order_of_their_references() -> None:
    """A project comes after its org, a model after its backend, however the file is ordered."""
    state = parse_desired_state(
        "orgs: {acme: }\nmodels: {m: {backends: [{backend: b}]}}\nbackends: {b: {url: 'http://b/v1'}}"
    )

    assert state.problems == ()
    assert [entity.path for entity in state.entities] == ["/backends/b", "/models/m", "/orgs/acme"]


def test_every_problem_of_a_file_is_named_with_its_path() -> None:
    """One reading finds them all."""
    text = """
    models:
      gpt-x:
        backends:
          - {backend: a, weight: heavy}
          - {weight: 1, colour: red}
        default_max_output_tokens: 0
    orgs:
      acme: {limits: {budgets: [{usd: 1.5, period: year}], rps: 3}}
      bad id: {}
    nonsense: {}
    """

    assert problems(text) == [
        "nonsense: unknown kind; one of backends, models, orgs, projects, users, keys",
        "models.gpt-x.backends[0].weight: Expected `int`, got `str` 'heavy'; numbers stand as in JSON",
        "models.gpt-x.backends[1].colour: unknown; one of backend, weight, upstream_model, price_multiplier",
        "models.gpt-x.backends[1].backend: missing",
        "models.gpt-x.default_max_output_tokens: Expected `int` >= 1",
        f"orgs.acme.limits.rps: unknown; one of {LIMITS}",
        "orgs.acme.limits.budgets[0].usd: Expected `str`, got `float` 1.5; write it in quotes",
        "orgs.acme.limits.budgets[0].period: Invalid enum value 'year'",
        f"orgs.bad id (its id): Expected `str` matching regex {ID_GRAMMAR}",
    ]


@pytest.mark.parametrize(
    "text",
    ["- a", "org: {}", "orgs: [a]", "orgs: {", "orgs: {a: }\norgs: {b: }", "orgs: {a: , a: }"],
    ids=["list", "kind", "entries", "no yaml", "kind twice", "id twice"],
)
def test_a_file_of_another_shape_is_refused_by_name(tmp_path: Path, text: str) -> None:
    """YAML itself would keep the last of two equal keys in silence."""
    file = tmp_path / "tallygate.yaml"
    file.write_text(text)

    with pytest.raises(StackError, match=r"tallygate\.yaml"):
        read_desired_state(file)


def test_references_and_amounts_are_judged_by_the_rules_of_the_processes() -> None:
    """What no process would take in is found before anything is sent."""
    entities = [
        Entity("models", "m", {"backends": [{"backend": "b"}]}),
        Entity("models", "half", {"backends": [{"backend": "b"}], "input_usd_per_mtok": "1"}),
        Entity("projects", "p", {"org": "acme"}),
    ]

    assert [problem.path for problem in reference_problems(entities)] == [
        "models.half", "projects.p", "models.m",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("models: {m: {backends: [{backend: nowhere}]}}", ["nowhere"]),
        ("backends: {gpu: {url: 'http://other/v1'}}", ["http://other/v1", "http://gpu/v1"]),
        ("orgs: {acme: {limit: 1}}", ["orgs.acme.limit"]),
    ],
    ids=["a backend nobody gave", "another address", "a typo"],
)
def test_up_refuses_a_bad_file_before_it_starts_anything(
    tmp_path: Path, text: str, named: list[str]
) -> None:
    """The file is judged together with the backends of the command line."""
    file = tmp_path / "tallygate.yaml"
    file.write_text(text)
    options = UpOptions(config=file, backends=("gpu=http://gpu/v1",))

    with pytest.raises(StackError) as failed:
        make_plan(options, UserFolders(), {})

    assert all(words in str(failed.value) for words in named)


def test_up_takes_backends_from_the_environment(tmp_path: Path) -> None:
    """A file may route to them; the examples are not started beside them."""
    file = tmp_path / "tallygate.yaml"
    file.write_text("models: {m: {backends: [{backend: gpu}]}}")

    plan = make_plan(UpOptions(config=file), UserFolders(), {"BACKEND_ENDPOINTS": "gpu:http://h"})

    assert [upstream.url for upstream in plan.upstreams] == ["http://h/v1"]
    assert not plan.stack.has_example_backends
