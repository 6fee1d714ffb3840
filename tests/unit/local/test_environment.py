"""A child of the stack sees what it needs of the environment and nobody's secret but its own."""

from __future__ import annotations

import pytest

from deploy.embedded.environment import for_java, for_python, for_role, for_server
from deploy.embedded.roles import ROLES

SHELL = {
    "PATH": "/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
    "LD_LIBRARY_PATH": "/lib",
    "PYTHONPATH": "/src",
    "JAVA_TOOL_OPTIONS": "-Xss1m",
    "SSL_CERT_FILE": "/ca.pem",
}
TALLYGATE = {
    "TALLYGATE_LOG_LEVEL": "DEBUG",
    "TALLYGATE_KEY_PEPPER": "pepper-of-the-shell",
    "TALLYGATE_INFLIGHT_MAX": "7",
    "TALLYGATE_CONCURRENCY": "9",
    "RATE_LIMIT_DEFAULT_RPS": "5",
    "TALLYGATE_TEST_X": "1",
}
SECRETS = {
    "BACKEND_A_API_KEY": "key-a",
    "BACKEND_my_gpu_API_KEY": "key-b",
    "OPENAI_API_KEY": "sk",
    "AWS_SECRET_ACCESS_KEY": "aws",
    "HTTP_PROXY": "http://user:secret@proxy",
    "https_proxy": "http://user:secret@proxy",
    "NO_PROXY": "secret.example",
    "SSH_AUTH_SOCK": "/agent",
    "PATH_TO_SECRET": "secret",
}
EVERYTHING = SHELL | TALLYGATE | SECRETS
BACKEND_KEYS = {"BACKEND_A_API_KEY", "BACKEND_my_gpu_API_KEY"}


@pytest.mark.parametrize("role", ROLES)
def test_a_process_gets_its_own_settings_and_no_secret_of_another(role: str) -> None:
    """Backends' keys are for the dispatcher alone, and the pepper for who makes and tells keys."""
    seen = for_role(role, EVERYTHING)

    assert set(seen) & set(SECRETS) == (BACKEND_KEYS if role == "dispatcher" else set())
    assert ("TALLYGATE_KEY_PEPPER" in seen) is (role in ("admin", "ingress"))
    assert ("TALLYGATE_INFLIGHT_MAX" in seen) is (role == "ingress")
    assert ("TALLYGATE_CONCURRENCY" in seen) is (role == "dispatcher")
    assert role != "limiter_worker" or "RATE_LIMIT_DEFAULT_RPS" in seen
    assert {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH"} <= set(seen)
    assert {"TALLYGATE_LOG_LEVEL", "TALLYGATE_TEST_X"} <= set(seen)


def test_stores_broker_and_example_backends_get_no_setting_and_no_secret() -> None:
    """They are others' programs, or play one."""
    system = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH"}

    assert set(for_server(EVERYTHING)) == system
    assert set(for_java(EVERYTHING)) == system | {"JAVA_TOOL_OPTIONS"}
    assert set(for_python(EVERYTHING)) == system | {"PYTHONPATH"}
