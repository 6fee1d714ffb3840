"""The Helm chart names nothing but what the code has; `make helm` has Helm and Kubernetes' schemas judge it."""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from importlib.metadata import version
from typing import Any

import pytest
import yaml

from deploy.cli.reference import command_tree
from deploy.embedded.environment import SETTINGS, variables_of
from deploy.reference.chart_facts import CHART_FILES, COMPONENTS, GIVEN, chart_facts
from schemas.kafka_users import KAFKA_USERS
from schemas.topics import DEFERRED_DELAYS_MS, READ_BY, TOPICS
from tests.contract.container_files import DOCKER, ROOT
from tests.support.json_schema import is_valid

CHART = ROOT / "deploy" / "helm" / "tallygate"
FILES = ("values-staging.yaml", "values-production.yaml")
PASSED_ON = {"KAFKA_USER", "KAFKA_PASSWORD"}
"""Variables of the pods that no process reads: they stand within addresses."""


def templates() -> str:
    """All of them."""
    return "\n".join(f.read_text(encoding="utf-8") for f in sorted(CHART.rglob("templates/**/*.*")))


def merged(default: Any, own: Any) -> Any:
    """As Helm lays one file of values over another."""
    if not isinstance(default, dict) or not isinstance(own, dict):
        return own
    return {**default, **{name: merged(default.get(name), value) for name, value in own.items()}}


@cache
def _values(name: str) -> dict[str, Any]:
    default = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    own = yaml.safe_load((CHART / name).read_text(encoding="utf-8"))
    values: dict[str, Any] = merged(default, own)
    return values


def values(name: str) -> dict[str, Any]:
    """The values of a release with this file."""
    return copy.deepcopy(_values(name))


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("file", CHART_FILES)
def test_what_the_chart_has_of_the_code_is_current(file: str) -> None:
    """Topics, users of Kafka, variables of processes, ports and paths."""
    assert (ROOT / file).read_text(encoding="utf-8") == CHART_FILES[file](), f"{file}: make docs"


def test_the_chart_delivers_the_rules_and_dashboards_that_are_tested() -> None:
    """By links, which Helm follows; what it selects by is what both go by."""
    for folder in ("grafana", "prometheus"):
        assert (CHART / "files" / folder).samefile(ROOT / "deploy" / folder)
    monitoring = (CHART / "templates" / "monitoring.yaml").read_text(encoding="utf-8")

    assert "{targetLabel: job, replacement: tallygate}" in monitoring
    assert "{targetLabel: role, " in monitoring


def test_topics_and_users_are_those_of_the_lists() -> None:
    """With what they may do; two users are no process: who makes topics, and who looks at the lag."""
    facts = json.loads(chart_facts())

    assert [(t["name"], t["config"]) for t in facts["topics"]] == [
        (topic.name, topic.settings()) for topic in TOPICS
    ]
    assert set(facts["users"]) == {*COMPONENTS, "topics", "lag-reader"}
    for name, role in COMPONENTS.items():
        allowed = {
            (acl["type"], acl["name"], operation.lower())
            for acl in facts["users"][name]
            for operation in acl["operations"]
        }
        grants = KAFKA_USERS[role].grants()
        assert allowed == {(each.resource, each.name, each.operation) for each in grants}
    looks = {one for acl in facts["users"]["lag-reader"] for one in acl["operations"]}
    assert looks == {"Describe"}


def test_workers_grow_with_what_waits_for_them() -> None:
    """Not with what waits for its time."""
    facts = json.loads(chart_facts())["processes"]

    assert {facts[name].get("group") for name in ("admin", "ingress")} == {None}
    for name, role in COMPONENTS.items():
        if role in READ_BY:
            assert facts[name]["reads"] == [t for t in READ_BY[role] if t not in DEFERRED_DELAYS_MS]


def test_every_process_is_a_command_of_the_image() -> None:
    """The chart's names are what the containers are told to run."""
    commands = {found.words for found in command_tree()}

    assert set(values(FILES[0])["processes"]) == set(COMPONENTS)
    assert {f"tallygate {name}" for name in COMPONENTS} <= commands
    assert set(COMPONENTS.values()) == set(SETTINGS)


def test_every_variable_of_the_templates_is_one_that_somebody_reads() -> None:
    """A misspelt one would be ignored in silence."""
    text = templates()
    named = set(re.findall(r"\b(?:TALLYGATE|KAFKA)_[A-Z_]*[A-Z]\b", text))
    settings = {name for each in SETTINGS.values() for name in variables_of(each)}
    commands = {str(one.variable) for found in command_tree() for one in found.parameters}
    files = {f"{name}_FILE" for name in settings}

    assert len(named) > 15
    assert named <= settings | files | commands | PASSED_ON


def test_what_the_chart_gives_itself_is_refused_among_values() -> None:
    """Two values of one variable would be a choice that nobody made; ports are named by the facts."""
    settings = {name for each in SETTINGS.values() for name in variables_of(each)}
    by_fact = {facts["portVariable"] for facts in json.loads(chart_facts())["processes"].values()}
    stated = r'(?:- name: |"variable" ")(TALLYGATE_[A-Z_]+)\b'
    given = set(re.findall(stated, templates())) | by_fact

    assert given & settings == {*GIVEN}


@pytest.mark.parametrize("name", FILES)
def test_values_are_as_the_schema_says(name: str) -> None:
    """Both files over the defaults."""
    assert is_valid(values(name), schema(), schema())


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("settings", "TALLYGATE_JOBS_MAX"), 10),
        (("settings", "PATH"), "/bin"),
        (("secrets", "TALLYGATE_KEY_PEPPER"), "0123456789"),
        (("kafka", "url"), "kafkas://ingress:hunter2@kafka:9093"),
        (("ledger", "url"), "rediss://ledger:hunter2@ledger:6379/0"),
        (("processes", "ingress", "autoscaling", "kind"), "lag"),
        (("processes", "dispatcher", "replica"), 3),
        (("processes", "dispatcher", "replicas"), "3"),
        (("image", "digest"), "latest"),
        (("spread", "hosts"), "Maybe"),
        (("strimzi", "enabled"), "yes"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_made(
    path: tuple[str, ...], wrong: object
) -> None:
    """A secret among values above all."""
    said = values(FILES[0])
    place = said
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong

    assert not is_valid(said, schema(), schema())


@pytest.mark.parametrize("name", FILES)
def test_values_tell_processes_what_these_read(name: str) -> None:
    """Common ones somebody, a process's own that one; what the chart gives itself nobody says twice."""
    said = values(name)
    secret = set(json.loads(chart_facts())["secret"])
    known = {variable for each in SETTINGS.values() for variable in variables_of(each)}

    assert {*said["settings"], *said["secrets"]} <= known - {*GIVEN}
    assert not {*said["settings"]} & secret
    for component, process in said["processes"].items():
        own = {*process["settings"], *process["secrets"]} - {*GIVEN}
        backends = {each for each in own if re.fullmatch(r"BACKEND_\w+_API_KEY", each)}
        assert own - backends <= variables_of(SETTINGS[COMPONENTS[component]])
        assert component == "dispatcher" or not backends


@pytest.mark.parametrize("name", FILES)
def test_both_files_are_for_production(name: str) -> None:
    """What would not start there does not start in staging, and nobody is believed who does not sign."""
    said = values(name)

    assert said["settings"]["TALLYGATE_ENV"] == "production"
    assert "TALLYGATE_CONFIG_VERIFY_KEYS" in said["settings"]
    assert said["kafka"]["url"].startswith("kafkas://")
    assert said["ledger"]["url"].startswith("rediss")
    for process in ("admin", "accounting"):
        assert "TALLYGATE_CONFIG_SIGNING_KEY" in said["processes"][process]["secrets"]
    for worker in said["processes"].values():
        assert worker.get("autoscaling", {"max": 1})["max"] <= said["topics"]["partitions"]


def test_versions_and_user_are_those_of_the_image() -> None:
    """The chart is released with the package."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    user = re.search(r"^USER (\d+):(\d+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)

    assert (chart["version"], chart["appVersion"]) == (version("tallygate"),) * 2
    assert user is not None
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        assert f"{field}: {user[1]}\n" in templates()


def test_no_service_of_the_namespace_reaches_the_environment() -> None:
    """One that is called `tallygate` would give every pod `TALLYGATE_PORT=tcp://...`."""
    text = templates()

    assert (
        text.count("enableServiceLinks: false")
        == text.count("automountServiceAccountToken: false") - 1
    )
    assert "enableServiceLinks: true" not in text
