"""The generated page of Kafka's users."""

from __future__ import annotations

from deploy.reference.markdown import code, page, table
from schemas.kafka_users import KAFKA_USERS, KafkaUser


def kafka_users_page() -> str:
    """Who may do what in Kafka, and the commands that say so to a broker."""
    rows = [
        (
            code(name),
            " ".join(map(code, sorted({*user.reads}))),
            " ".join(map(code, sorted({*user.writes}))),
            " ".join(map(code, (*user.groups, *user.watches))),
        )
        for name, user in KAFKA_USERS.items()
    ]
    commands = "\n".join(
        line for name, user in KAFKA_USERS.items() for line in _commands(name, user)
    )
    return page(
        "Users of Kafka",
        "`schemas/kafka_users.py`",
        "Each process is a user of its own, with the topics that it reads and writes and the group that it is a member of. A user\n"
        "bounds what a leaked password is good for: other topics, the broker's configuration, deletion. Topics are created and altered\n"
        "by whoever runs `tallygate topics apply`, as a user of yours who may; the control plane asks for the groups' offsets only.",
        "The broker needs an authorizer (`org.apache.kafka.metadata.authorizer.StandardAuthorizer`), `allow.everyone.if.no.acl.found=false`\n"
        "and a listener with SASL over TLS; a process is told `TALLYGATE_KAFKA_BROKERS=kafkas://dispatcher:PASSWORD@host:9093`\n"
        "(`?sasl=PLAIN` or `SCRAM-SHA-256` where it is not `SCRAM-SHA-512`, `&ssl_ca_certs=FILE` for an authority of your own).\n"
        "`tallygate up --kafka-users` does all of this here.",
        table(("user", "reads", "writes", "groups"), rows),
        "```\n" + commands + "\n```",
    )


def _commands(name: str, user: KafkaUser) -> list[str]:
    return [
        f"kafka-acls.sh --bootstrap-server $BROKERS --add --allow-principal User:{name}"
        f" --operation {grant.operation.capitalize()} --{grant.resource} {grant.name}"
        for grant in user.grants()
    ]
