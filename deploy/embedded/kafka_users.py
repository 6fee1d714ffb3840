"""Users of the embedded broker: TLS with a name and a password for everybody, and an access control list.

Passwords are derived from one secret of the stack. The broker itself and the tools of this machine's user come as
`operator`, who may do everything.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest

from deploy.embedded.store_users import password_of
from deploy.embedded.tls import Certificates
from schemas.kafka_users import KAFKA_USERS
from schemas.runtime.kafka.access import client_options

OPERATOR: Final = "operator"
_WITHIN_S: Final = 30.0
_PLAIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule"
_RESOURCES: Final = {"topic": 2, "group": 3}
_OPERATIONS: Final = {"read": 3, "write": 4, "describe": 8}
_LITERAL: Final = 3
_ALLOW: Final = 3
"""Numbers of Kafka's protocol: ResourceType, AclOperation, PatternType, AclPermissionType."""


@dataclass(frozen=True)
class KafkaUsers:
    """Who is let in, and by which certificate the broker is known."""

    certificates: Certificates
    secret: str

    def address_of(self, user: str, servers: str) -> str:
        """Where a user connects to, ``host:port,host:port``, as the setting of a process."""
        options = urlencode({"sasl": "PLAIN", "ssl_ca_certs": self.certificates.authority})
        return f"kafkas://{user}:{password_of(self.secret, user)}@{servers}?{options}"

    @property
    def identity(self) -> Path:
        """The broker's key and certificate in one file, as it wants them."""
        return self.certificates.folder / "broker.pem"

    def write_identity(self) -> None:
        """Put both into that file; nobody else may read it."""
        pair = (self.certificates.key("server"), self.certificates.certificate("server"))
        self.identity.touch(mode=0o600)
        self.identity.write_bytes(b"".join(file.read_bytes() for file in pair))

    def settings(self) -> str:
        """The part of server.properties that lets nobody in without a name; it holds every password."""
        passwords = {name: password_of(self.secret, name) for name in (*KAFKA_USERS, OPERATOR)}
        known = " ".join(f'user_{name}="{word}"' for name, word in passwords.items())
        me = f'username="{OPERATOR}" password="{passwords[OPERATOR]}"'
        login = f"{_PLAIN} required {me} {known};"
        return f"""\
listener.security.protocol.map=BROKER:SASL_SSL,CONTROLLER:SASL_SSL
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.broker.plain.sasl.jaas.config={login}
listener.name.controller.plain.sasl.jaas.config={login}
ssl.keystore.type=PEM
ssl.keystore.location={self.identity}
ssl.truststore.type=PEM
ssl.truststore.location={self.certificates.authority}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{OPERATOR}
"""


async def allow_users(brokers: str) -> None:
    """Allow each process what it needs; what is allowed already stays. Raises ``KafkaError`` or ``TimeoutError``."""
    client = AIOKafkaClient(**client_options(brokers))
    async with asyncio.timeout(_WITHIN_S):
        try:
            await client.bootstrap()
            node = client.get_random_node()
            while not await client.ready(node):  # noqa: ASYNC110  # aiokafka has no event for it
                await asyncio.sleep(0.1)
            for user, rights in KAFKA_USERS.items():
                for grant in rights.grants():
                    request = CreateAclsRequest(
                        _RESOURCES[grant.resource],
                        grant.name,
                        _LITERAL,
                        f"User:{user}",
                        "*",
                        _OPERATIONS[grant.operation],
                        _ALLOW,
                    )
                    answer = await client.send(node, request)
                    for code, message in answer.creation_responses:
                        if code:
                            raise for_code(code)(message)
        finally:
            await client.close()
