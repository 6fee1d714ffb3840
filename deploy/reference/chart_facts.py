"""What the Helm chart needs of the lists of the code, as one JSON file beside its templates: processes, topics, users of Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from deploy.embedded.environment import SETTINGS, variables_of
from deploy.embedded.roles import (
    ADMIN_PORT,
    DRAIN_DEADLINE_S,
    FIRST_ROLE_PORTS,
    GRPC_PORT,
    INGRESS_PORT,
)
from schemas.kafka_users import KAFKA_USERS, Grant
from schemas.readiness import HEALTHZ, READYZ, STARTUPZ
from schemas.runtime.process.specified import variable_of
from schemas.topics import CONFIG, DEFERRED_DELAYS_MS, READ_BY, TOPICS, group_of

COMPONENTS: Final[Mapping[str, str]] = {
    "admin": "admin",
    "ingress": "ingress",
    "batches": "batches",
    "limiter": "limiter_worker",
    "dispatcher": "dispatcher",
    "accounting": "accounting",
}
"""A command of ``tallygate``, by which the chart names a process, and its role."""
INGRESS_AFTER_DRAIN_S: Final = 15
"""What ingress needs after ``TALLYGATE_DRAIN_S``, as that setting says."""
TOPIC_MAKER: Final = "topics"
"""The user of whoever runs ``tallygate topics apply``."""
LAG_READER: Final = "lag-reader"
"""The user of whoever asks only how far the workers are."""
GIVEN: Final = (
    *("TALLYGATE_INSTANCE_ID", "TALLYGATE_DATA_DIR", "TALLYGATE_HOST", "TALLYGATE_KAFKA_BROKERS"),
    *("TALLYGATE_LEDGER_URL", "TALLYGATE_BUS_URL", "TALLYGATE_PORT", "TALLYGATE_ADMIN_PORT"),
    *(
        "TALLYGATE_HTTP_PORT",
        "TALLYGATE_GRPC_PORT",
        "TALLYGATE_NOTICE_S",
        "TALLYGATE_DRAIN_S",
        "TALLYGATE_CALLERS_FILE",
        "TALLYGATE_ADMIN_ROLES",
    ),
    *("TALLYGATE_ADMIN_TLS_CERT", "TALLYGATE_ADMIN_TLS_KEY", "TALLYGATE_ADMIN_TLS_CLIENT_CA"),
)
"""Settings that the chart makes of values of their own, and nobody else may give."""


def chart_facts() -> str:
    """The file."""
    facts = {
        "given": sorted(GIVEN),
        "secret": sorted(_secret_variables()),
        "processes": {name: _process(role) for name, role in COMPONENTS.items()},
        "topics": [
            {"name": topic.name, "onePartition": topic.one_partition, "config": topic.settings()}
            for topic in TOPICS
        ],
        "users": {
            **{name: _acls(KAFKA_USERS[role].grants()) for name, role in COMPONENTS.items()},
            TOPIC_MAKER: _topic_maker(),
            LAG_READER: _lag_reader(),
        },
    }
    return json.dumps(facts, indent=1) + "\n"


def _secret_variables() -> set[str]:
    """Those whose value must not stand among values."""
    return {
        variable_of(name)
        for settings in SETTINGS.values()
        for name, field in settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }


def _process(role: str) -> dict[str, Any]:
    serves_http = role in ("admin", "ingress")
    facts: dict[str, Any] = {
        "role": role,
        "variables": sorted(variables_of(SETTINGS[role])),
        "live": HEALTHZ if serves_http else "/livez",
        "started": STARTUPZ if serves_http else "/readyz",
        "ready": READYZ if serves_http else "/readyz",
        "port": {"admin": ADMIN_PORT, "ingress": INGRESS_PORT}.get(role)
        or FIRST_ROLE_PORTS[f"{role}-0"],
        "portVariable": {"admin": "TALLYGATE_ADMIN_PORT", "ingress": "TALLYGATE_PORT"}.get(
            role, "TALLYGATE_HTTP_PORT"
        ),
        "endsWithinS": INGRESS_AFTER_DRAIN_S if role == "ingress" else int(DRAIN_DEADLINE_S),
    }
    if role == "ingress":
        facts["grpcPort"] = GRPC_PORT
    if role in READ_BY:
        # What waits in a tier of deferral waits for its time and not for a worker.
        facts["reads"] = [name for name in READ_BY[role] if name not in DEFERRED_DELAYS_MS]
        facts["group"] = group_of(role)
    return facts


def _acls(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """The grants as Strimzi writes them: each thing once, with all that is allowed."""
    found: dict[tuple[str, str], list[str]] = {}
    for grant in grants:
        found.setdefault((grant.resource, grant.name), []).append(grant.operation.capitalize())
    return [_acl(*thing, operations) for thing, operations in found.items()]


def _acl(resource: str, name: str, operations: list[str]) -> dict[str, Any]:
    return {"type": resource, "name": name, "operations": operations}


def _topic_maker() -> list[dict[str, Any]]:
    """It makes topics, corrects their settings, and says in the configuration which log this is."""
    makes = ["Create", "Describe", "DescribeConfigs", "AlterConfigs"]
    of_config = [*makes, "Read", "Write"]
    return [_acl("topic", t.name, of_config if t.name == CONFIG else makes) for t in TOPICS]


def _lag_reader() -> list[dict[str, Any]]:
    topics = [_acl("topic", name, ["Describe"]) for names in READ_BY.values() for name in names]
    return topics + [_acl("group", group_of(role), ["Describe"]) for role in READ_BY]


CHART_FILES: Final = {"deploy/helm/tallygate/files/facts.json": chart_facts}
"""File -> what makes its text; made with the references."""
